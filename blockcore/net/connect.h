/* connect - from an address to a connected socket, without blocking anybody
 *
 * Names are looked up, and paths followed, on the pool; connections of the network are awaited on the loop. All
 * addresses of a name are tried, one after the other. */
#ifndef CAIRN_NET_CONNECT_H
#define CAIRN_NET_CONNECT_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>

struct fd_watch;
struct socket_address;

#define CONNECT_SECONDS_MAX 30 /* for each address of a name */

/* All zero is good to begin with. */
struct connecting {
    struct fd_watch *watch; /* while it is awaited */
    bool given_up;
};

/* Connects to @address; of a descriptor, a copy of it. *fd is non-blocking and close-on-exec, the caller's to close. */
struct error *connect_to(struct connecting *connecting, const struct socket_address *address, int *fd)
    CO_FN LOOP_FN MUST_CHECK;

/* Ends a wait for the other side, and all later ones, with an error. On the loop where it waits. */
void connect_give_up(struct connecting *connecting) LOOP_FN;

#endif
