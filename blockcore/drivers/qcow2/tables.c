/* The tables of the image: read when it is opened, and known by their place, so that nothing else is written there. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/snapshots.h"

#include <errno.h>
#include <inttypes.h>

struct error *qcow2_read_table(struct qcow2 *q, const char *what, uint64_t offset, uint64_t entries, uint64_t **out)
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

/* What may lie there too: snapshots share L2 tables, among each other and with the active state. */
static unsigned may_share(enum table_kind kind)
{
    if (kind == TABLE_INACTIVE_L2)
        return TABLES_ALL;
    return kind == TABLE_ACTIVE_L2 ? TABLE_BIT(TABLE_INACTIVE_L2) : 0;
}

static struct error *remember(struct qcow2 *q, uint64_t offset, enum table_kind kind, unsigned others)
{
    uint64_t cluster = offset >> q->geometry.cluster_bits;
    spinlock_lock(&q->l2.lock);
    if (cluster_set_get(&q->tables, cluster) & ~others)
        q->tables_overlap = true;
    bool added = cluster_set_add(&q->tables, cluster, TABLE_BIT(kind));
    spinlock_unlock(&q->l2.lock);
    return added ? NULL : error_new("no memory to remember where the tables are");
}

struct error *qcow2_remember_table(struct qcow2 *q, uint64_t offset, enum table_kind kind)
{
    return remember(q, offset, kind, may_share(kind));
}

/* Two entries may lead to one table if neither says that it is its own. */
static unsigned may_share_entry(uint64_t entry, enum table_kind kind)
{
    bool shared = kind == TABLE_ACTIVE_L2 && !entry_is_own(entry);
    return may_share(kind) | (shared ? TABLE_BIT(TABLE_ACTIVE_L2) : 0);
}

/* An entry that cannot be right is not remembered: it is refused where it is used. One that leads behind the end of the
 * file is: the file may grow, but never into what the entry claims. */
struct error *qcow2_remember_tables(struct qcow2 *q, const uint64_t *table, uint64_t entries, enum table_kind kind)
{
    uint64_t bytes = cluster_bytes(&q->geometry);
    struct error *err = NULL;
    for (uint64_t i = 0; i < entries && !err; i++) {
        uint64_t offset = entry_offset(table[i]);
        if (!in_cluster(&q->geometry, offset) && !qcow2_single_tables_at(q, range_make(offset, bytes)))
            err = remember(q, offset, kind, may_share_entry(table[i], kind));
    }
    return err;
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
    struct error *err = qcow2_read_table(q, "L1 table", q->header.l1_offset, q->header.l1_entries, &q->l1);
    if (err)
        return err;
    q->l1_entries = q->header.l1_entries;
    child_debug_event(q->file, "reftable_load");
    uint64_t entries = ((uint64_t)q->header.reftable_clusters << q->geometry.cluster_bits) / sizeof(uint64_t);
    err = qcow2_read_table(q, "refcount table", q->header.reftable_offset, entries, &q->reftable);
    if (err)
        return err;
    q->reftable_entries = entries;
    err = qcow2_remember_tables(q, q->reftable, q->reftable_entries, TABLE_REFCOUNT_BLOCK);
    if (!err)
        err = qcow2_remember_tables(q, q->l1, q->l1_entries, TABLE_ACTIVE_L2);
    if (!err)
        err = snapshot_table_load(q);
    if (single_tables_overlap(q))
        q->tables_overlap = true;
    return err;
}

/* What is read again. */
struct tables {
    uint64_t *l1;
    uint64_t *reftable;
    uint32_t l1_entries;
    uint64_t reftable_entries;
};

/* The tables of @tables and those in use change places. */
static void exchange(struct qcow2 *q, struct tables *tables)
{
    struct tables old = { q->l1, q->reftable, q->l1_entries, q->reftable_entries };
    spinlock_lock(&q->l2.lock);
    q->l1 = tables->l1;
    q->reftable = tables->reftable;
    q->l1_entries = tables->l1_entries;
    q->reftable_entries = tables->reftable_entries;
    spinlock_unlock(&q->l2.lock);
    *tables = old;
}

/* Of an image that is damaged changes may be left that were not written. They are lost, and what they gave up is still
 * in use. */
static void forget_changes(struct qcow2 *q)
{
    table_cache_empty(&q->l2);
    table_cache_empty(&q->refblocks);
    freed_fini(q);
    q->freed_state = FREED_NONE;
    q->l1_changed = (struct changed){ 0 };
    q->reftable_changed = (struct changed){ 0 };
    q->l2_needs_flush = false;
}

int qcow2_reload_tables(struct qcow2 *q)
{
    struct tables other = { 0 };
    forget_changes(q);
    exchange(q, &other);
    spinlock_lock(&q->l2.lock);
    cluster_set_fini(&q->tables);
    spinlock_unlock(&q->l2.lock);
    q->tables_overlap = false;
    q->free_hint = 0;
    q->packed_next = 0;
    q->untouched = child_length(q->file);
    struct error *err = qcow2_load_tables(q);
    bool failed = err;
    error_free(err);
    if (failed) {
        /* Good enough to go on reading. */
        exchange(q, &other);
        q->corrupt = true;
    }
    free(other.l1);
    free(other.reftable);
    return failed ? -EIO : 0;
}
