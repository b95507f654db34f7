/* peer - who is at the other end of a client's socket
 *
 *     Unix socket    the process that connected, as the kernel knows it (SO_PEERCRED): it cannot be made up
 *     TCP            an address, which proves nothing
 *     TLS            a name that the client has proved: of its certificate, or of its key
 *
 * Credentials are those of the moment when the client connected; the process may have passed its socket on since. */
#ifndef CAIRN_RPC_PEER_H
#define CAIRN_RPC_PEER_H

#include <stdbool.h>
#include <sys/types.h>

/* All zero: nothing is known. */
struct rpc_peer {
    bool has_credentials;
    pid_t pid; /* 0: of a process that our name space of processes does not show */
    uid_t uid;
    gid_t gid;
    char *address;  /* "192.0.2.1:51966"; NULL: none, or a Unix socket */
    char *tls_name; /* "CN=backup,O=Example"; NULL: none was proved */
};

void rpc_peer_fini(struct rpc_peer *peer);

/* Takes note of the credentials of whoever connected the Unix socket @fd. Other sockets have none. */
void rpc_peer_read_credentials(struct rpc_peer *peer, int fd);

/* Whether who connected the Unix socket @fd is a member of group @gid, by its own group or one of the others. */
bool rpc_peer_is_in_group(int fd, gid_t gid);

struct rpc_peer rpc_peer_copy(const struct rpc_peer *peer);

/* "uid 1000, pid 4711", "CN=backup at 192.0.2.1:51966", "somebody": for messages. The caller frees it. */
char *rpc_peer_describe(const struct rpc_peer *peer);

#endif
