/* tunnel - TLS between libnbd and a server
 *
 *     libnbd <--socketpair, plain--> tunnel <--socket, TLS--> server
 *
 * libnbd knows TLS too, but reads the files with the keys on the loop, once for each connection, looks for the name of
 * the host only where it looked that up itself, and cannot be told priorities or the password of a key. So the start of
 * the conversation, up to the handshake of TLS, is done here. Then libnbd is greeted as if it came first, and both
 * directions are carried through.
 *
 * All of it on the loop of the link. The price is one copy and one system call more for each piece. */
#ifndef CAIRN_DRIVERS_NBD_TUNNEL_H
#define CAIRN_DRIVERS_NBD_TUNNEL_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <sys/socket.h>

struct nbd_tunnel;
struct tls_context;

struct nbd_tunnel_options {
    const struct sockaddr *address; /* NULL: the socket is connected already */
    socklen_t address_bytes;
    struct tls_context *context; /* of a client */
    const char *host;            /* NULL: the context does not want it */
    uint64_t timeout_ms;         /* for all of tunnel_open() */
};

/* Takes over the socket @fd, which becomes non-blocking. */
struct nbd_tunnel *tunnel_create(int fd) LOOP_FN;

/* Connects, shakes hands, and begins to carry. @inner: the end for libnbd; the caller closes it. After an error the
 * tunnel is good for nothing but tunnel_close(). */
struct error *tunnel_open(struct nbd_tunnel *tunnel, const struct nbd_tunnel_options *options, int *inner)
    CO_FN LOOP_FN MUST_CHECK;

/* Wakes up tunnel_open(), which fails. */
void tunnel_cut(struct nbd_tunnel *tunnel) LOOP_FN;

/* What libnbd has sent by now goes to the server if its socket takes it at once. The other end of @inner is closed. */
void tunnel_close(struct nbd_tunnel *tunnel) CO_FN LOOP_FN;

/* The socket to the server; stays the tunnel's. */
int tunnel_socket(const struct nbd_tunnel *tunnel);

/* Why the connection ended, as far as TLS has to do with it, in a few words; NULL: it did not, or has not. */
const char *tunnel_failure(const struct nbd_tunnel *tunnel) LOOP_FN;

#endif
