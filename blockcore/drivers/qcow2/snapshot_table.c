/* The table of internal snapshots in the file: read when the image is opened, and written anew, elsewhere, whenever it
 * changes. */
#include "blockcore/drivers/qcow2/snapshots.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>
#include <inttypes.h>

/* L1 tables of all snapshots together; so that a small file cannot make us count for hours. */
#define INACTIVE_L1_BYTES_MAX (UINT64_C(4) << 30)

/* Reading ------------------------------------------------------------------------------------------------------- */

static struct error *read_part(struct qcow2 *q, uint64_t offset, void *data, size_t bytes)
{
    if (!range_inside(range_make(offset, bytes), child_length(q->file)))
        return error_new("the snapshot table ends behind the end of the file; the image is cut off");
    int ret = child_pread(q->file, offset, data, bytes);
    return ret < 0 ? error_errno(-ret, "cannot read the snapshot table") : NULL;
}

static struct error *read_snapshot(struct qcow2 *q, uint64_t offset, struct qcow2_snapshot *snapshot, size_t *bytes)
{
    uint8_t start[SNAPSHOT_ENTRY_BYTES];
    struct error *err = read_part(q, offset, start, sizeof(start));
    if (!err)
        err = qcow2_snapshot_measure(start, bytes);
    if (err)
        return err;
    CLEANUP(free) uint8_t *entry = xmalloc(*bytes);
    /* The last entry may lack what only fills it up. */
    size_t there = (size_t)min_u64(*bytes, child_length(q->file) - offset);
    memset(entry + there, 0, *bytes - there);
    err = read_part(q, offset, entry, there);
    return err ? err : qcow2_snapshot_parse(entry, *bytes, q->geometry.cluster_bits, snapshot);
}

static struct error *read_all(struct qcow2 *q, struct qcow2_snapshot *list)
{
    uint64_t offset = q->header.snapshots_offset;
    uint64_t l1_bytes = 0;
    for (uint32_t i = 0; i < q->header.snapshot_count; i++) {
        struct qcow2_snapshot *snapshot = &list[i];
        size_t bytes;
        struct error *err = read_snapshot(q, offset, snapshot, &bytes);
        if (err)
            return err;
        struct range place = range_make(snapshot->l1_offset, snapshot->l1_entries * sizeof(uint64_t));
        l1_bytes += place.bytes;
        offset += bytes;
        if (!range_inside(place, child_length(q->file)) || l1_bytes > INACTIVE_L1_BYTES_MAX)
            return error_new("the L1 table of a snapshot at offset %" PRIu64 " is not inside the file", place.offset);
        if (offset - q->header.snapshots_offset > SNAPSHOT_TABLE_BYTES_MAX)
            return error_new("the snapshot table has more than %u bytes", SNAPSHOT_TABLE_BYTES_MAX);
    }
    q->snapshot_table = range_between(q->header.snapshots_offset, offset);
    return NULL;
}

/* Takes the place of the list that is returned. */
static struct qcow2_snapshot *snapshot_list_show(struct qcow2 *q, struct qcow2_snapshot *list)
{
    spinlock_lock(&q->snapshots_lock);
    struct qcow2_snapshot *before = q->snapshots;
    q->snapshots = list;
    spinlock_unlock(&q->snapshots_lock);
    return before;
}

void snapshot_list_free(struct qcow2_snapshot *list, uint32_t count)
{
    for (uint32_t i = 0; i < count && list; i++)
        qcow2_snapshot_fini(&list[i]);
    free(list);
}

struct error *snapshot_table_load(struct qcow2 *q)
{
    if (q->header.snapshot_count == 0)
        return NULL;
    struct qcow2_snapshot *list = try_calloc(q->header.snapshot_count, sizeof(*list));
    if (!list)
        return error_errno(ENOMEM, "cannot read the snapshot table");
    struct error *err = read_all(q, list);
    if (err) {
        snapshot_list_free(list, q->header.snapshot_count);
        return err;
    }
    /* When tables are read again there is an older one, as long. */
    snapshot_list_free(snapshot_list_show(q, list), q->header.snapshot_count);
    return snapshot_table_remember(q);
}

void snapshot_table_fini(struct qcow2 *q)
{
    snapshot_list_free(snapshot_list_show(q, NULL), q->header.snapshot_count);
}

struct error *snapshot_load_l1(struct qcow2 *q, const struct qcow2_snapshot *snapshot, uint64_t **out)
{
    return qcow2_read_table(q, "L1 table of a snapshot", snapshot->l1_offset, snapshot->l1_entries, out);
}

/* Places -------------------------------------------------------------------------------------------------------- */

static void forget_all(struct qcow2 *q)
{
    spinlock_lock(&q->l2.lock);
    cluster_set_remove_kinds(&q->tables, TABLE_BIT(TABLE_INACTIVE_L1) | TABLE_BIT(TABLE_INACTIVE_L2));
    spinlock_unlock(&q->l2.lock);
}

static struct error *remember_l1(struct qcow2 *q, const struct qcow2_snapshot *snapshot)
{
    struct error *err = NULL;
    uint64_t bytes = snapshot->l1_entries * sizeof(uint64_t);
    for (uint64_t at = 0; !err && at < bytes; at += cluster_bytes(&q->geometry))
        err = qcow2_remember_table(q, snapshot->l1_offset + at, TABLE_INACTIVE_L1);
    return err;
}

static struct error *remember_l2(struct qcow2 *q, const struct qcow2_snapshot *snapshot)
{
    CLEANUP(free) uint64_t *l1 = NULL;
    struct error *err = snapshot_load_l1(q, snapshot, &l1);
    return err ? err : qcow2_remember_tables(q, l1, snapshot->l1_entries, TABLE_INACTIVE_L2);
}

struct error *snapshot_table_remember(struct qcow2 *q)
{
    struct error *err = NULL;
    forget_all(q);
    for (uint32_t i = 0; i < q->header.snapshot_count && !err; i++) {
        err = remember_l1(q, &q->snapshots[i]);
        if (!err && (q->overlap_checks & TABLE_BIT(TABLE_INACTIVE_L2)))
            err = remember_l2(q, &q->snapshots[i]);
    }
    return err;
}

/* Writing ------------------------------------------------------------------------------------------------------- */

static size_t table_bytes(const struct qcow2_snapshot *list, uint32_t count)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += qcow2_snapshot_bytes(&list[i]);
    return bytes;
}

static int write_table(struct qcow2 *q, const struct qcow2_snapshot *list, uint32_t count, struct range place)
{
    CLEANUP(free) uint8_t *data = try_calloc(1, place.bytes);
    if (!data)
        return -ENOMEM;
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        qcow2_snapshot_format(&list[i], data + at);
        at += qcow2_snapshot_bytes(&list[i]);
    }
    return child_pwrite(q->file, place.offset, data, place.bytes, 0);
}

static int write_fields(struct qcow2 *q, uint32_t count, uint64_t offset)
{
    CLEANUP(co_mutex_release) struct co_mutex *header = co_mutex_hold(&q->header_mutex);
    uint8_t fields[12];
    store_be32(fields, count);
    store_be64(fields + 4, offset);
    int ret = child_pwrite(q->file, QCOW2_FIELD_SNAPSHOTS, fields, sizeof(fields), 0);
    return ret < 0 ? ret : child_flush(q->file);
}

/* The header may lead to either table when writing it fails. Only with the old one can this go on. */
static int switch_table(struct qcow2 *q, uint32_t count, uint64_t offset)
{
    int ret = write_fields(q, count, offset);
    if (ret < 0 && write_fields(q, q->header.snapshot_count, q->header.snapshots_offset) < 0)
        q->corrupt = true;
    return ret;
}

int snapshot_alloc(struct qcow2 *q, uint64_t bytes, uint64_t *offset)
{
    co_mutex_lock(&q->sync_mutex);
    co_mutex_lock(&q->metadata);
    int ret = refcount_alloc_run_held(q, div_round_up(bytes, cluster_bytes(&q->geometry)), offset);
    co_mutex_unlock(&q->metadata);
    co_mutex_unlock(&q->sync_mutex);
    return ret;
}

/* In clusters of its own. */
static int place_table(struct qcow2 *q, const struct qcow2_snapshot *list, uint32_t count, struct range *place)
{
    *place = range_make(0, table_bytes(list, count));
    if (count == 0)
        return 0;
    if (place->bytes > SNAPSHOT_TABLE_BYTES_MAX)
        return -EFBIG;
    int ret = snapshot_alloc(q, place->bytes, &place->offset);
    if (ret == 0)
        ret = write_table(q, list, count, *place);
    return ret;
}

static void give_up(struct qcow2 *q, struct range place)
{
    co_mutex_lock(&q->metadata);
    if (place.bytes > 0)
        freed_add(q, range_align_out(place, cluster_bytes(&q->geometry)), FREED_OTHERWISE);
    co_mutex_unlock(&q->metadata);
}

int snapshot_table_replace(struct qcow2 *q, struct qcow2_snapshot *list, uint32_t count)
{
    struct range place;
    int ret = place_table(q, list, count, &place);
    if (ret == 0)
        ret = qcow2_sync(q); /* all references that have been counted, and the flags */
    if (ret == 0)
        ret = qcow2_flush_children(q);
    if (ret == 0)
        ret = switch_table(q, count, place.offset);
    if (ret < 0) {
        if (place.offset)
            give_up(q, place);
        return ret;
    }
    give_up(q, q->snapshot_table);
    snapshot_table_fini(q);
    snapshot_list_show(q, list);
    spinlock_lock(&q->l2.lock);
    q->snapshot_table = place;
    q->header.snapshot_count = count;
    q->header.snapshots_offset = place.offset;
    spinlock_unlock(&q->l2.lock);
    return 0;
}
