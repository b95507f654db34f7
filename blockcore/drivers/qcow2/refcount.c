/* Which host clusters are in use, and taking the next free ones. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/drivers/qcow2/refcount_field.h"

#include <errno.h>
#include <inttypes.h>

static uint64_t block_of(const struct qcow2 *q, uint64_t cluster)
{
    return cluster >> q->geometry.refblock_bits;
}

static size_t block_entries(const struct qcow2 *q)
{
    return (size_t)1 << q->geometry.refblock_bits;
}

static size_t index_in_block(const struct qcow2 *q, uint64_t cluster)
{
    return (size_t)cluster & (block_entries(q) - 1);
}

static bool is_cached(struct qcow2 *q, uint64_t offset)
{
    spinlock_lock(&q->refblocks.lock);
    bool cached = table_find(&q->refblocks, offset);
    spinlock_unlock(&q->refblocks.lock);
    return cached;
}

/* The block must exist. Blocks may reach the disk at any time and in any order (see README.md), so a full cache makes
 * room by itself. */
static int block_pin(struct qcow2 *q, uint64_t block, struct table **out)
{
    uint64_t offset = entry_offset(q->reftable[block]);
    if (!is_cached(q, offset)) {
        if (!qcow2_table_in_file(q, offset, q->refblocks.table_bytes))
            return qcow2_corrupt(q, range_make(offset, q->refblocks.table_bytes),
                                 "refcount block %" PRIu64 " cannot be at offset 0x%" PRIx64, block, offset);
        int ret = table_cache_make_room(&q->refblocks, q->file);
        if (ret < 0)
            return ret;
    }
    return table_pin(&q->refblocks, q->file, offset, out);
}

static int block_set(struct qcow2 *q, struct table *block, size_t index, uint64_t count)
{
    size_t first;
    size_t bytes;
    refcount_place(q->geometry.refcount_order, index, &first, &bytes);
    int ret = table_change(&q->refblocks, block, first, bytes);
    if (ret == 0)
        refcount_set(block->data, q->geometry.refcount_order, index, count);
    return ret;
}

static uint64_t block_get(const struct qcow2 *q, const struct table *block, size_t index)
{
    return refcount_get(block->data, q->geometry.refcount_order, index);
}

/* A part of the file that no refcount block counts yet gets one. It takes the first of the clusters that it counts, so
 * it counts itself and no other block changes. */
static int block_create(struct qcow2 *q, uint64_t block, struct table **out)
{
    uint64_t cluster = block << q->geometry.refblock_bits;
    uint64_t offset = cluster << q->geometry.cluster_bits;
    if (qcow2_is_table(q, offset, cluster_bytes(&q->geometry)))
        return qcow2_corrupt_overlap(q, offset, cluster_bytes(&q->geometry));
    child_debug_event(q->file, "refblock_alloc");
    int ret = table_cache_make_room(&q->refblocks, q->file);
    child_debug_event(q->file, "refblock_alloc_write");
    if (ret == 0)
        ret = table_pin_zeroed(&q->refblocks, offset, out);
    if (ret < 0)
        return ret;
    ret = table_change(&q->refblocks, *out, 0, q->refblocks.table_bytes);
    if (ret == 0) {
        spinlock_lock(&q->l2.lock);
        ret = cluster_set_add(&q->tables, cluster, TABLE_BIT(TABLE_REFCOUNT_BLOCK)) ? 0 : -ENOMEM;
        spinlock_unlock(&q->l2.lock);
    }
    if (ret < 0) {
        table_unpin(&q->refblocks, *out);
        table_forget(&q->refblocks, offset);
        return ret;
    }
    refcount_set((*out)->data, q->geometry.refcount_order, 0, 1);
    child_debug_event(q->file, "refblock_alloc_hookup");
    q->reftable[block] = offset;
    changed_add(&q->reftable_changed, (size_t)block, (size_t)block + 1);
    return 0;
}

static int block_pin_or_create(struct qcow2 *q, uint64_t block, struct table **out)
{
    if (block >= q->reftable_entries)
        return RETRY_WITH_LARGER_REFTABLE;
    return entry_offset(q->reftable[block]) ? block_pin(q, block, out) : block_create(q, block, out);
}

/* The first free entry from @index on; block_entries() when there is none. */
static size_t find_free(const struct qcow2 *q, const struct table *block, size_t index)
{
    while (index < block_entries(q) && block_get(q, block, index) != 0)
        index++;
    return index;
}

static size_t count_free(const struct qcow2 *q, const struct table *block, size_t index, uint64_t max)
{
    size_t count = 0;
    while (count < max && index + count < block_entries(q) && block_get(q, block, index + count) == 0)
        count++;
    return count;
}

/* Takes @count clusters that are free. A damaged image may say so of its own tables. */
static int take(struct qcow2 *q, struct table *block, uint64_t cluster, uint64_t count)
{
    uint64_t offset = cluster << q->geometry.cluster_bits;
    uint64_t bytes = count << q->geometry.cluster_bits;
    if (!range_inside(range_make(offset, bytes), QCOW2_HOST_OFFSET_END))
        return -EFBIG;
    if (qcow2_is_table(q, offset, bytes))
        return qcow2_corrupt_overlap(q, offset, bytes);
    for (uint64_t i = 0; i < count; i++) {
        int ret = block_set(q, block, index_in_block(q, cluster + i), 1);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* Has nothing ever been written to these clusters? A file that is longer than all that was handed out was written there
 * by somebody else before us. */
static bool hand_out(struct qcow2 *q, uint64_t host, uint64_t count)
{
    uint64_t untouched = max_u64(q->untouched, child_length(q->file));
    q->untouched = max_u64(untouched, host + (count << q->geometry.cluster_bits));
    return host >= untouched;
}

int refcount_alloc(struct qcow2 *q, uint64_t max, uint64_t *host, uint64_t *count, bool *fresh)
{
    child_debug_event(q->file, "cluster_alloc");
    for (;;) {
        uint64_t block_index = block_of(q, q->free_hint);
        struct table *block;
        int ret = block_pin_or_create(q, block_index, &block);
        if (ret < 0)
            return ret;
        size_t index = find_free(q, block, index_in_block(q, q->free_hint));
        uint64_t cluster = (block_index << q->geometry.refblock_bits) + index;
        q->free_hint = cluster;
        if (index < block_entries(q)) {
            *count = count_free(q, block, index, max);
            ret = take(q, block, cluster, *count);
            if (ret == 0)
                q->free_hint = cluster + *count;
        }
        table_unpin(&q->refblocks, block);
        if (index < block_entries(q)) {
            *host = cluster << q->geometry.cluster_bits;
            *fresh = hand_out(q, *host, *count);
            return ret;
        }
    }
}

int refcount_read(struct qcow2 *q, uint64_t cluster, uint64_t *count)
{
    *count = 0;
    uint64_t block_index = block_of(q, cluster);
    if (block_index >= q->reftable_entries || !entry_offset(q->reftable[block_index]))
        return 0;
    struct table *block;
    int ret = block_pin(q, block_index, &block);
    if (ret < 0)
        return ret;
    *count = block_get(q, block, index_in_block(q, cluster));
    table_unpin(&q->refblocks, block);
    return 0;
}

static int corrupt_count(struct qcow2 *q, uint64_t cluster)
{
    uint64_t offset = cluster << q->geometry.cluster_bits;
    return qcow2_corrupt(q, range_make(offset, cluster_bytes(&q->geometry)),
                         "the cluster at offset 0x%" PRIx64 " is in use, but its refcount is 0", offset);
}

/* The first of @count clusters in a row that are free. Refcount blocks are made on the way; each stands in the way of a
 * run that would go over it, so the run must be shorter than what one block counts. */
static int find_free_run(struct qcow2 *q, uint64_t count, uint64_t *first)
{
    uint64_t begin = q->free_hint;
    for (uint64_t cluster = begin; cluster < begin + count;) {
        struct table *block;
        int ret = block_pin_or_create(q, block_of(q, cluster), &block);
        if (ret < 0)
            return ret;
        size_t index = index_in_block(q, cluster);
        size_t found = count_free(q, block, index, begin + count - cluster);
        table_unpin(&q->refblocks, block);
        cluster += found;
        if (cluster < begin + count && index + found < block_entries(q))
            begin = ++cluster;
    }
    *first = begin;
    return 0;
}

/* The part of the run that starts with @cluster and one block counts. */
static int take_part(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    struct table *block;
    int ret = block_pin_or_create(q, block_of(q, cluster), &block);
    if (ret < 0)
        return ret;
    ret = take(q, block, cluster, count);
    table_unpin(&q->refblocks, block);
    return ret;
}

/* All of it, or nothing. */
static int take_run(struct qcow2 *q, uint64_t first, uint64_t count)
{
    for (uint64_t done = 0; done < count;) {
        uint64_t here = min_u64(count - done, block_entries(q) - index_in_block(q, first + done));
        int ret = take_part(q, first + done, here);
        if (ret < 0 && done > 0)
            (void)refcount_release(q, range_make(first << q->geometry.cluster_bits, done << q->geometry.cluster_bits));
        if (ret < 0)
            return ret;
        done += here;
    }
    return 0;
}

int refcount_alloc_run(struct qcow2 *q, uint64_t count, uint64_t *host)
{
    if (count >= block_entries(q))
        return refcount_alloc_area(q, count, host);
    uint64_t first;
    int ret = find_free_run(q, count, &first);
    if (ret == 0)
        ret = take_run(q, first, count);
    if (ret == 0) {
        *host = first << q->geometry.cluster_bits;
        hand_out(q, *host, count);
        /* What a longer run has passed over may be free. */
        if (count == 1 || first == q->free_hint)
            q->free_hint = first + count;
    }
    return ret;
}

/* The block that counts @cluster, which is in use. */
static int pin_counting_block(struct qcow2 *q, uint64_t cluster, struct table **block)
{
    uint64_t block_index = block_of(q, cluster);
    if (block_index >= q->reftable_entries || !entry_offset(q->reftable[block_index]))
        return corrupt_count(q, cluster);
    return block_pin(q, block_index, block);
}

/* Takes one reference from @count clusters, all counted by one block. */
static int release_in_block(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    struct table *block;
    int ret = pin_counting_block(q, cluster, &block);
    if (ret < 0)
        return ret;
    for (uint64_t i = cluster; i < cluster + count && ret == 0; i++) {
        uint64_t references = block_get(q, block, index_in_block(q, i));
        ret = references ? block_set(q, block, index_in_block(q, i), references - 1) : corrupt_count(q, i);
        if (ret == 0 && references == 1) {
            q->free_hint = min_u64(q->free_hint, i);
            packed_space_leave(q, i);
        }
    }
    table_unpin(&q->refblocks, block);
    return ret;
}

/* All of it in one block, or nothing. */
static int retain_in_block(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    struct table *block;
    int ret = pin_counting_block(q, cluster, &block);
    if (ret < 0)
        return ret;
    for (uint64_t i = cluster; i < cluster + count && ret == 0; i++) {
        uint64_t references = block_get(q, block, index_in_block(q, i));
        if (references == 0)
            ret = corrupt_count(q, i);
        else if (references == refcount_max(q->geometry.refcount_order))
            ret = -ERANGE;
    }
    for (uint64_t i = cluster; i < cluster + count && ret == 0; i++)
        ret = block_set(q, block, index_in_block(q, i), block_get(q, block, index_in_block(q, i)) + 1);
    table_unpin(&q->refblocks, block);
    return ret;
}

int refcount_retain(struct qcow2 *q, struct range host)
{
    uint64_t begin = host.offset >> q->geometry.cluster_bits;
    uint64_t end = div_round_up(range_end(host), cluster_bytes(&q->geometry));
    for (uint64_t cluster = begin; cluster < end;) {
        uint64_t count = min_u64(end - cluster, block_entries(q) - index_in_block(q, cluster));
        int ret = retain_in_block(q, cluster, count);
        if (ret < 0 && cluster > begin)
            (void)refcount_release(q, range_between(host.offset, cluster << q->geometry.cluster_bits));
        if (ret < 0)
            return ret;
        cluster += count;
    }
    return 0;
}

int refcount_release(struct qcow2 *q, struct range host)
{
    child_debug_event(q->file, "cluster_free");
    uint64_t cluster = host.offset >> q->geometry.cluster_bits;
    uint64_t end = div_round_up(range_end(host), cluster_bytes(&q->geometry));
    while (cluster < end) {
        uint64_t count = min_u64(end - cluster, block_entries(q) - index_in_block(q, cluster));
        int ret = release_in_block(q, cluster, count);
        if (ret < 0)
            return ret;
        cluster += count;
    }
    return 0;
}
