/* Changing the length of the disk.
 *
 * Growing: what is added must read as zeroes, whatever lies there: the rest of the last cluster, entries left over from
 * a time when the disk was longer, a backing file that is longer than the overlay was. All of that is stable before the
 * header says that the disk is longer. Shrinking: the header changes first, then the entries behind the new end go; the
 * other way round a crash would leave a disk of the old length on which the backing file shows through. When the power
 * goes in between, entries are left behind the end. Nobody reads them, but they take space, and a program that makes
 * the disk longer without looking would show them; so they are dropped when the image is opened for writing, which
 * costs to look at the rest of one L2 table. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/bitmaps.h"

#include <errno.h>
#include <string.h>

#define SECTOR_BYTES 512 /* QEMU counts an image in sectors; a last one in part would be lost there */

/* The L1 table at its new place, header included; everything else is stable already. */
static int write_l1(struct qcow2 *q, const uint64_t *l1, uint32_t entries, uint64_t offset)
{
    CLEANUP(free) uint8_t *data = try_calloc(entries, sizeof(uint64_t));
    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < entries; i++)
        store_be64(data + i * sizeof(uint64_t), l1[i]);
    child_debug_event(q->file, "l1_grow_write_table");
    int ret = child_pwrite(q->file, offset, data, entries * sizeof(uint64_t), 0);
    return ret < 0 ? ret : child_flush(q->file);
}

static int write_l1_fields(struct qcow2 *q, uint32_t entries, uint64_t offset)
{
    CLEANUP(co_mutex_release) struct co_mutex *header = co_mutex_hold(&q->header_mutex);
    uint8_t fields[12];
    store_be32(fields, entries);
    store_be64(fields + 4, offset);
    int ret = child_pwrite(q->file, QCOW2_FIELD_L1, fields, sizeof(fields), 0);
    return ret < 0 ? ret : child_flush(q->file);
}

/* The header may lead to either table when writing it fails. Only with the old one can this go on. */
static int switch_l1(struct qcow2 *q, uint32_t entries, uint64_t offset)
{
    child_debug_event(q->file, "l1_grow_activate_table");
    int ret = write_l1_fields(q, entries, offset);
    if (ret < 0 && write_l1_fields(q, q->header.l1_entries, q->header.l1_offset) < 0)
        q->corrupt = true;
    return ret;
}

static int allocate_l1(struct qcow2 *q, uint64_t bytes, uint64_t *offset)
{
    child_debug_event(q->file, "l1_grow_alloc_table");
    return refcount_alloc_run_held(q, div_round_up(bytes, cluster_bytes(&q->geometry)), offset);
}

static int grow_l1_into(struct qcow2 *q, uint64_t *larger, uint32_t entries, uint64_t offset)
{
    int ret = qcow2_sync_held(q); /* refcounts of the new table, and all that the entries lead to */
    if (ret == 0)
        ret = write_l1(q, larger, entries, offset);
    if (ret == 0)
        ret = switch_l1(q, entries, offset);
    if (ret < 0) {
        (void)refcount_release(q, range_make(offset, entries * sizeof(uint64_t)));
        free(larger);
        return ret;
    }
    struct range old = range_make(q->header.l1_offset, q->header.l1_entries * sizeof(uint64_t));
    uint64_t *unused = q->l1;
    spinlock_lock(&q->l2.lock);
    q->l1 = larger;
    q->l1_entries = entries;
    q->header.l1_offset = offset;
    q->header.l1_entries = entries;
    spinlock_unlock(&q->l2.lock);
    free(unused);
    if (old.bytes > 0)
        freed_add(q, range_align_out(old, cluster_bytes(&q->geometry)), FREED_OTHERWISE);
    return 0;
}

/* With both mutexes held: nobody else changes or writes back tables meanwhile. */
static int grow_l1_held(struct qcow2 *q, uint64_t entries)
{
    if (entries <= q->l1_entries)
        return 0;
    uint64_t *larger = try_calloc((size_t)entries, sizeof(uint64_t));
    if (!larger)
        return -ENOMEM;
    uint64_t offset;
    int ret = allocate_l1(q, entries * sizeof(uint64_t), &offset);
    if (ret < 0) {
        free(larger);
        return ret;
    }
    memcpy(larger, q->l1, q->l1_entries * sizeof(uint64_t));
    return grow_l1_into(q, larger, (uint32_t)entries, offset);
}

static int grow_l1(struct qcow2 *q, uint64_t bytes)
{
    uint64_t entries = qcow2_l1_entries_for(&q->header, bytes);
    if (entries > QCOW2_L1_BYTES_MAX / sizeof(uint64_t))
        return -EFBIG;
    co_mutex_lock(&q->sync_mutex);
    co_mutex_lock(&q->metadata);
    int ret = grow_l1_held(q, entries);
    co_mutex_unlock(&q->metadata);
    co_mutex_unlock(&q->sync_mutex);
    return ret;
}

static int write_size(struct qcow2 *q, uint64_t bytes)
{
    CLEANUP(co_mutex_release) struct co_mutex *header = co_mutex_hold(&q->header_mutex);
    uint8_t field[8];
    store_be64(field, bytes);
    int ret = child_pwrite(q->file, QCOW2_FIELD_SIZE, field, sizeof(field), 0);
    return ret < 0 ? ret : child_flush(q->file);
}

/* Nobody may go on with a disk that is longer than the header says: what is written behind that end would be lost. */
static int switch_size(struct qcow2 *q, uint64_t bytes)
{
    int ret = write_size(q, bytes);
    if (ret < 0 && write_size(q, q->header.size) < 0)
        q->corrupt = true;
    return ret;
}

static int set_size(struct qcow2 *q, uint64_t bytes)
{
    int ret = qcow2_sync(q);
    if (ret == 0)
        ret = qcow2_flush_children(q);
    if (ret == 0)
        ret = switch_size(q, bytes);
    if (ret == 0) {
        q->header.size = bytes;
        node_set_length(q->node, bytes);
    }
    return ret;
}

/* Does a run of what was behind the end show anything but zeroes? */
static bool shows(const struct qcow2 *q, uint64_t offset, const struct mapping *mapping)
{
    struct child *backing = node_backing(q->node);
    switch (mapping->kind) {
    case CLUSTER_ABSENT:
    case CLUSTER_ABSENT_RESERVED:
        return backing && child_length(backing) > offset;
    case CLUSTER_DATA:
    case CLUSTER_COMPRESSED:
        return true;
    default:
        return false;
    }
}

/* The rest of the last cluster behind the old end. */
static int zero_rest_of_cluster(struct qcow2 *q, struct range rest)
{
    while (rest.bytes > 0) {
        struct mapping mapping;
        int ret = map_lookup(q, rest, FOR_READING, &mapping);
        if (ret == 0 && shows(q, rest.offset, &mapping))
            ret = qcow2_write_zeroes_as_data(q, range_make(rest.offset, mapping.bytes));
        if (ret < 0)
            return ret;
        rest = range_make(rest.offset + mapping.bytes, rest.bytes - mapping.bytes);
    }
    return 0;
}

/* What is added to the disk, from the first whole cluster on. */
static int zero_added_clusters(struct qcow2 *q, struct range added)
{
    int ret = qcow2_drop(q, added);
    struct child *backing = node_backing(q->node);
    uint64_t covered = backing ? min_u64(child_length(backing), range_end(added)) : 0;
    if (ret < 0 || covered <= added.offset)
        return ret;
    struct range hidden = range_between(added.offset, align_up(covered, cluster_bytes(&q->geometry)));
    return q->geometry.version >= 3 ? qcow2_hide(q, hidden) : qcow2_write_zeroes_as_data(q, hidden);
}

/* A data file may be longer than the disk, with anything behind its end. */
static int grow_data_file(struct qcow2 *q, struct range added, enum truncate_mode mode)
{
    uint64_t length = child_length(q->data);
    struct range stale = range_intersect(added, range_make(0, length));
    int ret = 0;
    if (q->raw_data && stale.bytes > 0)
        ret = child_pwrite_zeroes(q->data, stale, mode == TRUNCATE_SPARSE ? REQ_MAY_UNMAP : 0);
    if (ret == 0 && length < range_end(added))
        ret = child_truncate(q->data, range_end(added), mode);
    return ret;
}

static int fill_added_clusters(struct qcow2 *q, struct range added, enum truncate_mode mode)
{
    if (mode == TRUNCATE_FULL && !q->raw_data)
        return qcow2_write_zeroes_as_data(q, added);
    /* A raw data file that is written without us shows in the disk where the tables say data. */
    return mode == TRUNCATE_SPARSE && !q->raw_data ? 0 : qcow2_preallocate(q, added);
}

static int grow(struct qcow2 *q, uint64_t bytes, enum truncate_mode mode)
{
    uint64_t old = node_length(q->node);
    uint64_t first_added = align_up(old, cluster_bytes(&q->geometry));
    int ret = grow_l1(q, bytes);
    if (ret == 0 && q->geometry.data_file)
        ret = grow_data_file(q, range_between(old, bytes), mode);
    if (ret == 0)
        ret = zero_rest_of_cluster(q, range_between(old, min_u64(first_added, bytes)));
    struct range added = range_between(first_added, align_up(bytes, cluster_bytes(&q->geometry)));
    if (ret == 0)
        ret = zero_added_clusters(q, added);
    if (ret == 0)
        ret = fill_added_clusters(q, added, mode);
    return ret < 0 ? ret : set_size(q, bytes);
}

static int shrink(struct qcow2 *q, uint64_t bytes, enum truncate_mode mode)
{
    if (mode != TRUNCATE_SPARSE)
        return -ENOTSUP;
    uint64_t cluster = cluster_bytes(&q->geometry);
    struct range behind = range_between(align_up(bytes, cluster), align_up(node_length(q->node), cluster));
    int ret = set_size(q, bytes);
    if (ret == 0)
        ret = qcow2_drop(q, behind);
    /* What has a fixed length stays as long as it is. */
    if (ret == 0 && q->geometry.data_file && child_length(q->data) > bytes)
        (void)child_truncate(q->data, bytes, TRUNCATE_SPARSE);
    return ret;
}

static bool has_entries(struct qcow2 *q, struct range clusters)
{
    while (clusters.bytes > 0) {
        struct l2_run run;
        if (l2_run_begin_existing(q, clusters, &run) < 0)
            return false; /* whoever uses the table will say so */
        bool found = false;
        for (size_t i = 0; run.slice && i < run.count && !found; i++) {
            struct l2_entry entry = l2_run_get(q, &run, i);
            found = entry.descriptor || entry.bitmap;
        }
        uint64_t done = (uint64_t)run.count << q->geometry.cluster_bits;
        l2_run_end(q, &run);
        if (found)
            return true;
        clusters = range_make(clusters.offset + done, clusters.bytes - done);
    }
    return false;
}

/* The rest of the last L2 table of the disk, and all tables behind it that there are. While the image is being opened
 * nobody else changes tables. */
void qcow2_finish_shrinking(struct qcow2 *q)
{
    /* QEMU keeps the state of a virtual machine behind the end of the disk, and a snapshot that was gone back to has
     * brought it into our tables: it is not ours to drop. Growing drops it, since there it would show. */
    if (q->header.snapshot_count > 0)
        return;
    uint64_t table_bits = q->geometry.cluster_bits + q->geometry.l2_bits;
    uint64_t end = align_up(q->header.size, cluster_bytes(&q->geometry));
    while (end >> table_bits < q->l1_entries) {
        uint64_t next = ((end >> table_bits) + 1) << table_bits;
        struct range behind = range_between(end, next);
        if (entry_is_own(q->l1[end >> table_bits]) && has_entries(q, behind))
            (void)qcow2_drop(q, behind);
        end = next;
    }
}

int qcow2_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    struct qcow2 *q = node_state(node);
    int ret = qcow2_may_write(q);
    if (ret < 0)
        return ret;
    if (bytes % SECTOR_BYTES)
        return -EINVAL;
    ret = qcow2_bitmaps_check_resize(q, bytes);
    if (ret < 0)
        return ret;
    /* Only version 3 notes in a snapshot how long the disk was. */
    if (q->geometry.version < 3 && q->header.snapshot_count > 0)
        return -ENOTSUP;
    unsigned epoch = freed_epoch_enter(q);
    ret = bytes >= node_length(node) ? grow(q, bytes, mode) : shrink(q, bytes, mode);
    freed_epoch_leave(q, epoch);
    if (ret == 0)
        qcow2_bitmaps_resized(q);
    return ret;
}
