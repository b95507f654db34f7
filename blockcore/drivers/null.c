/* null-co, null-aio - devices that store nothing: for measuring everything else. In QEMU they differ in the way of
 * waiting. */
#include "blockcore/drivers/drivers.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"
#include "blockcore/runtime/coroutine.h"
#include "schema/cairn_types.h"

#define LENGTH_DEFAULT (UINT64_C(1) << 30)

struct null {
    uint64_t latency_ns;
    bool read_zeroes;
};

static struct error *null_open(struct node *node, const struct blockdev_options *options,
                               const struct open_context *context)
{
    const struct blockdev_options_null *own =
        options->driver == BLOCKDEV_DRIVER_NULL_AIO ? &options->u.null_aio : &options->u.null_co;
    struct null *null = node_state(node);

    (void)context;
    null->latency_ns = own->has_latency_ns ? own->latency_ns : 0;
    null->read_zeroes = own->has_read_zeroes && own->read_zeroes;
    node_set_length(node, own->has_size ? (uint64_t)own->size : LENGTH_DEFAULT);
    node_set_filename(node, options->driver == BLOCKDEV_DRIVER_NULL_AIO ? "null-aio://" : "null-co://");
    return NULL;
}

static int null_wait(const struct null *null)
{
    if (unlikely(null->latency_ns))
        co_sleep_ns(null->latency_ns);
    return 0;
}

static int null_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    const struct null *null = node_state(node);

    (void)range;
    (void)flags;
    /* Also where nothing was promised: the memory of a request held another one's data before, which is nobody else's
     * business. */
    iov_fill(iov, 0);
    return null_wait(null);
}

static int null_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)iov;
    (void)flags;
    node_grow_length(node, range_end(range));
    return null_wait(node_state(node));
}

static int null_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    (void)flags;
    node_grow_length(node, range_end(range));
    return null_wait(node_state(node));
}

static int null_pdiscard(struct node *node, struct range range)
{
    (void)range;
    return null_wait(node_state(node));
}

static int null_flush(struct node *node)
{
    return null_wait(node_state(node));
}

/* What is read is zero, but is said to be only where that was asked for: copying loops are measured with a device that
 * seems to have data. */
static int null_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    const struct null *null = node_state(node);
    struct extent extent = {
        .offset = range.offset,
        .bytes = range.bytes,
        .file_offset = range.offset,
        .flags = EXTENT_ALLOCATED | EXTENT_MAPPED | (null->read_zeroes ? EXTENT_ZERO : EXTENT_DATA),
    };

    (void)ask;
    extents_append(extents, &extent);
    return 0;
}

/* Nothing of its own can change. */
static struct error *null_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                         struct reopen *reopen)
{
    (void)node;
    (void)options;
    (void)reopen;
    return NULL;
}

#define NULL_DRIVER(name_on_wire)                                                                                      \
    {                                                                                                                  \
        .name = name_on_wire, .kind = DRIVER_PROTOCOL, .state_size = sizeof(struct null), .write_flags = REQ_FUA,      \
        .open = null_open, .reopen_prepare = null_reopen_prepare, .preadv = null_preadv, .pwritev = null_pwritev,      \
        .pwrite_zeroes = null_pwrite_zeroes, .pdiscard = null_pdiscard, .flush = null_flush,                           \
        .block_status = null_block_status,                                                                             \
    }

const struct driver null_aio_driver = NULL_DRIVER("null-aio");
const struct driver null_co_driver = NULL_DRIVER("null-co");
