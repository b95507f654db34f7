#include "daemon/stdio_pump.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/fd_watch.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PUMP_BYTES 16384
#define FAREWELL_MS 1000

/* One end of a way, and how it was before. */
struct end {
    int fd;
    int flags;
    struct fd_watch *watch;
};

struct stdio_pump {
    struct end input;
    struct end output;
    struct end socket; /* ours of the pair */
    struct timer *farewell;
    bool inward_ended;
    bool outward_ended;
    struct co_event *ended; /* of both, for who waits */
};

static void end_open(struct end *end, int fd)
{
    *end = (struct end){ .fd = fd, .flags = fcntl(fd, F_GETFL) };
    end->watch = fd_watch_create(fd);
}

static void end_close(struct end *end)
{
    fd_watch_destroy(end->watch);
    if (end->flags >= 0)
        (void)fcntl(end->fd, F_SETFL, end->flags);
}

/* 0 at the end, or when the wait is cancelled. */
static ssize_t read_some(const struct end *end, char *bytes) CO_FN;

static ssize_t read_some(const struct end *end, char *bytes)
{
    while (fd_watch_readable(end->watch, FD_WATCH_FOREVER) == 0) {
        ssize_t count = read(end->fd, bytes, PUMP_BYTES);
        if (count >= 0)
            return count;
        if (errno != EAGAIN && errno != EINTR)
            break;
    }
    return 0;
}

static bool write_all(const struct end *end, const char *bytes, size_t length) CO_FN;

static bool write_all(const struct end *end, const char *bytes, size_t length)
{
    while (length > 0) {
        if (fd_watch_writable(end->watch, FD_WATCH_FOREVER) < 0)
            return false;
        ssize_t count = write(end->fd, bytes, length);
        if (count < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (count > 0) {
            bytes += count;
            length -= (size_t)count;
        }
    }
    return true;
}

static void pump_until_the_end(const struct end *from, const struct end *to) CO_FN;

static void pump_until_the_end(const struct end *from, const struct end *to)
{
    char *bytes = xmalloc(PUMP_BYTES);
    ssize_t count;
    do
        count = read_some(from, bytes);
    while (count > 0 && write_all(to, bytes, (size_t)count));
    explicit_bzero(bytes, PUMP_BYTES); /* commands hold secrets */
    free(bytes);
}

static void one_has_ended(const struct stdio_pump *pump)
{
    if (pump->inward_ended && pump->outward_ended && pump->ended)
        co_event_set(pump->ended);
}

static void pump_inward(void *arg)
{
    struct stdio_pump *pump = arg;
    pump_until_the_end(&pump->input, &pump->socket);
    (void)shutdown(pump->socket.fd, SHUT_WR);
    pump->inward_ended = true;
    one_has_ended(pump);
}

static void pump_outward(void *arg)
{
    struct stdio_pump *pump = arg;
    pump_until_the_end(&pump->socket, &pump->output);
    pump->outward_ended = true;
    one_has_ended(pump);
}

struct error *stdio_pump_start(struct stdio_pump **out, int *fd)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        return error_errno(errno, "cannot make a pair of sockets");
    struct stdio_pump *pump = xcalloc(1, sizeof(*pump));
    end_open(&pump->input, STDIN_FILENO);
    end_open(&pump->output, STDOUT_FILENO);
    end_open(&pump->socket, fds[0]);
    co_start("standard input", pump_inward, pump);
    co_start("standard output", pump_outward, pump);
    *out = pump;
    *fd = fds[1];
    return NULL;
}

static void give_up(void *arg)
{
    struct stdio_pump *pump = arg;
    fd_watch_cancel(pump->socket.watch);
    fd_watch_cancel(pump->output.watch);
}

void stdio_pump_stop(struct stdio_pump *pump)
{
    if (!pump)
        return;
    struct co_event ended;
    co_event_init(&ended);
    pump->ended = &ended;
    pump->farewell = timer_create_on_loop(give_up, pump);
    timer_start(pump->farewell, FAREWELL_MS);
    fd_watch_cancel(pump->input.watch);
    if (!pump->inward_ended || !pump->outward_ended)
        co_event_wait(&ended, "standard output");
    timer_destroy(pump->farewell);
    end_close(&pump->input);
    end_close(&pump->output);
    end_close(&pump->socket);
    close(pump->socket.fd);
    free(pump);
}
