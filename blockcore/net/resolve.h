/* resolve - from an address as it is written to those that the kernel knows, for whoever wants to connect */
#ifndef CAIRN_NET_RESOLVE_H
#define CAIRN_NET_RESOLVE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <sys/socket.h>

struct socket_address;

#define RESOLVED_MAX 16 /* further addresses of a name are not tried */

struct resolved {
    unsigned count;
    int pin;     /* of a Unix socket that a policy allows: the address leads through this descriptor */
    bool pinned; /* there is one */
    struct {
        struct sockaddr_storage address;
        socklen_t bytes;
    } items[RESOLVED_MAX];
};

/* Can it be done without asking anybody (a path, numbers)? Then resolve() does not block. */
bool resolve_is_quick(const struct socket_address *address);

/* May ask a name server and wait for it: on the pool, unless it is quick. Any thread. Not for descriptors. */
struct error *resolve(const struct socket_address *address, struct resolved *out) MUST_CHECK;

/* The addresses are good until then. All zero is harmless. */
void resolved_fini(struct resolved *resolved);

/* Of an address that is a descriptor: a copy of it (close-on-exec), for the caller to close. */
struct error *resolve_fd(const struct socket_address *address, int *fd) CO_FN MUST_CHECK;

/* A copy with strings of its own; address_free() takes NULL. */
struct socket_address *address_copy(const struct socket_address *address);
void address_free(struct socket_address *address);

#endif
