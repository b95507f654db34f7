/* coroutine - code that reads downwards while it waits
 *
 * A coroutine has a stack of its own (pooled, with a guard page) and runs on one thread for all its life. It runs
 * until it waits; then control returns to whoever entered it. What it waited for resumes it through the queue of its
 * loop, never in the middle of somebody else's code.
 *
 *     loop ----enter----> connection ----co_start----> request (read from the cache: ends at once)
 *                             '---------co_start----> request (waits for io_uring) --> back to connection
 *     loop <---waits---- connection
 *     loop ----resume---> request ...
 *
 * Rules: no thread mutex is held across a wait; after a wait all shared state is read again; a coroutine is never
 * dropped, it always runs to its end, so its cleanups run. Sanitizers and valgrind are told of each switch. */
#ifndef CAIRN_RUNTIME_COROUTINE_H
#define CAIRN_RUNTIME_COROUTINE_H

#include "blockcore/base/annotations.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct coroutine;
struct loop;

typedef void coroutine_entry(void *arg);

/* Usable bytes of a coroutine's stack; deeper recursion hits the guard page. A graph as deep as GRAPH_DEPTH_MAX fits.
 */
#define COROUTINE_STACK_BYTES (1024 * 1024)

/* Runs @entry(@arg) as a new coroutine, at once, on this thread (which must have a loop); returns when it first waits
 * or ends. From inside a coroutine the caller goes on then. @name is static text, shown in logs and listings. */
void co_start(const char *name, coroutine_entry *entry, void *arg);

/* The same on @loop, from any thread; begins in a later turn of that loop. */
void co_start_on(struct loop *loop, const char *name, coroutine_entry *entry, void *arg);

/* Runs @fn(@arg) as a coroutine on @loop and waits for its result. */
int co_call_on(struct loop *loop, const char *name, int (*fn)(void *arg), void *arg) CO_FN;

/* The running coroutine, or NULL outside of any. */
struct coroutine *co_self(void);
const char *co_name(const struct coroutine *co);

/* On whose behalf the running coroutine works, as a number; 0: nobody's, also outside of any. What it starts works for
 * the same, as long as that lasts. */
uint64_t co_owner(void);
void co_set_owner(uint64_t owner);

/* What the running coroutine is about, for listings: notes lie on its stack, one inside the other. @doing is static
 * text, @name (NULL: none) stays as long as the note. Harmless outside of coroutines. */
struct co_note {
    const char *doing;
    const char *name;
    const struct coroutine *worker; /* weak, NULL: none. Of this thread; what it does is told */
    struct co_note *outer;
};

void co_note_begin(struct co_note *note, const char *doing, const char *name);
void co_note_end(struct co_note *note);

/* "opening node 'disk0': a blocking call", the innermost note and what is waited for. Of a coroutine of this thread
 * that has not ended. The caller frees it. */
char *co_describe(const struct coroutine *co);

/* Nobody wants the result of a coroutine of this thread any more. It goes on, but code that asks co_cancelled() walks
 * out at its next step, and waits that say so end at once. What has happened already, stays. */
void co_cancel(struct coroutine *co);

/* What co_cancel() calls, on the same thread and not in the coroutine: the innermost of those that the running
 * coroutine has begun and not ended. They lie on its stack, one inside the other. */
struct co_on_cancel {
    void (*fn)(struct co_on_cancel *self);
    struct co_on_cancel *outer;
};

void co_on_cancel_begin(struct co_on_cancel *self, void (*fn)(struct co_on_cancel *self));
void co_on_cancel_end(struct co_on_cancel *self);

/* May the running coroutine, once it is cancelled, leave behind what it reads (file_io.h)? Who allows that wants
 * nothing of what it works on then. Off at first; returns what was. */
bool co_set_may_leave(bool may_leave);
bool co_may_leave(void);

/* Shall the running coroutine end early? False outside of any. */
bool co_cancelled(void);

/* Lets everything else that is ready run first. */
void co_yield (void) CO_FN;

void co_sleep_ms(uint64_t ms) CO_FN;
/* Timers of loops know milliseconds; the rest is left to io_uring, or, without it, waited for by letting others run. */
void co_sleep_ns(uint64_t ns) CO_FN;

/* An event that happens once and that one coroutine may wait for. Everything in the runtime that waits, waits on
 * one of these. It may live on the waiter's stack: co_event_set does not touch it after the waiter can go on. */
struct co_event {
    _Atomic(void *) state;
};

void co_event_init(struct co_event *event);

/* Returns at once if the event has been set. @what (static text) says in listings what is waited for. */
void co_event_wait(struct co_event *event, const char *what) CO_FN;
/* The same, until the coroutine is cancelled: false, and then the event may be set still, so it must stay until nobody
 * will. */
bool co_event_wait_unless_cancelled(struct co_event *event, const char *what) CO_FN;

/* Any thread, also outside coroutines. Everything written before is seen by the waiter. At most once per init. */
void co_event_set(struct co_event *event);
bool co_event_is_set(const struct co_event *event);

/* Coroutines that are joined together. All of a group live on the thread of the one who joins. */
struct co_group {
    unsigned running;
    struct co_event *done;
};

void co_group_init(struct co_group *group);

/* Like co_start, as a member of @group. */
void co_group_start(struct co_group *group, const char *name, coroutine_entry *entry, void *arg) CO_FN;

/* Waits until all members have ended; the group can be used again then. */
void co_group_join(struct co_group *group) CO_FN;

/* Coroutines alive in the process: for tests and statistics. */
unsigned co_count(void);

#endif
