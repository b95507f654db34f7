/* socket_address - the older form of addresses, as some commands take it */
#ifndef CAIRN_DAEMON_SOCKET_ADDRESS_H
#define CAIRN_DAEMON_SOCKET_ADDRESS_H

#include "schema/cairn_types.h"

/* The same address one level less deep; its strings are those of @legacy. */
struct socket_address socket_address_of_legacy(const struct socket_address_legacy *legacy);

#endif
