/* connection - one client of an NBD server
 *
 * A connection lives on one I/O loop, from its first byte to its last; nothing in it is locked. Its main coroutine goes
 * through the states and, while there are requests, is the one that reads; each request is a coroutine of its own;
 * replies are sent by whoever has some when nobody sends. While the client says nothing there is no main coroutine: an
 * idle connection has no stack.
 *
 *     HANDSHAKE --chose an export--> TRANSMISSION --DISC, end of input, dismissed--> FINISHING --all answered--> closed
 *         '----------- cut ---------------+--------------------- cut -------------------'
 *                                         v
 *                                        CUT --requests in the graph have ended--> closed
 *
 * Dismissed means: the export was removed, or the server was stopped. Nothing more is waited for. Requests inside the
 * graph end and are answered, and so is an option; if that takes more than half a second, or the client does not take
 * its replies, it is cut. Over TCP the last replies would be lost if what the client still sends was not read, so that
 * is dropped until it stops.
 *
 * Cut means: the handshake took too long or ended without an export, the client broke the protocol, the socket failed.
 * It can happen in any state and between any two bytes; the socket is shut down at once and replies are dropped.
 * Requests inside the graph cannot be called back, so their memory and the export stay until they have ended: what a
 * write has done is done. There is one way out, at the end of the main coroutine.
 *
 * Memory is bounded: requests in flight (those whose replies are not sent yet included) by NBD_REQUESTS_MAX, their
 * bytes by budget.h. A client that does not read its replies is not read from either. */
#ifndef CAIRN_EXPORT_NBD_CONNECTION_H
#define CAIRN_EXPORT_NBD_CONNECTION_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct export_client_statistics;
struct list;
struct nbd_client_info;
struct nbd_connection;
struct nbd_security;
struct nbd_shelf;

#define NBD_REQUESTS_MAX 256 /* in flight, of one connection */

/* While others wait for memory, a client that holds some has this long to go on with the request it is sending, or to
 * take replies; so does one that said good-bye, to take its last ones. Then it is cut. */
#define NBD_STALL_MS 10000

/* What a connection asks of its server. */
struct nbd_connection_options {
    const struct nbd_shelf *shelf;       /* what the client may choose from; lives until closed() is called */
    const struct nbd_security *security; /* lives as long */
    uint64_t handshake_ms;               /* 0: any time */
    uint64_t stall_ms;                   /* NBD_STALL_MS, or less in tests */
    uint64_t whole_bytes;                /* data of a request that are in memory at once: NBD_PAYLOAD_MAX, or less in
                                          * tests, a power of two; more are moved in pieces */
    bool single;                         /* the server lets in one connection at a time */
    /* On the control thread, when the client has gone but requests of it have been in the graph for stall_ms since, as
     * those to dead storage may be for ever. Called once at most; closed() comes when they have ended. */
    void (*lingers)(void *arg);
    /* On the control thread, when the connection is closed and everything in it has ended. @lingered: lingers() was
     * called. */
    void (*closed)(bool lingered, void *arg);
    void *arg;
};

/* Takes over @fd, which is non-blocking, and starts on the next I/O loop. @link is appended to @connections, and taken
 * out before closed() is called. */
void nbd_connection_start(int fd, const struct nbd_connection_options *options, struct list *connections) CONTROL_FN;

/* Who is connected, of a server's list; from @arena. */
void nbd_connections_describe(const struct list *connections, struct arena *arena,
                              const struct nbd_client_info **clients, size_t *count) CONTROL_FN;

/* What the connections of an export's list have done; from @arena. */
void nbd_export_connections_describe(const struct list *connections, struct arena *arena,
                                     const struct export_client_statistics **clients, size_t *count) CONTROL_FN;

/* Dismisses all connections of a list: a server's, or an export's. Does not wait for them. */
void nbd_connections_dismiss(struct list *connections) CONTROL_FN;
void nbd_export_connections_dismiss(struct list *connections) CONTROL_FN;

#endif
