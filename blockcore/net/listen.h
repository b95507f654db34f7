/* listen - from an address to sockets that listen
 *
 * One address may mean several sockets (a name with addresses of IPv4 and IPv6), all on the same port. Names are
 * looked up and sockets bound on the pool, never on the control thread.
 *
 * A Unix socket has mode 0600 from its first moment. One that is left over from a process that died is replaced, but
 * only after a refused connection proved that nobody listens, and under a lock on its directory, so that two who start
 * at once do not take each other's socket for a dead one. At the end it is removed only if it is still the same file.
 */
#ifndef CAIRN_NET_LISTEN_H
#define CAIRN_NET_LISTEN_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <sys/types.h>

struct socket_address;

#define LISTEN_SOCKETS_MAX 16 /* addresses of one name that are used */

struct unix_identity;

/* Sockets that are bound and listening, non-blocking and close-on-exec. */
struct listening {
    int fds[LISTEN_SOCKETS_MAX];
    unsigned count;
    struct unix_identity *unix_file; /* of a Unix socket in the file system, for its removal; else NULL */
    char *passed_as;                 /* the name under which whoever started the process passed the socket; else NULL */
};

/* Listens at @address: a path or abstract name, host and port (with `to`: the first free port from port to `to`), a
 * vsock address, or the number of a descriptor that listens already, which is taken over. *out is owned by the caller.
 */
struct error *listen_at(const struct socket_address *address, struct listening *out) CO_FN MUST_CHECK;

/* From now on an address gives no descriptor by its number any more, but by a name; those of whoever started the
 * process have both. By now others are open, and a client that may name a number would reach what belongs to another:
 * read what he says on his connection, or have the socket closed at which he comes in. Any thread. */
void listen_begin_service(void);

#define LISTEN_KEEP_ID ((uid_t)-1)

/* Lets others than the user of the process connect to the Unix socket: owner and group, LISTEN_KEEP_ID: as they are,
 * and mode of its file. Only who may connect has changed when it fails. A socket without a file is left as it is. */
struct error *listening_give_access(const struct listening *listening, uid_t owner, gid_t group, mode_t mode)
    CO_FN MUST_CHECK;

/* Removes the Unix socket, if it is still ours, and closes. What was passed by whoever started the process goes back
 * under its name instead: he listens too, so nobody else could. Harmless when nothing is open. */
void listening_close(struct listening *listening) CO_FN;

#endif
