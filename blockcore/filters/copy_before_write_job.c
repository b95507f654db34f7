#include "blockcore/filters/copy_before_write_job.h"

#include "blockcore/drivers/drivers.h"
#include "blockcore/filters/cluster.h"
#include "blockcore/filters/copy_before_write_private.h"
#include "blockcore/graph/inner.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"

#include <errno.h>

#define STATUS_EXTENTS_MAX 256

static struct cbw *cbw_of(struct node *filter)
{
    return node_state(filter);
}

/* Making --------------------------------------------------------------------------------------------------------- */

static void set_options(struct cbw *cbw, const struct cbw_job_options *options)
{
    cbw->of_job = true;
    cbw->break_snapshot = options->break_snapshot;
    cbw->discard_source = options->discard_source;
    cbw->target_alone = !node_reaches(options->target, options->source);
    cbw->broke = options->broke;
    cbw->broke_arg = options->broke_arg;
}

static struct error *attach(struct node *node, const struct cbw_job_options *options) CO_FN CONTROL_FN;

static struct error *attach(struct node *node, const struct cbw_job_options *options)
{
    struct cbw *cbw = cbw_of(node);
    struct error *err = inner_node_attach(node, "file", CHILD_FILTERED, options->source, &cbw->file);
    if (!err)
        err = inner_node_attach(node, "target", 0, options->target, &cbw->target);
    if (!err)
        err = cbw_choose_units(cbw, options->min_cluster_size);
    if (err)
        return err;
    if (options->use_copy_range && !options->compress)
        cbw->ends.offload = OFFLOAD_ALWAYS;
    if (options->compress) {
        cbw->ends.offload = OFFLOAD_NONE;
        cbw->ends.flags |= REQ_COMPRESSED;
        cbw->ends.zero_unit = max_u64(cbw->ends.zero_unit, node_cluster_bytes(options->target));
    }
    return NULL;
}

struct error *cbw_job_create(const struct cbw_job_options *options, struct node **out)
{
    struct node *node;
    struct error *err = inner_node_begin(&copy_before_write_driver, options->name, options->owner, &node);
    if (err)
        return err;
    cbw_set_up(cbw_of(node));
    set_options(cbw_of(node), options);
    err = attach(node, options);
    if (err) {
        inner_node_give_up(node);
        return err;
    }
    node_set_filename(node, node_filename(options->source));
    inner_node_publish(node);
    *out = node;
    return NULL;
}

void cbw_job_want_dirty(struct node *filter, struct dirty_bitmap *bitmap)
{
    cbw_want_dirty(cbw_of(filter), bitmap);
}

void cbw_job_want_above(struct node *filter, struct handle *asker, struct node *base)
{
    struct cbw *cbw = cbw_of(filter);
    cbw->asker = asker;
    cbw->base = base;
}

uint64_t cbw_job_cluster(struct node *filter)
{
    return cbw_of(filter)->cluster;
}

/* Planning ------------------------------------------------------------------------------------------------------- */

/* The begin of @range that is settled as a whole, or not at all. */
static struct range first_alike(struct cbw *cbw, struct range range, bool *settled)
{
    struct range clusters = cbw_clusters(cbw, range);
    spinlock_lock(&cbw->lock);
    *settled = bitset_has(&cbw->settled, clusters.offset);
    uint64_t end = *settled ? bitset_next_clear(&cbw->settled, clusters) : bitset_next_set(&cbw->settled, clusters);
    spinlock_unlock(&cbw->lock);
    return range_intersect(range, cbw_bytes(cbw, range_between(clusters.offset, end)));
}

/* Settles what is not settled of whole clusters, without copying. False if somebody is copying one of them. */
static bool settle(struct cbw *cbw, struct range range, bool copied)
{
    struct range clusters = cbw_clusters(cbw, range);
    spinlock_lock(&cbw->lock);
    bool free = bitset_next_set(&cbw->copying, clusters) == range_end(clusters);
    while (free && clusters.bytes > 0) {
        uint64_t first = bitset_next_clear(&cbw->settled, clusters);
        clusters = range_between(first, range_end(clusters));
        uint64_t end = bitset_next_set(&cbw->settled, clusters);
        bitset_set(&cbw->settled, range_between(first, end));
        if (copied)
            bitset_set(&cbw->copied, range_between(first, end));
        clusters = range_between(end, range_end(clusters));
    }
    spinlock_unlock(&cbw->lock);
    return free;
}

/* Zeroes that the target has already need not be written; what it shows of the disk will change. */
static bool target_is_zero(struct cbw *cbw, struct range range) CO_FN;

static bool target_is_zero(struct cbw *cbw, struct range range)
{
    return cbw->target_alone && child_is_zero(cbw->target, range);
}

/* @range is of whole clusters, which were not settled a moment ago. @flags: what the disk says of them. */
static void plan_clusters(struct cbw *cbw, struct range range, unsigned flags, struct extents *plan) CO_FN;

static void plan_clusters(struct cbw *cbw, struct range range, unsigned flags, struct extents *plan)
{
    bool zero = flags & EXTENT_ZERO;
    bool ours = flags & EXTENT_ALLOCATED;
    struct extent extent = { .offset = range.offset, .bytes = range.bytes };
    if (range.bytes == 0)
        return;
    bool done = ours ? zero && target_is_zero(cbw, range) && settle(cbw, range, true) : settle(cbw, range, false);
    if (!done)
        extent.flags = EXTENT_ALLOCATED | (ours && zero ? EXTENT_ZERO : 0u);
    extents_append(plan, &extent);
}

/* What the disk says, cut to clusters: those that are of two kinds are copied. @range begins and ends at clusters. */
static void plan_extents(struct cbw *cbw, struct range range, const struct extents *found, struct extents *plan) CO_FN;

static void plan_extents(struct cbw *cbw, struct range range, const struct extents *found, struct extents *plan)
{
    uint64_t at = range.offset;
    for (size_t i = 0; i < found->count; i++) {
        const struct extent *extent = &found->items[i];
        uint64_t end = extent->offset + extent->bytes;
        if (end < range_end(range))
            end = align_down(end, cbw->cluster);
        if (end <= at)
            continue;
        uint64_t begin = min_u64(max_u64(at, align_up(extent->offset, cbw->cluster)), end);
        plan_clusters(cbw, range_between(at, begin), EXTENT_ALLOCATED, plan);
        plan_clusters(cbw, range_between(begin, end), extent->flags, plan);
        at = end;
    }
    if (at == range.offset)
        plan_clusters(cbw, range_intersect(range, range_make(at, cbw->cluster)), EXTENT_ALLOCATED, plan);
}

static int plan_original(struct node *filter, struct range range, struct extents *plan) CO_FN;

static int plan_original(struct node *filter, struct range range, struct extents *plan)
{
    struct cbw *cbw = cbw_of(filter);
    CLEANUP(extents_fini) struct extents found;
    extents_init(&found, STATUS_EXTENTS_MAX);
    int ret = cbw->base
                  ? handle_block_status_entered(cbw->asker, range, ASK_ZERO | ASK_ALLOCATED, cbw->base, false, &found)
                  : child_block_status(cbw->file, range, ASK_ZERO, &found);
    for (size_t i = 0; i < found.count && !cbw->base; i++)
        found.items[i].flags |= EXTENT_ALLOCATED;
    if (ret == 0)
        plan_extents(cbw, range, &found, plan);
    return ret;
}

int cbw_job_plan(struct node *filter, struct range range, struct extents *plan)
{
    struct cbw *cbw = cbw_of(filter);
    int ret = 0;
    while (range.bytes > 0 && !extents_full(plan) && ret == 0) {
        bool settled;
        struct range part = first_alike(cbw, range, &settled);
        struct extent skipped = { .offset = part.offset, .bytes = part.bytes };
        if (settled)
            extents_append(plan, &skipped);
        else
            ret = plan_original(filter, part, plan);
        if (ret == 0) {
            const struct extent *last = &plan->items[plan->count - 1];
            range = range_between(last->offset + last->bytes, range_end(range));
        }
    }
    return ret < 0 && plan->count > 0 ? 0 : ret;
}

/* Copying -------------------------------------------------------------------------------------------------------- */

int cbw_job_keep(struct node *filter, struct range range, bool zero, bool *write_failed)
{
    const struct cbw_patience patience = { .data = !zero && !cbw_of(filter)->base };
    struct cbw *cbw = cbw_of(filter);
    struct range clusters = cbw_clusters(cbw, range);
    spinlock_lock(&cbw->lock);
    int ret = cbw_keep_clusters(filter, clusters, &patience, write_failed);
    if (cbw->broken)
        ret = cbw->broken_error;
    spinlock_unlock(&cbw->lock);
    /* It was for saving space only: an error does no harm. */
    if (ret == 0 && cbw->discard_source)
        (void)child_pdiscard(cbw->file, cbw_bytes(cbw, clusters));
    return ret;
}

int cbw_job_broken(struct node *filter)
{
    struct cbw *cbw = cbw_of(filter);
    spinlock_lock(&cbw->lock);
    int ret = cbw->broken ? cbw->broken_error : 0;
    spinlock_unlock(&cbw->lock);
    return ret;
}

struct range cbw_job_next_original(struct node *filter, uint64_t offset)
{
    struct cbw *cbw = cbw_of(filter);
    if (offset >= cbw->bytes)
        return range_make(cbw->bytes, 0);
    struct range clusters = cbw_clusters(cbw, range_between(offset, cbw->bytes));
    spinlock_lock(&cbw->lock);
    uint64_t first = bitset_next_clear(&cbw->settled, clusters);
    uint64_t end = bitset_next_set(&cbw->settled, range_between(first, range_end(clusters)));
    spinlock_unlock(&cbw->lock);
    return cbw_bytes(cbw, range_between(first, end));
}

void cbw_job_end(struct node *filter)
{
    struct cbw *cbw = cbw_of(filter);
    spinlock_lock(&cbw->lock);
    cbw->broke = NULL;
    cbw_break(cbw, -EACCES);
    spinlock_unlock(&cbw->lock);
}
