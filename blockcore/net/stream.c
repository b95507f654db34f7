#include "blockcore/net/stream.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/fd_watch.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel clips it to net.core.wmem_max. Even that is twice the default of a Unix socket, where replies of a deep
 * queue do not fit. */
#define SEND_BUFFER_BYTES (4 * 1024 * 1024)

struct stream {
    int fd;
    struct fd_watch *watch;
};

static void tune(int fd)
{
    static const int on = 1;
    static const int send_bytes = SEND_BUFFER_BYTES;
    int family = 0;
    socklen_t bytes = sizeof(family);
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes);
    if (family == AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes));
    else if (family == AF_INET || family == AF_INET6)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

struct stream *stream_create(int fd)
{
    struct stream *stream = xmalloc(sizeof(*stream));
    *stream = (struct stream){ .fd = fd, .watch = fd_watch_create(fd) };
    tune(fd);
    return stream;
}

void stream_destroy(struct stream *stream)
{
    if (!stream)
        return;
    fd_watch_destroy(stream->watch);
    close(stream->fd);
    free(stream);
}

ssize_t stream_readv(struct stream *stream, const struct iovec *vec, int count)
{
    ssize_t n;
    do {
        n = count == 1 ? recv(stream->fd, vec->iov_base, vec->iov_len, 0) : readv(stream->fd, vec, count);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t stream_writev(struct stream *stream, const struct iovec *vec, int count)
{
    struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)vec, .msg_iovlen = (size_t)count };
    ssize_t n;
    do {
        n = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int stream_wait_readable(struct stream *stream, uint64_t timeout_ms)
{
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
    shutdown(stream->fd, SHUT_RDWR);
    fd_watch_cancel(stream->watch);
}
