/* Reading: each run of like clusters from where it lies, all runs of a request at the same time. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/runtime/coroutine.h"

#include <inttypes.h>

/* A cluster may be written in part when it is the last one of the file; what is missing reads as zeroes. One that
 * begins behind the end of the file is no cluster of this image, wherever the run that it is in begins. */
static int read_host(struct qcow2 *q, uint64_t guest, uint64_t host, const struct iov *iov)
{
    /* A data file is as long as it was written, or as somebody made it who knows nothing of the image. */
    if (unlikely(!q->geometry.data_file &&
                 align_down(host + iov->bytes - 1, cluster_bytes(&q->geometry)) >= child_length(q->data)))
        return qcow2_corrupt(q, range_make(host, iov->bytes),
                             "data at offset 0x%" PRIx64 " lies behind the end of the file", host);
    child_debug_event(q->data, "read_aio");
    return qcow2_read_data(q, guest, host, iov);
}

/* What the backing file shows; zeroes where it has ended. */
static int read_backing(struct qcow2 *q, uint64_t offset, const struct iov *iov)
{
    struct child *backing = node_backing(q->node);
    if (!backing) {
        iov_fill(iov, 0);
        return 0;
    }
    child_debug_event(q->file, "read_backing_aio");
    return child_preadv(backing, range_make(offset, iov->bytes), iov, 0);
}

int qcow2_read_mapped(struct qcow2 *q, struct range range, const struct mapping *mapping, const struct iov *iov)
{
    switch (mapping->kind) {
    case CLUSTER_DATA:
        return read_host(q, range.offset, mapping->host, iov);
    case CLUSTER_ABSENT:
    case CLUSTER_ABSENT_RESERVED:
        return read_backing(q, range.offset, iov);
    case CLUSTER_COMPRESSED:
        return qcow2_read_compressed(q, mapping->entry, in_cluster(&q->geometry, range.offset), iov);
    default:
        iov_fill(iov, 0);
        return 0;
    }
}

/* Runs of one request that are read at the same time. */
#define RUNS_MAX 16

struct run {
    struct qcow2 *q;
    struct range range;
    struct mapping mapping;
    struct iov iov;
    int ret;
};

static void read_run(void *arg)
{
    struct run *run = arg;
    run->ret = qcow2_read_mapped(run->q, run->range, &run->mapping, &run->iov);
}

/* Looks up as many runs as @runs has room for; *@done bytes of the request are in them or were before. */
static int look_up_runs(struct qcow2 *q, struct range range, const struct iov *iov, struct run *runs, size_t *count,
                        uint64_t *done)
{
    for (*count = 0; *count < RUNS_MAX && *done < range.bytes; (*count)++) {
        struct run *run = &runs[*count];
        run->q = q;
        int ret = map_lookup(q, range_make(range.offset + *done, range.bytes - *done), FOR_READING, &run->mapping);
        if (ret < 0)
            return ret;
        run->range = range_make(range.offset + *done, run->mapping.bytes);
        run->iov = iov_slice(iov, (size_t)*done, (size_t)run->mapping.bytes);
        *done += run->mapping.bytes;
    }
    return 0;
}

/* Each run on a coroutine of its own: they wait for the disk side by side, and the stack of this one stays shallow. */
static __attribute__((noinline)) int read_scattered(struct qcow2 *q, struct range range, const struct iov *iov)
{
    int ret = 0;
    for (uint64_t done = 0; done < range.bytes && ret == 0;) {
        struct run runs[RUNS_MAX];
        size_t count;
        ret = look_up_runs(q, range, iov, runs, &count, &done);
        struct co_group group;
        co_group_init(&group);
        for (size_t i = 0; i < count; i++)
            co_group_start(&group, "qcow2 read", read_run, &runs[i]);
        co_group_join(&group);
        for (size_t i = 0; i < count && ret == 0; i++)
            ret = runs[i].ret;
    }
    return ret;
}

static int read_request(struct qcow2 *q, struct range range, const struct iov *iov)
{
    struct mapping mapping;
    int ret = map_lookup(q, range, FOR_READING, &mapping);
    if (ret < 0)
        return ret;
    return likely(mapping.bytes == range.bytes) ? qcow2_read_mapped(q, range, &mapping, iov)
                                                : read_scattered(q, range, iov);
}

int qcow2_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)flags;
    struct qcow2 *q = node_state(node);
    unsigned epoch = freed_epoch_enter(q);
    int ret = read_request(q, range, iov);
    freed_epoch_leave(q, epoch);
    return ret;
}
