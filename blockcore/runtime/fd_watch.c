#include "blockcore/runtime/fd_watch.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/loop_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum direction { READ, WRITE, DIRECTIONS };

static const int uv_event[DIRECTIONS] = { UV_READABLE, UV_WRITABLE };

struct fd_waiter {
    struct fd_watch *watch;
    struct co_event go_on;
    struct timer timer;
    enum direction direction;
    int result;
};

struct fd_watch {
    uv_poll_t poll;
    struct loop *loop;
    struct fd_waiter *waiters[DIRECTIONS];
    void (*ready)(void *arg); /* in place of a waiter to read; or NULL */
    void *ready_arg;
    int armed;     /* UV_READABLE | UV_WRITABLE: what libuv reports */
    int not_watch; /* why the descriptor cannot be watched, or 0: a regular file is always ready (-EPERM) */
    bool cancelled[DIRECTIONS];
};

static void wake(struct fd_waiter *waiter, int result)
{
    if (!waiter)
        return;
    waiter->watch->waiters[waiter->direction] = NULL;
    waiter->result = result;
    timer_stop(&waiter->timer);
    co_event_set(&waiter->go_on);
}

static bool is_wanted(const struct fd_watch *watch, enum direction direction)
{
    return watch->waiters[direction] || (direction == READ && watch->ready);
}

/* The watch may be gone afterwards. */
static void call_ready(struct fd_watch *watch)
{
    void (*ready)(void *arg) = watch->ready;
    watch->ready = NULL;
    ready(watch->ready_arg);
}

static void arm(struct fd_watch *watch, int events);

/* The kernel reports a direction that is armed again in each turn as long as it is ready, so who comes to wait after it
 * has become ready is woken too. It stays armed as long as somebody has come back to wait by the time it fires again.
 */
static void fired(uv_poll_t *poll, int status, int events)
{
    struct fd_watch *watch = poll->data;
    loop_awake(watch->loop);
    if (status < 0) {
        /* libuv has stopped watching; the next system call of those who wait will say what is wrong. */
        watch->armed = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    int unwanted = 0;
    for (enum direction direction = READ; direction < DIRECTIONS; direction++) {
        if (!(events & uv_event[direction]))
            continue;
        if (!is_wanted(watch, direction))
            unwanted |= uv_event[direction];
        wake(watch->waiters[direction], 0);
    }
    if (watch->armed & unwanted)
        arm(watch, watch->armed & ~unwanted);
    if ((events & UV_READABLE) && watch->ready)
        call_ready(watch);
}

/* Costs system calls. */
static void arm(struct fd_watch *watch, int events)
{
    watch->armed = events;
    if (events == 0)
        uv_poll_stop(&watch->poll);
    else
        watch->not_watch = uv_poll_start(&watch->poll, events, fired);
}

struct fd_watch *fd_watch_create(int fd)
{
    struct fd_watch *watch = xmalloc(sizeof(*watch));
    assert(current_loop);
    *watch = (struct fd_watch){ .loop = current_loop };
    watch->not_watch = uv_poll_init(&watch->loop->uv, &watch->poll, fd);
    watch->poll.data = watch;
    return watch;
}

static void closed(uv_handle_t *poll)
{
    free(poll->data);
}

void fd_watch_destroy(struct fd_watch *watch)
{
    assert(watch->loop == current_loop);
    assert(!is_wanted(watch, READ) && !is_wanted(watch, WRITE));
    if (watch->poll.type == UV_POLL)
        uv_close((uv_handle_t *)&watch->poll, closed);
    else
        free(watch);
}

static void timed_out(void *arg)
{
    wake(arg, -ETIMEDOUT);
}

static void want(struct fd_watch *watch, enum direction direction)
{
    assert(watch->loop == current_loop);
    assert(!is_wanted(watch, direction));
    if (!(watch->armed & uv_event[direction]) && watch->not_watch == 0)
        arm(watch, watch->armed | uv_event[direction]);
}

static int wait_for(struct fd_watch *watch, enum direction direction, uint64_t timeout_ms, const char *what)
{
    if (watch->cancelled[direction])
        return -ECANCELED;
    want(watch, direction);
    if (watch->not_watch != 0)
        return watch->not_watch == -EPERM ? 0 : watch->not_watch;

    struct fd_waiter waiter = { .watch = watch, .direction = direction };
    co_event_init(&waiter.go_on);
    timer_init(&waiter.timer, timed_out, &waiter);
    if (timeout_ms != FD_WATCH_FOREVER)
        timer_start(&waiter.timer, timeout_ms);
    watch->waiters[direction] = &waiter;
    co_event_wait(&waiter.go_on, what);
    return waiter.result;
}

int fd_watch_readable(struct fd_watch *watch, uint64_t timeout_ms)
{
    return wait_for(watch, READ, timeout_ms, "a descriptor, to read");
}

int fd_watch_writable(struct fd_watch *watch, uint64_t timeout_ms)
{
    return wait_for(watch, WRITE, timeout_ms, "a descriptor, to write");
}

void fd_watch_when_readable(struct fd_watch *watch, void (*ready)(void *arg), void *arg)
{
    assert(!watch->cancelled[READ]);
    want(watch, READ);
    assert(watch->not_watch == 0); /* sockets can be watched */
    watch->ready = ready;
    watch->ready_arg = arg;
}

static void cancel(struct fd_watch *watch, enum direction direction)
{
    assert(watch->loop == current_loop);
    watch->cancelled[direction] = true;
    wake(watch->waiters[direction], -ECANCELED);
}

void fd_watch_cancel_reading(struct fd_watch *watch)
{
    watch->ready = NULL;
    cancel(watch, READ);
}

void fd_watch_resume_reading(struct fd_watch *watch)
{
    assert(watch->loop == current_loop);
    watch->cancelled[READ] = false;
}

void fd_watch_cancel(struct fd_watch *watch)
{
    fd_watch_cancel_reading(watch);
    cancel(watch, WRITE);
}
