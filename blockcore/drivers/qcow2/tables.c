/* The tables of the image: read when it is opened, and known by their place, so that nothing else is written there. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/snapshot.h"

#include <inttypes.h>

/* L1 tables of all snapshots together; so that a small file cannot make us count for hours. */
#define INACTIVE_L1_BYTES_MAX (UINT64_C(4) << 30)

/* Reads @entries numbers that must lie inside the file. The caller frees *@out; NULL for none. */
static struct error *read_table(struct qcow2 *q, const char *what, uint64_t offset, uint64_t entries, uint64_t **out)
{
    *out = NULL;
    if (!range_inside(range_make(offset, entries * sizeof(uint64_t)), child_length(q->file)))
        return error_new("the %s ends behind the end of the file; the image is cut off", what);
    CLEANUP(free) uint64_t *table = try_calloc((size_t)max_u64(entries, 1), sizeof(uint64_t));
    if (!table)
        return error_new("no memory for the %s of %" PRIu64 " entries", what, entries);
    int ret = entries ? child_pread(q->file, offset, table, (size_t)entries * sizeof(uint64_t)) : 0;
    if (ret < 0)
        return error_errno(-ret, "cannot read the %s", what);
    for (uint64_t i = 0; i < entries; i++)
        table[i] = be64toh(table[i]);
    *out = steal(&table);
    return NULL;
}

enum sharing {
    MAY_SHARE,
    UNIQUE, /* a cluster that is known as a table already is damage */
};

static struct error *remember(struct qcow2 *q, uint64_t offset, enum table_kind kind, enum sharing sharing)
{
    uint64_t cluster = offset >> q->geometry.cluster_bits;
    if (sharing == UNIQUE && cluster_set_get(&q->tables, cluster))
        q->tables_overlap = true;
    return cluster_set_add(&q->tables, cluster, TABLE_BIT(kind))
               ? NULL
               : error_new("no memory to remember where the tables are");
}

/* An entry that cannot be right is not remembered: it is refused where it is used. One that leads behind the end of the
 * file is: the file may grow, but never into what the entry claims. */
static struct error *remember_all(struct qcow2 *q, const uint64_t *table, uint64_t entries, enum table_kind kind,
                                  enum sharing sharing)
{
    uint64_t bytes = cluster_bytes(&q->geometry);
    struct error *err = NULL;
    for (uint64_t i = 0; i < entries && !err; i++) {
        uint64_t offset = entry_offset(table[i]);
        if (!in_cluster(&q->geometry, offset) && !qcow2_single_tables_at(q, range_make(offset, bytes)))
            err = remember(q, offset, kind, sharing);
    }
    return err;
}

static struct error *remember_inactive_l2(struct qcow2 *q, const struct qcow2_snapshot *snapshot)
{
    CLEANUP(free) uint64_t *l1 = NULL;
    struct error *err = read_table(q, "L1 table of a snapshot", snapshot->l1_offset, snapshot->l1_entries, &l1);
    return err ? err : remember_all(q, l1, snapshot->l1_entries, TABLE_INACTIVE_L2, MAY_SHARE);
}

static struct error *read_snapshot(struct qcow2 *q, uint64_t offset, struct qcow2_snapshot *snapshot)
{
    uint8_t entry[SNAPSHOT_ENTRY_BYTES];
    if (!range_inside(range_make(offset, sizeof(entry)), child_length(q->file)))
        return error_new("the snapshot table ends behind the end of the file; the image is cut off");
    int ret = child_pread(q->file, offset, entry, sizeof(entry));
    if (ret < 0)
        return error_errno(-ret, "cannot read the snapshot table");
    return qcow2_snapshot_parse(entry, q->geometry.cluster_bits, snapshot);
}

/* Tables of snapshots are remembered like our own. */
static struct error *load_snapshots(struct qcow2 *q)
{
    uint64_t offset = q->header.snapshots_offset;
    uint64_t l1_bytes = 0;
    for (uint32_t i = 0; i < q->header.snapshot_count; i++) {
        struct qcow2_snapshot snapshot;
        struct error *err = read_snapshot(q, offset, &snapshot);
        struct range place = range_make(snapshot.l1_offset, err ? 0 : snapshot.l1_entries * sizeof(uint64_t));
        l1_bytes += place.bytes;
        if (!err && (!range_inside(place, child_length(q->file)) || l1_bytes > INACTIVE_L1_BYTES_MAX))
            err = error_new("the L1 table of a snapshot at offset %" PRIu64 " is not inside the file", place.offset);
        for (uint64_t at = 0; !err && at < place.bytes; at += cluster_bytes(&q->geometry))
            err = remember(q, place.offset + at, TABLE_INACTIVE_L1, UNIQUE);
        if (!err && (q->overlap_checks & TABLE_BIT(TABLE_INACTIVE_L2)))
            err = remember_inactive_l2(q, &snapshot);
        if (err)
            return err;
        offset += snapshot.entry_bytes;
    }
    q->snapshot_table = range_between(q->header.snapshots_offset, offset);
    return NULL;
}

/* Without the feature bit the bitmaps are inconsistent: their place may belong to something else by now. */
static void place_bitmaps(struct qcow2 *q)
{
    struct range place = range_make(q->header.bitmap_directory_offset, q->header.bitmap_directory_bytes);
    if ((q->header.autoclear & QCOW2_BITMAPS) && range_inside(place, child_length(q->file)))
        q->bitmap_directory = place;
}

/* Do tables that there is one of lie on top of each other, or of the L1 table of a snapshot? */
static bool single_tables_overlap(const struct qcow2 *q)
{
    unsigned l1 = TABLE_BIT(TABLE_INACTIVE_L1);
    for (unsigned kind = 0; kind < TABLE_KINDS; kind++) {
        struct range place = qcow2_single_table(q, kind);
        if (place.bytes > 0 && ((qcow2_single_tables_at(q, place) & ~TABLE_BIT(kind)) || qcow2_tables_at(q, place, l1)))
            return true;
    }
    return false;
}

struct error *qcow2_load_tables(struct qcow2 *q)
{
    place_bitmaps(q);
    struct error *err = read_table(q, "L1 table", q->header.l1_offset, q->header.l1_entries, &q->l1);
    if (err)
        return err;
    q->l1_entries = q->header.l1_entries;
    child_debug_event(q->file, "reftable_load");
    uint64_t entries = ((uint64_t)q->header.reftable_clusters << q->geometry.cluster_bits) / sizeof(uint64_t);
    err = read_table(q, "refcount table", q->header.reftable_offset, entries, &q->reftable);
    if (err)
        return err;
    q->reftable_entries = entries;
    err = remember_all(q, q->reftable, q->reftable_entries, TABLE_REFCOUNT_BLOCK, UNIQUE);
    if (!err)
        err = remember_all(q, q->l1, q->l1_entries, TABLE_ACTIVE_L2, UNIQUE);
    if (!err)
        err = load_snapshots(q);
    if (single_tables_overlap(q))
        q->tables_overlap = true;
    return err;
}
