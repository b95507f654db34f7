/* compress - a filter through which all data that is written gets compressed
 *
 * A compressed write is of whole clusters of the format below. Where a write covers a cluster in part, the filter reads
 * the rest and writes the whole, with the cluster to itself: other writes through the filter wait, and nobody else may
 * write below while somebody may write here. Users need not know: they write what they like, and see all that the node
 * below tells of itself. */
#include "blockcore/base/range.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/filters/cluster.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/tracking.h"
#include "schema/cairn_types.h"

#include <errno.h>

struct compress {
    struct child *file;
    uint64_t cluster; /* a power of two */
    struct tracker tracker;
};

/* The node below may be exchanged for one that cannot, or whose clusters are larger: then data is stored as it is. */
static int write_whole(const struct compress *compress, struct range range, const struct iov *iov, unsigned flags)
    CO_FN;

static int write_whole(const struct compress *compress, struct range range, const struct iov *iov, unsigned flags)
{
    int ret = child_pwritev(compress->file, range, iov, flags | REQ_COMPRESSED);
    if (ret == -ENOTSUP || ret == -EINVAL)
        ret = child_pwritev(compress->file, range, iov, flags & ~(unsigned)REQ_COMPRESSED);
    return ret;
}

/* @part of the cluster @whole. */
static int write_part(const struct compress *compress, struct range whole, struct range part, const struct iov *iov,
                      unsigned flags) CO_FN;

static int write_part(const struct compress *compress, struct range whole, struct range part, const struct iov *iov,
                      unsigned flags)
{
    char *data = buffer_get(whole.bytes);
    if (!data)
        return -ENOMEM;
    int ret = child_pread(compress->file, whole.offset, data, whole.bytes);
    if (ret == 0) {
        struct iovec storage;
        iov_copy_to(iov, data + (part.offset - whole.offset));
        struct iov all = iov_of(&storage, data, whole.bytes);
        ret = write_whole(compress, whole, &all, flags);
    }
    buffer_put(data, whole.bytes);
    return ret;
}

/* What begins @range: whole clusters, as many as follow, or the part of one. *@whole: the clusters that it lies in. */
static struct range next_piece(const struct compress *compress, struct range range, uint64_t length,
                               struct range *whole)
{
    uint64_t begin = align_down(range.offset, compress->cluster);
    uint64_t inner_end = range_end(range) == length ? length : align_down(range_end(range), compress->cluster);
    if (begin == range.offset && inner_end > begin) {
        *whole = range_between(begin, inner_end);
        return *whole;
    }
    *whole = range_between(begin, min_u64(begin + compress->cluster, max_u64(length, range_end(range))));
    return range_intersect(range, *whole);
}

static int write_pieces(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;

static int write_pieces(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    const struct compress *compress = node_state(node);
    uint64_t length = node_length(node);
    int ret = 0;
    for (uint64_t done = 0; done < range.bytes && ret == 0;) {
        struct range whole;
        struct range rest = range_make(range.offset + done, range.bytes - done);
        struct range piece = next_piece(compress, rest, length, &whole);
        struct iov part = iov_slice(iov, done, piece.bytes);
        if (piece.bytes == whole.bytes)
            ret = write_whole(compress, piece, &part, flags);
        else
            ret = write_part(compress, whole, piece, &part, flags);
        done += piece.bytes;
    }
    return ret;
}

static int compress_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct compress *compress = node_state(node);
    struct range whole = range_align_out(range, compress->cluster);
    struct tracked tracked;
    tracked_begin(&compress->tracker, &tracked, whole, whole.bytes != range.bytes);
    int ret = write_pieces(node, range, iov, flags);
    tracked_end(&compress->tracker, &tracked);
    return ret;
}

static int compress_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    struct compress *compress = node_state(node);
    struct tracked tracked;
    tracked_begin(&compress->tracker, &tracked, range, false);
    int ret = child_pwrite_zeroes(compress->file, range, flags);
    tracked_end(&compress->tracker, &tracked);
    return ret;
}

static int compress_pdiscard(struct node *node, struct range range)
{
    struct compress *compress = node_state(node);
    struct tracked tracked;
    tracked_begin(&compress->tracker, &tracked, range, false);
    int ret = child_pdiscard(compress->file, range);
    tracked_end(&compress->tracker, &tracked);
    return ret;
}

static struct error *compress_open(struct node *node, const struct blockdev_options *options,
                                   const struct open_context *context)
{
    struct compress *compress = node_state(node);
    tracker_init(&compress->tracker);
    struct error *err = child_open(node, "file", CHILD_FILTERED, options->u.compress.file, context, &compress->file);
    if (err)
        return err;
    struct node *below = child_node(compress->file);
    if (!node_can_compress(below))
        return error_new("file: driver '%s' of node '%s' does not compress", node_driver(below)->name,
                         node_name(below));
    compress->cluster = max_u64(node_cluster_bytes(below), 1);
    return NULL;
}

static void compress_child_permissions(const struct node *node, const struct child *child, unsigned perm,
                                       unsigned shared, unsigned *child_perm, unsigned *child_shared)
{
    (void)node;
    (void)child;
    bool writes = perm & (PERM_WRITE | PERM_WRITE_UNCHANGED);
    *child_perm = perm | (writes ? PERM_CONSISTENT_READ : 0);
    *child_shared = writes ? shared & ~(unsigned)PERM_WRITE : shared;
}

static struct error *compress_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                             struct reopen *reopen)
{
    (void)node;
    return reopen_child(reopen, "file", options->u.compress.file);
}

const struct driver compress_driver = {
    .name = "compress",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct compress),
    .write_flags = REQ_FUA | REQ_COMPRESSED,
    .open = compress_open,
    .reopen_prepare = compress_reopen_prepare,
    .pwritev = compress_pwritev,
    .pwrite_zeroes = compress_pwrite_zeroes,
    .pdiscard = compress_pdiscard,
    .child_permissions = compress_child_permissions,
};
