/* loop_private - the layout of a loop, for the files of this folder
 *
 * All fields belong to the loop's thread, except `inbox`, `asleep`, `starting` and the reading of `alive`. */
#ifndef CAIRN_RUNTIME_LOOP_PRIVATE_H
#define CAIRN_RUNTIME_LOOP_PRIVATE_H

#include "blockcore/base/list.h"
#include "blockcore/runtime/buffer_private.h"
#include "blockcore/runtime/context.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/timer_private.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

struct ring;

struct loop {
    uv_loop_t uv;
    uv_prepare_t before_sleep; /* runs a turn */
    uv_idle_t busy;            /* active while there is work left: keeps libuv from sleeping */
    int wakeup_fd;             /* eventfd(2) */
    uv_poll_t wakeup;
    unsigned index;
    pthread_t thread; /* that runs it */
    struct loop_task stop;
    bool now_known; /* somebody has asked for the time in this turn */
    uint64_t now_ns;

    /* What is ready: one chain, first in, first out. */
    struct loop_task *ready;
    struct loop_task **ready_end;

    struct coroutine *running;
    struct context context; /* of the thread itself */
    struct list coroutines; /* alive */
    struct list spare;      /* ended coroutines, with their stacks */
    unsigned spare_count;
    unsigned spare_least;      /* that there were since the last look */
    _Atomic unsigned alive;    /* length of `coroutines`; written by the loop's thread only */
    _Atomic unsigned starting; /* posted by co_start_on, not begun yet */

    struct timer_heap timers;
    struct buffer_cache buffers;
    struct timer trim; /* the next look at what is spare */
    bool trimming;     /* it will come */
    struct ring *ring; /* NULL until first used, and when the kernel refuses */
    bool ring_refused;

    /* Tasks of other threads, last in first. */
    _Alignas(64) _Atomic(struct loop_task *) inbox;
    _Atomic bool asleep; /* or about to be: whoever takes it down must wake the loop */
};

/* Of the calling thread; NULL on a thread without one. */
extern _Thread_local struct loop *current_loop;

void loop_init(struct loop *loop, unsigned index);

/* Makes the loop that of the calling thread. */
void loop_adopt(struct loop *loop);

/* Runs what is left over, closes and frees; returns when libuv has let go of everything. On any one thread, after the
 * loop's own thread has ended. Ends the process with a message when a coroutine or a foreign handle is left. */
void loop_fini(struct loop *loop);

/* Queues @task to run in this turn or the next. The loop's thread only. */
static inline void loop_make_ready(struct loop *loop, struct loop_task *task)
{
    task->next = NULL;
    *loop->ready_end = task;
    loop->ready_end = &task->next;
}

/* To be called first in each libuv callback of this folder: others need not wake the loop from here on. */
void loop_awake(struct loop *loop);

/* There is more to spare than is worth keeping: after a while, what nobody needed meanwhile is given back little by
 * little. */
void loop_trim_later(struct loop *loop);

/* coroutine.c: frees some spare coroutines that nobody needed since the last call. True: there are more than are worth
 * keeping. */
bool loop_trim_coroutines(struct loop *loop);

#endif
