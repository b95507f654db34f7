/* timer_private - deadlines of a loop: a heap of timers above one timer of libuv
 *
 * A timer may live on the stack of the coroutine that waits. Starting and stopping costs O(log n) and no system call;
 * libuv's timer is only moved when an earlier deadline comes first.
 *
 * Invariant: while a timer runs, libuv's goes off no later than the earliest deadline, but for the part of a
 * millisecond that libuv does not know. It may go off too early, even in vain; then it is set again. */
#ifndef CAIRN_RUNTIME_TIMER_PRIVATE_H
#define CAIRN_RUNTIME_TIMER_PRIVATE_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct loop;

struct timer {
    struct loop *loop;
    void (*expired)(void *arg);
    void *arg;
    uint64_t deadline_ns;
    size_t place; /* in the heap, from 1 on; 0: not running */
};

struct timer_heap {
    struct timer **timers; /* [0] is the earliest */
    size_t count;
    size_t capacity;
    uint64_t alarm_ns; /* when libuv's timer goes off; UINT64_MAX: it does not run */
    uv_timer_t alarm;
};

void timer_heap_init(struct loop *loop);
/* Begins to close libuv's timer. No timer may be running. */
void timer_heap_close(struct loop *loop);
/* After libuv's loop has closed. */
void timer_heap_fini(struct loop *loop);

/* In place, on the current loop. */
void timer_init(struct timer *timer, void (*expired)(void *arg), void *arg);

#endif
