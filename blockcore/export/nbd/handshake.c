#include "blockcore/base/trace.h"
#include "blockcore/export/nbd/connection_private.h"
#include "blockcore/export/nbd/haggle.h"
#include "blockcore/export/nbd/secure.h"
#include "blockcore/export/nbd/shelf.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/range.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>

#define OPTIONS_MAX 10000 /* of one handshake: far more than any client needs */
#define SKIP_BYTES 16384  /* at a time */

/* The catalogue is asked on the control thread, where exports come and go. */
struct find_call {
    struct nbd_connection *conn;
    struct nbd_string name;
    bool attach;
    struct nbd_offer *offer;
};

/* A connection is attached once: choosing an export ends the handshake. */
static int find_on_control(void *arg)
{
    struct find_call *call = arg;
    struct nbd_connection *conn = call->conn;
    if (conn->dismiss_posted)
        return -ESHUTDOWN;
    struct nbd_export *export = nbd_shelf_find(conn->options.shelf, call->name);
    if (!export)
        return -ENOENT;
    *call->offer = nbd_export_offer(export, conn->options.single);
    if (call->attach) {
        conn->export = export;
        conn->access = nbd_export_attach(export, &conn->in_export);
        conn->bytes = call->offer->bytes;
    }
    return 0;
}

static int find(void *arg, struct nbd_string name, bool attach, struct nbd_offer *offer)
{
    struct find_call call = { .conn = arg, .name = name, .attach = attach, .offer = offer };
    return co_call_on(loop_control(), "NBD export look-up", find_on_control, &call);
}

struct list_call {
    struct nbd_connection *conn;
    uint64_t *cursor;
    struct nbd_offer *offers;
};

static int list_on_control(void *arg)
{
    struct list_call *call = arg;
    const struct nbd_connection_options *options = &call->conn->options;
    struct nbd_export *exports[NBD_LIST_BATCH];
    unsigned count = nbd_shelf_list(options->shelf, call->cursor, exports, NBD_LIST_BATCH);
    for (unsigned i = 0; i < count; i++)
        call->offers[i] = nbd_export_offer(exports[i], options->single);
    return (int)count;
}

static unsigned list(void *arg, uint64_t *cursor, struct nbd_offer offers[NBD_LIST_BATCH])
{
    struct list_call call = { .conn = arg, .cursor = cursor, .offers = offers };
    return (unsigned)co_call_on(loop_control(), "NBD export list", list_on_control, &call);
}

static int send(void *arg, const void *data, size_t bytes)
{
    struct nbd_connection *conn = arg;
    return stream_write_all(conn->stream, data, bytes);
}

/* Nothing behind the option has been read (one_option), so all that comes from now on is TLS, or it is refused as TLS
 * that is malformed. */
static bool start_tls(void *arg)
{
    return nbd_secure(arg);
}

static const struct nbd_catalogue catalogue = { .find = find, .list = list, .send = send, .start_tls = start_tls };

static int skip(struct nbd_connection *conn, uint64_t bytes)
{
    void *scratch = buffer_get(SKIP_BYTES);
    int ret = scratch ? 0 : -ENOMEM;
    while (ret == 0 && bytes > 0) {
        size_t n = (size_t)min_u64(bytes, SKIP_BYTES);
        ret = stream_read_all(conn->stream, scratch, n);
        bytes -= n;
        co_yield ();
    }
    buffer_put(scratch, SKIP_BYTES);
    return ret;
}

/* Exactly one option is read, no byte more: what follows may belong to another layer (TLS). Others on the loop, among
 * them the timer of this handshake, have their turn before it, also if the client keeps the socket full. */
static enum nbd_haggle_result one_option(struct nbd_connection *conn, struct nbd_haggle *haggle)
{
    uint8_t bytes[NBD_OPTION_BYTES];
    struct nbd_option_header header;
    co_yield ();
    if (stream_read_all(conn->stream, bytes, sizeof(bytes)) < 0)
        return NBD_HAGGLE_END;
    if (!nbd_parse_option(bytes, &header)) {
        nbd_connection_complain(conn, "it sent what is no option");
        return NBD_HAGGLE_END;
    }
    TRACE(nbd_option, conn->peer, header.option, header.bytes, conn->fd);
    if (header.bytes > NBD_OPTION_DATA_MAX) {
        if (skip(conn, header.bytes) < 0)
            return NBD_HAGGLE_END;
        return nbd_haggle_oversized(haggle, header.option);
    }
    uint8_t *data = buffer_get(header.bytes);
    enum nbd_haggle_result result = NBD_HAGGLE_END;
    if (data && stream_read_all(conn->stream, data, header.bytes) == 0)
        result = nbd_haggle_option(haggle, header.option, data, header.bytes);
    buffer_put(data, header.bytes);
    return result;
}

static struct nbd_haggle *greet(struct nbd_connection *conn)
{
    uint8_t greeting[NBD_GREETING_BYTES];
    uint8_t flags[NBD_CLIENT_FLAGS_BYTES];
    nbd_put_greeting(greeting, NBD_HANDSHAKE_FLAGS);
    if (stream_write_all(conn->stream, greeting, sizeof(greeting)) < 0)
        return NULL;
    if (stream_read_all(conn->stream, flags, sizeof(flags)) < 0)
        return NULL;
    return nbd_haggle_create(&catalogue, conn, load_be32(flags), conn->options.security->tls);
}

bool nbd_handshake(struct nbd_connection *conn)
{
    struct nbd_haggle *haggle = greet(conn);
    if (!haggle)
        return false;
    enum nbd_haggle_result result = NBD_HAGGLE_ON;
    for (unsigned i = 0; i < OPTIONS_MAX && result == NBD_HAGGLE_ON; i++)
        result = one_option(conn, haggle);
    if (result == NBD_HAGGLE_ON)
        nbd_connection_complain(conn, "it does not come to an end with its options");
    conn->agreed = nbd_haggle_agreed(haggle);
    TRACE(nbd_handshake_end, conn->peer,
          TRACE_CONSTANT(result == NBD_HAGGLE_TRANSMISSION ? "agreed" : "no export chosen"), conn->fd);
    nbd_haggle_destroy(haggle);
    return result == NBD_HAGGLE_TRANSMISSION;
}
