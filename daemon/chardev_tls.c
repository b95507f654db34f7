#include "daemon/chardev_tls.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/net/address.h"
#include "blockcore/net/complaint.h"
#include "blockcore/net/stream.h"
#include "blockcore/net/tls_context.h"
#include "blockcore/objects/authz.h"
#include "blockcore/objects/object.h"
#include "blockcore/objects/tls_creds.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/fd_watch.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"
#include "daemon/chardev.h"
#include "rpc/peer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE_BYTES (64 * 1024) /* carried at once; memory is taken only while there is something to carry */
#define FAREWELL_MS 1000        /* for what is still to be brought to clients when the device goes */
#define STUCK_MS 5000           /* how often one that takes nothing is looked at: is its frontend there still? */

struct chardev_tls {
    struct tls_context *context;
    struct object *creds; /* NULL: it was left */
    struct object *authz; /* NULL: nobody is asked */
    struct object_user creds_user;
    struct object_user authz_user;
    char *name; /* "chardev 'c'" */
    char *host;
    struct list visitors; /* in the order in which they came */
    unsigned shaking;     /* how many of them shake hands */
    bool over;            /* the time for farewells */
    struct co_queue changed;
};

struct visitor {
    struct list link;
    struct chardev_tls *tls;
    struct stream *outer;
    struct stream *inner; /* NULL before that is carried */
    int outer_fd;
    int inner_fd;
    struct rpc_peer peer;
    bool shaking;
    const char *too_late; /* why it was cut off */
    bool frontend_has_closed;
    unsigned directions; /* that carry */
    void (*secured)(const struct chardev_client *client, void *arg);
    void *arg;
};

/* The device ------------------------------------------------------------------------------------------------------ */

static struct error *find_authz(struct chardev_tls *tls, const struct chardev_tls_options *options)
{
    if (!options->authz)
        return NULL;
    if (!options->server)
        return error_new("tls-authz is for sockets that listen");
    if (!tls_context_names_peers(tls->context))
        return error_new("tls-authz: with TLS credentials '%s' clients prove no name (verify-peer is off, or they are "
                         "anonymous)",
                         options->creds);
    return error_wrap(authz_find(options->authz, &tls->authz), "tls-authz");
}

struct error *chardev_tls_create(const struct chardev_tls_options *options, struct chardev_tls **out)
{
    enum q_crypto_tls_creds_endpoint side =
        options->server ? Q_CRYPTO_TLS_CREDS_ENDPOINT_SERVER : Q_CRYPTO_TLS_CREDS_ENDPOINT_CLIENT;
    struct chardev_tls *tls = xcalloc(1, sizeof(*tls));
    struct error *err = tls_creds_find(options->creds, side, &tls->creds, &tls->context);
    if (!err)
        err = find_authz(tls, options);
    if (!err && !options->server && !options->host && tls_context_wants_host(tls->context))
        err = error_new("tls-creds: the name of the server is not known, to be looked for in its certificate (a Unix "
                        "socket has none; verify-peer=off does not ask)");
    if (err) {
        tls_context_unref(tls->context);
        free(tls);
        return err;
    }
    tls->name = xasprintf("chardev '%s'", options->name);
    tls->host = options->host ? xstrdup(options->host) : NULL;
    tls->creds_user.name = tls->authz_user.name = tls->name;
    object_use(tls->creds, &tls->creds_user);
    if (tls->authz)
        object_use(tls->authz, &tls->authz_user);
    list_init(&tls->visitors);
    co_queue_init(&tls->changed);
    *out = tls;
    return NULL;
}

static void cut(struct visitor *visitor)
{
    stream_cut(visitor->outer);
    if (visitor->inner)
        stream_cut(visitor->inner);
}

void chardev_tls_cut_handshakes(struct chardev_tls *tls)
{
    struct visitor *visitor;
    list_for_each (visitor, &tls->visitors, link) {
        if (visitor->shaking)
            cut(visitor);
    }
}

void chardev_tls_leave(struct chardev_tls *tls)
{
    chardev_tls_cut_handshakes(tls);
    if (!tls->creds)
        return;
    object_leave(&tls->creds_user);
    if (tls->authz)
        object_leave(&tls->authz_user);
    tls->creds = tls->authz = NULL;
}

static void farewell_is_over(void *arg)
{
    struct chardev_tls *tls = arg;
    tls->over = true;
    co_queue_wake_all(&tls->changed);
}

static void wait_for_farewells(struct chardev_tls *tls) CO_FN;

static void wait_for_farewells(struct chardev_tls *tls)
{
    struct visitor *visitor;
    struct timer *timer = timer_create_on_loop(farewell_is_over, tls);
    timer_start(timer, FAREWELL_MS);
    while (!list_empty(&tls->visitors) && !tls->over)
        co_queue_wait(&tls->changed, NULL, "clients with TLS");
    timer_destroy(timer);
    list_for_each (visitor, &tls->visitors, link)
        cut(visitor);
    while (!list_empty(&tls->visitors))
        co_queue_wait(&tls->changed, NULL, "clients with TLS");
}

void chardev_tls_destroy(struct chardev_tls *tls)
{
    if (!tls)
        return;
    chardev_tls_leave(tls);
    wait_for_farewells(tls);
    tls_context_unref(tls->context);
    co_queue_fini(&tls->changed);
    free(tls->name);
    free(tls->host);
    free(tls);
}

/* Visitors -------------------------------------------------------------------------------------------------------- */

static struct visitor *visitor_create(struct chardev_tls *tls, int fd)
{
    struct visitor *visitor = xcalloc(1, sizeof(*visitor));
    visitor->tls = tls;
    visitor->outer_fd = fd;
    visitor->outer = stream_create(fd);
    visitor->shaking = true;
    rpc_peer_read_credentials(&visitor->peer, fd);
    if (!visitor->peer.has_credentials)
        visitor->peer.address = address_of_peer(fd);
    list_append(&tls->visitors, &visitor->link);
    tls->shaking++;
    return visitor;
}

static void stop_shaking(struct visitor *visitor)
{
    visitor->tls->shaking -= visitor->shaking;
    visitor->shaking = false;
}

static void visitor_destroy(struct visitor *visitor)
{
    stop_shaking(visitor);
    list_remove(&visitor->link);
    co_queue_wake_all(&visitor->tls->changed);
    stream_destroy(visitor->inner);
    stream_destroy(visitor->outer);
    rpc_peer_fini(&visitor->peer);
    free(visitor);
}

/* Carrying -------------------------------------------------------------------------------------------------------- */

static bool has_hung_up(int fd)
{
    struct pollfd poll_fd = { .fd = fd };
    return poll(&poll_fd, 1, 0) > 0;
}

/* As stream_write_all(), but a client that takes nothing is not waited for when its frontend has gone. */
static int write_to_client(struct visitor *visitor, const char *data, size_t bytes) CO_FN;

static int write_to_client(struct visitor *visitor, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = stream_writev(visitor->outer, &(struct iovec){ (void *)(uintptr_t)data, bytes }, 1);
        if (n == -EAGAIN)
            n = stream_wait_writable(visitor->outer, STUCK_MS);
        if (n == -ETIMEDOUT && !has_hung_up(visitor->inner_fd))
            n = 0;
        if (n < 0)
            return (int)n;
        data += n;
        bytes -= (size_t)n;
    }
    return 0;
}

/* What there is now: bytes, 0 at the end, or -errno. */
static ssize_t carry_piece(struct visitor *visitor, bool in, char *buffer) CO_FN;

static ssize_t carry_piece(struct visitor *visitor, bool in, char *buffer)
{
    ssize_t n = stream_readv(in ? visitor->outer : visitor->inner, &(struct iovec){ buffer, PIECE_BYTES }, 1);
    if (n <= 0)
        return n;
    int ret = in ? stream_write_all(visitor->inner, buffer, (size_t)n) : write_to_client(visitor, buffer, (size_t)n);
    return ret < 0 ? ret : n;
}

/* Until the side that sends has come to its end: 0; or -errno. */
static int carry(struct visitor *visitor, bool in) CO_FN;

static int carry(struct visitor *visitor, bool in)
{
    for (;;) {
        ssize_t n = stream_wait_readable(in ? visitor->outer : visitor->inner, FD_WATCH_FOREVER);
        char *buffer = n == 0 ? buffer_get(PIECE_BYTES) : NULL;
        if (!buffer)
            return n < 0 ? (int)n : -ENOMEM;
        while ((n = carry_piece(visitor, in, buffer)) > 0)
            co_yield (); /* others on the loop have their turn */
        buffer_put(buffer, PIECE_BYTES);
        if (n != -EAGAIN)
            return (int)n;
    }
}

static void direction_has_ended(struct visitor *visitor)
{
    if (--visitor->directions == 0)
        visitor_destroy(visitor);
}

/* A client that sends no more may still read. */
static void carry_in(void *arg)
{
    struct visitor *visitor = arg;
    int ret = carry(visitor, true);
    if (ret == 0 && !has_hung_up(visitor->outer_fd))
        shutdown(visitor->inner_fd, SHUT_WR);
    else if (!visitor->frontend_has_closed)
        cut(visitor);
    direction_has_ended(visitor);
}

/* A frontend that sends no more has closed. The client is told when the stream goes. */
static void carry_out(void *arg)
{
    struct visitor *visitor = arg;
    visitor->frontend_has_closed = carry(visitor, false) == 0;
    if (visitor->frontend_has_closed)
        stream_wake(visitor->outer);
    else
        cut(visitor);
    direction_has_ended(visitor);
}

static struct error *begin_to_carry(struct visitor *visitor, int *inner)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
        return error_errno(errno, "cannot make a pair of sockets");
    visitor->inner = stream_create(ends[1]);
    visitor->inner_fd = ends[1];
    visitor->directions = 2;
    *inner = ends[0];
    return NULL;
}

static void start_to_carry(struct visitor *visitor)
{
    stop_shaking(visitor);
    co_start("chardev, from a client", carry_in, visitor);
    co_start("chardev, to a client", carry_out, visitor);
}

/* Shaking hands --------------------------------------------------------------------------------------------------- */

static void time_is_over(void *arg)
{
    struct visitor *visitor = arg;
    visitor->too_late = "no handshake in time";
    cut(visitor);
}

static struct error *is_let_in(struct visitor *visitor) CO_FN;

static struct error *is_let_in(struct visitor *visitor)
{
    struct error *why = NULL;
    const char *name = visitor->peer.tls_name;
    if (!visitor->tls->creds)
        return error_new("it came too late");
    if (!visitor->tls->authz || authz_allows(visitor->tls->authz, name, &why))
        return NULL;
    return why ? error_wrap(why, "'%s' is not let in", name) : error_new("'%s' is not let in", name);
}

static struct error *shake_hands(struct visitor *visitor) CO_FN;

static struct error *shake_hands(struct visitor *visitor)
{
    struct timer *timer = timer_create_on_loop(time_is_over, visitor);
    timer_start(timer, CHARDEV_HANDSHAKE_MS);
    struct error *err = stream_start_tls(visitor->outer, visitor->tls->context, visitor->tls->host);
    timer_destroy(timer);
    if (err && visitor->too_late) {
        error_free(err);
        return error_new("TLS: %s", visitor->too_late);
    }
    if (err)
        return error_wrap(err, "TLS");
    const char *name = stream_peer_identity(visitor->outer);
    visitor->peer.tls_name = name ? xstrdup(name) : NULL;
    return is_let_in(visitor);
}

static struct error *secure(struct visitor *visitor, int *inner) CO_FN;

static struct error *secure(struct visitor *visitor, int *inner)
{
    struct error *err = shake_hands(visitor);
    return err ? err : begin_to_carry(visitor, inner);
}

static void greet(void *arg)
{
    struct visitor *visitor = arg;
    struct chardev_client client = { .socket = visitor->outer_fd, .peer = &visitor->peer };
    CLEANUP(error_free) struct error *err = secure(visitor, &client.fd);
    if (err) {
        CLEANUP(free) char *who = rpc_peer_describe(&visitor->peer);
        complain(who, "%s: %s: %s", visitor->tls->name, who, error_message(err));
        visitor_destroy(visitor);
        return;
    }
    visitor->secured(&client, visitor->arg);
    start_to_carry(visitor);
}

static void make_room(struct chardev_tls *tls)
{
    struct visitor *visitor;
    if (tls->shaking < CHARDEV_HANDSHAKES_MAX)
        return;
    list_for_each (visitor, &tls->visitors, link) {
        if (visitor->shaking && !visitor->too_late) {
            visitor->too_late = "no handshake yet, and many others begin one";
            cut(visitor);
            return;
        }
    }
}

void chardev_tls_accept(struct chardev_tls *tls, int fd,
                        void (*secured)(const struct chardev_client *client, void *arg), void *arg)
{
    make_room(tls);
    if (tls->shaking >= CHARDEV_HANDSHAKES_LEFT) {
        close(fd);
        return;
    }
    struct visitor *visitor = visitor_create(tls, fd);
    visitor->secured = secured;
    visitor->arg = arg;
    co_start("chardev, handshake", greet, visitor);
}

struct error *chardev_tls_connect(struct chardev_tls *tls, int fd, int *inner, struct rpc_peer *peer)
{
    struct visitor *visitor = visitor_create(tls, fd);
    struct error *err = secure(visitor, inner);
    if (err) {
        visitor_destroy(visitor);
        return err;
    }
    *peer = rpc_peer_copy(&visitor->peer);
    start_to_carry(visitor);
    return NULL;
}
