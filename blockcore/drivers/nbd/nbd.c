/* nbd - a node whose bytes a server has
 *
 * Requests are cut to what the server takes (io/ does that) and put on the link (link.h). What the server cannot do is
 * done here or above: FUA by a flush, zeroes by data. */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/drivers/nbd/libnbd.h"
#include "blockcore/drivers/nbd/link.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/net/address.h"
#include "blockcore/net/tls_context.h"
#include "blockcore/objects/object.h"
#include "blockcore/objects/tls_creds.h"
#include "blockcore/runtime/buffer.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define SECTOR 512
#define NAME_MAX_BYTES 4096                /* of an export or a context, by the protocol */
#define TRANSFER_MAX (32u * 1024 * 1024)   /* that each server has to take */
#define LENGTH_MAX (UINT32_MAX & ~0xffffu) /* what a request without data can name */
#define BASE_ALLOCATION "base:allocation"
#define STATE_HOLE 1 /* NBD protocol, base:allocation */
#define STATE_ZERO 2

struct nbd {
    struct nbd_link *link;
    struct nbd_properties server;
    bool foreign_context;         /* not base:allocation */
    struct object_user creds_use; /* name NULL: without TLS */
    _Atomic bool dirty;           /* written since the last flush that succeeded */
};

/* Requests ------------------------------------------------------------------------------------------------------ */

/* The last unit may be short, while a read may ask for all of it. */
static int client_read(struct nbd *nbd, struct range range, char *data) CO_FN;

static int client_read(struct nbd *nbd, struct range range, char *data)
{
    struct range inside = range_intersect(range, range_make(0, nbd->server.bytes));
    memset(data + inside.bytes, 0, range.bytes - inside.bytes);
    if (inside.bytes == 0)
        return 0;
    struct nbd_request request = { .type = NBD_LINK_READ, .range = inside, .data = data };
    return nbd_link_run(nbd->link, &request);
}

static int client_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct nbd *nbd = node_state(node);
    char *data = iov_contiguous(iov);
    (void)flags;
    if (data)
        return client_read(nbd, range, data);
    char *buffer = buffer_get(range.bytes);
    int ret = buffer ? client_read(nbd, range, buffer) : -ENOMEM;
    if (ret == 0)
        iov_copy_from(iov, buffer);
    buffer_put(buffer, range.bytes);
    return ret;
}

static int client_flush(struct node *node)
{
    struct nbd *nbd = node_state(node);
    /* Before, so that a write that ends meanwhile counts as not flushed. A server that was sent nothing is not asked:
     * it may be gone, and the node is to be closed. */
    if (!atomic_exchange(&nbd->dirty, false) || !nbd->server.can_flush)
        return 0;
    struct nbd_request request = { .type = NBD_LINK_FLUSH };
    int ret = nbd_link_run(nbd->link, &request);
    if (ret < 0)
        atomic_store(&nbd->dirty, true);
    return ret;
}

/* Runs what changes something, with FUA if that is asked for. */
static int client_change(struct node *node, struct nbd_request *request, unsigned flags) CO_FN;

static int client_change(struct node *node, struct nbd_request *request, unsigned flags)
{
    struct nbd *nbd = node_state(node);
    bool fua = flags & REQ_FUA;
    if (range_end(request->range) > nbd->server.bytes)
        return -ENOSPC; /* a format that wants its file to grow: what a server says to that differs */
    if (fua && nbd->server.can_fua)
        request->flags |= LIBNBD_CMD_FLAG_FUA;
    int ret = nbd_link_run(nbd->link, request);
    /* Also when it fails: the server may have done it. */
    if (ret < 0 || !(fua && nbd->server.can_fua))
        atomic_store_explicit(&nbd->dirty, true, memory_order_release);
    return ret == 0 && fua && !nbd->server.can_fua ? client_flush(node) : ret;
}

static int client_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct nbd_request request = { .type = NBD_LINK_WRITE, .range = range, .data = iov_contiguous(iov) };
    if (request.data)
        return client_change(node, &request, flags);
    request.data = buffer_get(range.bytes);
    if (!request.data)
        return -ENOMEM;
    iov_copy_to(iov, request.data);
    int ret = client_change(node, &request, flags);
    buffer_put(request.data, range.bytes);
    return ret;
}

static int client_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    const struct nbd *nbd = node_state(node);
    struct nbd_request request = { .type = NBD_LINK_ZERO, .range = range };
    if (!nbd->server.can_zero || (flags & REQ_NO_FALLBACK && !nbd->server.can_fast_zero))
        return -ENOTSUP;
    if (flags & REQ_NO_FALLBACK)
        request.flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
    if (!(flags & REQ_MAY_UNMAP))
        request.flags |= LIBNBD_CMD_FLAG_NO_HOLE;
    int ret = client_change(node, &request, flags);
    return ret == -EOPNOTSUPP ? -ENOTSUP : ret;
}

static int client_pdiscard(struct node *node, struct range range)
{
    const struct nbd *nbd = node_state(node);
    struct nbd_request request = { .type = NBD_LINK_TRIM, .range = range };
    return nbd->server.can_trim ? client_change(node, &request, 0) : 0;
}

/* Block status -------------------------------------------------------------------------------------------------- */

static uint32_t flags_of(const struct nbd *nbd, uint32_t state)
{
    uint32_t flags = EXTENT_ALLOCATED | EXTENT_MAPPED;
    if (!(state & STATE_HOLE))
        flags |= EXTENT_DATA;
    if (state & STATE_ZERO && !nbd->foreign_context)
        flags |= EXTENT_ZERO;
    return flags;
}

static void append_state(const struct nbd *nbd, struct range range, uint32_t state, struct extents *extents)
{
    struct extent extent = {
        .offset = range.offset,
        .bytes = range.bytes,
        .file_offset = range.offset,
        .flags = flags_of(nbd, state),
    };
    extents_append(extents, &extent);
}

/* A server that cannot tell, or fails to, has data for all we know. */
static int client_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    struct nbd *nbd = node_state(node);
    struct extents told;
    struct range inside = range_intersect(range, range_make(0, min_u64(nbd->server.bytes, range.offset + LENGTH_MAX)));
    struct nbd_request request = { .type = NBD_LINK_STATUS, .range = inside, .extents = &told };
    bool useful = ask & (ASK_ZERO | ASK_MAP) && nbd->server.can_tell_status && inside.bytes > 0;
    extents_init(&told, extents->max);
    int ret = useful ? nbd_link_run(nbd->link, &request) : -ENOTSUP;
    for (size_t i = 0; i < told.count && ret == 0; i++)
        append_state(nbd, range_make(told.items[i].offset, told.items[i].bytes), told.items[i].flags, extents);
    if (ret < 0 || told.count == 0)
        append_state(nbd, range, 0, extents);
    extents_fini(&told);
    return 0;
}

/* What it takes there is not known here. */
static int64_t client_allocated_bytes(struct node *node)
{
    (void)node;
    return -ENOTSUP;
}

/* Opening ------------------------------------------------------------------------------------------------------- */

static struct error *check_options(const struct blockdev_options_nbd *own)
{
    if (own->tls_hostname && !own->tls_creds)
        return error_new("tls-hostname: needs tls-creds");
    if (own->server->type == SOCKET_ADDRESS_TYPE_INET && own->server->u.inet.mptcp)
        return error_new("server.mptcp: connections over several paths are made by servers only");
    if (own->export_ && strlen(own->export_) > NAME_MAX_BYTES)
        return error_new("export: a name of %zu bytes is longer than %d", strlen(own->export_), NAME_MAX_BYTES);
    if (own->x_dirty_bitmap && strlen(own->x_dirty_bitmap) > NAME_MAX_BYTES)
        return error_new("x-dirty-bitmap: a name of %zu bytes is longer than %d", strlen(own->x_dirty_bitmap),
                         NAME_MAX_BYTES);
    return NULL;
}

/* As the protocol advises where a server has said nothing. */
static struct error *set_limits(struct node *node, const struct nbd_properties *server)
{
    struct node_limits *limits = node_limits_mutable(node);
    uint32_t min = server->block_min;
    uint32_t max = server->block_max ? server->block_max : TRANSFER_MAX;
    if (!min)
        min = server->bytes % SECTOR ? 1 : SECTOR;
    if (!is_power_of_two(min) || min > max)
        return error_new("the server takes blocks from %u to %u bytes, which makes no sense", min, max);
    limits->request_alignment = min;
    limits->max_transfer = align_down(min_u64(max, TRANSFER_MAX), min);
    limits->max_write_zeroes = align_down(min_u64(max, LENGTH_MAX), min);
    limits->max_discard = align_down(LENGTH_MAX, min);
    limits->optimal_transfer = server->block_preferred;
    return NULL;
}

static void describe(struct node *node, const struct blockdev_options_nbd *own)
{
    const struct socket_address *server = own->server;
    const char *name_of_export = own->export_ ? own->export_ : "";
    CLEANUP(free) char *name = NULL;
    if (server->type == SOCKET_ADDRESS_TYPE_UNIX) {
        name = xasprintf("nbd+unix:///%s?socket=%s", name_of_export, server->u.unix_.path);
    } else {
        CLEANUP(free) char *text = address_describe(server);
        name = xasprintf("nbd://%s%s%s", text, *name_of_export ? "/" : "", name_of_export);
    }
    node_set_filename(node, name);
}

static struct error *check_writable(struct node *node, const struct nbd *nbd, const struct open_context *context)
{
    if (!nbd->server.read_only || open_read_only(context))
        return NULL;
    if (!open_auto_read_only(context))
        return error_errno(EACCES, "the server exports it read-only");
    node_set_read_only(node, true);
    return NULL;
}

/* @tls becomes a reference, or NULL where TLS is not wanted. */
static struct error *use_creds(struct node *node, const struct blockdev_options_nbd *own, struct tls_context **tls)
{
    struct nbd *nbd = node_state(node);
    struct object *creds;
    if (!own->tls_creds)
        return NULL;
    struct error *err = tls_creds_find(own->tls_creds, Q_CRYPTO_TLS_CREDS_ENDPOINT_CLIENT, &creds, tls);
    if (err)
        return error_wrap(err, "tls-creds");
    nbd->creds_use.name = xasprintf("node '%s'", node_name(node));
    object_use(creds, &nbd->creds_use);
    return NULL;
}

static void leave_creds(struct nbd *nbd)
{
    if (!nbd->creds_use.name)
        return;
    object_leave(&nbd->creds_use);
    free((char *)(uintptr_t)steal(&nbd->creds_use.name));
}

/* Whose certificate the server has to show; NULL: none is looked at. */
static struct error *find_host(const struct blockdev_options_nbd *own, const struct tls_context *tls, const char **out)
{
    *out = NULL;
    if (!tls || !tls_context_wants_host(tls))
        return NULL;
    *out = own->tls_hostname;
    if (!*out && own->server->type == SOCKET_ADDRESS_TYPE_INET)
        *out = own->server->u.inet.host;
    return *out && **out ? NULL
                         : error_new("tls-hostname: is missing: where the server is says nothing about whose "
                                     "certificate it has to show");
}

static struct error *connect_link(struct node *node, const struct blockdev_options_nbd *own) CO_FN;

static struct error *connect_link(struct node *node, const struct blockdev_options_nbd *own)
{
    struct nbd *nbd = node_state(node);
    CLEANUP(tls_context_unref) struct tls_context *tls = NULL;
    const char *host;
    struct error *err = use_creds(node, own, &tls);
    if (!err)
        err = find_host(own, tls, &host);
    if (err)
        return err;
    const struct nbd_link_options options = {
        .node_name = node_name(node),
        .server = own->server,
        .export = own->export_ ? own->export_ : "",
        .context = own->x_dirty_bitmap ? own->x_dirty_bitmap : BASE_ALLOCATION,
        .tls = tls,
        .tls_host = host,
        .reconnect_delay_ms = (uint64_t)own->reconnect_delay * 1000,
        .open_timeout_ms = (uint64_t)own->open_timeout * 1000,
    };
    return nbd_link_open(&options, &nbd->link, &nbd->server);
}

static struct error *client_open(struct node *node, const struct blockdev_options *options,
                                 const struct open_context *context)
{
    const struct blockdev_options_nbd *own = &options->u.nbd;
    struct nbd *nbd = node_state(node);
    struct error *err = check_options(own);
    if (!err)
        err = libnbd_load();
    if (err)
        return err;
    nbd->foreign_context = own->x_dirty_bitmap != NULL;
    err = connect_link(node, own);
    if (err) {
        leave_creds(nbd);
        return err;
    }
    err = check_writable(node, nbd, context);
    if (!err && nbd->foreign_context && !nbd->server.can_tell_status)
        err = error_new("x-dirty-bitmap: the server does not know '%s'", own->x_dirty_bitmap);
    if (!err)
        err = set_limits(node, &nbd->server);
    if (err) {
        nbd_link_close(nbd->link);
        leave_creds(nbd);
        return err;
    }
    node_set_length(node, nbd->server.bytes);
    describe(node, own);
    return NULL;
}

/* Whether it is written is all that changes. */
static struct error *client_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                           struct reopen *reopen)
{
    const struct nbd *nbd = node_state(node);
    (void)reopen;
    if (nbd->server.read_only && !(options->has_read_only && options->read_only))
        return error_errno(EACCES, "the server exports it read-only");
    return NULL;
}

static void client_abandon(struct node *node, uint64_t owner, bool abandoned)
{
    const struct nbd *nbd = node_state(node);
    nbd_link_abandon(nbd->link, owner, abandoned);
}

static const char *client_comes_back_by(struct node *node)
{
    const struct nbd *nbd = node_state(node);
    return nbd->link ? nbd_link_comes_back_by(nbd->link) : NULL;
}

static void client_close(struct node *node)
{
    struct nbd *nbd = node_state(node);
    nbd_link_close(nbd->link);
    leave_creds(nbd);
}

const struct driver nbd_driver = {
    .name = "nbd",
    .kind = DRIVER_PROTOCOL,
    .state_size = sizeof(struct nbd),
    .write_flags = REQ_FUA,
    .open = client_open,
    .reopen_prepare = client_reopen_prepare,
    .close = client_close,
    .abandon = client_abandon,
    .comes_back_by = client_comes_back_by,
    .preadv = client_preadv,
    .pwritev = client_pwritev,
    .pwrite_zeroes = client_pwrite_zeroes,
    .pdiscard = client_pdiscard,
    .flush = client_flush,
    .block_status = client_block_status,
    .allocated_bytes = client_allocated_bytes,
};
