/* socket_address - addresses in other forms than they were given */
#ifndef CAIRN_DAEMON_SOCKET_ADDRESS_H
#define CAIRN_DAEMON_SOCKET_ADDRESS_H

#include "schema/cairn_types.h"

/* The older form, as some commands take it: the same address one level less deep; its strings are those of @legacy. */
struct socket_address socket_address_of_legacy(const struct socket_address_legacy *legacy);

/* The same address, with a path that still holds when the daemon changes its directory: *@path, which the caller frees
 * when it does not need the address any more; NULL where there is none. */
struct socket_address socket_address_for_later(const struct socket_address *address, char **path);

#endif
