/* compress - a filter through which all data that is written gets compressed
 *
 * Requests are made whole clusters of the format below, as compressed writes must be. */
#include "blockcore/base/range.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/filters/cluster.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/request.h"
#include "schema/cairn_types.h"

#include <errno.h>

/* The node below may be exchanged for one that cannot, or whose clusters are larger: then data is stored as it is. */
static int compress_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct child *file = node_filtered(node);
    int ret = child_pwritev(file, range, iov, flags | REQ_COMPRESSED);
    if (ret == -ENOTSUP || ret == -EINVAL)
        ret = child_pwritev(file, range, iov, flags);
    return ret;
}

static struct error *compress_open(struct node *node, const struct blockdev_options *options,
                                   const struct open_context *context)
{
    struct child *file;
    struct error *err = child_open(node, "file", CHILD_FILTERED, options->u.compress.file, context, &file);
    if (err)
        return err;
    if (!node_can_compress(child_node(file)))
        return error_new("file: driver '%s' of node '%s' does not compress", node_driver(child_node(file))->name,
                         node_name(child_node(file)));
    uint64_t cluster = node_cluster_bytes(child_node(file));
    if (cluster > UINT32_MAX)
        return error_new("file: clusters of %llu bytes are too large", (unsigned long long)cluster);
    node_limits_mutable(node)->request_alignment = (uint32_t)max_u64(cluster, 1);
    return NULL;
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
    .write_flags = REQ_FUA | REQ_COMPRESSED,
    .open = compress_open,
    .reopen_prepare = compress_reopen_prepare,
    .pwritev = compress_pwritev,
};
