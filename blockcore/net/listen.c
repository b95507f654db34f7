#include "blockcore/net/listen.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/net/host_policy.h"
#include "blockcore/net/listen_private.h"
#include "blockcore/runtime/passed_fd.h"
#include "blockcore/runtime/pool.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <unistd.h>

int listen_socket(int family, int protocol)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    return fd < 0 ? -errno : fd;
}

int listen_bind(int fd, const struct sockaddr *address, socklen_t bytes)
{
    if (bind(fd, address, bytes) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    return 0;
}

static _Atomic bool in_service;

void listen_begin_service(void)
{
    in_service = true;
}

bool listen_takes_numbers(void)
{
    return !in_service;
}

bool listen_parse_number(const char *text, uint32_t max, uint32_t *out)
{
    if (*text < '0' || *text > '9')
        return false;
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || *end != '\0' || value > max)
        return false;
    *out = (uint32_t)value;
    return true;
}

static struct error *listen_vsock(const struct vsock_socket_address *vsock, struct listening *out)
{
    struct sockaddr_vm address = { .svm_family = AF_VSOCK };
    CLEANUP(free) char *host = xasprintf("vsock:%s", vsock->cid);
    struct error *err = host_policy_check_listen(host);
    if (err)
        return err;
    if (!listen_parse_number(vsock->cid, UINT32_MAX, &address.svm_cid))
        return error_new("'%s' is not a vsock cid", vsock->cid);
    if (!listen_parse_number(vsock->port, UINT32_MAX, &address.svm_port))
        return error_new("'%s' is not a vsock port", vsock->port);
    CLEANUP(close_fd) int fd = listen_socket(AF_VSOCK, 0);
    int ret = fd < 0 ? fd : listen_bind(fd, (const struct sockaddr *)&address, sizeof(address));
    if (ret < 0)
        return error_errno(-ret, "cannot listen on vsock %s:%s", vsock->cid, vsock->port);
    out->fds[out->count++] = steal_fd(&fd);
    return NULL;
}

struct error *listen_take_over(int fd, const char *name, struct listening *out)
{
    int listens = 0;
    socklen_t bytes = sizeof(listens);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) < 0)
        return error_errno(errno, "descriptor %s is not a socket", name);
    if (!listens)
        return error_new("descriptor %s is not a socket that listens", name);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return error_errno(errno, "cannot use descriptor %s", name);
    out->fds[out->count++] = fd;
    return NULL;
}

static bool is_number(int fd, const void *number)
{
    return fd == (int)*(const uint32_t *)number;
}

/* Also what has a name may be meant by its number, which is that name's no more then. */
static int take_number(const char *text, char **passed_as)
{
    uint32_t fd;
    if (!listen_parse_number(text, INT32_MAX, &fd))
        return -1;
    int passed = named_fd_take_fitting(NAMED_FD_PARENT, is_number, &fd, passed_as);
    return passed >= 0 || listen_takes_numbers() ? (int)fd : -1;
}

static struct error *listen_fd(const struct fd_socket_address *given, struct listening *out)
{
    CLEANUP(free) char *passed_as = NULL;
    uint64_t owner = 0;
    int named = named_fd_take_from(given->str, &owner);
    CLEANUP(close_fd) int taken = named; /* until it is known to be good */
    if (named >= 0 && owner == NAMED_FD_PARENT)
        passed_as = xstrdup(given->str);
    int fd = named >= 0 ? named : take_number(given->str, &passed_as);
    if (fd < 0)
        return error_new("'%s' is neither the number of a descriptor nor the name of one that was passed", given->str);
    struct error *err = listen_take_over(fd, given->str, out);
    if (err)
        return err;
    (void)steal_fd(&taken);
    out->passed_as = steal(&passed_as);
    return NULL;
}

struct listen_call {
    const struct socket_address *address;
    struct listening *out;
    struct error *error;
};

static int listen_blocking(void *arg)
{
    struct listen_call *call = arg;
    const struct socket_address *address = call->address;
    switch (address->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        call->error = listen_inet(&address->u.inet, call->out);
        break;
    case SOCKET_ADDRESS_TYPE_UNIX:
        call->error = listen_unix(&address->u.unix_, call->out);
        break;
    case SOCKET_ADDRESS_TYPE_VSOCK:
        call->error = listen_vsock(&address->u.vsock, call->out);
        break;
    case SOCKET_ADDRESS_TYPE_FD:
        call->error = listen_fd(&address->u.fd, call->out);
        break;
    case SOCKET_ADDRESS_TYPE__MAX:
        break;
    }
    return 0;
}

/* A name server that does not answer holds one thread, which belongs to this call alone. */
static void call_on_pool(int (*fn)(void *arg), void *arg)
{
    struct pool_domain *domain = pool_domain_create("listen", 1);
    co_blocking(domain, fn, arg);
    pool_domain_unref(domain);
}

struct error *listen_at(const struct socket_address *address, struct listening *out)
{
    struct listening result = { 0 };
    struct listen_call call = { .address = address, .out = &result };
    call_on_pool(listen_blocking, &call);
    if (!call.error)
        *out = result;
    return call.error;
}

struct access_call {
    const struct unix_identity *file;
    uid_t owner;
    gid_t group;
    mode_t mode;
    struct error *error;
};

static int access_blocking(void *arg)
{
    struct access_call *call = arg;
    call->error = unix_identity_give_access(call->file, call->owner, call->group, call->mode);
    return 0;
}

struct error *listening_give_access(const struct listening *listening, uid_t owner, gid_t group, mode_t mode)
{
    struct access_call call = { .file = listening->unix_file, .owner = owner, .group = group, .mode = mode };
    if (call.file)
        call_on_pool(access_blocking, &call);
    return call.error;
}

static void give_back(struct listening *listening)
{
    int replaced = -1;
    CLEANUP(free) char *name = steal(&listening->passed_as);
    CLEANUP(error_free) struct error *err = named_fd_put(name, NAMED_FD_PARENT, listening->fds[0], &replaced);
    if (err)
        close(listening->fds[0]);
    if (replaced >= 0)
        close(replaced);
    listening->count = 0;
}

static int close_blocking(void *arg)
{
    struct listening *listening = arg;
    if (listening->passed_as)
        give_back(listening);
    /* The file goes first: whoever finds it and is refused would take it for a dead one. */
    unix_identity_remove(steal(&listening->unix_file));
    for (unsigned i = 0; i < listening->count; i++)
        close(listening->fds[i]);
    listening->count = 0;
    return 0;
}

void listening_close(struct listening *listening)
{
    if (listening->count > 0)
        call_on_pool(close_blocking, listening);
}
