/* loop - one thread, its libuv loop, its io_uring, its coroutines that are ready
 *
 * The process has one control loop (on the thread that called runtime_start) and some I/O loops. A turn of a loop
 * runs all that is ready, then submits all new I/O with one system call, then sleeps until something happens.
 *
 *     other threads --post--> inbox --.
 *     completions, sockets, timers ----+--> ready coroutines --> submit --> sleep
 *
 * The control thread never blocks: what may block is awaited on the pool (pool.h) or on an I/O loop. */
#ifndef CAIRN_RUNTIME_LOOP_H
#define CAIRN_RUNTIME_LOOP_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define IO_LOOPS_MAX 64

struct loop;

struct runtime_options {
    unsigned io_loops;     /* 0: one per core, at most 4; at most IO_LOOPS_MAX */
    bool disable_io_uring; /* use the blocking pool for all file I/O; also set by CAIRN_NO_IO_URING=1 */
};

/* Makes the calling thread the control thread and starts the I/O threads. Once per process until runtime_stop. */
struct error *runtime_start(const struct runtime_options *options) MUST_CHECK;

/* Runs the control loop on the calling thread until runtime_quit(). */
void runtime_run(void);

/* Ends runtime_run() after the current turn. Control thread. */
void runtime_quit(void) CONTROL_FN;

/* Starts a coroutine on the control loop and runs the loop until it has ended. For programs' main and for tests. */
void runtime_run_coroutine(const char *name, void (*entry)(void *arg), void *arg);

/* Ends the I/O threads and frees everything. No coroutine may be alive (the process ends with a list of those that are)
 * and no call on the pool, except with @abandon: then threads that hang in a system call on dead storage are left
 * behind with all memory, and the caller must end the process. Control thread, outside coroutines. Returns how many
 * threads run calls that were left behind (co_blocking_or_leave): if any, the process must end by _exit(2). */
unsigned runtime_stop(bool abandon);

struct loop *loop_current(void); /* NULL on a thread without a loop (pool threads) */
struct loop *loop_control(void);
struct loop *loop_io(unsigned index); /* index < loop_io_count() */
unsigned loop_io_count(void);
unsigned loop_index(const struct loop *loop); /* of an I/O loop; the control loop has loop_io_count() */
struct loop *loop_io_next(void);              /* spreads over the I/O loops, round robin; any thread */
/* Processor time that the loop's thread has used. Any thread. */
uint64_t loop_cpu_ns(const struct loop *loop);
/* Coroutines that have begun, or are about to, and not ended; as co_count(). Any thread. */
unsigned loop_coroutines_alive(struct loop *loop);
bool loop_is_current(const struct loop *loop);
bool on_control_thread(void);

/* A small piece of work for another loop. Embedded in what it works on; runs once, outside coroutines, must not wait.
 */
struct loop_task {
    void (*run)(struct loop_task *task);
    struct loop_task *next;
};

/* Any thread; wakes the loop if it sleeps. In order per posting thread. */
void loop_post(struct loop *loop, struct loop_task *task);

/* Nanoseconds of the monotonic clock, the same in all of a turn of the loop: of the moment when they were first asked
 * for in it. */
uint64_t loop_now_ns(void);

/* One-shot timer with a callback, on the loop it was created on. */
struct timer;
struct timer *timer_create_on_loop(void (*expired)(void *arg), void *arg) LOOP_FN;
void timer_start(struct timer *timer, uint64_t ms) LOOP_FN; /* starts again when running */
void timer_stop(struct timer *timer) LOOP_FN;
void timer_destroy(struct timer *timer) LOOP_FN; /* stops; NULL is allowed */

#endif
