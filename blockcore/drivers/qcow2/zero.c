/* Zeroes and discards: entries change, data does not move.
 *
 *     request          version 3                               version 2
 *     write zeroes     zero flag; the host cluster stays       -ENOTSUP: zeroes are written as data
 *     ... may unmap    zero flag; the host cluster is given up  absent, unless a backing file would show through
 *     discard          zero flag; the host cluster is given up  absent, unless a backing file would show through */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include <errno.h>

/* What is done to the entries of a range. */
struct zeroing {
    bool keep_host;   /* the host cluster stays with its entry */
    bool keep_absent; /* an absent cluster stays so */
    bool absent;      /* what is left is absent, not zero */
    bool only_absent; /* only absent clusters are changed */
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

static uint64_t zeroed_entry(const struct qcow2 *q, const struct zeroing *zeroing, uint64_t entry)
{
    enum cluster_kind kind = entry_kind(&q->geometry, entry);
    if (kind == CLUSTER_ABSENT ? zeroing->keep_absent : zeroing->only_absent)
        return entry;
    if (zeroing->absent)
        return 0;
    bool has_host = kind == CLUSTER_DATA || kind == CLUSTER_ZERO_RESERVED;
    if (zeroing->keep_host && has_host && entry_is_own(entry))
        return entry | ENTRY_ZERO;
    return ENTRY_ZERO;
}

/* 1 when there is something to do, 0 when not, -EIO when there is an entry that cannot be. */
static int inspect_run(struct qcow2 *q, const struct zeroing *zeroing, const struct l2_run *run)
{
    bool changes = false;
    for (size_t i = 0; i < run->count; i++) {
        uint64_t entry = l2_run_get(run, i);
        if (entry_kind(&q->geometry, entry) == CLUSTER_INVALID)
            return qcow2_corrupt_entry(q, entry);
        changes = changes || zeroed_entry(q, zeroing, entry) != entry;
    }
    return changes;
}

static int zero_run(struct qcow2 *q, const struct zeroing *zeroing, const struct l2_run *run)
{
    int ret = inspect_run(q, zeroing, run);
    if (ret <= 0)
        return ret;
    ret = l2_run_change(q, run, 0, run->count);
    for (size_t i = 0; ret == 0 && i < run->count; i++) {
        uint64_t old = l2_run_get(run, i);
        uint64_t entry = zeroed_entry(q, zeroing, old);
        l2_run_set(q, run, i, entry);
        if (entry_offset(entry) != entry_offset(old) || (old & ENTRY_COMPRESSED))
            l2_entry_release(q, old, zeroing->by);
    }
    return ret;
}

/* Under metadata: the first clusters of the range, as far as one slice goes. */
static int zero_first(struct qcow2 *q, const struct zeroing *zeroing, struct range clusters, uint64_t *done)
{
    struct l2_run run;
    int ret = zeroing->keep_absent ? l2_run_begin_existing(q, clusters, &run) : l2_run_begin(q, clusters, &run);
    if (ret < 0)
        return ret;
    if (run.slice)
        ret = zero_run(q, zeroing, &run);
    *done = (uint64_t)run.count << q->geometry.cluster_bits;
    l2_run_end(q, &run);
    return ret;
}

/* @clusters: whole clusters. */
static int zero_clusters(struct qcow2 *q, const struct zeroing *zeroing, struct range clusters)
{
    while (clusters.bytes > 0) {
        uint64_t done = 0;
        int ret = qcow2_sync_if_crowded(q);
        if (ret < 0)
            return ret;
        co_mutex_lock(&q->metadata);
        if (!in_flight_wait(q, clusters))
            ret = zero_first(q, zeroing, clusters, &done);
        co_mutex_unlock(&q->metadata);
        if (ret == RETRY_WITH_LARGER_REFTABLE)
            ret = reftable_grow(q);
        if (ret < 0)
            return ret;
        clusters = range_make(clusters.offset + done, clusters.bytes - done);
    }
    return 0;
}

/* The whole clusters of the range. The last one of the disk counts as whole. */
static struct range whole_clusters(const struct qcow2 *q, struct range range)
{
    uint64_t end = range_end(range);
    end = end == node_length(q->node) ? align_up(end, cluster_bytes(&q->geometry))
                                      : align_down(end, cluster_bytes(&q->geometry));
    return range_between(align_up(range.offset, cluster_bytes(&q->geometry)), end);
}

/* Part of a cluster, version 3. Nothing to do where it reads as zeroes because an entry says so; an absent cluster of
 * which nothing shows through becomes a zero cluster. Everything else is for io/, which writes zeroes as data. */
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
        if (mapping.kind != CLUSTER_ABSENT || shows_through(q))
            return -ENOTSUP;
        struct zeroing zeroing = { .only_absent = true, .by = FREED_BY_REQUEST };
        struct range absent = range_make(part.offset, mapping.bytes);
        ret = zero_clusters(q, &zeroing, range_align_out(absent, cluster_bytes(&q->geometry)));
        if (ret < 0)
            return ret;
    }
    return 0;
}

static bool is_whole(const struct qcow2 *q, struct range range, struct range *whole)
{
    *whole = whole_clusters(q, range);
    return whole->offset == range.offset && range_end(*whole) >= range_end(range);
}

/* Version 2 cannot say zero, but absent where nothing shows through. */
static int zero_without_flag(struct qcow2 *q, struct range range, unsigned flags)
{
    struct range whole;
    if (shows_through(q) || !(flags & REQ_MAY_UNMAP) || !is_whole(q, range, &whole))
        return -ENOTSUP;
    struct zeroing zeroing = { .keep_absent = true, .absent = true, .by = FREED_BY_REQUEST };
    return zero_clusters(q, &zeroing, whole);
}

static int pwrite_zeroes(struct qcow2 *q, struct range range, unsigned flags)
{
    if (!has_zero_flag(q))
        return zero_without_flag(q, range, flags);
    struct range whole;
    if (!is_whole(q, range, &whole))
        return zero_part(q, range);
    struct zeroing zeroing = {
        .keep_host = !(flags & REQ_MAY_UNMAP) || q->keep_discarded,
        .by = FREED_BY_REQUEST,
    };
    return zero_clusters(q, &zeroing, whole);
}

/* Zeroes are asked for in whole clusters or in parts of one: node_limits.zero_granularity. */
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

int qcow2_pdiscard(struct node *node, struct range range)
{
    struct qcow2 *q = node_state(node);
    int ret = qcow2_may_write(q);
    if (ret == 0)
        ret = qcow2_reclaim_if_crowded(q);
    if (ret < 0)
        return ret;
    struct range whole = whole_clusters(q, range);
    if (whole.bytes == 0 || (!has_zero_flag(q) && shows_through(q)))
        return 0; /* a hint that cannot be followed */
    struct zeroing zeroing = {
        .keep_host = has_zero_flag(q) && q->keep_discarded,
        .keep_absent = !shows_through(q),
        .absent = !has_zero_flag(q),
        .by = FREED_BY_REQUEST,
    };
    unsigned epoch = freed_epoch_enter(q);
    ret = zero_clusters(q, &zeroing, whole);
    freed_epoch_leave(q, epoch);
    return ret;
}

int qcow2_drop(struct qcow2 *q, struct range clusters)
{
    struct zeroing zeroing = { .keep_absent = true, .absent = true, .by = FREED_OTHERWISE };
    return zero_clusters(q, &zeroing, clusters);
}

int qcow2_hide(struct qcow2 *q, struct range clusters)
{
    struct zeroing zeroing = { .by = FREED_OTHERWISE };
    return zero_clusters(q, &zeroing, clusters);
}
