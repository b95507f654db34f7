#include "blockcore/net/connect.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/net/address.h"
#include "blockcore/net/resolve.h"
#include "blockcore/runtime/fd_watch.h"
#include "blockcore/runtime/pool.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* What may block: asking for a name, and following the path of a Unix socket to its file. */
struct approach {
    const struct socket_address *address;
    struct resolved found;
    struct error *error;
    int fd; /* of a Unix socket: connected; else -1 */
};

static int open_socket(const struct resolved *found, unsigned at)
{
    int fd = socket(found->items[at].address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

/* 0, -EINPROGRESS or another -errno. */
static int begin_connect(int fd, const struct resolved *found, unsigned at)
{
    if (connect(fd, (const struct sockaddr *)&found->items[at].address, found->items[at].bytes) == 0)
        return 0;
    return -errno;
}

static struct error *not_connected(const struct socket_address *address, int errnum)
{
    if (address->type == SOCKET_ADDRESS_TYPE_UNIX)
        return error_errno(errnum, "Failed to connect to '%s'", address->u.unix_.path);
    CLEANUP(free) char *where = address_describe(address);
    return error_errno(errnum, "Failed to connect to '%s'", where);
}

/* At a Unix socket the answer comes at once: if its queue is full, that is no. */
static void connect_unix(struct approach *approach)
{
    CLEANUP(close_fd) int fd = open_socket(&approach->found, 0);
    int ret = fd < 0 ? fd : begin_connect(fd, &approach->found, 0);
    if (ret < 0)
        approach->error = not_connected(approach->address, -ret);
    else
        approach->fd = steal_fd(&fd);
}

static int run_approach(void *arg)
{
    struct approach *approach = arg;
    approach->error = resolve(approach->address, &approach->found);
    if (!approach->error && approach->address->type == SOCKET_ADDRESS_TYPE_UNIX)
        connect_unix(approach);
    resolved_fini(&approach->found);
    return 0;
}

static int wait_connected(struct connecting *connecting, int fd) CO_FN;

static int wait_connected(struct connecting *connecting, int fd)
{
    int errnum = 0;
    socklen_t bytes = sizeof(errnum);
    if (connecting->given_up)
        return -ECANCELED;
    connecting->watch = fd_watch_create(fd);
    int ret = fd_watch_writable(connecting->watch, CONNECT_SECONDS_MAX * 1000);
    fd_watch_destroy(connecting->watch);
    connecting->watch = NULL;
    if (ret == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &errnum, &bytes) < 0)
        ret = -errno;
    return ret < 0 ? ret : -errnum;
}

static int connect_one(struct connecting *connecting, const struct resolved *found, unsigned at, int *out) CO_FN;

static int connect_one(struct connecting *connecting, const struct resolved *found, unsigned at, int *out)
{
    CLEANUP(close_fd) int fd = open_socket(found, at);
    int ret = fd < 0 ? fd : begin_connect(fd, found, at);
    if (ret == -EINPROGRESS)
        ret = wait_connected(connecting, fd);
    if (ret == 0)
        *out = steal_fd(&fd);
    return ret;
}

static struct error *use_descriptor(const struct socket_address *address, int *out)
{
    CLEANUP(close_fd) int fd = -1;
    struct error *err = resolve_fd(address, &fd);
    if (err)
        return err;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_errno(errno, "cannot use descriptor %s", address->u.fd.str);
    *out = steal_fd(&fd);
    return NULL;
}

struct error *connect_to(struct connecting *connecting, const struct socket_address *address, int *fd)
{
    if (address->type == SOCKET_ADDRESS_TYPE_FD)
        return use_descriptor(address, fd);
    CLEANUP(free) struct approach *approach = xcalloc(1, sizeof(*approach));
    approach->address = address;
    approach->fd = -1;
    struct pool_domain *domain = pool_domain_create("connect", 1);
    co_blocking(domain, run_approach, approach);
    pool_domain_unref(domain);
    if (approach->error)
        return approach->error;
    if (approach->fd >= 0) {
        *fd = approach->fd;
        return NULL;
    }
    int ret = -EADDRNOTAVAIL;
    for (unsigned i = 0; i < approach->found.count && ret < 0 && !connecting->given_up; i++)
        ret = connect_one(connecting, &approach->found, i, fd);
    return ret < 0 ? not_connected(address, -ret) : NULL;
}

void connect_give_up(struct connecting *connecting)
{
    connecting->given_up = true;
    if (connecting->watch)
        fd_watch_cancel(connecting->watch);
}
