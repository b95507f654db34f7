#include "blockcore/drivers/nbd/tunnel.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/nbd/starttls.h"
#include "blockcore/net/stream.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/fd_watch.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PIECE_BYTES (256 * 1024) /* carried at once; memory is taken only while there is something to carry */

struct nbd_tunnel {
    int fd;
    struct stream *outer; /* to the server */
    struct stream *inner; /* to libnbd; NULL before that is carried */
    uint16_t flags;       /* of the server's greeting */
    bool answered;        /* something has come through TLS */
    bool late;            /* the time for tunnel_open() is over */
    bool closing;         /* libnbd is gone, nobody waits for the server any more */
    bool up_is_stuck;     /* the server takes nothing at the moment */
    struct co_event up_ended;
    struct co_event down_ended;
};

struct nbd_tunnel *tunnel_create(int fd)
{
    struct nbd_tunnel *tunnel = xcalloc(1, sizeof(*tunnel));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    tunnel->fd = fd;
    tunnel->outer = stream_create(fd);
    co_event_init(&tunnel->up_ended);
    co_event_init(&tunnel->down_ended);
    return tunnel;
}

int tunnel_socket(const struct nbd_tunnel *tunnel)
{
    return tunnel->fd;
}

const char *tunnel_failure(const struct nbd_tunnel *tunnel)
{
    const char *failure = stream_tls_failure(tunnel->outer);
    if (failure || !co_event_is_set(&tunnel->down_ended) || tunnel->answered)
        return failure;
    /* In TLS 1.3 the handshake is over before the server looks at what it was shown, and not all say good-bye. */
    return "nothing came after the handshake, it may not accept our certificate";
}

void tunnel_cut(struct nbd_tunnel *tunnel)
{
    stream_cut(tunnel->outer);
}

/* Before TLS ---------------------------------------------------------------------------------------------------- */

static int connect_socket(struct nbd_tunnel *tunnel, const struct nbd_tunnel_options *options) CO_FN;

static int connect_socket(struct nbd_tunnel *tunnel, const struct nbd_tunnel_options *options)
{
    int failure = 0;
    socklen_t bytes = sizeof(failure);
    if (!options->address || connect(tunnel->fd, options->address, options->address_bytes) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    int ret = stream_wait_writable(tunnel->outer, FD_WATCH_FOREVER);
    if (ret < 0)
        return ret;
    getsockopt(tunnel->fd, SOL_SOCKET, SO_ERROR, &failure, &bytes);
    return -failure;
}

/* "the server offers no TLS (Policy forbids it)"; what a stranger has sent goes to people's screens. */
static struct error *refused(struct stream *stream, uint32_t bytes) CO_FN;

static struct error *refused(struct stream *stream, uint32_t bytes)
{
    char reason[200 + 1];
    size_t shown = bytes < sizeof(reason) ? bytes : sizeof(reason) - 1;
    if (shown == 0 || stream_read_all(stream, reason, shown) < 0)
        return error_new("the server offers no TLS");
    for (size_t i = 0; i < shown; i++)
        reason[i] = reason[i] >= ' ' && reason[i] <= '~' ? reason[i] : '?';
    return error_new("the server offers no TLS: it says '%.*s'", (int)shown, reason);
}

static struct error *ask_for_tls(struct nbd_tunnel *tunnel) CO_FN;

static struct error *ask_for_tls(struct nbd_tunnel *tunnel)
{
    uint8_t greeting[STARTTLS_GREETING_BYTES];
    uint8_t request[STARTTLS_REQUEST_BYTES];
    uint8_t reply[STARTTLS_REPLY_BYTES];
    uint32_t reason_bytes;
    bool accepted;
    int ret = stream_read_all(tunnel->outer, greeting, sizeof(greeting));
    struct error *err = ret < 0 ? error_errno(-ret, "greeting") : starttls_parse_greeting(greeting, &tunnel->flags);
    if (err)
        return err;
    starttls_write_request(request, tunnel->flags);
    ret = stream_write_all(tunnel->outer, request, sizeof(request));
    if (ret == 0)
        ret = stream_read_all(tunnel->outer, reply, sizeof(reply));
    err = ret < 0 ? error_errno(-ret, "STARTTLS") : starttls_parse_reply(reply, &accepted, &reason_bytes);
    if (err)
        return err;
    return accepted ? NULL : refused(tunnel->outer, reason_bytes);
}

/* Carrying ------------------------------------------------------------------------------------------------------ */

/* Like stream_write_all(), but a server that is stuck holds up nobody who closes. */
static int write_up(struct nbd_tunnel *tunnel, const char *data, size_t bytes) CO_FN;

static int write_up(struct nbd_tunnel *tunnel, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = stream_writev(tunnel->outer, &(struct iovec){ (void *)(uintptr_t)data, bytes }, 1);
        if (n == -EAGAIN && tunnel->closing)
            return -ECANCELED;
        if (n == -EAGAIN) {
            tunnel->up_is_stuck = true;
            n = stream_wait_writable(tunnel->outer, FD_WATCH_FOREVER);
            tunnel->up_is_stuck = false;
        }
        if (n < 0)
            return (int)n;
        data += n;
        bytes -= (size_t)n;
    }
    return 0;
}

/* What there is now: 0, -EAGAIN when that was all, or why there will be no more. */
static int carry_some(struct nbd_tunnel *tunnel, bool up, char *buffer) CO_FN;

static int carry_some(struct nbd_tunnel *tunnel, bool up, char *buffer)
{
    ssize_t n = stream_readv(up ? tunnel->inner : tunnel->outer, &(struct iovec){ buffer, PIECE_BYTES }, 1);
    if (n <= 0)
        return n == 0 ? -ECONNRESET : (int)n;
    tunnel->answered = tunnel->answered || !up;
    return up ? write_up(tunnel, buffer, (size_t)n) : stream_write_all(tunnel->inner, buffer, (size_t)n);
}

static void carry(struct nbd_tunnel *tunnel, bool up) CO_FN;

static void carry(struct nbd_tunnel *tunnel, bool up)
{
    struct stream *from = up ? tunnel->inner : tunnel->outer;
    int ret = 0;
    while (ret == 0) {
        ret = stream_wait_readable(from, FD_WATCH_FOREVER);
        char *buffer = ret == 0 ? buffer_get(PIECE_BYTES) : NULL;
        if (!buffer)
            break;
        while (ret == 0)
            ret = carry_some(tunnel, up, buffer);
        buffer_put(buffer, PIECE_BYTES);
        ret = ret == -EAGAIN ? 0 : ret;
    }
}

/* libnbd sees the end of its connection. */
static void cut_both(struct nbd_tunnel *tunnel)
{
    stream_cut(tunnel->inner);
    stream_cut(tunnel->outer);
}

/* The flags of a client, which the server has already. */
static bool skip_flags(struct nbd_tunnel *tunnel) CO_FN;

static bool skip_flags(struct nbd_tunnel *tunnel)
{
    uint8_t flags[STARTTLS_FLAGS_BYTES];
    return stream_read_all(tunnel->inner, flags, sizeof(flags)) == 0 && load_be32(flags) == tunnel->flags;
}

static void up_entry(void *arg)
{
    struct nbd_tunnel *tunnel = arg;
    if (skip_flags(tunnel))
        carry(tunnel, true);
    if (!tunnel->closing)
        shutdown(tunnel->fd, SHUT_RDWR); /* what has come from the server by now may say why */
    co_event_set(&tunnel->up_ended);
}

static void down_entry(void *arg)
{
    struct nbd_tunnel *tunnel = arg;
    carry(tunnel, false);
    if (!tunnel->closing)
        cut_both(tunnel);
    co_event_set(&tunnel->down_ended);
}

static struct error *begin_to_carry(struct nbd_tunnel *tunnel, int *inner)
{
    uint8_t greeting[STARTTLS_GREETING_BYTES];
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
        return error_errno(errno, "cannot make a pair of sockets");
    starttls_write_greeting(greeting, tunnel->flags);
    tunnel->inner = stream_create(ends[1]);
    int ret = stream_write_all(tunnel->inner, greeting, sizeof(greeting)); /* there is room */
    if (ret < 0) {
        stream_destroy(steal(&tunnel->inner));
        close(ends[0]);
        return error_errno(-ret, "cannot use a pair of sockets");
    }
    *inner = ends[0];
    co_start("nbd client, to the server", up_entry, tunnel);
    co_start("nbd client, from the server", down_entry, tunnel);
    return NULL;
}

/* Opening and closing ------------------------------------------------------------------------------------------- */

static void time_is_over(void *arg)
{
    struct nbd_tunnel *tunnel = arg;
    tunnel->late = true;
    tunnel_cut(tunnel);
}

static struct error *shake_hands(struct nbd_tunnel *tunnel, const struct nbd_tunnel_options *options) CO_FN;

static struct error *shake_hands(struct nbd_tunnel *tunnel, const struct nbd_tunnel_options *options)
{
    int ret = connect_socket(tunnel, options);
    struct error *err = ret < 0 ? error_errno(-ret, "connect") : ask_for_tls(tunnel);
    if (err)
        return err;
    return error_wrap(stream_start_tls(tunnel->outer, options->context, options->host), "TLS");
}

struct error *tunnel_open(struct nbd_tunnel *tunnel, const struct nbd_tunnel_options *options, int *inner)
{
    struct timer *timer = timer_create_on_loop(time_is_over, tunnel);
    timer_start(timer, options->timeout_ms);
    struct error *err = shake_hands(tunnel, options);
    timer_destroy(timer);
    if (!err)
        err = begin_to_carry(tunnel, inner);
    if (err && tunnel->late) {
        error_free(err);
        return error_errno(ETIMEDOUT, "it does not answer");
    }
    return err;
}

/* The direction up ends by itself: libnbd has closed its end. */
void tunnel_close(struct nbd_tunnel *tunnel)
{
    tunnel->closing = true;
    if (tunnel->inner) {
        if (tunnel->up_is_stuck)
            stream_cut(tunnel->outer);
        co_event_wait(&tunnel->up_ended, "an NBD server");
        cut_both(tunnel);
        co_event_wait(&tunnel->down_ended, "an NBD server");
    }
    stream_destroy(tunnel->inner);
    stream_destroy(tunnel->outer);
    free(tunnel);
}
