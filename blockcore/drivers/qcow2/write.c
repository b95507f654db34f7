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

#define ZEROES_BYTES (64 * 1024)

static int write_in_place(struct qcow2 *q, uint64_t guest, const struct mapping *mapping, const struct iov *iov)
{
    child_debug_event(q->data, "write_aio");
    return qcow2_write_data(q, guest, mapping->host, iov);
}

/* What nobody else may write or change until the allocation has ended: new clusters as a whole, but in a host cluster
 * that was there only the units that are written. */
static struct range claimed(const struct allocation *allocation)
{
    return allocation->reserved ? allocation->written : allocation->guest;
}

bool in_flight_wait(struct qcow2 *q, struct range guest)
{
    struct allocation *other;
    list_for_each (other, &q->in_flight, link) {
        if (range_overlaps(claimed(other), guest)) {
            co_queue_wait(&other->done, &q->metadata, "a write to the same clusters");
            return true;
        }
    }
    return false;
}

/* The host clusters that the entries of the run have: they say that nobody else refers to them. */
static int check_reserved(struct qcow2 *q, uint64_t host, uint64_t count)
{
    if (q->geometry.data_file)
        return 0;
    if (qcow2_is_protected(q, host, count << q->geometry.cluster_bits))
        return qcow2_corrupt_overlap(q, host, count << q->geometry.cluster_bits);
    for (uint64_t i = 0; i < count; i++) {
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

/* Is there a place for the cluster that may be written? In a data file there always is. */
static bool has_room(const struct qcow2 *q, const struct cluster *cluster)
{
    return cluster->valid && !cluster->compressed && cluster->own && (cluster->has_host || q->geometry.data_file);
}

/* How far units go that are not data, from the unit of run->guest + @skip on, in clusters that have room in a row. */
static uint64_t room_end(const struct qcow2 *q, const struct l2_run *run, uint64_t skip)
{
    const struct geometry *geometry = &q->geometry;
    uint64_t host = l2_run_cluster(q, run, 0).host;
    uint64_t end = run->guest + align_down(skip, unit_bytes(geometry));
    for (size_t i = 0; i < run->count; i++) {
        struct cluster cluster = l2_run_cluster(q, run, i);
        if (!has_room(q, &cluster) || cluster.host != host + ((uint64_t)i << geometry->cluster_bits))
            break;
        unsigned unit = unit_of(geometry, end);
        uint64_t data_or_end = (uint64_t)cluster.data >> unit | UINT64_C(1) << (unit_count(geometry) - unit);
        unsigned room = (unsigned)__builtin_ctzll(data_or_end);
        end += (uint64_t)room << geometry->unit_bits;
        if (unit + room < unit_count(geometry))
            break;
    }
    return end;
}

/* A write to units that have room already. Returns 1 when the first of them is data by now. */
static int plan_in_room(struct qcow2 *q, const struct l2_run *run, struct range range, struct allocation *allocation)
{
    uint64_t begin = align_down(range.offset, unit_bytes(&q->geometry));
    uint64_t end =
        min_u64(room_end(q, run, range.offset - run->guest), align_up(range_end(range), unit_bytes(&q->geometry)));
    if (end <= begin)
        return 1;
    allocation->reserved = true;
    allocation->host = l2_run_cluster(q, run, 0).host;
    allocation->written = range_between(begin, end);
    allocation->guest = range_align_out(allocation->written, cluster_bytes(&q->geometry));
    return check_reserved(q, allocation->host, allocation->guest.bytes >> q->geometry.cluster_bits);
}

/* Entries of the run that need a new host cluster, from the first on. */
static size_t count_without_room(const struct qcow2 *q, const struct l2_run *run)
{
    size_t count = 0;
    for (; count < run->count; count++) {
        struct cluster cluster = l2_run_cluster(q, run, count);
        if (!cluster.valid || (cluster.own && cluster.has_host))
            break;
    }
    return count;
}

/* Units that nobody would find any more if they were not copied to the new host cluster. */
static uint32_t units_to_copy(const struct qcow2 *q, const struct l2_run *run, size_t i)
{
    struct cluster cluster = l2_run_cluster(q, run, i);
    return cluster.compressed ? q->geometry.units : cluster.data;
}

/* What has to be written so that @range is: whole units, and what has to be copied around them. */
static struct range with_copies(const struct qcow2 *q, const struct l2_run *run, struct range guest, struct range range)
{
    const struct geometry *geometry = &q->geometry;
    struct range units = range_align_out(range_intersect(range, guest), unit_bytes(geometry));
    uint64_t last = range_end(guest) - cluster_bytes(geometry);
    uint32_t head = units_to_copy(q, run, 0);
    uint32_t tail = units_to_copy(q, run, (last - guest.offset) >> geometry->cluster_bits);
    uint64_t begin = guest.offset + ((uint64_t)__builtin_ctz(head | UINT32_C(1) << 31) << geometry->unit_bits);
    uint64_t end = last + (tail ? (uint64_t)(32 - __builtin_clz(tail)) << geometry->unit_bits : 0);
    return range_between(head ? min_u64(begin, units.offset) : units.offset, max_u64(end, range_end(units)));
}

/* A write to new host clusters. Returns 1 when there is nothing to allocate any more. */
static int plan_new(struct qcow2 *q, const struct l2_run *run, struct range range, struct allocation *allocation)
{
    uint64_t count;
    size_t wanted = count_without_room(q, run);
    int ret = wanted ? refcount_alloc(q, wanted, &allocation->host, &count, &allocation->fresh) : 1;
    if (ret != 0)
        return ret;
    allocation->guest = range_make(run->guest, count << q->geometry.cluster_bits);
    allocation->written = with_copies(q, run, allocation->guest, range);
    return 0;
}

/* Under metadata, for the first bytes of @range. Returns 1 when there is nothing to allocate any more. */
static int allocation_begin(struct qcow2 *q, struct range range, struct allocation *allocation)
{
    struct l2_run run;
    int ret = l2_run_begin(q, range_align_out(range, cluster_bytes(&q->geometry)), &run);
    if (ret < 0)
        return ret;
    *allocation = (struct allocation){ 0 };
    struct cluster first = l2_run_cluster(q, &run, 0);
    ret = has_room(q, &first) ? plan_in_room(q, &run, range, allocation) : plan_new(q, &run, range, allocation);
    if (ret == 0) {
        co_queue_init(&allocation->done);
        list_append(&q->in_flight, &allocation->link);
    }
    l2_run_end(q, &run);
    return ret;
}

uint64_t allocation_host(const struct allocation *allocation, uint64_t guest)
{
    return allocation->host + (guest - allocation->guest.offset);
}

/* What the entry of a cluster says now that its part of allocation->written is data. */
static struct l2_entry linked_entry(const struct qcow2 *q, const struct allocation *allocation, uint64_t guest,
                                    const struct cluster *old)
{
    uint32_t written = units_in(&q->geometry, guest, allocation->written);
    struct cluster linked = {
        .valid = true,
        .has_host = true,
        .own = true,
        .host = allocation_host(allocation, guest),
        .data = allocation->reserved ? old->data | written : written,
        .zero = old->zero & ~written,
    };
    return entry_of_cluster(&q->geometry, &linked);
}

/* The entries lead to the written clusters from now on; what they led to before is given up. */
static int link_clusters(struct qcow2 *q, const struct allocation *allocation)
{
    struct l2_run run;
    int ret = l2_run_begin(q, allocation->guest, &run);
    if (ret < 0)
        return ret;
    ret = l2_run_change(q, &run, 0, run.count);
    for (size_t i = 0; ret == 0 && i < run.count; i++) {
        struct l2_entry entry = l2_run_get(q, &run, i);
        struct cluster old = l2_run_cluster(q, &run, i);
        uint64_t guest = run.guest + ((uint64_t)i << q->geometry.cluster_bits);
        l2_run_set(q, &run, i, linked_entry(q, allocation, guest, &old));
        if (!allocation->reserved)
            l2_entry_release(q, entry, FREED_OTHERWISE);
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

/* As much of the range as no other write allocates; that begins behind the first unit. Under metadata. */
static struct range up_to_others(const struct qcow2 *q, struct range range)
{
    const struct allocation *other;
    list_for_each (other, &q->in_flight, link) {
        if (range_overlaps(claimed(other), range))
            range = range_between(range.offset, claimed(other).offset);
    }
    return range;
}

/* Finds clusters for the first bytes of the range. Returns 1 when the map has to be read again. */
static int allocate(struct qcow2 *q, struct range range, struct allocation *allocation)
{
    int ret = qcow2_sync_if_crowded(q);
    if (ret < 0)
        return ret;
    uint64_t first = align_down(range.offset, unit_bytes(&q->geometry));
    co_mutex_lock(&q->metadata);
    if (in_flight_wait(q, range_make(first, unit_bytes(&q->geometry))))
        ret = 1;
    else
        ret = allocation_begin(q, up_to_others(q, range), allocation);
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
    *done = 0;
    int ret = allocate(q, range, &allocation);
    if (ret != 0)
        return ret < 0 ? ret : 0;
    struct range now = range_intersect(range, allocation.written);
    struct iov part = iov_slice(iov, 0, (size_t)now.bytes);
    ret = cow_write(q, &allocation, now, &part);
    ret = allocation_end(q, &allocation, ret);
    *done = ret == 0 ? now.bytes : 0;
    return ret;
}

/* The same without data: the clusters get host clusters that read as zeroes. A raw data file reads as zeroes wherever
 * the disk does. */
static int allocate_zeroes(struct qcow2 *q, struct range range, uint64_t *done)
{
    struct allocation allocation;
    *done = 0;
    int ret = allocate(q, range, &allocation);
    if (ret != 0)
        return ret < 0 ? ret : 0;
    struct range written = allocation.written;
    struct range host = range_make(allocation_host(&allocation, written.offset), written.bytes);
    child_debug_event(q->data, "cluster_alloc_space");
    ret = q->raw_data ? 0 : qcow2_write_zero_data(q, written.offset, host);
    ret = allocation_end(q, &allocation, ret);
    *done = ret == 0 ? range_intersect(range, written).bytes : 0;
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
            ret = write_in_place(q, rest.offset, &mapping, &part);
        else
            ret = write_allocating(q, range_make(rest.offset, now), &part, &now);
        if (ret < 0)
            return ret;
        done += now;
    }
    return 0;
}

/* With everything that an allocation needs. */
int qcow2_write_zeroes_as_data(struct qcow2 *q, struct range range)
{
    static uint8_t zeroes[ZEROES_BYTES];
    int ret = 0;
    while (range.bytes > 0 && ret == 0) {
        uint64_t now = min_u64(range.bytes, ZEROES_BYTES);
        struct iovec piece;
        struct iov iov = iov_of(&piece, zeroes, (size_t)now);
        ret = qcow2_write(q, range_make(range.offset, now), &iov);
        range = range_make(range.offset + now, range.bytes - now);
    }
    return ret;
}

int qcow2_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct qcow2 *q = node_state(node);
    int ret = qcow2_may_write(q);
    if (ret == 0)
        ret = qcow2_reclaim_if_crowded(q);
    if (ret < 0)
        return ret;
    unsigned epoch = freed_epoch_enter(q);
    ret = flags & REQ_COMPRESSED ? qcow2_write_compressed(q, range, iov) : qcow2_write(q, range, iov);
    freed_epoch_leave(q, epoch);
    return ret;
}
