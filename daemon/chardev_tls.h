/* chardev_tls - TLS between a character device and its clients
 *
 *     client <==TLS==> [visitor] <--pair of sockets, plain--> frontend
 *
 * A frontend knows sockets only. So each client has a visitor in between, which shakes hands, asks whether the client
 * may come in (tls-authz), and then carries bytes both ways; who does not take what is sent holds up the other side.
 * The steps of a handshake are computed on the pool; one that takes too long is cut off. When very many shake hands at
 * once, the one that began first has to go: who says nothing shall not keep others out.
 *
 * The end of what a client sends is passed on as such, and it still gets its answers; a connection that just breaks
 * ends the frontend's too. */
#ifndef CAIRN_DAEMON_CHARDEV_TLS_H
#define CAIRN_DAEMON_CHARDEV_TLS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>

struct chardev_client;
struct chardev_tls;
struct rpc_peer;

#define CHARDEV_HANDSHAKE_MS 10000
#define CHARDEV_HANDSHAKES_MAX 64 /* at once, of a device */
/* Those included that are being cut off: beyond, connections are closed at once. */
#define CHARDEV_HANDSHAKES_LEFT 256

struct chardev_tls_options {
    const char *creds; /* id of the credentials */
    const char *authz; /* id of who is asked; NULL: nobody */
    bool server;
    const char *host; /* of the server, for a client to look for in its certificate; NULL: none */
    const char *name; /* of the device, for messages */
};

/* Errors: there is no such object, or it is for the other side; clients would prove no name that could be asked about.
 */
struct error *chardev_tls_create(const struct chardev_tls_options *options,
                                 struct chardev_tls **out) CONTROL_FN MUST_CHECK;

/* Cuts off who shakes hands; what others were sent is brought to them, if that takes no more than a moment. NULL is
 * allowed. */
void chardev_tls_destroy(struct chardev_tls *tls) CO_FN CONTROL_FN;

/* Takes over @fd, somebody who connected. After the handshake, @secured(@arg) gets the client, whose peer and socket
 * last until it returns. Otherwise the log tells why not. */
void chardev_tls_accept(struct chardev_tls *tls, int fd,
                        void (*secured)(const struct chardev_client *client, void *arg), void *arg) CONTROL_FN;

/* Takes over @fd, a connection that we made. *inner: the end for the frontend. *peer: who is at the other end, to be
 * freed by the caller. */
struct error *chardev_tls_connect(struct chardev_tls *tls, int fd, int *inner, struct rpc_peer *peer)
    CO_FN CONTROL_FN MUST_CHECK;

/* Who shakes hands is cut off. */
void chardev_tls_cut_handshakes(struct chardev_tls *tls) CONTROL_FN;

/* Nobody is let in any more, and the objects may go. May be called again. */
void chardev_tls_leave(struct chardev_tls *tls) CONTROL_FN;

#endif
