/* secure - TLS for a server and its connections, and who may come in
 *
 *     client --STARTTLS--> handshake --name--> tls-authz: let in? --yes--> haggling begins anew
 *                              '--------------------------'------no--> log: address, name, reason; the connection ends
 *
 * The server is a user of the objects that it names, so they stay until it stops. */
#ifndef CAIRN_EXPORT_NBD_SECURE_H
#define CAIRN_EXPORT_NBD_SECURE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/objects/object.h"

#include <stdbool.h>

struct nbd_connection;
struct nbd_server_options;
struct tls_context;

/* Of a server. All zero: no TLS. */
struct nbd_security {
    struct tls_context *tls; /* NULL: what clients send and get is not encrypted */
    bool asks;               /* somebody, whether a client is let in */
    /* Of the control thread. NULL: not given, or the server has left it. */
    struct object *creds;
    struct object *authz;
    struct object_user creds_user;
    struct object_user authz_user;
    char *name; /* of the users, for messages */
};

/* Finds what the options name. Errors: there is no such object; clients would prove no name that could be asked about.
 */
struct error *nbd_security_init(struct nbd_security *security, const char *server_id,
                                const struct nbd_server_options *options) CONTROL_FN MUST_CHECK;
/* The server stops, and all its connections are cut: the objects may go. May be called again. */
void nbd_security_leave(struct nbd_security *security) CONTROL_FN;
/* No connection is left. */
void nbd_security_fini(struct nbd_security *security) CONTROL_FN;

/* The handshake of TLS, and the question who it is. False: the client has to go; the log says why. */
bool nbd_secure(struct nbd_connection *conn) CO_FN LOOP_FN;

#endif
