/* Writing compressed clusters: each is packed on the pool, several of a request at a time, and gets as many bytes of
 * the file as it needs. What does not get smaller is written plainly.
 *
 *     pack [pool] --> [metadata] take space, enter in_flight --> write --> [metadata] link, leave in_flight
 *
 * Whatever the guest cluster was before is given up. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/drivers/qcow2/pack.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <string.h>

#define WORKERS_MAX 8 /* clusters of one request that are packed at the same time */

/* Packed bytes on their way to the file. */
struct packed {
    struct allocation allocation;
    const uint8_t *data;
    size_t bytes;
};

/* Under metadata. */
static int space_take(struct qcow2 *q, struct packed *packed)
{
    int ret = packed_space_take(q, packed->bytes, &packed->allocation.host);
    if (ret < 0)
        return ret;
    struct range host = range_make(packed->allocation.host, packed->bytes);
    if (!range_inside(host, entry_compressed_end(&q->geometry))) {
        (void)refcount_release(q, host);
        return -EFBIG;
    }
    co_queue_init(&packed->allocation.done);
    list_append(&q->in_flight, &packed->allocation.link);
    return 0;
}

/* Becomes visible to those who want the same cluster. */
static int packed_begin(struct qcow2 *q, struct packed *packed)
{
    for (;;) {
        int ret = qcow2_sync_if_crowded(q);
        if (ret < 0)
            return ret;
        co_mutex_lock(&q->metadata);
        bool again = in_flight_wait(q, packed->allocation.guest);
        ret = again ? 0 : space_take(q, packed);
        co_mutex_unlock(&q->metadata);
        if (ret == RETRY_WITH_LARGER_REFTABLE) {
            ret = reftable_grow(q);
            again = true;
        }
        if (ret < 0 || !again)
            return ret;
    }
}

/* Under metadata: the entry leads to the packed bytes from now on. */
static int packed_link(struct qcow2 *q, const struct packed *packed)
{
    struct l2_run run;
    int ret = l2_run_begin(q, packed->allocation.guest, &run);
    if (ret < 0)
        return ret;
    struct l2_entry old = l2_run_get(q, &run, 0);
    if (!l2_run_cluster(q, &run, 0).valid)
        ret = qcow2_corrupt_entry(q, old.descriptor);
    else
        ret = l2_run_change(q, &run, 0, 1);
    if (ret == 0) {
        child_debug_event(q->file, "l2_update_compressed");
        l2_run_set(q, &run, 0, entry_compressed(&q->geometry, packed->allocation.host, packed->bytes));
        l2_entry_release(q, old, FREED_OTHERWISE);
        q->l2_needs_flush = true;
    }
    l2_run_end(q, &run);
    return ret;
}

/* As packed_link(), which may have to make room for an L2 table. Under metadata, which is let go of meanwhile. */
static int packed_link_with_room(struct qcow2 *q, const struct packed *packed)
{
    int ret;
    while ((ret = packed_link(q, packed)) == RETRY_WITH_LARGER_REFTABLE) {
        co_mutex_unlock(&q->metadata);
        ret = reftable_grow(q);
        co_mutex_lock(&q->metadata);
        if (ret < 0)
            break;
    }
    return ret;
}

/* The bytes are written, or could not be. */
static int packed_end(struct qcow2 *q, struct packed *packed, int ret)
{
    struct allocation *allocation = &packed->allocation;
    co_mutex_lock(&q->metadata);
    if (ret == 0)
        ret = packed_link_with_room(q, packed);
    if (ret < 0)
        (void)refcount_release(q, range_make(allocation->host, packed->bytes));
    list_remove(&allocation->link);
    co_mutex_unlock(&q->metadata);
    co_queue_wake_all(&allocation->done);
    co_queue_fini(&allocation->done);
    return ret;
}

static int store(struct qcow2 *q, uint64_t guest, const uint8_t *data, size_t bytes)
{
    struct packed packed = {
        .allocation.guest = range_make(guest, cluster_bytes(&q->geometry)),
        .data = data,
        .bytes = bytes,
    };
    int ret = packed_begin(q, &packed);
    if (ret < 0)
        return ret;
    child_debug_event(q->file, "write_compressed");
    ret = child_pwrite(q->file, packed.allocation.host, data, bytes, 0);
    return packed_end(q, &packed, ret);
}

/* One cluster, or the part of the last one that the disk has: the rest of it is filled with zeroes. */
static int write_cluster(struct qcow2 *q, struct range range, const struct iov *iov)
{
    size_t whole = (size_t)cluster_bytes(&q->geometry);
    uint8_t *plain = buffer_get(whole);
    uint8_t *packed = buffer_get(whole);
    struct packing job = {
        .compression = q->header.compression,
        .plain = plain,
        .plain_bytes = whole,
        .packed = packed,
        .packed_max = whole - 1,
    };
    int ret = -ENOMEM;
    if (plain && packed) {
        iov_copy_to(iov, plain);
        memset(plain + range.bytes, 0, whole - (size_t)range.bytes);
        ret = co_blocking(NULL, qcow2_pack, &job);
    }
    if (ret == 0)
        ret = store(q, range.offset, packed, job.packed_bytes);
    buffer_put(plain, whole);
    buffer_put(packed, whole);
    /* It did not shrink, or there is no place for it that an entry can name. */
    return ret == -E2BIG || ret == -EFBIG ? qcow2_write(q, range, iov) : ret;
}

/* What the workers of one request share; all of them run on one thread. */
struct request {
    struct qcow2 *q;
    struct range left;
    const struct iov *iov;
    int ret;
};

static void worker(void *arg)
{
    struct request *request = arg;
    while (request->left.bytes > 0 && request->ret == 0) {
        uint64_t bytes = min_u64(request->left.bytes, cluster_bytes(&request->q->geometry));
        struct range range = range_make(request->left.offset, bytes);
        struct iov part = iov_slice(request->iov, request->iov->bytes - request->left.bytes, bytes);
        request->left = range_make(range.offset + bytes, request->left.bytes - bytes);
        int ret = write_cluster(request->q, range, &part);
        if (ret < 0 && request->ret == 0)
            request->ret = ret;
    }
}

/* The stack of a request is small, so all clusters are packed on coroutines of their own. */
int qcow2_write_compressed(struct qcow2 *q, struct range range, const struct iov *iov)
{
    if (in_cluster(&q->geometry, range.offset) ||
        (in_cluster(&q->geometry, range.bytes) && range_end(range) != node_length(q->node)))
        return -EINVAL;
    if (q->header.crypt_method || q->data != q->file)
        return -ENOTSUP;
    struct request request = { .q = q, .left = range, .iov = iov };
    uint64_t clusters = div_round_up(range.bytes, cluster_bytes(&q->geometry));
    struct co_group group;
    co_group_init(&group);
    for (uint64_t i = 0; i < clusters && i < WORKERS_MAX; i++)
        co_group_start(&group, "qcow2 compress", worker, &request);
    co_group_join(&group);
    return request.ret;
}
