#include "rpc/peer.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"

#include <stdlib.h>
#include <sys/socket.h>

#define GROUPS_MAX 65536 /* as many as Linux gives a process (NGROUPS_MAX) */

void rpc_peer_fini(struct rpc_peer *peer)
{
    free(peer->address);
    free(peer->tls_name);
    *peer = (struct rpc_peer){ 0 };
}

/* Of a pair of sockets, the credentials are those of who made it. */
void rpc_peer_read_credentials(struct rpc_peer *peer, int fd)
{
    struct ucred given;
    int family = 0;
    socklen_t bytes = sizeof(family);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes) < 0 || family != AF_UNIX)
        return;
    bytes = sizeof(given);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &given, &bytes) < 0 || given.uid == (uid_t)-1)
        return;
    peer->has_credentials = true;
    peer->pid = given.pid;
    peer->uid = given.uid;
    peer->gid = given.gid;
}

bool rpc_peer_is_in_group(int fd, gid_t gid)
{
    struct rpc_peer peer = { 0 };
    rpc_peer_read_credentials(&peer, fd);
    if (peer.has_credentials && peer.gid == gid)
        return true;
    CLEANUP(free) gid_t *groups = xmalloc(GROUPS_MAX * sizeof(*groups));
    socklen_t bytes = GROUPS_MAX * sizeof(*groups);
    if (!peer.has_credentials || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) < 0)
        return false;
    for (size_t i = 0; i < bytes / sizeof(*groups); i++) {
        if (groups[i] == gid)
            return true;
    }
    return false;
}

struct rpc_peer rpc_peer_copy(const struct rpc_peer *peer)
{
    struct rpc_peer copy = *peer;
    copy.address = peer->address ? xstrdup(peer->address) : NULL;
    copy.tls_name = peer->tls_name ? xstrdup(peer->tls_name) : NULL;
    return copy;
}

char *rpc_peer_describe(const struct rpc_peer *peer)
{
    CLEANUP(free) char *where = NULL;
    if (peer->has_credentials)
        where = xasprintf("uid %u, pid %d", peer->uid, peer->pid);
    else
        where = xstrdup(peer->address ? peer->address : "somebody");
    return peer->tls_name ? xasprintf("'%s' at %s", peer->tls_name, where) : steal(&where);
}
