#include "blockcore/net/acceptor.h"

#include "blockcore/base/memory.h"
#include "blockcore/net/complaint.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/fd_watch.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define REST_MS 100     /* after running out of descriptors or memory */
#define ACCEPT_BURST 16 /* before everybody else on the loop gets a turn */

struct acceptor {
    int fd;
    struct fd_watch *watch;
    struct timer *rest;
    acceptor_accepted *accepted;
    void *arg;
    bool held;
    bool ending;
    struct co_event *wake; /* set while the coroutine rests or is held */
    struct co_event ended;
};

static void wake(struct acceptor *acceptor)
{
    struct co_event *event = acceptor->wake;
    acceptor->wake = NULL;
    if (event)
        co_event_set(event);
}

static void rested(void *arg)
{
    wake(arg);
}

static void wait_for_wake(struct acceptor *acceptor, const char *what)
{
    struct co_event event;
    co_event_init(&event);
    acceptor->wake = &event;
    co_event_wait(&event, what);
}

/* Returns false when there is nothing to accept now. */
static bool accept_one(struct acceptor *acceptor)
{
    int fd = accept4(acceptor->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        acceptor->accepted(fd, acceptor->arg);
        return true;
    }
    switch (errno) {
    case EAGAIN:
        return false;
    case EINTR:
    case ECONNABORTED: /* that client has left already */
        return true;
    default:
        complain(NULL, "cannot accept a connection: %s", strerror(errno));
        timer_start(acceptor->rest, REST_MS);
        wait_for_wake(acceptor, "descriptors, to accept connections");
        timer_stop(acceptor->rest);
        return true;
    }
}

static void acceptor_main(void *arg)
{
    struct acceptor *acceptor = arg;
    unsigned burst = 0;
    while (!acceptor->ending) {
        if (acceptor->held) {
            wait_for_wake(acceptor, "room for a connection");
        } else if (!accept_one(acceptor)) {
            fd_watch_readable(acceptor->watch, FD_WATCH_FOREVER);
        } else if (++burst % ACCEPT_BURST == 0) {
            co_yield ();
        }
    }
    co_event_set(&acceptor->ended);
}

struct acceptor *acceptor_create(int fd, acceptor_accepted *accepted, void *arg)
{
    struct acceptor *acceptor = xmalloc(sizeof(*acceptor));
    *acceptor = (struct acceptor){ .fd = fd, .accepted = accepted, .arg = arg, .held = true };
    acceptor->watch = fd_watch_create(fd);
    acceptor->rest = timer_create_on_loop(rested, acceptor);
    co_event_init(&acceptor->ended);
    co_start("acceptor", acceptor_main, acceptor);
    return acceptor;
}

void acceptor_hold(struct acceptor *acceptor, bool held)
{
    acceptor->held = held;
    if (!held)
        wake(acceptor);
}

void acceptor_destroy(struct acceptor *acceptor)
{
    if (!acceptor)
        return;
    acceptor->ending = true;
    fd_watch_cancel(acceptor->watch);
    wake(acceptor);
    co_event_wait(&acceptor->ended, "the end of an acceptor");
    timer_destroy(acceptor->rest);
    fd_watch_destroy(acceptor->watch);
    free(acceptor);
}
