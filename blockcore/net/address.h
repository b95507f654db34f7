/* address - where sockets are, told to people and to programs */
#ifndef CAIRN_NET_ADDRESS_H
#define CAIRN_NET_ADDRESS_H

#include <stdbool.h>

struct arena;
struct socket_address;

/* "unix:/run/x.sock", "192.0.2.1:10809", "[::1]:10809": for messages. The caller frees it. */
char *address_describe(const struct socket_address *address);

/* Where a socket listens, the port that the system chose included; strings are from @arena. False when it cannot be
 * told. */
bool address_of_listener(int fd, struct arena *arena, struct socket_address *out);

/* Who is at the other end of a connection, for the log: "192.0.2.1:51966"; at a Unix socket the process that connected:
 * "unix:pid=4711". The caller frees it. */
char *address_of_peer(int fd);

#endif
