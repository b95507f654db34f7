/* link - the connection of an nbd node to its server, and what happens while there is none
 *
 * Everything about a connection lives on one I/O loop, its home: the handle of libnbd, its socket, the lists of
 * requests. A request of another loop is handed over there, and its coroutine waits.
 *
 *     request --> home: sent to the server --------------------> done
 *                   |         ^          | connection lost
 *                   v         | again    v
 *                 waiting ----'     waiting, until reconnect-delay is over or nobody wants it any more; then it fails
 *
 * A coroutine of the home connects, listens for replies, and connects again when the connection is lost, again and
 * again. Nothing here blocks: names are looked up on the pool, the rest is non-blocking. A server that hangs costs the
 * requests that it was sent, and nobody else. */
#ifndef CAIRN_DRIVERS_NBD_LINK_H
#define CAIRN_DRIVERS_NBD_LINK_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/range.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include "blockcore/base/list.h"

#include <stdbool.h>

struct extents;
struct nbd_link;
struct socket_address;
struct tls_context;

struct nbd_link_options {
    const char *node_name;
    const struct socket_address *server;
    const char *export;
    const char *context;     /* metadata context for block status */
    struct tls_context *tls; /* NULL: without */
    const char *tls_host;    /* whose certificate the server has to show; NULL: the context does not want to know */
    uint64_t reconnect_delay_ms;
    uint64_t open_timeout_ms;
};

/* What the server said when the connection was made. A server that says otherwise later is not taken back. */
struct nbd_properties {
    uint64_t bytes;
    uint32_t block_min; /* 0: not said */
    uint32_t block_preferred;
    uint32_t block_max;
    bool read_only;
    bool can_flush;
    bool can_fua;
    bool can_trim;
    bool can_zero;
    bool can_fast_zero;
    bool can_tell_status; /* knows the context */
};

enum nbd_request_type {
    NBD_LINK_READ,
    NBD_LINK_WRITE,
    NBD_LINK_ZERO,
    NBD_LINK_TRIM,
    NBD_LINK_FLUSH,
    NBD_LINK_STATUS,
};

struct nbd_request {
    enum nbd_request_type type;
    struct range range;
    void *data;              /* of a read or write: range.bytes of them */
    unsigned flags;          /* LIBNBD_CMD_FLAG_* */
    struct extents *extents; /* of a question for status: clipped to the range, flags as on the wire in extent.flags */

    /* Of the link: */
    struct nbd_link *link;
    struct list in_link;
    struct loop_task task;
    struct co_event done;
    uint64_t owner;   /* co_owner() of who sent it */
    uint64_t lost_ns; /* when it first had to wait for another connection; 0: it did not */
    int ret;
};

/* Connects, for as long as open_timeout says. The options are copied. */
struct error *nbd_link_open(const struct nbd_link_options *options, struct nbd_link **out,
                            struct nbd_properties *properties) CO_FN CONTROL_FN MUST_CHECK;

/* No request is running. Returns soon, whatever the server does. */
void nbd_link_close(struct nbd_link *link) CO_FN CONTROL_FN;

/* 0, -EIO while there is no connection, or what the server said. Any loop. */
int nbd_link_run(struct nbd_link *link, struct nbd_request *request) CO_FN;

/* Nobody wants the requests of @owner any more, or that is over. Those that wait for a server fail at once; those that
 * a server was sent get a moment, and when nothing is answered and nobody else waits, the connection is cut. */
void nbd_link_abandon(struct nbd_link *link, uint64_t owner, bool abandoned) CONTROL_FN;

/* The name of the export, if the server seems to be this process: certain for a Unix socket, while on TCP it is another
 * one of this machine perhaps. NULL: it is not, or nobody knows yet. */
const char *nbd_link_comes_back_by(const struct nbd_link *link) CONTROL_FN;

/* The process is about to end: nobody waits for a server to come back any more, and nothing more is opened. */
void nbd_links_give_up(void) CONTROL_FN;

#endif
