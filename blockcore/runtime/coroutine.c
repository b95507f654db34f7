#include "blockcore/runtime/coroutine.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine_private.h"
#include "blockcore/runtime/loop_private.h"
#include "blockcore/runtime/ring.h"
#include "blockcore/runtime/stack.h"

#include <assert.h>
#include <stdlib.h>

/* Ended coroutines that a loop keeps for the next ones; a stack in use touches two pages or more. */
#define SPARE_MAX 512

/* After a burst (a thousand clients that come at once): what is kept for the next one, and how many are given back at a
 * time, so that no request waits for it. */
#define SPARE_KEPT 64
#define TRIM_COUNT 32

#define NS_PER_MS UINT64_C(1000000)

/* Lies at the top of its own stack. When it ends, it waits for the next entry function: making a coroutine is taking a
 * spare one, and no register has to be prepared again. */
struct coroutine {
    struct context context;
    struct context *caller; /* where control goes when it waits or ends */
    struct loop *loop;
    coroutine_entry *entry;
    void *arg;
    struct co_group *group;
    uint64_t owner;
    bool ended;
    bool cancelled;
    const char *name;
    const char *waits_for;
    struct co_event *waits_on; /* while cancelling ends the wait */
    struct co_note *note;      /* innermost */
    struct co_on_cancel *on_cancel;
    bool may_leave;
    struct loop_task resume;
    struct list link; /* in the loop's `coroutines` or `spare` */
    struct stack stack;
};

static void leave(struct coroutine *co)
{
    context_switch(&co->context, co->caller);
}

static void group_member_ended(struct co_group *group)
{
    if (--group->running == 0 && group->done)
        co_event_set(group->done);
}

static void coroutine_main(void *arg)
{
    struct coroutine *co = arg;
    context_begun(&co->context);
    for (;;) {
        co->entry(co->arg);
        if (co->group)
            group_member_ended(co->group);
        co->ended = true;
        leave(co);
    }
}

static void coroutine_free(struct coroutine *co)
{
    struct stack stack = co->stack;
    context_fini(&co->context);
    stack_destroy(stack);
}

/* Those that lay there longest. */
bool loop_trim_coroutines(struct loop *loop)
{
    unsigned unused = loop->spare_least > SPARE_KEPT ? loop->spare_least - SPARE_KEPT : 0;
    for (unsigned i = 0; i < unused && i < TRIM_COUNT; i++) {
        struct list *oldest = loop->spare.prev;
        list_remove(oldest);
        loop->spare_count--;
        coroutine_free(list_entry(oldest, struct coroutine, link));
    }
    loop->spare_least = loop->spare_count;
    return loop->spare_count > SPARE_KEPT;
}

static void put_spare(struct loop *loop, struct coroutine *co)
{
    if (loop->spare_count == SPARE_MAX) {
        coroutine_free(co);
        return;
    }
    list_prepend(&loop->spare, &co->link);
    loop->spare_count++;
    if (loop->spare_count > SPARE_KEPT)
        loop_trim_later(loop);
}

/* Only this thread writes, so no locked instruction is needed. */
static void count_alive(struct loop *loop, int change)
{
    unsigned alive = atomic_load_explicit(&loop->alive, memory_order_relaxed);
    atomic_store_explicit(&loop->alive, alive + (unsigned)change, memory_order_release);
}

/* Runs the coroutine until it waits, and then it will be resumed by what it waits for, or until it ends. */
static void enter(struct coroutine *co)
{
    struct loop *loop = co->loop;
    struct coroutine *outer = loop->running;
    co->caller = outer ? &outer->context : &loop->context;
    co->waits_for = NULL;
    loop->running = co;
    context_switch(co->caller, &co->context);
    loop->running = outer;
    if (!co->ended)
        return;

    list_remove(&co->link);
    count_alive(loop, -1);
    put_spare(loop, co);
}

static void resume(struct loop_task *task)
{
    enter(CONTAINER_OF(task, struct coroutine, resume));
}

static struct coroutine *coroutine_new(struct loop *loop)
{
    struct stack stack = stack_create();
    size_t bytes = (stack.bytes - sizeof(struct coroutine)) & ~(size_t)63;
    struct coroutine *co = (struct coroutine *)((char *)stack.base + bytes);
    *co = (struct coroutine){ .loop = loop, .stack = stack, .resume.run = resume };
    context_init(&co->context, stack.base, bytes, coroutine_main, co);
    return co;
}

static struct coroutine *coroutine_take(struct loop *loop)
{
    struct list *link = list_take_first(&loop->spare);
    if (!link)
        return coroutine_new(loop);
    loop->spare_count--;
    if (loop->spare_count < loop->spare_least)
        loop->spare_least = loop->spare_count;
    return list_entry(link, struct coroutine, link);
}

/* A coroutine that is alive but has not been entered yet. */
static struct coroutine *prepare(struct co_group *group, const char *name, coroutine_entry *entry, void *arg)
{
    struct loop *loop = current_loop;
    assert(loop);
    struct coroutine *co = coroutine_take(loop);
    co->name = name;
    co->entry = entry;
    co->arg = arg;
    co->group = group;
    co->owner = co_owner();
    co->ended = false;
    co->cancelled = false;
    co->waits_on = NULL;
    co->note = NULL;
    co->on_cancel = NULL;
    co->may_leave = false;
    list_append(&loop->coroutines, &co->link);
    count_alive(loop, 1);
    return co;
}

void co_start(const char *name, coroutine_entry *entry, void *arg)
{
    enter(prepare(NULL, name, entry, arg));
}

struct remote_start {
    struct loop_task task;
    const char *name;
    coroutine_entry *entry;
    void *arg;
    uint64_t owner;
};

static void start_posted(struct loop_task *task)
{
    struct remote_start *posted = CONTAINER_OF(task, struct remote_start, task);
    struct coroutine *co = prepare(NULL, posted->name, posted->entry, posted->arg);
    co->owner = posted->owner;
    free(posted);
    atomic_fetch_sub_explicit(&current_loop->starting, 1, memory_order_release);
    enter(co);
}

void co_start_on(struct loop *loop, const char *name, coroutine_entry *entry, void *arg)
{
    struct remote_start *posted = xmalloc(sizeof(*posted));
    *posted = (struct remote_start){
        .task.run = start_posted,
        .name = name,
        .entry = entry,
        .arg = arg,
        .owner = co_owner(),
    };
    atomic_fetch_add_explicit(&loop->starting, 1, memory_order_relaxed);
    loop_post(loop, &posted->task);
}

struct remote_call {
    int (*fn)(void *arg);
    void *arg;
    int result;
    struct co_event done;
};

static void run_call(void *arg)
{
    struct remote_call *call = arg;
    call->result = call->fn(call->arg);
    co_event_set(&call->done);
}

int co_call_on(struct loop *loop, const char *name, int (*fn)(void *arg), void *arg)
{
    if (loop_is_current(loop))
        return fn(arg);
    struct remote_call call = { .fn = fn, .arg = arg };
    co_event_init(&call.done);
    co_start_on(loop, name, run_call, &call);
    co_event_wait(&call.done, name);
    return call.result;
}

struct coroutine *co_self(void)
{
    return current_loop ? current_loop->running : NULL;
}

uint64_t co_owner(void)
{
    const struct coroutine *co = co_self();
    return co ? co->owner : 0;
}

void co_set_owner(uint64_t owner)
{
    co_self()->owner = owner;
}

const char *co_name(const struct coroutine *co)
{
    return co->name;
}

/* What it is about ---------------------------------------------------------------------------------------------- */

void co_note_begin(struct co_note *note, const char *doing, const char *name)
{
    struct coroutine *co = co_self();
    *note = (struct co_note){ .doing = doing, .name = name, .outer = co ? co->note : NULL };
    if (co)
        co->note = note;
}

void co_note_end(struct co_note *note)
{
    struct coroutine *co = co_self();
    if (co)
        co->note = note->outer;
}

char *co_describe(const struct coroutine *co)
{
    const struct co_note *note = co->note;
    CLEANUP(free) char *of_worker = note && note->worker ? co_describe(note->worker) : NULL;
    const char *what = of_worker ? of_worker : co->waits_for ? co->waits_for : "nothing";
    if (!note)
        return xstrdup(what);
    return note->name ? xasprintf("%s '%s': %s", note->doing, note->name, what)
                      : xasprintf("%s: %s", note->doing, what);
}

/* Ending early -------------------------------------------------------------------------------------------------- */

bool co_cancelled(void)
{
    const struct coroutine *co = co_self();
    return co && co->cancelled;
}

void co_cancel(struct coroutine *co)
{
    assert(co->loop == current_loop);
    co->cancelled = true;
    if (co->on_cancel)
        co->on_cancel->fn(co->on_cancel);
    struct co_event *event = co->waits_on;
    co->waits_on = NULL;
    void *expected = co;
    if (event && atomic_compare_exchange_strong_explicit(&event->state, &expected, NULL, memory_order_acq_rel,
                                                         memory_order_acquire))
        loop_make_ready(co->loop, &co->resume);
}

void co_on_cancel_begin(struct co_on_cancel *self, void (*fn)(struct co_on_cancel *self))
{
    struct coroutine *co = co_self();
    *self = (struct co_on_cancel){ .fn = fn, .outer = co->on_cancel };
    co->on_cancel = self;
}

void co_on_cancel_end(struct co_on_cancel *self)
{
    co_self()->on_cancel = self->outer;
}

bool co_set_may_leave(bool may_leave)
{
    struct coroutine *co = co_self();
    bool before = co->may_leave;
    co->may_leave = may_leave;
    return before;
}

bool co_may_leave(void)
{
    const struct coroutine *co = co_self();
    return co && co->may_leave;
}

/* Waiting ------------------------------------------------------------------------------------------------------- */

void co_yield (void)
{
    struct coroutine *co = co_self();
    assert(co);
    co->waits_for = "its turn";
    loop_make_ready(co->loop, &co->resume);
    leave(co);
}

static void slept(void *arg)
{
    co_event_set(arg);
}

void co_sleep_ms(uint64_t ms)
{
    struct co_event event;
    struct timer timer;
    co_event_init(&event);
    timer_init(&timer, slept, &event);
    timer_start(&timer, ms);
    co_event_wait(&event, "a timer");
}

void co_sleep_ns(uint64_t ns)
{
    uint64_t begin = uv_hrtime();
    uint64_t end = ns < UINT64_MAX - begin ? begin + ns : UINT64_MAX;
    if (ns >= NS_PER_MS)
        co_sleep_ms(ns / NS_PER_MS);
    for (uint64_t now; (now = uv_hrtime()) < end;) {
        if (ring_available())
            ring_sleep(end - now);
        else
            co_yield ();
    }
}

/* A state is NULL at first, then perhaps the coroutine that waits, in the end this. */
static char event_is_set;
#define EVENT_SET ((void *)&event_is_set)

void co_event_init(struct co_event *event)
{
    atomic_init(&event->state, NULL);
}

void co_event_wait(struct co_event *event, const char *what)
{
    if (co_event_is_set(event))
        return;
    struct coroutine *co = co_self();
    assert(co);
    co->waits_for = what;
    void *expected = NULL;
    if (!atomic_compare_exchange_strong_explicit(&event->state, &expected, co, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        assert(expected == EVENT_SET);
        return;
    }
    /* Whoever sets the event queues this coroutine to this thread's loop, so it cannot be entered before it has left.
     */
    leave(co);
}

bool co_event_wait_unless_cancelled(struct co_event *event, const char *what)
{
    struct coroutine *co = co_self();
    if (co->cancelled)
        return co_event_is_set(event);
    co->waits_on = event;
    co_event_wait(event, what);
    co->waits_on = NULL;
    return co_event_is_set(event);
}

void co_event_set(struct co_event *event)
{
    struct coroutine *waiter = atomic_exchange_explicit(&event->state, EVENT_SET, memory_order_acq_rel);
    if (!waiter || waiter == EVENT_SET)
        return;
    if (waiter->loop == current_loop)
        loop_make_ready(waiter->loop, &waiter->resume);
    else
        loop_post(waiter->loop, &waiter->resume);
}

bool co_event_is_set(const struct co_event *event)
{
    return atomic_load_explicit(&event->state, memory_order_acquire) == EVENT_SET;
}

void co_group_init(struct co_group *group)
{
    *group = (struct co_group){ 0 };
}

void co_group_start(struct co_group *group, const char *name, coroutine_entry *entry, void *arg)
{
    group->running++;
    enter(prepare(group, name, entry, arg));
}

void co_group_join(struct co_group *group)
{
    if (group->running == 0)
        return;
    struct co_event done;
    co_event_init(&done);
    group->done = &done;
    co_event_wait(&done, "members of a group");
    group->done = NULL;
}

/* Read in the order opposite to that of start_posted(), so that one that begins meanwhile is not missed. */
unsigned loop_coroutines_alive(struct loop *loop)
{
    unsigned starting = atomic_load_explicit(&loop->starting, memory_order_acquire);
    return starting + atomic_load_explicit(&loop->alive, memory_order_acquire);
}

unsigned co_count(void)
{
    unsigned count = loop_coroutines_alive(loop_control());
    for (unsigned i = 0; i < loop_io_count(); i++)
        count += loop_coroutines_alive(loop_io(i));
    return count;
}

void loop_print_coroutines(struct loop *loop, FILE *to)
{
    struct coroutine *co;
    list_for_each (co, &loop->coroutines, link)
        fprintf(to, "coroutine '%s' waits for %s\n", co->name, co->waits_for ? co->waits_for : "nothing");
}

void loop_free_coroutines(struct loop *loop)
{
    struct list *link;
    while ((link = list_take_first(&loop->spare)))
        coroutine_free(list_entry(link, struct coroutine, link));
    loop->spare_count = 0;
}
