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
    int armed;     /* UV_READABLE | UV_WRITABLE: what libuv reports */
    int not_watch; /* why the descriptor cannot be watched, or 0: a regular file is always ready (-EPERM) */
    bool cancelled;
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
        if (!watch->waiters[direction])
            unwanted |= uv_event[direction];
        wake(watch->waiters[direction], 0);
    }
    if (watch->armed & unwanted)
        arm(watch, watch->armed & ~unwanted);
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
    assert(!watch->waiters[READ] && !watch->waiters[WRITE]);
    if (watch->poll.type == UV_POLL)
        uv_close((uv_handle_t *)&watch->poll, closed);
    else
        free(watch);
}

static void timed_out(void *arg)
{
    wake(arg, -ETIMEDOUT);
}

static int wait_for(struct fd_watch *watch, enum direction direction, uint64_t timeout_ms, const char *what)
{
    assert(watch->loop == current_loop);
    assert(!watch->waiters[direction]);
    if (watch->cancelled)
        return -ECANCELED;
    if (!(watch->armed & uv_event[direction]) && watch->not_watch == 0)
        arm(watch, watch->armed | uv_event[direction]);
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

void fd_watch_cancel(struct fd_watch *watch)
{
    assert(watch->loop == current_loop);
    watch->cancelled = true;
    wake(watch->waiters[READ], -ECANCELED);
    wake(watch->waiters[WRITE], -ECANCELED);
}
