#include "blockcore/net/stream.h"

#include "blockcore/base/memory.h"
#include "blockcore/net/tls_context.h"
#include "blockcore/net/tls_session.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/fd_watch.h"
#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel clips it to net.core.wmem_max. Even that is twice the default of a Unix socket, where replies of a deep
 * queue do not fit. */
#define SEND_BUFFER_BYTES (4 * 1024 * 1024)

struct stream {
    int fd;
    struct fd_watch *watch;
    struct tls_session *tls; /* NULL: what is sent is what is written */
    bool tcp;
};

/* Whether it is TCP. */
static bool tune(int fd)
{
    static const int on = 1;
    static const int send_bytes = SEND_BUFFER_BYTES;
    int family = 0;
    socklen_t bytes = sizeof(family);
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes);
    if (family == AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes));
    bool tcp = family == AF_INET || family == AF_INET6;
    if (tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return tcp;
}

struct stream *stream_create(int fd)
{
    struct stream *stream = xmalloc(sizeof(*stream));
    *stream = (struct stream){ .fd = fd, .watch = fd_watch_create(fd), .tcp = tune(fd) };
    return stream;
}

void stream_destroy(struct stream *stream)
{
    if (!stream)
        return;
    tls_session_destroy(stream->tls);
    fd_watch_destroy(stream->watch);
    close(stream->fd);
    free(stream);
}

ssize_t stream_readv(struct stream *stream, const struct iovec *vec, int count)
{
    ssize_t n;
    if (stream->tls)
        return tls_session_readv(stream->tls, vec, count);
    do {
        n = count == 1 ? recv(stream->fd, vec->iov_base, vec->iov_len, 0) : readv(stream->fd, vec, count);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t stream_writev(struct stream *stream, const struct iovec *vec, int count)
{
    if (stream->tls)
        return tls_session_writev(stream->tls, vec, count);
    struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)vec, .msg_iovlen = (size_t)count };
    ssize_t n;
    do {
        n = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int stream_wait_readable(struct stream *stream, uint64_t timeout_ms)
{
    if (stream->tls && tls_session_has_input(stream->tls))
        return 0;
    return fd_watch_readable(stream->watch, timeout_ms);
}

int stream_wait_writable(struct stream *stream, uint64_t timeout_ms)
{
    return fd_watch_writable(stream->watch, timeout_ms);
}

void stream_when_readable(struct stream *stream, void (*ready)(void *arg), void *arg)
{
    fd_watch_when_readable(stream->watch, ready, arg);
}

int stream_read_all(struct stream *stream, void *data, size_t bytes)
{
    char *at = data;
    while (bytes > 0) {
        ssize_t n = stream_readv(stream, &(struct iovec){ at, bytes }, 1);
        if (n == 0)
            return -ECONNRESET;
        if (n == -EAGAIN)
            n = stream_wait_readable(stream, FD_WATCH_FOREVER);
        if (n < 0)
            return (int)n;
        at += n;
        bytes -= (size_t)n;
    }
    return 0;
}

int stream_write_all(struct stream *stream, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t n = stream_writev(stream, &(struct iovec){ (void *)(uintptr_t)at, bytes }, 1);
        if (n == -EAGAIN)
            n = stream_wait_writable(stream, FD_WATCH_FOREVER);
        if (n < 0)
            return (int)n;
        at += n;
        bytes -= (size_t)n;
    }
    return 0;
}

void stream_cut(struct stream *stream)
{
    if (stream->tls)
        tls_session_end(stream->tls);
    shutdown(stream->fd, SHUT_RDWR);
    fd_watch_cancel(stream->watch);
}

void stream_wake(struct stream *stream)
{
    fd_watch_cancel(stream->watch);
}

void stream_wake_reader(struct stream *stream)
{
    fd_watch_cancel_reading(stream->watch);
}

bool stream_has_output(const struct stream *stream)
{
    int bytes = 0;
    return stream->tcp && ioctl(stream->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

/* 1: some were there; 0: wait; -1: there will be no more. */
static int drop_input(struct stream *stream)
{
    char dropped[4096];
    ssize_t n = recv(stream->fd, dropped, sizeof(dropped), MSG_DONTWAIT);
    if (n > 0)
        return 1;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

void stream_finish(struct stream *stream, uint64_t timeout_ms)
{
    int ret = 0;
    if (!stream->tcp)
        return;
    if (stream->tls)
        tls_session_end(stream->tls);
    shutdown(stream->fd, SHUT_WR);
    fd_watch_resume_reading(stream->watch);
    while (ret == 0) {
        int more = drop_input(stream);
        if (more < 0)
            return;
        if (more > 0)
            co_yield ();
        else
            ret = fd_watch_readable(stream->watch, timeout_ms);
    }
}

/* TLS ----------------------------------------------------------------------------------------------------------- */

/* Handshakes are work for the processor: a flood of them queues up here, and others' requests go on. */
#define HANDSHAKES_AT_ONCE 2

static struct pool_domain *handshakes(void)
{
    static _Atomic(struct pool_domain *) domain;
    struct pool_domain *now = atomic_load(&domain);
    if (now)
        return now;
    struct pool_domain *made = pool_domain_create("TLS handshakes", HANDSHAKES_AT_ONCE);
    if (atomic_compare_exchange_strong(&domain, &now, made))
        return made;
    pool_domain_unref(made);
    return now;
}

struct handshake {
    struct tls_session *session;
    enum tls_step step;
    struct error *why;
};

static int take_step(void *arg)
{
    struct handshake *handshake = arg;
    handshake->step = tls_session_handshake(handshake->session, &handshake->why);
    return 0;
}

static int flush(struct stream *stream, struct tls_session *session)
{
    int ret;
    while ((ret = tls_session_flush(session)) == -EAGAIN) {
        ret = stream_wait_writable(stream, FD_WATCH_FOREVER);
        if (ret < 0)
            break;
    }
    return ret;
}

/* The client begins. */
static struct error *shake_hands(struct stream *stream, struct tls_session *session, bool server)
{
    struct handshake handshake = { .session = session, .step = TLS_STEP_READ };
    for (bool wait = server; handshake.step == TLS_STEP_READ; wait = true) {
        int ret = wait ? stream_wait_readable(stream, FD_WATCH_FOREVER) : 0;
        if (ret < 0)
            return error_errno(-ret, "handshake");
        co_blocking(handshakes(), take_step, &handshake);
        ret = flush(stream, session);
        if (ret < 0 && handshake.step != TLS_STEP_FAILED)
            return error_errno(-ret, "handshake");
    }
    return handshake.why;
}

struct error *stream_start_tls(struct stream *stream, struct tls_context *context, const char *host)
{
    struct tls_session *session = tls_session_create(context, stream->fd, host);
    if (!session)
        return error_errno(ENOMEM, "handshake");
    struct error *err = shake_hands(stream, session, tls_context_is_server(context));
    if (err)
        tls_session_destroy(session);
    else
        stream->tls = session;
    return err;
}

const char *stream_tls_failure(const struct stream *stream)
{
    return stream->tls ? tls_session_failure(stream->tls) : NULL;
}

const char *stream_peer_identity(const struct stream *stream)
{
    return stream->tls ? tls_session_identity(stream->tls) : NULL;
}
