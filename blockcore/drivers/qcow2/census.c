/* Everything that an L1 table leads to, counted up or down at once: what it takes to share the active state with a
 * snapshot, or to give a snapshot up. Then the COPIED flags of the active state, which say what is shared with nobody.
 *
 * Nobody else uses the image meanwhile (snapshots.c). */
#include "blockcore/drivers/qcow2/snapshots.h"

#include "blockcore/base/endian.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>
#include <inttypes.h>

static size_t entry_bytes(const struct qcow2 *q)
{
    return (size_t)1 << q->geometry.l2_entry_bits;
}

/* Whole L2 tables are read and written past the cache, in which nothing of them is dirty. */
static int read_l2(struct qcow2 *q, uint64_t offset, uint8_t *table)
{
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    if (!qcow2_table_in_file(q, offset, bytes))
        return qcow2_corrupt(q, range_make(offset, bytes), "no L2 table can be at offset 0x%" PRIx64, offset);
    child_debug_event(q->file, "l2_load");
    return child_pread(q->file, offset, table, bytes);
}

static int write_l2(struct qcow2 *q, uint64_t offset, const uint8_t *table)
{
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    for (size_t at = 0; at < bytes; at += q->l2.table_bytes)
        table_forget(&q->l2, offset + at);
    child_debug_event(q->file, "l2_update");
    return child_pwrite(q->file, offset, table, bytes, 0);
}

/* Visits what lies in a row at once. */
struct visitor {
    struct qcow2 *q;
    visit_host *visit;
    void *arg;
    struct range run; /* not visited yet */
};

static int visit_run(struct visitor *visitor)
{
    struct range run = visitor->run;
    visitor->run = range_make(0, 0);
    return run.bytes ? visitor->visit(visitor->q, run, false, visitor->arg) : 0;
}

static int visit_cluster(struct visitor *visitor, struct range cluster)
{
    if (visitor->run.bytes && range_end(visitor->run) == cluster.offset) {
        visitor->run.bytes += cluster.bytes;
        return 0;
    }
    int ret = visit_run(visitor);
    visitor->run = cluster;
    return ret;
}

/* The parts of clusters that a compressed one lies in are clusters with a reference each. */
static int visit_compressed(struct visitor *visitor, uint64_t entry)
{
    const struct geometry *geometry = &visitor->q->geometry;
    int ret = visit_run(visitor);
    visitor->run = range_align_out(entry_compressed_range(geometry, entry), cluster_bytes(geometry));
    return ret < 0 ? ret : visit_run(visitor);
}

static struct l2_entry load_entry(const struct geometry *geometry, const uint8_t *at)
{
    return (struct l2_entry){
        .descriptor = load_be64(at),
        .bitmap = geometry_is_extended(geometry) ? load_be64(at + sizeof(uint64_t)) : 0,
    };
}

static int visit_entry(struct visitor *visitor, struct l2_entry entry)
{
    const struct geometry *geometry = &visitor->q->geometry;
    if (geometry->data_file)
        return 0; /* nobody counts clusters there */
    struct cluster cluster = cluster_of_entry(geometry, entry, 0);
    if (!cluster.valid)
        return qcow2_corrupt_entry(visitor->q, entry.descriptor);
    if (cluster.compressed)
        return visit_compressed(visitor, entry.descriptor);
    return cluster.has_host ? visit_cluster(visitor, range_make(cluster.host, cluster_bytes(geometry))) : 0;
}

static int visit_table(struct visitor *visitor, uint64_t offset, uint8_t *table)
{
    size_t bytes = (size_t)cluster_bytes(&visitor->q->geometry);
    int ret = read_l2(visitor->q, offset, table);
    for (size_t at = 0; at < bytes && ret == 0; at += entry_bytes(visitor->q))
        ret = visit_entry(visitor, load_entry(&visitor->q->geometry, table + at));
    if (ret == 0)
        ret = visit_run(visitor);
    return ret < 0 ? ret : visitor->visit(visitor->q, range_make(offset, bytes), true, visitor->arg);
}

int census_visit(struct qcow2 *q, const uint64_t *l1, uint32_t l1_entries, visit_host *visit, void *arg)
{
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    uint8_t *table = buffer_get(bytes);
    if (!table)
        return -ENOMEM;
    struct visitor visitor = { .q = q, .visit = visit, .arg = arg };
    int ret = 0;
    for (uint32_t i = 0; i < l1_entries && ret == 0; i++) {
        if (entry_offset(l1[i]))
            ret = visit_table(&visitor, entry_offset(l1[i]), table);
    }
    buffer_put(table, bytes);
    return ret;
}

/* COPIED -------------------------------------------------------------------------------------------------------- */

/* Which entries get the flag. */
enum copied {
    COPIED_NONE,
    COPIED_AS_COUNTED, /* those of clusters with one reference */
};

static int is_unshared(struct qcow2 *q, uint64_t offset, enum copied copied, bool *unshared)
{
    *unshared = false;
    if (copied == COPIED_NONE)
        return 0;
    uint64_t references;
    co_mutex_lock(&q->metadata);
    int ret = refcount_read(q, offset >> q->geometry.cluster_bits, &references);
    co_mutex_unlock(&q->metadata);
    *unshared = references == 1;
    return ret;
}

/* The entry as it shall be. */
static int set_entry(struct qcow2 *q, uint8_t *at, enum copied copied, bool *changed)
{
    if (q->geometry.data_file)
        return 0;
    struct l2_entry entry = load_entry(&q->geometry, at);
    struct cluster cluster = cluster_of_entry(&q->geometry, entry, 0);
    if (!cluster.valid || cluster.compressed || !cluster.has_host)
        return 0;
    bool unshared;
    int ret = is_unshared(q, cluster.host, copied, &unshared);
    if (ret < 0 || unshared == cluster.own)
        return ret;
    store_be64(at, entry.descriptor ^ ENTRY_COPIED);
    *changed = true;
    return 0;
}

static int set_table(struct qcow2 *q, uint64_t offset, enum copied copied, uint8_t *table)
{
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    bool changed = false;
    int ret = read_l2(q, offset, table);
    for (size_t at = 0; at < bytes && ret == 0; at += entry_bytes(q))
        ret = set_entry(q, table + at, copied, &changed);
    return ret < 0 || !changed ? ret : write_l2(q, offset, table);
}

static int set_tables(struct qcow2 *q, const uint64_t *l1, uint32_t l1_entries, enum copied copied)
{
    uint8_t *table = buffer_get((size_t)cluster_bytes(&q->geometry));
    int ret = table ? 0 : -ENOMEM;
    for (uint32_t i = 0; i < l1_entries && ret == 0; i++) {
        if (entry_offset(l1[i]))
            ret = set_table(q, entry_offset(l1[i]), copied, table);
    }
    buffer_put(table, (size_t)cluster_bytes(&q->geometry));
    return ret;
}

static int set_l1_entry(struct qcow2 *q, uint32_t i, enum copied copied)
{
    bool unshared;
    int ret = is_unshared(q, entry_offset(q->l1[i]), copied, &unshared);
    if (ret < 0 || unshared == entry_is_own(q->l1[i]))
        return ret;
    co_mutex_lock(&q->metadata);
    spinlock_lock(&q->l2.lock);
    q->l1[i] = entry_offset(q->l1[i]) | (unshared ? ENTRY_COPIED : 0);
    spinlock_unlock(&q->l2.lock);
    changed_add(&q->l1_changed, i, i + 1);
    co_mutex_unlock(&q->metadata);
    return 0;
}

static int set_active(struct qcow2 *q, enum copied copied)
{
    int ret = set_tables(q, q->l1, q->l1_entries, copied);
    for (uint32_t i = 0; i < q->l1_entries && ret == 0; i++) {
        if (entry_offset(q->l1[i]))
            ret = set_l1_entry(q, i, copied);
    }
    return ret;
}

int census_refresh_copied(struct qcow2 *q)
{
    return set_active(q, COPIED_AS_COUNTED);
}

int census_clear_copied(struct qcow2 *q)
{
    return set_active(q, COPIED_NONE);
}

int census_clear_copied_in(struct qcow2 *q, const uint64_t *l1, uint32_t l1_entries)
{
    return set_tables(q, l1, l1_entries, COPIED_NONE);
}
