/* The refcount table: which refcount blocks there are. It grows by being copied to a new place. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/refcount_field.h"

#include <errno.h>
#include <string.h>

static uint64_t block_entries(const struct qcow2 *q)
{
    return UINT64_C(1) << q->geometry.refblock_bits;
}

static uint64_t entries_per_cluster(const struct qcow2 *q)
{
    return cluster_bytes(&q->geometry) / sizeof(uint64_t);
}

/* An area is a part of the file that no block counted before: its own blocks first, then what it is made for.
 *
 *     first_block's clusters: | block | block | ... | cluster | cluster | ... | free
 *                              `---- blocks -----'   `------ count ------'            */
struct area {
    uint64_t first_block; /* index in the refcount table */
    uint64_t blocks;
    uint64_t count;
};

static uint64_t area_offset(const struct qcow2 *q, const struct area *area)
{
    return area->first_block << q->geometry.refblock_bits << q->geometry.cluster_bits;
}

/* As many blocks as it takes to count themselves and @count clusters. */
static uint64_t blocks_for(const struct qcow2 *q, uint64_t count)
{
    return div_round_up(count, block_entries(q) - 1);
}

static int area_check(struct qcow2 *q, const struct area *area)
{
    struct range bytes = range_make(area_offset(q, area), (area->blocks + area->count) << q->geometry.cluster_bits);
    if (!range_inside(bytes, QCOW2_HOST_OFFSET_END))
        return -EFBIG;
    return qcow2_is_table(q, bytes.offset, bytes.bytes) ? qcow2_corrupt_overlap(q, bytes.offset, bytes.bytes) : 0;
}

static int fill_block(struct qcow2 *q, const struct area *area, uint64_t i)
{
    uint64_t cluster = (area->first_block << q->geometry.refblock_bits) + i;
    uint64_t used = area->blocks + area->count;
    uint64_t before = i << q->geometry.refblock_bits; /* clusters of the area that earlier blocks count */
    struct table *block;
    int ret = table_pin_zeroed(&q->refblocks, cluster << q->geometry.cluster_bits, &block);
    if (ret < 0)
        return ret;
    ret = table_change(&q->refblocks, block, 0, q->refblocks.table_bytes);
    for (uint64_t k = 0; ret == 0 && k < block_entries(q) && before + k < used; k++)
        refcount_set(block->data, q->geometry.refcount_order, (size_t)k, 1);
    table_unpin(&q->refblocks, block);
    return ret;
}

/* The blocks exist in memory; the refcount table, which must be large enough, leads to them. */
static int area_enter(struct qcow2 *q, const struct area *area)
{
    for (uint64_t i = 0; i < area->blocks; i++) {
        int ret = fill_block(q, area, i);
        if (ret < 0)
            return ret;
        uint64_t index = area->first_block + i;
        uint64_t offset = area_offset(q, area) + (i << q->geometry.cluster_bits);
        spinlock_lock(&q->l2.lock);
        bool added = cluster_set_add(&q->tables, offset >> q->geometry.cluster_bits, TABLE_BIT(TABLE_REFCOUNT_BLOCK));
        spinlock_unlock(&q->l2.lock);
        if (!added)
            return -ENOMEM;
        q->reftable[index] = offset;
        changed_add(&q->reftable_changed, (size_t)index, (size_t)index + 1);
    }
    return 0;
}

/* As if the area had never been. Nothing of it is in the file's refcount table. */
static void area_leave(struct qcow2 *q, const struct area *area)
{
    for (uint64_t i = 0; i < area->blocks; i++) {
        uint64_t offset = area_offset(q, area) + (i << q->geometry.cluster_bits);
        table_forget(&q->refblocks, offset);
        spinlock_lock(&q->l2.lock);
        cluster_set_remove(&q->tables, offset >> q->geometry.cluster_bits, TABLE_BIT(TABLE_REFCOUNT_BLOCK));
        spinlock_unlock(&q->l2.lock);
    }
}

/* Behind the last block that there is. */
static uint64_t first_unused_entry(const struct qcow2 *q)
{
    uint64_t index = q->reftable_entries;
    while (index > 0 && !entry_offset(q->reftable[index - 1]))
        index--;
    return index;
}

int refcount_alloc_area(struct qcow2 *q, uint64_t count, uint64_t *host)
{
    struct area area = { .first_block = first_unused_entry(q), .blocks = blocks_for(q, count), .count = count };
    if (area.first_block + area.blocks > q->reftable_entries)
        return RETRY_WITH_LARGER_REFTABLE;
    int ret = area_check(q, &area);
    if (ret == 0)
        ret = area_enter(q, &area);
    if (ret == 0)
        *host = area_offset(q, &area) + (area.blocks << q->geometry.cluster_bits);
    return ret;
}

/* The area of a new table of half as many entries again, which counts the table's own clusters. */
static int plan_growth(const struct qcow2 *q, struct area *area, uint64_t *entries)
{
    uint64_t clusters = div_round_up(q->reftable_entries + q->reftable_entries / 2 + 1, entries_per_cluster(q));
    area->first_block = q->reftable_entries;
    for (;; clusters++) {
        area->count = clusters;
        area->blocks = blocks_for(q, clusters);
        if (clusters << q->geometry.cluster_bits > QCOW2_REFTABLE_BYTES_MAX)
            return -EFBIG;
        if (area->first_block + area->blocks < clusters * entries_per_cluster(q))
            break;
    }
    *entries = clusters * entries_per_cluster(q);
    return 0;
}

static int write_table(struct qcow2 *q, uint64_t offset)
{
    size_t bytes = (size_t)q->reftable_entries * sizeof(uint64_t);
    CLEANUP(free) uint8_t *data = try_calloc(1, bytes);
    if (!data)
        return -ENOMEM;
    for (uint64_t i = 0; i < q->reftable_entries; i++)
        store_be64(data + i * sizeof(uint64_t), q->reftable[i]);
    child_debug_event(q->file, "refblock_alloc_write_table");
    return child_pwrite(q->file, offset, data, bytes, 0);
}

static int write_header(struct qcow2 *q, uint64_t offset, uint32_t clusters)
{
    CLEANUP(co_mutex_release) struct co_mutex *header = co_mutex_hold(&q->header_mutex);
    uint8_t fields[12];
    store_be64(fields, offset);
    store_be32(fields + 8, clusters);
    return child_pwrite(q->file, QCOW2_FIELD_REFTABLE, fields, sizeof(fields), 0);
}

/* Blocks and table are stable before the header leads to them, and the header is before anything relies on it. */
static int write_larger(struct qcow2 *q, uint64_t offset, uint32_t clusters)
{
    struct list batch;
    list_init(&batch);
    table_cache_freeze(&q->refblocks, &batch);
    child_debug_event(q->file, "refblock_alloc_write_blocks");
    int ret = table_batch_write(&q->refblocks, q->file, &batch);
    table_cache_thaw(&q->refblocks, &batch, ret == 0);
    if (ret == 0)
        ret = write_table(q, offset);
    if (ret == 0)
        ret = child_flush(q->file);
    if (ret < 0)
        return ret;
    child_debug_event(q->file, "refblock_alloc_switch_table");
    ret = write_header(q, offset, clusters);
    if (ret == 0)
        ret = child_flush(q->file);
    /* The header may lead to either table now. Only with the old one can this go on. */
    if (ret < 0 &&
        (write_header(q, q->header.reftable_offset, q->header.reftable_clusters) < 0 || child_flush(q->file) < 0))
        q->corrupt = true;
    return ret;
}

/* The table in memory becomes one of @entries entries; the old one is returned. */
static uint64_t *swap_table(struct qcow2 *q, uint64_t *table, uint64_t entries)
{
    uint64_t *old = q->reftable;
    spinlock_lock(&q->l2.lock);
    q->reftable = table;
    q->reftable_entries = entries;
    spinlock_unlock(&q->l2.lock);
    return old;
}

static int grow_into(struct qcow2 *q, const struct area *area, uint64_t entries)
{
    uint64_t old_entries = q->reftable_entries;
    struct changed late = q->reftable_changed; /* what lazy refcounts have not written yet */
    uint64_t *larger = try_calloc((size_t)entries, sizeof(uint64_t));
    if (!larger)
        return -ENOMEM;
    memcpy(larger, q->reftable, (size_t)old_entries * sizeof(uint64_t));
    CLEANUP(free) uint64_t *unused = swap_table(q, larger, entries);

    uint64_t offset = area_offset(q, area) + (area->blocks << q->geometry.cluster_bits);
    int ret = area_enter(q, area);
    if (ret == 0)
        ret = write_larger(q, offset, (uint32_t)area->count);
    q->reftable_changed = (struct changed){ 0 };
    if (ret < 0) {
        area_leave(q, area);
        unused = swap_table(q, steal(&unused), old_entries);
        q->reftable_changed = late;
        return ret;
    }
    struct range old =
        range_make(q->header.reftable_offset, (uint64_t)q->header.reftable_clusters << q->geometry.cluster_bits);
    spinlock_lock(&q->l2.lock);
    q->header.reftable_offset = offset;
    q->header.reftable_clusters = (uint32_t)area->count;
    spinlock_unlock(&q->l2.lock);
    freed_add(q, old, FREED_OTHERWISE);
    return 0;
}

int reftable_grow_held(struct qcow2 *q)
{
    child_debug_event(q->file, "reftable_grow");
    struct area area;
    uint64_t entries;
    int ret = plan_growth(q, &area, &entries);
    if (ret == 0)
        ret = area_check(q, &area);
    if (ret == 0)
        ret = qcow2_sync_held(q); /* so that the new table leads to nothing that is in memory only */
    return ret < 0 ? ret : grow_into(q, &area, entries);
}

int refcount_alloc_run_held(struct qcow2 *q, uint64_t count, uint64_t *host)
{
    int ret;
    while ((ret = refcount_alloc_run(q, count, host)) == RETRY_WITH_LARGER_REFTABLE) {
        ret = reftable_grow_held(q);
        if (ret < 0)
            return ret;
    }
    return ret;
}

int reftable_grow(struct qcow2 *q)
{
    int ret = 0;
    co_mutex_lock(&q->sync_mutex);
    co_mutex_lock(&q->metadata);
    /* Unless somebody else was quicker, or clusters have been freed meanwhile. */
    if (q->free_hint >> q->geometry.refblock_bits >= q->reftable_entries)
        ret = reftable_grow_held(q);
    co_mutex_unlock(&q->metadata);
    co_mutex_unlock(&q->sync_mutex);
    return ret;
}
