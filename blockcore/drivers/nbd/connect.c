/* One attempt to connect: look up the name, connect, shake hands. */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/nbd/link_private.h"
#include "blockcore/drivers/nbd/tunnel.h"
#include "blockcore/net/resolve.h"
#include "blockcore/runtime/fd_watch.h"
#include "blockcore/runtime/pool.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)

/* Its messages begin with the function that failed ("nbd_aio_notify_write: connect: Connection refused"), which is
 * nobody's concern here. */
static struct error *libnbd_error(const struct nbd_link *link, const char *what)
{
    const char *text = libnbd.nbd_get_error();
    const char *rest = text && strncmp(text, "nbd_", 4) == 0 ? strstr(text, ": ") : NULL;
    return error_new("%s '%s': %s", what, link->server_text, rest ? rest + 2 : text ? text : "unknown error");
}

static struct error *interrupted(const struct nbd_link *link)
{
    return error_new("connecting to '%s' was given up", link->server_text);
}

/* Names --------------------------------------------------------------------------------------------------------- */

/* What a look-up on the pool needs. When it is given up all of this is left behind with it. */
struct lookup {
    struct socket_address *address;
    struct resolved resolved;
    struct error *error;
};

/* Its coroutine: the one of the link may be told to end while it waits for it. */
struct looking {
    struct nbd_link *link;
    struct lookup *lookup; /* NULL: it was left */
    struct coroutine *co;
    bool ended;
};

static void lookup_free(void *arg)
{
    struct lookup *lookup = arg;
    error_free(lookup->error);
    resolved_fini(&lookup->resolved);
    address_free(lookup->address);
    free(lookup);
}

static int lookup_blocking(void *arg)
{
    struct lookup *lookup = arg;
    lookup->error = resolve(lookup->address, &lookup->resolved);
    return 0;
}

/* A name server that does not answer holds one thread, which belongs to this call alone. */
static void lookup_entry(void *arg)
{
    struct looking *looking = arg;
    struct pool_domain *domain = pool_domain_create("nbd", 1);
    int ignored;
    looking->co = co_self();
    if (!co_blocking_or_leave(domain, lookup_blocking, lookup_free, looking->lookup, &ignored))
        looking->lookup = NULL;
    pool_domain_unref(domain);
    looking->ended = true;
    link_wake(looking->link);
}

static struct error *look_up_slowly(struct nbd_link *link, struct resolved *out) CO_FN;

static struct error *look_up_slowly(struct nbd_link *link, struct resolved *out)
{
    struct lookup *lookup = xcalloc(1, sizeof(*lookup));
    lookup->address = address_copy(link->server);
    struct looking looking = { .link = link, .lookup = lookup };
    co_start("looking up a name", lookup_entry, &looking);
    while (!looking.ended && !link->closing && !link->given_up)
        link_nap(link, 0);
    if (!looking.ended)
        co_cancel(looking.co);
    while (!looking.ended)
        link_nap(link, 0);
    if (!looking.lookup)
        return interrupted(link);
    *out = lookup->resolved;
    lookup->resolved.pinned = false;
    struct error *err = steal(&lookup->error);
    lookup_free(lookup);
    return err;
}

static struct error *look_up(struct nbd_link *link, struct resolved *out) CO_FN;

static struct error *look_up(struct nbd_link *link, struct resolved *out)
{
    return resolve_is_quick(link->server) ? resolve(link->server, out) : look_up_slowly(link, out);
}

/* Shaking hands ------------------------------------------------------------------------------------------------- */

static bool is_over(const struct nbd_link *link)
{
    return libnbd.nbd_aio_is_dead(link->handle) > 0 || libnbd.nbd_aio_is_closed(link->handle) > 0;
}

/* One step of libnbd's, when the socket is ready for it. */
static struct error *shake(struct nbd_link *link, uint64_t deadline_ns) CO_FN;

static struct error *shake(struct nbd_link *link, uint64_t deadline_ns)
{
    bool write = libnbd.nbd_aio_get_direction(link->handle) & LIBNBD_AIO_DIRECTION_WRITE;
    uint64_t now = loop_now_ns();
    uint64_t left_ms = now < deadline_ns ? div_round_up(deadline_ns - now, NS_PER_MS) : 0;
    int ret = -ETIMEDOUT;
    if (left_ms > 0)
        ret = write ? fd_watch_writable(link->watch, left_ms) : fd_watch_readable(link->watch, left_ms);
    if (ret == -ETIMEDOUT)
        return error_errno(ETIMEDOUT, "'%s' does not answer", link->server_text);
    if (ret < 0)
        return interrupted(link);
    ret = write ? libnbd.nbd_aio_notify_write(link->handle) : libnbd.nbd_aio_notify_read(link->handle);
    if (ret < 0 || is_over(link))
        return libnbd_error(link, "cannot connect to");
    return NULL;
}

static struct error *set_up_handle(struct nbd_link *link)
{
    link->handle = libnbd.nbd_create();
    if (!link->handle)
        return libnbd_error(link, "cannot prepare a connection to");
    struct nbd_handle *handle = link->handle;
    if (libnbd.nbd_set_export_name(handle, link->export) < 0 || libnbd.nbd_set_tls(handle, LIBNBD_TLS_DISABLE) < 0 ||
        libnbd.nbd_add_meta_context(handle, link->context) < 0 || libnbd.nbd_set_strict_mode(handle, 0) < 0 ||
        libnbd.nbd_set_pread_initialize(handle, false) < 0)
        return libnbd_error(link, "cannot prepare a connection to");
    return NULL;
}

/* libnbd closes its descriptor by itself, and the number may belong to somebody else a moment later: what is watched is
 * another descriptor of the same socket. */
static struct error *watch_socket(struct nbd_link *link)
{
    int fd = libnbd.nbd_aio_get_fd(link->handle);
    link->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (link->fd < 0)
        return fd < 0 ? libnbd_error(link, "cannot connect to") : error_errno(errno, "cannot copy a descriptor");
    link->watch = fd_watch_create(link->fd);
    return NULL;
}

/* Are both ends at the same address, apart from the port? */
static bool is_local(int fd)
{
    struct sockaddr_storage near = { 0 };
    struct sockaddr_storage far = { 0 };
    socklen_t near_bytes = sizeof(near);
    socklen_t far_bytes = sizeof(far);
    if (getsockname(fd, (struct sockaddr *)&near, &near_bytes) < 0 ||
        getpeername(fd, (struct sockaddr *)&far, &far_bytes) < 0 || near.ss_family != far.ss_family)
        return false;
    const struct sockaddr_in *near4 = (const struct sockaddr_in *)&near;
    const struct sockaddr_in *far4 = (const struct sockaddr_in *)&far;
    const struct sockaddr_in6 *near6 = (const struct sockaddr_in6 *)&near;
    const struct sockaddr_in6 *far6 = (const struct sockaddr_in6 *)&far;
    if (near.ss_family == AF_INET)
        return near4->sin_addr.s_addr == far4->sin_addr.s_addr;
    return near.ss_family == AF_INET6 && memcmp(&near6->sin6_addr, &far6->sin6_addr, sizeof(near6->sin6_addr)) == 0;
}

static void tune_socket(struct nbd_link *link)
{
    int fd = link->tunnel ? tunnel_socket(link->tunnel) : link->fd;
    static const int on = 1;
    struct ucred peer = { 0 };
    socklen_t bytes = sizeof(peer);
    if (link->server->type == SOCKET_ADDRESS_TYPE_INET && link->server->u.inet.keep_alive)
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    link->is_self = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 && peer.pid == getpid();
    atomic_store(&link->may_be_self, link->is_self || is_local(fd));
}

/* To @address, or through the socket @fd (which goes over), where that is not -1. */
struct target {
    const struct sockaddr *address;
    socklen_t bytes;
    int fd;
};

/* With TLS libnbd gets the near end of a tunnel as its socket. */
static struct error *dig_tunnel(struct nbd_link *link, struct target *target, uint64_t deadline_ns) CO_FN;

static struct error *dig_tunnel(struct nbd_link *link, struct target *target, uint64_t deadline_ns)
{
    int fd =
        target->fd >= 0 ? steal_fd(&target->fd) : socket(target->address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(errno, "cannot make a socket");
    uint64_t now = loop_now_ns();
    const struct nbd_tunnel_options options = {
        .address = target->address,
        .address_bytes = target->bytes,
        .context = link->tls,
        .host = link->tls_host,
        .timeout_ms = now < deadline_ns ? div_round_up(deadline_ns - now, NS_PER_MS) : 1,
    };
    link->tunnel = tunnel_create(fd);
    struct error *err = tunnel_open(link->tunnel, &options, &target->fd);
    return error_wrap(err, "cannot connect to '%s'", link->server_text);
}

/* libnbd sees no more than that its connection ended. */
static struct error *prefer_words_of_tls(const struct nbd_link *link, struct error *err)
{
    const char *failure = link->tunnel ? tunnel_failure(link->tunnel) : NULL;
    if (!err || !failure)
        return err;
    error_free(err);
    return error_new("cannot connect to '%s': TLS: the server ended it: %s", link->server_text, failure);
}

static int begin_connect(struct nbd_link *link, struct target *target)
{
    if (target->fd < 0)
        return libnbd.nbd_aio_connect(link->handle, target->address, target->bytes);
    return libnbd.nbd_aio_connect_socket(link->handle, steal_fd(&target->fd));
}

static struct error *connect_to(struct nbd_link *link, struct target *target, uint64_t deadline_ns) CO_FN;

static struct error *connect_to(struct nbd_link *link, struct target *target, uint64_t deadline_ns)
{
    struct error *err = set_up_handle(link);
    if (!err && link->tls)
        err = dig_tunnel(link, target, deadline_ns);
    if (!err && (begin_connect(link, target) < 0 || is_over(link)))
        err = libnbd_error(link, "cannot connect to");
    if (!err)
        err = watch_socket(link);
    while (!err && libnbd.nbd_aio_is_ready(link->handle) <= 0)
        err = link->closing || link->given_up ? interrupted(link) : shake(link, deadline_ns);
    err = prefer_words_of_tls(link, err);
    if (err)
        link_disconnect(link);
    else
        tune_socket(link);
    return err;
}

static struct error *connect_through_fd(struct nbd_link *link, uint64_t deadline_ns) CO_FN;

static struct error *connect_through_fd(struct nbd_link *link, uint64_t deadline_ns)
{
    struct target target = { .fd = -1 };
    if (link->opened)
        return error_new("a descriptor serves for one connection");
    struct error *err = resolve_fd(link->server, &target.fd);
    if (!err)
        err = connect_to(link, &target, deadline_ns);
    if (target.fd >= 0)
        close(target.fd);
    return err;
}

struct error *link_connect(struct nbd_link *link, uint64_t deadline_ns)
{
    if (link->server->type == SOCKET_ADDRESS_TYPE_FD)
        return connect_through_fd(link, deadline_ns);
    struct resolved resolved = { 0 };
    struct error *err = look_up(link, &resolved);
    for (unsigned i = 0; i < resolved.count && !link->handle && !link->closing && !link->given_up; i++) {
        struct target target = {
            .address = (const struct sockaddr *)&resolved.items[i].address,
            .bytes = resolved.items[i].bytes,
            .fd = -1,
        };
        error_free(err);
        err = connect_to(link, &target, deadline_ns);
    }
    resolved_fini(&resolved);
    if (!err && !link->handle)
        err = interrupted(link);
    return err;
}

void link_disconnect(struct nbd_link *link)
{
    if (link->watch) {
        fd_watch_cancel(link->watch);
        if (link->writing) {
            struct co_event ends;
            co_event_init(&ends);
            link->writing_ends = &ends;
            co_event_wait(&ends, "a connection to end");
            link->writing_ends = NULL;
        }
        fd_watch_destroy(steal(&link->watch));
    }
    if (link->handle && libnbd.nbd_aio_is_ready(link->handle) > 0)
        libnbd.nbd_aio_disconnect(link->handle, 0);
    if (link->handle)
        libnbd.nbd_close(steal(&link->handle));
    if (link->fd >= 0)
        close(steal_fd(&link->fd));
    if (link->tunnel)
        tunnel_close(steal(&link->tunnel));
}
