/* Checking an image, and repairing it.
 *
 *     census and comparison --> [refcounts anew, or corrected] --> flush --> flags --> flush --> marks go
 *
 * Each step leaves an image that is not worse than before, whenever the power goes. Nobody else uses the node. */
#include "blockcore/drivers/qcow2/check_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/buffer.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <string.h>

/* Clusters that tables refer to or blocks count; of those behind there is nothing to compare. */
static uint64_t last_of_interest(const struct check *check)
{
    const struct qcow2 *q = check->q;
    uint64_t blocks = q->reftable_entries;
    while (blocks > 0 && !q->reftable[blocks - 1])
        blocks--;
    return min_u64(check->clusters, max_u64(check->referred, blocks << q->geometry.refblock_bits));
}

/* All clusters, window by window. What the tables have wrong by themselves is told by the first window of a walk that
 * only looks. */
static int walk(struct check *check, unsigned fix)
{
    uint64_t window = check->count;
    uint64_t end = check->clusters;
    int ret = 0;
    check->tell = !fix;
    check->looking = !fix;
    for (check->first = 0; ret == 0 && check->first < end; check->first += window) {
        check->count = min_u64(window, check->clusters - check->first);
        ret = check_census(check);
        if (ret == 0)
            ret = check_compare(check, fix);
        check->tell = false;
        end = last_of_interest(check);
    }
    check->count = window;
    check->looking = false;
    return ret;
}

static void forget_blocks(struct check *check)
{
    for (size_t i = 0; i < CHECK_BLOCKS; i++)
        check->blocks[i].loaded = check->blocks[i].changed = false;
}

static uint64_t corruptions(const struct check *check)
{
    return check->numbers.in_tables + check->numbers.wrong_counts;
}

/* What is not found again afterwards was repaired. */
static int make_anew(struct check *check)
{
    struct check_numbers before = check->numbers;
    uint64_t corruptions_before = corruptions(check);
    int ret = check_rebuild(check);
    if (ret == 0)
        ret = qcow2_reload_tables(check->q);
    if (ret < 0)
        return ret;
    forget_blocks(check);
    check->refcounts_broken = false;
    check->clusters = div_round_up(child_length(check->q->file), cluster_bytes(&check->q->geometry));
    check->numbers = (struct check_numbers){ .corruptions_fixed = before.corruptions_fixed };
    ret = walk(check, 0);
    if (corruptions_before > corruptions(check))
        check->numbers.corruptions_fixed += corruptions_before - corruptions(check);
    if (before.leaks > check->numbers.leaks)
        check->numbers.leaks_fixed += before.leaks - check->numbers.leaks;
    return ret;
}

static int repair_counts(struct check *check)
{
    if (check->refcounts_broken)
        return check->fix & FIX_ERRORS ? make_anew(check) : 0;
    if (!check->fix || !(check->numbers.leaks || check->numbers.wrong_counts))
        return 0;
    check->numbers.leaks = 0;
    check->numbers.wrong_counts = 0;
    int ret = walk(check, check->fix);
    return ret < 0 ? ret : check_write_blocks(check);
}

static int flush_if_fixed(struct check *check)
{
    return check->fix ? child_flush(check->q->file) : 0;
}

static int take_marks_off(struct check *check)
{
    struct qcow2 *q = check->q;
    if (!check->fix || corruptions(check))
        return 0;
    int ret = qcow2_set_features(q, 0, QCOW2_DIRTY | QCOW2_CORRUPT);
    if (ret == 0)
        q->corrupt = false;
    return ret;
}

static int run(struct check *check)
{
    int ret = walk(check, 0);
    /* What cannot be read may lead to all that seems to be lost. */
    if (ret < 0 || check->numbers.errors)
        return ret;
    ret = repair_counts(check);
    if (ret < 0 || check->numbers.errors)
        return ret;
    ret = flush_if_fixed(check);
    if (ret == 0)
        ret = check_copied(check);
    if (ret == 0)
        ret = flush_if_fixed(check);
    if (ret == 0)
        ret = take_marks_off(check);
    return ret;
}

static void count(bool *has, int64_t *out, uint64_t value)
{
    *has = value > 0;
    *out = (int64_t)value;
}

static void fill_in(const struct check *check, struct image_check *result)
{
    const struct qcow2 *q = check->q;
    const struct check_numbers *numbers = &check->numbers;
    uint64_t total = div_round_up(q->header.size, cluster_bytes(&q->geometry));
    result->check_errors = (int64_t)numbers->errors;
    count(&result->has_corruptions, &result->corruptions, corruptions(check));
    count(&result->has_leaks, &result->leaks, numbers->errors ? 0 : numbers->leaks);
    count(&result->has_corruptions_fixed, &result->corruptions_fixed, numbers->corruptions_fixed);
    count(&result->has_leaks_fixed, &result->leaks_fixed, numbers->leaks_fixed);
    count(&result->has_image_end_offset, &result->image_end_offset, check->used << q->geometry.cluster_bits);
    count(&result->has_total_clusters, &result->total_clusters, total);
    count(&result->has_allocated_clusters, &result->allocated_clusters, numbers->allocated);
    count(&result->has_fragmented_clusters, &result->fragmented_clusters, numbers->fragmented);
    count(&result->has_compressed_clusters, &result->compressed_clusters, numbers->compressed);
}

static int check_image(struct qcow2 *q, unsigned fix, const _Atomic bool *stop, struct image_check *result)
{
    struct check check = {
        .q = q,
        .fix = fix,
        .stop = stop,
        .clusters = div_round_up(child_length(q->file), cluster_bytes(&q->geometry)),
    };
    check.count = min_u64(max_u64(check.clusters, 1), CHECK_WINDOW_MAX);
    check.references = try_calloc((size_t)check.count, sizeof(*check.references));
    int ret = check.references ? run(&check) : -ENOMEM;
    for (size_t i = 0; i < CHECK_BLOCKS; i++)
        buffer_put(check.blocks[i].data, (size_t)cluster_bytes(&q->geometry));
    free(check.references);
    if (ret == 0)
        fill_in(&check, result);
    return ret;
}

int qcow2_check_and_repair(struct qcow2 *q, unsigned fix, const _Atomic bool *stop, struct image_check *result)
{
    int ret = check_image(q, fix, stop, result);
    /* Tables in memory may be older than those in the file now. */
    if (fix) {
        int reloaded = qcow2_reload_tables(q);
        ret = ret < 0 ? ret : reloaded;
    }
    return ret;
}

int qcow2_check(struct node *node, unsigned fix, const _Atomic bool *stop, struct image_check *result)
{
    struct qcow2 *q = node_state(node);
    if (fix && !q->writable)
        return -EACCES;
    int ret = q->writable && !q->corrupt ? qcow2_settle(q) : 0;
    return ret < 0 ? ret : qcow2_check_and_repair(q, fix, stop, result);
}
