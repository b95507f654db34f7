/* Reading: each run of like clusters from where it lies. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

/* A cluster may be written in part when it is the last one of the file; what is missing reads as zeroes. One that
 * begins behind the end of the file is no cluster of this image. */
static int read_host(struct qcow2 *q, uint64_t host, const struct iov *iov)
{
    if (unlikely(align_down(host, cluster_bytes(&q->geometry)) >= child_length(q->data)))
        return qcow2_corrupt(q);
    child_debug_event(q->data, "read_aio");
    return child_preadv(q->data, range_make(host, iov->bytes), iov, 0);
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
        return read_host(q, mapping->host, iov);
    case CLUSTER_ABSENT:
        return read_backing(q, range.offset, iov);
    case CLUSTER_COMPRESSED:
        return qcow2_read_compressed(q, mapping->entry, in_cluster(&q->geometry, range.offset), iov);
    default:
        iov_fill(iov, 0);
        return 0;
    }
}

static int read_runs(struct qcow2 *q, struct range range, const struct iov *iov)
{
    for (uint64_t done = 0; done < range.bytes;) {
        struct mapping mapping;
        struct range rest = range_make(range.offset + done, range.bytes - done);
        int ret = map_lookup(q, rest, FOR_READING, &mapping);
        if (ret < 0)
            return ret;
        struct iov part = iov_slice(iov, (size_t)done, (size_t)mapping.bytes);
        ret = qcow2_read_mapped(q, range_make(rest.offset, mapping.bytes), &mapping, &part);
        if (ret < 0)
            return ret;
        done += mapping.bytes;
    }
    return 0;
}

int qcow2_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)flags;
    struct qcow2 *q = node_state(node);
    unsigned epoch = freed_epoch_enter(q);
    int ret = read_runs(q, range, iov);
    freed_epoch_leave(q, epoch);
    return ret;
}
