/* Zeroes and discards: entries change, data does not move.
 *
 *     request          version 3                               version 2
 *     write zeroes     zero flag; the host cluster stays       -ENOTSUP: zeroes are written as data
 *     ... may unmap    zero flag; the host cluster is given up  absent, unless a backing file would show through
 *     discard          zero flag; the host cluster is given up  absent, unless a backing file would show through
 *
 * With extended L2 entries that goes by subclusters; the host cluster is given up when none of them is data any more.
 *
 * A raw data file has to be right without our entries. There zeroes and discards go to the data file, and entries stay
 * as they are: what is absent or zero in the image is zero in a raw data file already. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include <errno.h>

/* What is done to the units of a range. */
struct zeroing {
    bool keep_host;   /* the host cluster stays with its entry */
    bool keep_absent; /* an absent unit stays so */
    bool absent;      /* what is left is absent, not zero */
    bool only_absent; /* only absent units are changed */
    bool hint;        /* what cannot be done by entries alone is left out */
    enum freed_by by;
};

static bool has_zero_flag(const struct qcow2 *q)
{
    return q->geometry.version >= 3;
}

/* Would an absent cluster read as anything but zeroes, now or when the image is opened as its header says? */
static bool shows_through(const struct qcow2 *q)
{
    return node_backing(q->node) || q->header.backing_file;
}

/* What becomes of a cluster; @units of it are asked for. */
static struct cluster zeroed(const struct qcow2 *q, const struct zeroing *zeroing, struct cluster cluster,
                             uint32_t units)
{
    uint32_t absent = cluster_absent(&q->geometry, &cluster);
    units &= ~(zeroing->keep_absent ? absent : 0) & (zeroing->only_absent ? absent : UINT32_MAX);
    cluster.data &= ~units;
    cluster.zero = zeroing->absent ? cluster.zero & ~units : cluster.zero | units;
    if (cluster.compressed && units == q->geometry.units)
        cluster.compressed = false;
    bool keep = zeroing->only_absent || (zeroing->keep_host && cluster.own);
    if (cluster.data == 0 && !keep)
        cluster.has_host = false;
    return cluster;
}

/* Does it take more than a change of entries? */
static bool is_part_of_compressed(const struct qcow2 *q, const struct cluster *cluster, uint32_t units)
{
    return cluster->compressed && units != q->geometry.units;
}

static uint32_t units_of_run(const struct qcow2 *q, const struct l2_run *run, size_t i, struct range range)
{
    return units_in(&q->geometry, run->guest + ((uint64_t)i << q->geometry.cluster_bits), range);
}

/* The entry that the cluster will have; the one that it has when nothing can or has to be done. */
static struct l2_entry zeroed_entry(const struct qcow2 *q, const struct zeroing *zeroing, const struct l2_run *run,
                                    size_t i, struct range range)
{
    struct cluster cluster = l2_run_cluster(q, run, i);
    uint32_t units = units_of_run(q, run, i, range);
    if (is_part_of_compressed(q, &cluster, units) || (cluster.compressed && zeroing->only_absent))
        return l2_run_get(q, run, i);
    cluster = zeroed(q, zeroing, cluster, units);
    return entry_of_cluster(&q->geometry, &cluster);
}

static bool entries_equal(struct l2_entry a, struct l2_entry b)
{
    return a.descriptor == b.descriptor && a.bitmap == b.bitmap;
}

/* 1 when there is something to do, 0 when not, -EIO when there is an entry that cannot be, -ENOTSUP when entries cannot
 * say it. */
static int inspect_run(struct qcow2 *q, const struct zeroing *zeroing, const struct l2_run *run, struct range range)
{
    bool changes = false;
    for (size_t i = 0; i < run->count; i++) {
        struct cluster cluster = l2_run_cluster(q, run, i);
        if (!cluster.valid)
            return qcow2_corrupt_entry(q, l2_run_get(q, run, i).descriptor);
        if (is_part_of_compressed(q, &cluster, units_of_run(q, run, i, range)) && !zeroing->hint)
            return -ENOTSUP;
        changes = changes || !entries_equal(zeroed_entry(q, zeroing, run, i, range), l2_run_get(q, run, i));
    }
    return changes;
}

static int zero_run(struct qcow2 *q, const struct zeroing *zeroing, const struct l2_run *run, struct range range)
{
    int ret = inspect_run(q, zeroing, run, range);
    if (ret <= 0)
        return ret;
    ret = l2_run_change(q, run, 0, run->count);
    for (size_t i = 0; ret == 0 && i < run->count; i++) {
        struct l2_entry old = l2_run_get(q, run, i);
        struct l2_entry entry = zeroed_entry(q, zeroing, run, i, range);
        l2_run_set(q, run, i, entry);
        if (entry_offset(entry.descriptor) != entry_offset(old.descriptor) ||
            ((old.descriptor ^ entry.descriptor) & ENTRY_COMPRESSED))
            l2_entry_release(q, old, zeroing->by);
    }
    return ret;
}

/* Under metadata: the first clusters that the range touches, as far as one slice goes. */
static int zero_first(struct qcow2 *q, const struct zeroing *zeroing, struct range range, uint64_t *done)
{
    struct range clusters = range_align_out(range, cluster_bytes(&q->geometry));
    struct l2_run run;
    int ret = zeroing->keep_absent ? l2_run_begin_existing(q, clusters, &run) : l2_run_begin(q, clusters, &run);
    if (ret < 0)
        return ret;
    if (run.slice)
        ret = zero_run(q, zeroing, &run, range);
    uint64_t end = clusters.offset + ((uint64_t)run.count << q->geometry.cluster_bits);
    *done = min_u64(end, range_end(range)) - range.offset;
    l2_run_end(q, &run);
    return ret;
}

/* The first bytes of the range that are whole clusters or part of one. */
static struct range first_piece(const struct qcow2 *q, struct range range)
{
    uint64_t cluster = cluster_bytes(&q->geometry);
    uint64_t end = align_down(range_end(range), cluster);
    if (!is_aligned(range.offset, cluster) || end <= range.offset)
        end = min_u64(align_down(range.offset, cluster) + cluster, range_end(range));
    return range_between(range.offset, end);
}

/* @range: whole units. Part of a compressed cluster is written as data. */
static int zero_units(struct qcow2 *q, const struct zeroing *zeroing, struct range range)
{
    while (range.bytes > 0) {
        uint64_t done = 0;
        struct range piece = first_piece(q, range);
        int ret = qcow2_sync_if_crowded(q);
        if (ret < 0)
            return ret;
        co_mutex_lock(&q->metadata);
        if (!in_flight_wait(q, range_align_out(piece, cluster_bytes(&q->geometry))))
            ret = zero_first(q, zeroing, piece, &done);
        co_mutex_unlock(&q->metadata);
        if (ret == RETRY_WITH_LARGER_REFTABLE)
            ret = reftable_grow(q);
        else if (ret == -ENOTSUP)
            ret = qcow2_write_zeroes_as_data(q, range_make(piece.offset, done = piece.bytes));
        if (ret < 0)
            return ret;
        range = range_make(range.offset + done, range.bytes - done);
    }
    return 0;
}

/* The whole units of the range. What lies behind the end of the disk in its last cluster counts as asked for. */
static struct range whole_units(const struct qcow2 *q, struct range range)
{
    uint64_t unit = unit_bytes(&q->geometry);
    uint64_t end = range_end(range);
    end = end == node_length(q->node) ? align_up(end, cluster_bytes(&q->geometry)) : align_down(end, unit);
    return range_between(align_up(range.offset, unit), end);
}

/* Part of a unit, version 3. Nothing to do where it reads as zeroes because an entry says so; an absent unit of
 * which nothing shows through becomes zero. Everything else is for io/, which writes zeroes as data. */
static int zero_part(struct qcow2 *q, struct range part)
{
    while (part.bytes > 0) {
        struct mapping mapping;
        int ret = map_lookup(q, part, FOR_READING, &mapping);
        if (ret < 0)
            return ret;
        if (mapping.kind == CLUSTER_ZERO || mapping.kind == CLUSTER_ZERO_RESERVED) {
            part = range_make(part.offset + mapping.bytes, part.bytes - mapping.bytes);
            continue;
        }
        bool absent = mapping.kind == CLUSTER_ABSENT || mapping.kind == CLUSTER_ABSENT_RESERVED;
        if (!absent || shows_through(q))
            return -ENOTSUP;
        struct zeroing zeroing = { .only_absent = true, .by = FREED_BY_REQUEST };
        struct range units = range_align_out(range_make(part.offset, mapping.bytes), unit_bytes(&q->geometry));
        ret = zero_units(q, &zeroing, units);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static bool is_whole(const struct qcow2 *q, struct range range, struct range *whole)
{
    *whole = whole_units(q, range);
    return whole->offset == range.offset && range_end(*whole) >= range_end(range);
}

/* Version 2 cannot say zero, but absent where nothing shows through. */
static int zero_without_flag(struct qcow2 *q, struct range range, unsigned flags)
{
    struct range whole;
    if (shows_through(q) || !(flags & REQ_MAY_UNMAP) || !is_whole(q, range, &whole))
        return -ENOTSUP;
    struct zeroing zeroing = { .keep_absent = true, .absent = true, .by = FREED_BY_REQUEST };
    return zero_units(q, &zeroing, whole);
}

/* Entries read as zeroes by now, so whatever becomes of the bytes in a data file is right. */
static void discard_in_data_file(struct qcow2 *q, struct range range)
{
    struct range inside = range_intersect(range, range_make(0, child_length(q->data)));
    if (q->geometry.data_file && q->pass_discard[FREED_BY_REQUEST] && inside.bytes > 0)
        (void)child_pdiscard(q->data, inside);
}

/* Bytes of host clusters that stay although nothing of the guest is there: of whole clusters that are kept
 * (discard-no-unref), and of subclusters beside which there is data. A write that meets this request may be lost, as if
 * it had come before. What the disk may still have is an entry from before; it shows zeroes where the guest discarded
 * something, as with a data file. */
static int discard_in_kept(struct qcow2 *q, struct range range)
{
    while (range.bytes > 0) {
        struct mapping mapping;
        int ret = map_lookup(q, range, FOR_READING, &mapping);
        if (ret < 0)
            return ret;
        bool kept = mapping.kind == CLUSTER_ZERO_RESERVED || mapping.kind == CLUSTER_ABSENT_RESERVED;
        if (kept && mapping.own)
            (void)child_pdiscard(q->data, range_make(mapping.host, mapping.bytes));
        range = range_make(range.offset + mapping.bytes, range.bytes - mapping.bytes);
    }
    return 0;
}

static int pwrite_zeroes(struct qcow2 *q, struct range range, unsigned flags)
{
    if (q->raw_data)
        return child_pwrite_zeroes(q->data, range, flags);
    if (!has_zero_flag(q))
        return zero_without_flag(q, range, flags);
    struct range whole;
    if (!is_whole(q, range, &whole))
        return zero_part(q, range);
    struct zeroing zeroing = {
        .keep_host = !(flags & REQ_MAY_UNMAP) || q->keep_discarded,
        .by = FREED_BY_REQUEST,
    };
    int ret = zero_units(q, &zeroing, whole);
    if (ret == 0 && (flags & REQ_MAY_UNMAP))
        discard_in_data_file(q, whole);
    return ret;
}

/* Zeroes are asked for in whole units or in parts of one: node_limits.zero_granularity. */
int qcow2_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    struct qcow2 *q = node_state(node);
    int ret = qcow2_may_write(q);
    if (ret == 0)
        ret = qcow2_reclaim_if_crowded(q);
    if (ret < 0)
        return ret;
    unsigned epoch = freed_epoch_enter(q);
    ret = pwrite_zeroes(q, range, flags);
    freed_epoch_leave(q, epoch);
    return ret;
}

static int pdiscard(struct qcow2 *q, struct range range)
{
    if (q->raw_data)
        return q->pass_discard[FREED_BY_REQUEST] ? child_pdiscard(q->data, range) : 0;
    struct range whole = whole_units(q, range);
    if (whole.bytes == 0 || (!has_zero_flag(q) && shows_through(q)))
        return 0; /* a hint that cannot be followed */
    struct zeroing zeroing = {
        .keep_host = has_zero_flag(q) && q->keep_discarded,
        .keep_absent = !shows_through(q),
        .absent = !has_zero_flag(q),
        .hint = true,
        .by = FREED_BY_REQUEST,
    };
    int ret = zero_units(q, &zeroing, whole);
    if (ret == 0)
        discard_in_data_file(q, whole);
    bool keeps = zeroing.keep_host || geometry_is_extended(&q->geometry);
    if (ret == 0 && keeps && q->pass_discard[FREED_BY_REQUEST] && !q->geometry.data_file)
        ret = discard_in_kept(q, whole);
    return ret;
}

int qcow2_pdiscard(struct node *node, struct range range)
{
    struct qcow2 *q = node_state(node);
    int ret = qcow2_may_write(q);
    if (ret == 0)
        ret = qcow2_reclaim_if_crowded(q);
    if (ret < 0)
        return ret;
    unsigned epoch = freed_epoch_enter(q);
    ret = pdiscard(q, range);
    freed_epoch_leave(q, epoch);
    return ret;
}

int qcow2_drop(struct qcow2 *q, struct range clusters)
{
    struct zeroing zeroing = { .keep_absent = true, .absent = true, .by = FREED_OTHERWISE };
    return zero_units(q, &zeroing, clusters);
}

int qcow2_hide(struct qcow2 *q, struct range clusters)
{
    struct zeroing zeroing = { .by = FREED_OTHERWISE };
    return zero_units(q, &zeroing, clusters);
}
