/* listen_private - the kinds of addresses, for the files of this folder
 *
 * All of these block: they run on the pool. */
#ifndef CAIRN_NET_LISTEN_PRIVATE_H
#define CAIRN_NET_LISTEN_PRIVATE_H

#include "blockcore/net/listen.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct inet_socket_address;
struct unix_socket_address;

/* Each appends to @out, which is empty before, and leaves nothing in it on error. */
struct error *listen_inet(const struct inet_socket_address *inet, struct listening *out) MUST_CHECK;
struct error *listen_unix(const struct unix_socket_address *address, struct listening *out) MUST_CHECK;

/* Takes over @fd, which listens already, when all is well; @name is for messages. Sets nothing but `fds`. */
struct error *listen_take_over(int fd, const char *name, struct listening *out) MUST_CHECK;

/* Non-blocking, close-on-exec. A descriptor or -errno. */
int listen_socket(int family, int protocol);
/* Binds, listens. 0 or -errno. */
int listen_bind(int fd, const struct sockaddr *address, socklen_t bytes);

/* As listening_give_access(). */
struct error *unix_identity_give_access(const struct unix_identity *identity, uid_t owner, gid_t group,
                                        mode_t mode) MUST_CHECK;

/* Removes the file if it is still the one that was made. Frees. NULL is allowed. */
void unix_identity_remove(struct unix_identity *identity);

/* The family that ipv4 and ipv6 of the address ask for. */
struct error *listen_family(const struct inet_socket_address *inet, int *family) MUST_CHECK;

/* May an address give any descriptor by its number? */
bool listen_takes_numbers(void);

/* 0 to @max, decimal, nothing else around it. */
bool listen_parse_number(const char *text, uint32_t max, uint32_t *out);

#endif
