/* What the two files of character devices share. */
#ifndef CAIRN_DAEMON_CHARDEV_PRIVATE_H
#define CAIRN_DAEMON_CHARDEV_PRIVATE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct socket_address;

/* Who may connect to a Unix socket that listens. All NULL: the user of the daemon. */
struct chardev_access {
    const char *mode;  /* in octal digits; NULL: 0600 */
    const char *owner; /* by name or number; NULL: as it is */
    const char *group;
};

/* What is done with the address. */
struct chardev_manner {
    bool server;
    bool wait;             /* of a server */
    uint64_t reconnect_ms; /* of a client; 0: once */
    struct chardev_access access;
    const char *tls_creds; /* id; NULL: no TLS */
    const char *tls_authz; /* id; NULL: nobody is asked */
};

struct error *chardev_make(const char *id, const struct socket_address *address, const struct chardev_manner *manner)
    CO_FN CONTROL_FN MUST_CHECK;

/* Standard input and output, which one device at a time may use. */
struct error *chardev_make_stdio(const char *id) CONTROL_FN MUST_CHECK;

#endif
