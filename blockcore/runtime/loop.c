#include "blockcore/runtime/loop.h"

#include "blockcore/runtime/coroutine_private.h"
#include "blockcore/runtime/loop_private.h"
#include "blockcore/runtime/loop_uv.h"
#include "blockcore/runtime/ring.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

/* Passes over what is ready before sockets and timers get their turn again. */
#define TRIM_MS 250 /* between two looks at what is spare */
#define PASSES_MAX 16

_Thread_local struct loop *current_loop;

void loop_awake(struct loop *loop)
{
    if (atomic_load_explicit(&loop->asleep, memory_order_relaxed))
        atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
}

static void nothing_to_do(uv_idle_t *handle)
{
    loop_awake(handle->data);
}

/* An eventfd of our own instead of uv_async_t: libuv lets the woken thread spin until the waking one has come out of
 * its system call, which takes long when both share a processor. */
static void wake(struct loop *loop)
{
    eventfd_write(loop->wakeup_fd, 1);
}

static void woken(uv_poll_t *handle, int status, int events)
{
    struct loop *loop = handle->data;
    eventfd_t count;
    (void)status;
    (void)events;
    eventfd_read(loop->wakeup_fd, &count);
    loop_awake(loop);
}

/* Makes ready what others have posted, the oldest first. */
static void take_inbox(struct loop *loop)
{
    if (!atomic_load_explicit(&loop->inbox, memory_order_relaxed))
        return;
    struct loop_task *task = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire);
    struct loop_task *oldest_first = NULL;
    while (task) {
        struct loop_task *older = task->next;
        task->next = oldest_first;
        oldest_first = task;
        task = older;
    }
    while (oldest_first) {
        task = oldest_first;
        oldest_first = task->next;
        loop_make_ready(loop, task);
    }
}

/* One pass: what becomes ready meanwhile waits for the next. */
static void run_ready(struct loop *loop)
{
    struct loop_task *task = loop->ready;
    loop->ready = NULL;
    loop->ready_end = &loop->ready;
    while (task) {
        struct loop_task *next = task->next;
        task->run(task);
        task = next;
    }
}

/* False when something was posted at the last moment. We say that we sleep and then look into the inbox; who posts
 * fills the inbox and then looks whether we sleep. All four steps are in the one order that all threads see, so at
 * least one of the two finds the other; with acquire and release alone both could read what was there before. To be
 * taken for asleep when awake costs a system call and nothing else, so loop_awake() needs no order. */
static bool go_to_sleep(struct loop *loop)
{
    atomic_store(&loop->asleep, true);
    if (!atomic_load(&loop->inbox))
        return true;
    atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    return false;
}

/* New I/O is submitted when nothing else is left to run, so that all of it goes in one system call; what is complete by
 * then (a read that hit the page cache) needs no sleep. */
static void loop_turn(struct loop *loop)
{
    loop_awake(loop);
    loop->now_known = false;
    bool more = true;
    for (int pass = 0; more && pass < PASSES_MAX; pass++) {
        take_inbox(loop);
        if (!loop->ready)
            more = ring_turn(loop);
        run_ready(loop);
    }
    if (more)
        more = ring_turn(loop) || loop->ready;
    if (!more && go_to_sleep(loop))
        uv_idle_stop(&loop->busy);
    else
        uv_idle_start(&loop->busy, nothing_to_do);
    loop->now_known = false; /* sockets and timers come next, perhaps after a sleep */
}

static void before_sleep(uv_prepare_t *handle)
{
    loop_turn(handle->data);
}

void loop_post(struct loop *loop, struct loop_task *task)
{
    struct loop_task *newest = atomic_load_explicit(&loop->inbox, memory_order_relaxed);
    do {
        task->next = newest;
    } while (!atomic_compare_exchange_weak(&loop->inbox, &newest, task));
    /* The loop's own thread takes its inbox before it sleeps; for the others see go_to_sleep(). One of them is enough
     * to wake it: the eventfd stays readable until the loop has read it, and the inbox is taken after that. */
    if (loop != current_loop && atomic_load(&loop->asleep) && atomic_exchange(&loop->asleep, false))
        wake(loop);
}

static void trim(void *arg)
{
    struct loop *loop = arg;
    bool coroutines = loop_trim_coroutines(loop);
    bool buffers = buffer_cache_trim(&loop->buffers);
    loop->trimming = false;
    if (coroutines || buffers)
        loop_trim_later(loop);
}

void loop_trim_later(struct loop *loop)
{
    if (loop->trimming)
        return;
    loop->trimming = true;
    timer_start(&loop->trim, TRIM_MS);
}

void loop_init(struct loop *loop, unsigned index)
{
    *loop = (struct loop){ .index = index };
    loop->ready_end = &loop->ready;
    list_init(&loop->coroutines);
    list_init(&loop->spare);
    loop->trim = (struct timer){ .loop = loop, .expired = trim, .arg = loop };
    loop->wakeup_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wakeup_fd < 0 || uv_loop_init(&loop->uv) != 0 ||
        uv_poll_init(&loop->uv, &loop->wakeup, loop->wakeup_fd) != 0) {
        fprintf(stderr, "cairn: cannot make an event loop\n");
        abort();
    }
    uv_prepare_init(&loop->uv, &loop->before_sleep);
    uv_idle_init(&loop->uv, &loop->busy);
    loop->before_sleep.data = loop->busy.data = loop->wakeup.data = loop;
    uv_prepare_start(&loop->before_sleep, before_sleep);
    uv_poll_start(&loop->wakeup, UV_READABLE, woken);
    timer_heap_init(loop);
}

void loop_adopt(struct loop *loop)
{
    current_loop = loop;
    if (loop)
        context_init_thread(&loop->context);
}

uint64_t loop_cpu_ns(const struct loop *loop)
{
    clockid_t clock;
    struct timespec used = { 0 };
    if (pthread_getcpuclockid(loop->thread, &clock) == 0)
        clock_gettime(clock, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void count_closing(uv_handle_t *handle, void *count)
{
    if (uv_is_closing(handle))
        ++*(unsigned *)count;
    else
        fprintf(stderr, "cairn: a libuv handle (%s) is still open\n", uv_handle_type_name(handle->type));
}

static void let_uv_close(uv_loop_t *uv)
{
    unsigned closing;
    do {
        closing = 0;
        uv_walk(uv, count_closing, &closing);
        uv_run(uv, UV_RUN_NOWAIT);
    } while (closing > 0);
    if (uv_loop_close(uv) != 0)
        abort();
}

void loop_fini(struct loop *loop)
{
    struct loop *previous = current_loop;
    loop_adopt(loop);
    do {
        take_inbox(loop);
        run_ready(loop);
    } while (loop->ready || atomic_load(&loop->inbox));
    if (loop_coroutines_alive(loop) > 0) {
        loop_print_coroutines(loop, stderr);
        abort();
    }
    ring_close(loop);
    timer_stop(&loop->trim);
    loop->trimming = true; /* for the rest of its days */
    timer_heap_close(loop);
    uv_close((uv_handle_t *)&loop->before_sleep, NULL);
    uv_close((uv_handle_t *)&loop->busy, NULL);
    uv_close((uv_handle_t *)&loop->wakeup, NULL);
    let_uv_close(&loop->uv);
    close_fd(loop->wakeup_fd);
    ring_free(loop);
    timer_heap_fini(loop);
    buffer_cache_fini(&loop->buffers);
    loop_free_coroutines(loop);
    current_loop = previous;
}

struct loop *loop_current(void)
{
    return current_loop;
}

bool loop_is_current(const struct loop *loop)
{
    return loop == current_loop;
}

unsigned loop_index(const struct loop *loop)
{
    return loop->index;
}

uint64_t loop_now_ns(void)
{
    if (!current_loop->now_known) {
        current_loop->now_ns = uv_hrtime();
        current_loop->now_known = true;
    }
    return current_loop->now_ns;
}

uv_loop_t *loop_uv(struct loop *loop)
{
    assert(loop == current_loop);
    return &loop->uv;
}
