#include "blockcore/runtime/runtime_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/loop_private.h"
#include "blockcore/runtime/pool_private.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IO_LOOPS_BY_DEFAULT 4

/* How long runtime_stop(true) waits for I/O threads. */
#define ABANDON_SECONDS 1

static struct {
    struct loop *control;
    struct loop *io[IO_LOOPS_MAX];
    unsigned io_count;
    _Atomic unsigned next;
    bool io_uring_disabled;
} runtime;

static struct loop *loop_create(unsigned index)
{
    struct loop *loop = aligned_alloc(_Alignof(struct loop), sizeof(*loop));
    if (!loop)
        abort();
    loop_init(loop, index);
    return loop;
}

static void loop_destroy(struct loop *loop)
{
    loop_fini(loop);
    free(loop);
}

static void *run_io_loop(void *arg)
{
    struct loop *loop = arg;
    char name[16];
    snprintf(name, sizeof(name), "io-%u", loop->index);
    pthread_setname_np(pthread_self(), name);
    loop_adopt(loop);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    return NULL;
}

void signals_of_control_thread(sigset_t *out)
{
    static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };
    sigfillset(out);
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        sigdelset(out, own[i]);
}

/* Threads inherit the mask of the one that makes them. */
static int start_thread(struct loop *loop)
{
    sigset_t blocked, before;
    signals_of_control_thread(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int ret = pthread_create(&loop->thread, NULL, run_io_loop, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ret;
}

static unsigned default_io_loops(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1)
        return 1;
    return cores < IO_LOOPS_BY_DEFAULT ? (unsigned)cores : IO_LOOPS_BY_DEFAULT;
}

struct error *runtime_start(const struct runtime_options *options)
{
    assert(!runtime.control);
    if (options->io_loops > IO_LOOPS_MAX)
        return error_new("%u I/O threads are too many: at most %u", options->io_loops, IO_LOOPS_MAX);
    unsigned io_loops = options->io_loops ? options->io_loops : default_io_loops();
    const char *no_io_uring = getenv("CAIRN_NO_IO_URING");
    runtime.io_uring_disabled = options->disable_io_uring || (no_io_uring && strcmp(no_io_uring, "1") == 0);

    int ret = pool_start();
    if (ret < 0) {
        pool_stop();
        return error_errno(-ret, "cannot start a thread");
    }
    runtime.control = loop_create(io_loops);
    loop_adopt(runtime.control);
    runtime.control->thread = pthread_self();
    while (runtime.io_count < io_loops) {
        struct loop *loop = loop_create(runtime.io_count);
        ret = start_thread(loop);
        if (ret != 0) {
            loop_destroy(loop);
            runtime_stop(false);
            return error_errno(ret, "cannot start an I/O thread");
        }
        runtime.io[runtime.io_count++] = loop;
    }
    return NULL;
}

void runtime_run(void)
{
    assert(on_control_thread());
    uv_run(&runtime.control->uv, UV_RUN_DEFAULT);
}

void runtime_quit(void)
{
    assert(on_control_thread());
    uv_stop(&runtime.control->uv);
}

struct main_coroutine {
    void (*entry)(void *arg);
    void *arg;
    bool ended;
};

static void run_main(void *arg)
{
    struct main_coroutine *main = arg;
    main->entry(main->arg);
    main->ended = true;
    runtime_quit();
}

void runtime_run_coroutine(const char *name, void (*entry)(void *arg), void *arg)
{
    struct main_coroutine main = { .entry = entry, .arg = arg };
    co_start(name, run_main, &main);
    do
        runtime_run();
    while (!main.ended);
}

static void stop_loop(struct loop_task *task)
{
    uv_stop(&CONTAINER_OF(task, struct loop, stop)->uv);
}

static void stop_io_loops(void)
{
    for (unsigned i = 0; i < runtime.io_count; i++) {
        runtime.io[i]->stop.run = stop_loop;
        loop_post(runtime.io[i], &runtime.io[i]->stop);
    }
}

/* The kernel may hold even an I/O thread: reading the map of a file on a dead disk, for example. What is left behind
 * stays valid memory, because a thread that comes back after all answers to its loop. */
static void abandon_threads(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ABANDON_SECONDS;
    for (unsigned i = 0; i < runtime.io_count; i++)
        pthread_timedjoin_np(runtime.io[i]->thread, NULL, &until);
}

/* All threads end before any loop is closed: until then they post to each other. */
static void join_threads(void)
{
    for (unsigned i = 0; i < runtime.io_count; i++)
        pthread_join(runtime.io[i]->thread, NULL);
    pool_stop();
}

unsigned runtime_stop(bool abandon)
{
    assert(on_control_thread());
    stop_io_loops();
    if (abandon) {
        abandon_threads();
        return pool_threads_left();
    }
    join_threads();
    for (unsigned i = 0; i < runtime.io_count; i++)
        loop_destroy(runtime.io[i]);
    runtime.io_count = 0;
    loop_destroy(runtime.control);
    runtime.control = NULL;
    current_loop = NULL;
    return pool_threads_left();
}

bool runtime_io_uring_disabled(void)
{
    return runtime.io_uring_disabled;
}

struct loop *loop_control(void)
{
    return runtime.control;
}

struct loop *loop_io(unsigned index)
{
    assert(index < runtime.io_count);
    return runtime.io[index];
}

unsigned loop_io_count(void)
{
    return runtime.io_count;
}

struct loop *loop_io_next(void)
{
    return runtime.io[atomic_fetch_add_explicit(&runtime.next, 1, memory_order_relaxed) % runtime.io_count];
}

bool on_control_thread(void)
{
    return current_loop && current_loop == runtime.control;
}
