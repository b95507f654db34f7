#include "blockcore/runtime/ring.h"

#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop_private.h"
#include "blockcore/runtime/runtime_private.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#define SUBMISSIONS 256
#define COMPLETIONS 4096
#define NS_PER_SECOND UINT64_C(1000000000)

/* A request waits in line, is in the submission queue, or is in the kernel. None is forgotten when the loop goes to
 * sleep: those in line found the ring full, so completions will come and make room (ring_turn); while something is in
 * the submission queue `unsubmitted` is set, and the loop does not sleep; for the rest the ring's descriptor becomes
 * readable, and stays so until they have been reaped. */
struct ring {
    struct io_uring uring;
    uv_poll_t poll;
    unsigned in_flight; /* never more than the completion queue holds */
    bool unsubmitted;
    struct list waiting; /* requests that found the ring full */
};

struct ring_op {
    struct list link;
    struct co_event done;
    void (*prepare)(struct io_uring_sqe *sqe, struct ring_op *op);
    int fd;
    int flags;
    unsigned count;
    const struct iovec *vec;
    uint64_t offset;
    struct __kernel_timespec time; /* of a timeout */
    int result;
};

static void complete(struct ring *ring, struct io_uring_cqe *cqe)
{
    struct ring_op *op = io_uring_cqe_get_data(cqe);
    op->result = cqe->res;
    ring->in_flight--;
    co_event_set(&op->done);
}

static bool reap(struct ring *ring)
{
    unsigned head;
    unsigned count = 0;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&ring->uring, head, cqe)
    {
        complete(ring, cqe);
        count++;
    }
    io_uring_cq_advance(&ring->uring, count);
    return count > 0;
}

static void completions_arrived(uv_poll_t *poll, int status, int events)
{
    struct loop *loop = poll->data;
    (void)status;
    (void)events;
    loop_awake(loop);
    reap(loop->ring);
}

/* Completions that need this thread are done whenever it enters the kernel, which epoll_wait does too; by default they
 * interrupt it. IORING_SETUP_DEFER_TASKRUN would spare more, but the kernel (seen with 6.18) does not report deferred
 * work to those who poll the ring's descriptor. Kernels before 6.0 know none of the flags. */
static int setup(struct ring *ring)
{
    static const unsigned flags[] = { IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN, 0 };
    int ret = -EINVAL;
    for (size_t i = 0; i < ARRAY_SIZE(flags) && ret == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = COMPLETIONS,
        };
        ret = io_uring_queue_init_params(SUBMISSIONS, &ring->uring, &params);
    }
    return ret;
}

static struct ring *ring_create(struct loop *loop)
{
    struct ring *ring = xcalloc(1, sizeof(*ring));
    list_init(&ring->waiting);
    if (setup(ring) != 0) {
        free(ring);
        return NULL;
    }
    if (uv_poll_init(&loop->uv, &ring->poll, ring->uring.ring_fd) != 0) {
        io_uring_queue_exit(&ring->uring);
        free(ring);
        return NULL;
    }
    ring->poll.data = loop;
    uv_poll_start(&ring->poll, UV_READABLE, completions_arrived);
    return ring;
}

bool ring_available(void)
{
    struct loop *loop = current_loop;
    if (!loop->ring && !loop->ring_refused) {
        loop->ring = runtime_io_uring_disabled() ? NULL : ring_create(loop);
        loop->ring_refused = !loop->ring;
    }
    return loop->ring;
}

static void submit(struct ring *ring)
{
    io_uring_submit(&ring->uring);
    ring->unsubmitted = io_uring_sq_ready(&ring->uring) > 0;
}

/* False when the ring is full. */
static bool enqueue(struct ring *ring, struct ring_op *op)
{
    if (ring->in_flight >= *ring->uring.cq.kring_entries)
        return false;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (!sqe) {
        submit(ring);
        sqe = io_uring_get_sqe(&ring->uring);
        if (!sqe)
            return false;
    }
    op->prepare(sqe, op);
    io_uring_sqe_set_data(sqe, op);
    ring->in_flight++;
    ring->unsubmitted = true;
    return true;
}

static void enqueue_waiting(struct ring *ring)
{
    while (!list_empty(&ring->waiting)) {
        struct ring_op *op = list_first(&ring->waiting, struct ring_op, link);
        if (!enqueue(ring, op))
            return;
        list_remove(&op->link);
    }
}

bool ring_turn(struct loop *loop)
{
    struct ring *ring = loop->ring;
    if (!ring)
        return false;
    enqueue_waiting(ring);
    if (ring->unsubmitted)
        submit(ring);
    bool progress = reap(ring);
    return progress || ring->unsubmitted;
}

static int await(struct ring_op *op, const char *what)
{
    struct ring *ring = current_loop->ring;
    co_event_init(&op->done);
    if (!list_empty(&ring->waiting) || !enqueue(ring, op))
        list_append(&ring->waiting, &op->link);
    co_event_wait(&op->done, what);
    return op->result;
}

static void prepare_read(struct io_uring_sqe *sqe, struct ring_op *op)
{
    io_uring_prep_readv2(sqe, op->fd, op->vec, op->count, op->offset, op->flags);
}

static void prepare_write(struct io_uring_sqe *sqe, struct ring_op *op)
{
    io_uring_prep_writev2(sqe, op->fd, op->vec, op->count, op->offset, op->flags);
}

static void prepare_timeout(struct io_uring_sqe *sqe, struct ring_op *op)
{
    io_uring_prep_timeout(sqe, &op->time, 0, 0);
}

int ring_preadv(int fd, const struct iovec *vec, unsigned count, uint64_t offset, int flags)
{
    struct ring_op op = {
        .prepare = prepare_read,
        .fd = fd,
        .flags = flags,
        .count = count,
        .vec = vec,
        .offset = offset,
    };
    return await(&op, "a read");
}

int ring_pwritev(int fd, const struct iovec *vec, unsigned count, uint64_t offset, int flags)
{
    struct ring_op op = {
        .prepare = prepare_write,
        .fd = fd,
        .flags = flags,
        .count = count,
        .vec = vec,
        .offset = offset,
    };
    return await(&op, "a write");
}

void ring_sleep(uint64_t ns)
{
    struct ring_op op = {
        .prepare = prepare_timeout,
        .time = { .tv_sec = (long long)(ns / NS_PER_SECOND), .tv_nsec = (long long)(ns % NS_PER_SECOND) },
    };
    await(&op, "a short while");
}

void ring_close(struct loop *loop)
{
    if (loop->ring) {
        assert(loop->ring->in_flight == 0);
        uv_close((uv_handle_t *)&loop->ring->poll, NULL);
    }
}

void ring_free(struct loop *loop)
{
    if (!loop->ring)
        return;
    io_uring_queue_exit(&loop->ring->uring);
    free(loop->ring);
    loop->ring = NULL;
}
