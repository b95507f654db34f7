/* Writing: in place where clusters are the image's own, otherwise to new clusters.
 *
 *     look up --own--> write in place
 *        '--else--> [metadata] allocate, enter in_flight --> write data --> [metadata] link, leave in_flight
 *
 * Between the brackets no lock is held, so writes to different clusters run side by side. Two writes that need the same
 * cluster wait for each other: the second finds it to be the image's own. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include <errno.h>
#include <inttypes.h>

static int write_in_place(struct qcow2 *q, const struct mapping *mapping, const struct iov *iov)
{
    child_debug_event(q->data, "write_aio");
    return child_pwritev(q->data, range_make(mapping->host, mapping->bytes), iov, 0);
}

bool in_flight_wait(struct qcow2 *q, struct range clusters)
{
    struct allocation *other;
    list_for_each (other, &q->in_flight, link) {
        if (range_overlaps(other->guest, clusters)) {
            co_queue_wait(&other->done, &q->metadata, "a write to the same clusters");
            return true;
        }
    }
    return false;
}

/* Entries of the run that a write may treat alike, from the first on: either all need new clusters, or all have their
 * own host clusters in a row behind entries that read as zeroes. None is data that can be written in place. */
static size_t count_alike(const struct qcow2 *q, const struct l2_run *run, bool *reserved)
{
    const struct geometry *geometry = &q->geometry;
    uint64_t first = l2_run_get(run, 0);
    *reserved = entry_kind(geometry, first) == CLUSTER_ZERO_RESERVED && entry_is_own(first);
    for (size_t i = 0; i < run->count; i++) {
        uint64_t entry = l2_run_get(run, i);
        bool own = entry_is_own(entry);
        if (entry_kind(geometry, entry) == CLUSTER_INVALID)
            return i;
        if (*reserved) {
            uint64_t expected = entry_offset(first) + (i << geometry->cluster_bits);
            if (!own || entry_kind(geometry, entry) != CLUSTER_ZERO_RESERVED || entry_offset(entry) != expected)
                return i;
        } else if (own) {
            return i;
        }
    }
    return run->count;
}

static struct mapping mapping_of(const struct qcow2 *q, uint64_t entry)
{
    return (struct mapping){
        .kind = entry_kind(&q->geometry, entry),
        .bytes = cluster_bytes(&q->geometry),
        .host = entry_offset(entry),
        .entry = entry,
    };
}

/* The host clusters that the entries of the run have: they say that nobody else refers to them. */
static int check_reserved(struct qcow2 *q, uint64_t host, size_t count)
{
    if (qcow2_is_protected(q, host, (uint64_t)count << q->geometry.cluster_bits))
        return qcow2_corrupt_overlap(q, host, (uint64_t)count << q->geometry.cluster_bits);
    for (size_t i = 0; i < count; i++) {
        uint64_t references;
        int ret = refcount_read(q, (host >> q->geometry.cluster_bits) + i, &references);
        if (ret < 0)
            return ret;
        if (references != 1)
            return qcow2_corrupt(q, range_make(host + (i << q->geometry.cluster_bits), cluster_bytes(&q->geometry)),
                                 "an entry says that the cluster at offset 0x%" PRIx64
                                 " is its own, but the refcount is %" PRIu64,
                                 host + (i << q->geometry.cluster_bits), references);
    }
    return 0;
}

/* Finds @*count host clusters at most for the run. */
static int find_host(struct qcow2 *q, const struct l2_run *run, size_t *count, struct allocation *allocation)
{
    if (allocation->reserved) {
        allocation->host = entry_offset(l2_run_get(run, 0));
        return check_reserved(q, allocation->host, *count);
    }
    uint64_t got;
    int ret = refcount_alloc(q, *count, &allocation->host, &got, &allocation->fresh);
    if (ret == 0)
        *count = (size_t)got;
    return ret;
}

/* Under metadata. Returns 1 when there is nothing to allocate any more. */
static int allocation_begin(struct qcow2 *q, struct range clusters, struct allocation *allocation,
                            struct mapping *first, struct mapping *last)
{
    struct l2_run run;
    int ret = l2_run_begin(q, clusters, &run);
    if (ret < 0)
        return ret;
    bool reserved;
    size_t count = count_alike(q, &run, &reserved);
    *allocation = (struct allocation){ .reserved = reserved };
    ret = count ? find_host(q, &run, &count, allocation) : 1;
    if (ret == 0) {
        *first = mapping_of(q, l2_run_get(&run, 0));
        *last = mapping_of(q, l2_run_get(&run, count - 1));
        allocation->guest = range_make(clusters.offset, (uint64_t)count << q->geometry.cluster_bits);
        co_queue_init(&allocation->done);
        list_append(&q->in_flight, &allocation->link);
    }
    l2_run_end(q, &run);
    return ret;
}

/* The entries lead to the new clusters from now on; what they led to before is given up. */
static int link_clusters(struct qcow2 *q, const struct allocation *allocation)
{
    struct l2_run run;
    int ret = l2_run_begin(q, allocation->guest, &run);
    if (ret < 0)
        return ret;
    ret = l2_run_change(q, &run, 0, run.count);
    for (size_t i = 0; ret == 0 && i < run.count; i++) {
        uint64_t old = l2_run_get(&run, i);
        l2_run_set(q, &run, i, (allocation->host + ((uint64_t)i << q->geometry.cluster_bits)) | ENTRY_COPIED);
        if (!allocation->reserved)
            l2_entry_release(q, old, FREED_OTHERWISE);
    }
    q->l2_needs_flush = true;
    l2_run_end(q, &run);
    return ret;
}

/* The data is written, or could not be. */
static int allocation_end(struct qcow2 *q, struct allocation *allocation, int ret)
{
    co_mutex_lock(&q->metadata);
    if (ret == 0)
        ret = link_clusters(q, allocation);
    if (ret < 0 && !allocation->reserved)
        (void)refcount_release(q, range_make(allocation->host, allocation->guest.bytes));
    list_remove(&allocation->link);
    co_mutex_unlock(&q->metadata);
    co_queue_wake_all(&allocation->done);
    co_queue_fini(&allocation->done);
    return ret;
}

/* As much of the range as no other write allocates; that begins behind the first cluster. Under metadata. */
static struct range up_to_others(const struct qcow2 *q, struct range clusters)
{
    const struct allocation *other;
    list_for_each (other, &q->in_flight, link) {
        if (range_overlaps(other->guest, clusters))
            clusters = range_between(clusters.offset, other->guest.offset);
    }
    return clusters;
}

/* Finds clusters for the first bytes of the range. Returns 1 when the map has to be read again. */
static int allocate(struct qcow2 *q, struct range range, struct allocation *allocation, struct mapping *first,
                    struct mapping *last)
{
    int ret = qcow2_sync_if_crowded(q);
    if (ret < 0)
        return ret;
    struct range clusters = range_align_out(range, cluster_bytes(&q->geometry));
    co_mutex_lock(&q->metadata);
    if (in_flight_wait(q, range_make(clusters.offset, cluster_bytes(&q->geometry))))
        ret = 1;
    else
        ret = allocation_begin(q, up_to_others(q, clusters), allocation, first, last);
    co_mutex_unlock(&q->metadata);
    if (ret != RETRY_WITH_LARGER_REFTABLE)
        return ret;
    ret = reftable_grow(q);
    return ret < 0 ? ret : 1;
}

/* Writes the first bytes of the range to new clusters; *@done says how many, 0 when the map has to be read again. */
static int write_allocating(struct qcow2 *q, struct range range, const struct iov *iov, uint64_t *done)
{
    struct allocation allocation;
    struct mapping first;
    struct mapping last;
    *done = 0;
    int ret = allocate(q, range, &allocation, &first, &last);
    if (ret != 0)
        return ret < 0 ? ret : 0;
    struct range now = range_intersect(range, allocation.guest);
    struct iov part = iov_slice(iov, 0, (size_t)now.bytes);
    ret = cow_write(q, &allocation, &first, &last, now, &part);
    ret = allocation_end(q, &allocation, ret);
    *done = ret == 0 ? now.bytes : 0;
    return ret;
}

/* The same without data: the clusters get host clusters that read as zeroes. */
static int allocate_zeroes(struct qcow2 *q, struct range clusters, uint64_t *done)
{
    struct allocation allocation;
    struct mapping first;
    struct mapping last;
    *done = 0;
    int ret = allocate(q, clusters, &allocation, &first, &last);
    if (ret != 0)
        return ret < 0 ? ret : 0;
    child_debug_event(q->data, "cluster_alloc_space");
    ret = child_pwrite_zeroes(q->data, range_make(allocation.host, allocation.guest.bytes), 0);
    ret = allocation_end(q, &allocation, ret);
    *done = ret == 0 ? allocation.guest.bytes : 0;
    return ret;
}

int qcow2_preallocate(struct qcow2 *q, struct range clusters)
{
    while (clusters.bytes > 0) {
        struct mapping mapping;
        int ret = map_lookup(q, clusters, FOR_WRITING, &mapping);
        uint64_t now = ret == 0 ? mapping.bytes : 0;
        if (ret == 0 && !(mapping.kind == CLUSTER_DATA && mapping.own))
            ret = allocate_zeroes(q, range_make(clusters.offset, now), &now);
        if (ret < 0)
            return ret;
        clusters = range_make(clusters.offset + now, clusters.bytes - now);
    }
    return 0;
}

int qcow2_write(struct qcow2 *q, struct range range, const struct iov *iov)
{
    for (uint64_t done = 0; done < range.bytes;) {
        struct mapping mapping;
        struct range rest = range_make(range.offset + done, range.bytes - done);
        int ret = map_lookup(q, rest, FOR_WRITING, &mapping);
        if (ret < 0)
            return ret;
        uint64_t now = mapping.bytes;
        struct iov part = iov_slice(iov, (size_t)done, (size_t)now);
        if (likely(mapping.kind == CLUSTER_DATA && mapping.own))
            ret = write_in_place(q, &mapping, &part);
        else
            ret = write_allocating(q, range_make(rest.offset, now), &part, &now);
        if (ret < 0)
            return ret;
        done += now;
    }
    return 0;
}

int qcow2_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)flags;
    struct qcow2 *q = node_state(node);
    int ret = qcow2_may_write(q);
    if (ret == 0)
        ret = qcow2_reclaim_if_crowded(q);
    if (ret < 0)
        return ret;
    unsigned epoch = freed_epoch_enter(q);
    ret = qcow2_write(q, range, iov);
    freed_epoch_leave(q, epoch);
    return ret;
}
