/* The bits of a bitmap in the file: a table, each entry of which is a cluster of bits, or says that all of them are
 * clear, or set. */
#include "blockcore/drivers/qcow2/bitmaps.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/snapshots.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>

#define ENTRY_ALL_SET UINT64_C(1)
#define ENTRY_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define ENTRY_RESERVED_MASK UINT64_C(0xff000000000001fe)

/* Guest bytes that one cluster of bits stands for. */
static uint64_t bytes_of_cluster(const struct qcow2 *q, const struct qcow2_bitmap *bitmap)
{
    return cluster_bytes(&q->geometry) * 8 << bitmap->granularity_bits;
}

/* Whole clusters, inside of the file, where no table lies? */
static bool is_free_place(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    if (in_cluster(&q->geometry, offset) || !range_inside(range_make(offset, bytes), child_length(q->file)))
        return false;
    spinlock_lock(&q->l2.lock);
    bool is_table = qcow2_is_table(q, offset, bytes);
    spinlock_unlock(&q->l2.lock);
    return !is_table;
}

static int check_entry(struct qcow2 *q, uint64_t entry)
{
    uint64_t offset = entry & ENTRY_OFFSET_MASK;
    if (entry & ENTRY_RESERVED_MASK)
        return -EINVAL;
    if (offset == 0)
        return 0;
    return !(entry & ENTRY_ALL_SET) && is_free_place(q, offset, cluster_bytes(&q->geometry)) ? 0 : -EINVAL;
}

/* The table with all its entries checked; the caller frees *@out. */
static int load_table(struct qcow2 *q, const struct qcow2_bitmap *bitmap, uint64_t **out) CO_FN;

static int load_table(struct qcow2 *q, const struct qcow2_bitmap *bitmap, uint64_t **out)
{
    if (!is_free_place(q, bitmap->table_offset, bitmap->table_entries * sizeof(uint64_t)))
        return -EINVAL;
    CLEANUP(free) uint64_t *table = try_calloc(bitmap->table_entries, sizeof(uint64_t));
    if (!table)
        return -ENOMEM;
    int ret = child_pread(q->file, bitmap->table_offset, table, bitmap->table_entries * sizeof(uint64_t));
    for (uint32_t i = 0; i < bitmap->table_entries && ret == 0; i++) {
        table[i] = be64toh(table[i]);
        ret = check_entry(q, table[i]);
    }
    if (ret == 0)
        *out = steal(&table);
    return ret;
}

static struct range table_place(const struct qcow2 *q, const struct qcow2_bitmap *bitmap)
{
    struct range place = range_make(bitmap->table_offset, bitmap->table_entries * sizeof(uint64_t));
    return range_align_out(place, cluster_bytes(&q->geometry));
}

int qcow2_bitmap_visit(struct qcow2 *q, const struct qcow2_bitmap *bitmap, visit_bitmap_clusters *visit, void *arg)
{
    CLEANUP(free) uint64_t *table = NULL;
    int ret = load_table(q, bitmap, &table);
    for (uint32_t i = 0; i < bitmap->table_entries && ret == 0; i++) {
        uint64_t offset = table[i] & ENTRY_OFFSET_MASK;
        if (offset)
            ret = visit(q, range_make(offset, cluster_bytes(&q->geometry)), arg);
    }
    return ret < 0 ? ret : visit(q, table_place(q, bitmap), arg);
}

/* Reading ------------------------------------------------------------------------------------------------------- */

static int read_cluster(struct qcow2 *q, uint64_t entry, uint32_t index, const struct qcow2_bitmap *bitmap,
                        struct dirty_bitmap *to, uint8_t *bits) CO_FN;

static int read_cluster(struct qcow2 *q, uint64_t entry, uint32_t index, const struct qcow2_bitmap *bitmap,
                        struct dirty_bitmap *to, uint8_t *bits)
{
    uint64_t each = bytes_of_cluster(q, bitmap);
    uint64_t bytes = cluster_bytes(&q->geometry);
    if (entry == 0)
        return 0;
    if (entry == ENTRY_ALL_SET) {
        struct range disk = range_make(0, dirty_bitmap_length(to));
        dirty_bitmap_mark(to, range_intersect(range_make(index * each, each), disk));
        return 0;
    }
    int ret = child_pread(q->file, entry & ENTRY_OFFSET_MASK, bits, bytes);
    if (ret == 0)
        dirty_bitmap_add(to, index * bytes, bits, bytes);
    return ret;
}

int qcow2_bitmap_read(struct qcow2 *q, const struct qcow2_bitmap *bitmap, struct dirty_bitmap *to)
{
    CLEANUP(free) uint64_t *table = NULL;
    int ret = load_table(q, bitmap, &table);
    if (ret < 0)
        return ret;
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    uint8_t *bits = buffer_get(bytes);
    if (!bits)
        return -ENOMEM;
    for (uint32_t i = 0; i < bitmap->table_entries && ret == 0; i++)
        ret = read_cluster(q, table[i], i, bitmap, to, bits);
    buffer_put(bits, bytes);
    return ret;
}

/* Writing ------------------------------------------------------------------------------------------------------- */

void qcow2_bitmap_free_place(struct qcow2 *q, struct range place)
{
    co_mutex_lock(&q->metadata);
    if (place.bytes > 0)
        freed_add(q, range_align_out(place, cluster_bytes(&q->geometry)), FREED_OTHERWISE);
    co_mutex_unlock(&q->metadata);
}

static void give_up_entries(struct qcow2 *q, const uint64_t *table, uint32_t entries) CO_FN;

static void give_up_entries(struct qcow2 *q, const uint64_t *table, uint32_t entries)
{
    for (uint32_t i = 0; i < entries; i++) {
        if (table[i] & ENTRY_OFFSET_MASK)
            qcow2_bitmap_free_place(q, range_make(table[i] & ENTRY_OFFSET_MASK, cluster_bytes(&q->geometry)));
    }
}

void qcow2_bitmap_give_up(struct qcow2 *q, const struct qcow2_bitmap *bitmap)
{
    CLEANUP(free) uint64_t *table = NULL;
    /* What cannot be right may belong to somebody else: better leaked. */
    if (bitmap->damaged || load_table(q, bitmap, &table) < 0)
        return;
    give_up_entries(q, table, bitmap->table_entries);
    qcow2_bitmap_free_place(q, table_place(q, bitmap));
}

static int write_cluster(struct qcow2 *q, struct dirty_bitmap *from, uint64_t index, uint8_t *bits, uint64_t *entry)
    CO_FN;

static int write_cluster(struct qcow2 *q, struct dirty_bitmap *from, uint64_t index, uint8_t *bits, uint64_t *entry)
{
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    uint64_t offset;
    int ret = snapshot_alloc(q, bytes, &offset);
    if (ret < 0)
        return ret;
    *entry = offset;
    dirty_bitmap_read(from, index * bytes, bits, bytes);
    return child_pwrite(q->file, offset, bits, bytes, 0);
}

/* Clusters of bits without any that is set take no space, and none with all set, except the last one, where what is
 * behind the end must be clear. */
static int write_clusters(struct qcow2 *q, struct dirty_bitmap *from, const struct qcow2_bitmap *bitmap, uint8_t *bits,
                          uint64_t *table) CO_FN;

static int write_clusters(struct qcow2 *q, struct dirty_bitmap *from, const struct qcow2_bitmap *bitmap, uint8_t *bits,
                          uint64_t *table)
{
    uint64_t each = bytes_of_cluster(q, bitmap);
    uint64_t length = dirty_bitmap_length(from);
    int ret = 0;
    for (uint64_t at = 0; ret == 0 && (at = dirty_bitmap_next_dirty(from, at)) < length;) {
        uint64_t index = at / each;
        uint64_t end = (index + 1) * each;
        if (at == index * each && end <= length && dirty_bitmap_next_clean(from, at) >= end)
            table[index] = ENTRY_ALL_SET;
        else
            ret = write_cluster(q, from, index, bits, &table[index]);
        at = min_u64(end, length);
    }
    return ret;
}

int qcow2_bitmap_write_table(struct qcow2 *q, const uint64_t *table, struct qcow2_bitmap *bitmap)
{
    size_t bytes = bitmap->table_entries * sizeof(uint64_t);
    CLEANUP(free) uint8_t *data = try_calloc(bitmap->table_entries, sizeof(uint64_t));
    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < bitmap->table_entries; i++)
        store_be64(data + i * sizeof(uint64_t), table[i]);
    int ret = snapshot_alloc(q, bytes, &bitmap->table_offset);
    if (ret < 0)
        return ret;
    ret = child_pwrite(q->file, bitmap->table_offset, data, bytes, 0);
    if (ret < 0)
        qcow2_bitmap_free_place(q, table_place(q, bitmap));
    return ret;
}

int qcow2_bitmap_write(struct qcow2 *q, struct dirty_bitmap *from, struct qcow2_bitmap *bitmap)
{
    uint64_t entries =
        qcow2_bitmap_table_entries(dirty_bitmap_length(from), bitmap->granularity_bits, q->header.cluster_bits);
    if (entries << q->header.cluster_bits > QCOW2_BITMAP_BYTES_MAX + cluster_bytes(&q->geometry))
        return -EFBIG;
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    CLEANUP(free) uint64_t *table = try_calloc(entries, sizeof(uint64_t));
    uint8_t *bits = buffer_get(bytes);
    bitmap->table_entries = (uint32_t)entries;
    int ret = table && bits ? write_clusters(q, from, bitmap, bits, table) : -ENOMEM;
    if (ret == 0)
        ret = qcow2_bitmap_write_table(q, table, bitmap);
    if (ret < 0 && table)
        give_up_entries(q, table, (uint32_t)entries);
    if (bits)
        buffer_put(bits, bytes);
    return ret;
}
