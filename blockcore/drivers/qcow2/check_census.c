/* Who refers to which cluster. Nothing here trusts an entry: a place that cannot be is a corruption, and the walk goes
 * on. */
#include "blockcore/drivers/qcow2/check_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/snapshot.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define NUMBERS_AT_A_TIME 8192 /* of a table whose length only the image says */
#define L1_RESERVED_MASK UINT64_C(0x7f000000000001ff)
#define L2_RESERVED_MASK UINT64_C(0x3f000000000001fe)
#define BITMAP_ENTRY_BYTES 24 /* the part of an entry of the bitmap directory whose length does not vary */
#define BITMAP_TABLE_RESERVED_MASK UINT64_C(0xff000000000001fe)

int check_turn(struct check *check, uint64_t entries)
{
    check->work += entries;
    if (check->work < CHECK_WORK_PER_TURN)
        return 0;
    check->work = 0;
    co_yield ();
    return check->stop && atomic_load_explicit(check->stop, memory_order_relaxed) ? -ECANCELED : 0;
}

int check_failed_read(struct check *check, int ret, bool tell)
{
    if (!check->looking || ret == -ECANCELED || ret == -ENOMEM)
        return ret;
    check->numbers.errors += tell || check->numbers.errors == 0;
    return 0;
}

int check_read_table(struct check *check, uint64_t offset, uint8_t *table)
{
    int ret = check_turn(check, cluster_bytes(&check->q->geometry) / sizeof(uint64_t));
    return ret < 0 ? ret : child_pread(check->q->file, offset, table, (size_t)cluster_bytes(&check->q->geometry));
}

bool check_may_write_l2(const struct check *check, uint64_t offset)
{
    const struct qcow2 *q = check->q;
    uint64_t bytes = cluster_bytes(&q->geometry);
    unsigned l2 = TABLE_BIT(TABLE_ACTIVE_L2) | TABLE_BIT(TABLE_INACTIVE_L2);
    return qcow2_table_in_file(q, offset, bytes) && !qcow2_tables_at(q, range_make(offset, bytes), TABLES_ALL & ~l2);
}

static void found_corruption(struct check *check)
{
    check->numbers.in_tables += check->tell;
}

/* The last cluster of a file may be there in part, so that something may end behind the end by less than a cluster. */
static void refer(struct check *check, struct range place)
{
    const struct geometry *geometry = &check->q->geometry;
    uint64_t length = child_length(check->q->file);
    if (place.bytes == 0)
        return;
    if (range_end(place) > length && range_end(place) - length >= cluster_bytes(geometry)) {
        found_corruption(check);
        return;
    }
    uint64_t last = div_round_up(range_end(place), cluster_bytes(geometry));
    uint64_t begin = max_u64(place.offset >> geometry->cluster_bits, check->first);
    uint64_t end = min_u64(last, check->first + check->count);
    check->referred = max_u64(check->referred, last);
    for (uint64_t cluster = begin; cluster < end; cluster++) {
        if (check->references[cluster - check->first] < UINT32_MAX)
            check->references[cluster - check->first]++;
    }
}

static void refer_cluster(struct check *check, uint64_t offset)
{
    refer(check, range_make(offset, cluster_bytes(&check->q->geometry)));
}

/* L2 tables ------------------------------------------------------------------------------------------------------ */

/* One L2 table on the way through. */
struct l2_walk {
    uint64_t offset;
    uint8_t *table;
    bool active;
    bool changed;
    uint64_t expected; /* where the next cluster lies when nothing is fragmented; 0: not known */
};

static struct l2_entry entry_at(const struct geometry *geometry, const uint8_t *table, uint64_t i)
{
    const uint8_t *at = table + (i << geometry->l2_entry_bits);
    return (struct l2_entry){
        .descriptor = load_be64(at),
        .bitmap = geometry_is_extended(geometry) ? load_be64(at + sizeof(uint64_t)) : 0,
    };
}

static void count_packed(struct check *check, struct l2_walk *walk, struct l2_entry entry)
{
    const struct geometry *geometry = &check->q->geometry;
    if ((entry.descriptor & ENTRY_COPIED) || entry.bitmap || geometry->data_file)
        found_corruption(check);
    if (geometry->data_file)
        return;
    if (walk->active && check->tell) {
        check->numbers.allocated++;
        check->numbers.compressed++;
        check->numbers.fragmented++;
    }
    refer(check, entry_compressed_range(geometry, entry.descriptor & ~ENTRY_COPIED));
}

static void count_fragments(struct check *check, struct l2_walk *walk, uint64_t host)
{
    if (!walk->active || !check->tell)
        return;
    check->numbers.allocated++;
    check->numbers.fragmented += walk->expected && walk->expected != host;
    walk->expected = host + cluster_bytes(&check->q->geometry);
}

/* An entry that keeps room for zeroes where no cluster can be needs no room to read as zeroes. */
static bool mend_unaligned(struct check *check, struct l2_walk *walk, uint64_t i, struct l2_entry entry)
{
    const struct geometry *geometry = &check->q->geometry;
    bool has_data = geometry_is_extended(geometry) ? (uint32_t)entry.bitmap : !(entry.descriptor & ENTRY_ZERO);
    if (has_data || !check->tell || !(check->fix & FIX_ERRORS) || !check_may_write_l2(check, walk->offset))
        return false;
    uint8_t *at = walk->table + (i << geometry->l2_entry_bits);
    store_be64(at, geometry_is_extended(geometry) ? 0 : ENTRY_ZERO);
    if (geometry_is_extended(geometry))
        store_be64(at + sizeof(uint64_t), entry.bitmap);
    walk->changed = true;
    check->numbers.in_tables--;
    check->numbers.corruptions_fixed++;
    return true;
}

static void count_entry(struct check *check, struct l2_walk *walk, uint64_t i)
{
    const struct geometry *geometry = &check->q->geometry;
    struct l2_entry entry = entry_at(geometry, walk->table, i);
    if (entry.descriptor & ENTRY_COMPRESSED) {
        count_packed(check, walk, entry);
        return;
    }
    if (entry.descriptor & L2_RESERVED_MASK & ~ENTRY_OFFSET_MASK)
        found_corruption(check);
    if (entry.bitmap >> 32 & entry.bitmap)
        found_corruption(check);
    uint64_t host = entry_offset(entry.descriptor);
    /* 0 is a place in a data file; with the flag for zeroes qemu-img does not count it. */
    bool at_start = geometry->data_file && (entry.descriptor & (ENTRY_COPIED | ENTRY_ZERO)) == ENTRY_COPIED;
    if (!host && !at_start) {
        if ((uint32_t)entry.bitmap && !geometry->data_file)
            found_corruption(check);
        return;
    }
    if (in_cluster(geometry, host)) {
        found_corruption(check);
        if (mend_unaligned(check, walk, i, entry))
            return;
    }
    count_fragments(check, walk, host);
    if (!geometry->data_file)
        refer_cluster(check, host);
}

static int count_l2(struct check *check, struct l2_walk *walk)
{
    const struct geometry *geometry = &check->q->geometry;
    int ret = check_read_table(check, walk->offset, walk->table);
    if (ret < 0)
        return check_failed_read(check, ret, check->tell);
    walk->changed = false;
    walk->expected = 0;
    for (uint64_t i = 0; i < UINT64_C(1) << geometry->l2_bits; i++)
        count_entry(check, walk, i);
    if (!walk->changed)
        return 0;
    return child_pwrite(check->q->file, walk->offset, walk->table, (size_t)cluster_bytes(geometry), 0);
}

static int count_l1(struct check *check, uint64_t offset, const uint64_t *l1, uint32_t entries, bool active)
{
    const struct geometry *geometry = &check->q->geometry;
    refer(check, range_make(offset, entries * sizeof(uint64_t)));
    struct l2_walk walk = { .table = buffer_get((size_t)cluster_bytes(geometry)), .active = active };
    int ret = walk.table ? 0 : -ENOMEM;
    for (uint32_t i = 0; ret == 0 && i < entries; i++) {
        ret = check_turn(check, 1);
        if (ret < 0 || !l1[i])
            continue;
        if (l1[i] & L1_RESERVED_MASK & ~ENTRY_OFFSET_MASK)
            found_corruption(check);
        walk.offset = entry_offset(l1[i]);
        refer_cluster(check, walk.offset);
        if (in_cluster(geometry, walk.offset))
            found_corruption(check);
        ret = count_l2(check, &walk);
    }
    buffer_put(walk.table, (size_t)cluster_bytes(geometry));
    return ret;
}

/* Snapshots and bitmaps ------------------------------------------------------------------------------------------ */

static int read_numbers(struct check *check, uint64_t offset, uint64_t entries, uint64_t *numbers) CO_FN;

static int read_numbers(struct check *check, uint64_t offset, uint64_t entries, uint64_t *numbers)
{
    int ret = entries ? child_pread(check->q->file, offset, numbers, (size_t)entries * sizeof(uint64_t)) : 0;
    for (uint64_t i = 0; ret == 0 && i < entries; i++)
        numbers[i] = be64toh(numbers[i]);
    return ret;
}

static int count_snapshot(struct check *check, const struct qcow2_snapshot *snapshot)
{
    CLEANUP(free) uint64_t *l1 = try_calloc(max_u64(snapshot->l1_entries, 1), sizeof(uint64_t));
    int ret = l1 ? read_numbers(check, snapshot->l1_offset, snapshot->l1_entries, l1) : -ENOMEM;
    if (ret < 0)
        return check_failed_read(check, ret, check->tell);
    return count_l1(check, snapshot->l1_offset, l1, snapshot->l1_entries, false);
}

static int count_snapshots(struct check *check)
{
    struct qcow2 *q = check->q;
    int ret = 0;
    for (uint32_t i = 0; i < q->header.snapshot_count && ret == 0; i++)
        ret = count_snapshot(check, &q->snapshots[i]);
    refer(check, q->snapshot_table);
    return ret;
}

static void count_bits(struct check *check, uint64_t entry)
{
    uint64_t offset = entry_offset(entry);
    if ((entry & BITMAP_TABLE_RESERVED_MASK) || (offset && (entry & 1)))
        found_corruption(check);
    else if (offset)
        refer_cluster(check, offset);
}

static int count_bitmap(struct check *check, uint64_t table_offset, uint64_t entries)
{
    struct range table = range_make(table_offset, entries * sizeof(uint64_t));
    if (in_cluster(&check->q->geometry, table_offset) || !range_inside(table, child_length(check->q->file))) {
        found_corruption(check);
        return 0;
    }
    refer(check, table);
    CLEANUP(free) uint64_t *numbers = try_calloc(NUMBERS_AT_A_TIME, sizeof(uint64_t));
    int ret = numbers ? 0 : -ENOMEM;
    for (uint64_t done = 0; ret == 0 && done < entries; done += NUMBERS_AT_A_TIME) {
        uint64_t now = min_u64(entries - done, NUMBERS_AT_A_TIME);
        ret = check_turn(check, now);
        if (ret == 0)
            ret = read_numbers(check, table_offset + done * sizeof(uint64_t), now, numbers);
        for (uint64_t i = 0; ret == 0 && i < now; i++)
            count_bits(check, numbers[i]);
    }
    return ret;
}

static int count_directory(struct check *check, struct range directory)
{
    int ret = 0;
    for (uint64_t at = 0; at + BITMAP_ENTRY_BYTES <= directory.bytes && ret == 0;) {
        uint8_t entry[BITMAP_ENTRY_BYTES];
        ret = check_turn(check, BITMAP_ENTRY_BYTES);
        if (ret == 0)
            ret = child_pread(check->q->file, directory.offset + at, entry, sizeof(entry));
        if (ret == 0)
            ret = count_bitmap(check, load_be64(entry), load_be32(entry + 8));
        if (ret == 0)
            at += align_up(BITMAP_ENTRY_BYTES + load_be16(entry + 18) + (uint64_t)load_be32(entry + 20), 8);
    }
    return ret;
}

static int count_bitmaps(struct check *check)
{
    struct range directory = check->q->bitmap_directory;
    refer(check, directory);
    int ret = count_directory(check, directory);
    return ret < 0 ? check_failed_read(check, ret, check->tell) : 0;
}

/* All of it ------------------------------------------------------------------------------------------------------ */

static int count_refcounts(struct check *check)
{
    const struct qcow2 *q = check->q;
    int ret = 0;
    refer(check, qcow2_single_table(q, TABLE_REFCOUNT_TABLE));
    for (uint64_t i = 0; i < q->reftable_entries && ret == 0; i++) {
        ret = check_turn(check, 1);
        if (!q->reftable[i])
            continue;
        if (check_block_is_sane(check, i)) {
            refer_cluster(check, entry_offset(q->reftable[i]));
        } else {
            found_corruption(check);
            check->refcounts_broken = true;
        }
    }
    return ret;
}

/* Not all at once: that alone would take some hundredths of a second. */
static int clear_references(struct check *check)
{
    int ret = 0;
    for (uint64_t done = 0; done < check->count && ret == 0; done += CHECK_WORK_PER_TURN) {
        uint64_t now = min_u64(check->count - done, CHECK_WORK_PER_TURN);
        memset(check->references + done, 0, (size_t)now * sizeof(*check->references));
        ret = check_turn(check, now / 8);
    }
    return ret;
}

int check_census(struct check *check)
{
    struct qcow2 *q = check->q;
    int ret = clear_references(check);
    if (ret < 0)
        return ret;
    refer(check, qcow2_single_table(q, TABLE_HEADER));
    if (q->header.has_crypto)
        refer(check, range_make(q->header.crypto_offset, q->header.crypto_bytes));
    ret = count_l1(check, q->header.l1_offset, q->l1, q->l1_entries, true);
    if (ret == 0)
        ret = count_snapshots(check);
    if (ret == 0)
        ret = count_bitmaps(check);
    if (ret == 0 && !check->without_refcounts)
        ret = count_refcounts(check);
    return ret;
}
