#include "blockcore/runtime/fd_close.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/file_io.h"
#include "blockcore/runtime/pool_private.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct closing {
    struct pool_job job;
    int fd;
};

/* One domain for all that nobody waits for: a server that is dead costs these threads and no more, however often
 * clients come, pass descriptors and leave. */
static struct {
    struct pool_domain *domain;
    _Atomic unsigned left; /* jobs, and one for fd_close_wait_end() that has not come yet */
    struct co_event none_left;
} later;

static bool is_socket(int fd)
{
    int type;
    socklen_t bytes = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0;
}

void co_fd_close(int fd)
{
    if (is_socket(fd)) {
        close(fd);
        return;
    }
    struct pool_domain *domain = pool_domain_create("a passed descriptor", 1);
    co_close(domain, fd);
    pool_domain_unref(domain);
}

static void one_less(void)
{
    if (atomic_fetch_sub_explicit(&later.left, 1, memory_order_acq_rel) == 1)
        co_event_set(&later.none_left);
}

static void run_closing(struct pool_job *job)
{
    struct closing *closing = CONTAINER_OF(job, struct closing, job);
    close(closing->fd);
    free(closing);
    one_less();
}

void fd_close_later(int fd)
{
    if (is_socket(fd)) {
        close(fd);
        return;
    }
    if (!later.domain) {
        later.domain = pool_domain_create("passed descriptors", 0);
        co_event_init(&later.none_left);
        atomic_store_explicit(&later.left, 1, memory_order_relaxed);
    }
    struct closing *closing = xmalloc(sizeof(*closing));
    *closing = (struct closing){ .job.run = run_closing, .fd = fd };
    atomic_fetch_add_explicit(&later.left, 1, memory_order_relaxed);
    pool_submit(later.domain, &closing->job);
}

void fd_close_wait_end(void)
{
    if (!later.domain)
        return;
    one_less();
    co_event_wait(&later.none_left, "descriptors that are closed");
    pool_domain_unref(steal(&later.domain));
}
