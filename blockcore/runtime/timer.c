#include "blockcore/runtime/timer_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/loop_private.h"

#include <assert.h>
#include <stdlib.h>

#define NS_PER_MS 1000000u

static void put(struct timer_heap *heap, size_t at, struct timer *timer)
{
    heap->timers[at] = timer;
    timer->place = at + 1;
}

static void move_up(struct timer_heap *heap, size_t at, struct timer *timer)
{
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (heap->timers[parent]->deadline_ns <= timer->deadline_ns)
            break;
        put(heap, at, heap->timers[parent]);
        at = parent;
    }
    put(heap, at, timer);
}

static void move_down(struct timer_heap *heap, size_t at, struct timer *timer)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->timers[child + 1]->deadline_ns < heap->timers[child]->deadline_ns)
            child++;
        if (timer->deadline_ns <= heap->timers[child]->deadline_ns)
            break;
        put(heap, at, heap->timers[child]);
        at = child;
    }
    put(heap, at, timer);
}

static void heap_add(struct timer_heap *heap, struct timer *timer)
{
    if (heap->count == heap->capacity) {
        heap->capacity = heap->capacity ? heap->capacity * 2 : 16;
        heap->timers = xrealloc_array(heap->timers, heap->capacity, sizeof(*heap->timers));
    }
    move_up(heap, heap->count++, timer);
}

static void heap_remove(struct timer_heap *heap, struct timer *timer)
{
    size_t at = timer->place - 1;
    struct timer *last = heap->timers[--heap->count];
    timer->place = 0;
    if (last == timer)
        return;
    if (at > 0 && last->deadline_ns < heap->timers[(at - 1) / 2]->deadline_ns)
        move_up(heap, at, last);
    else
        move_down(heap, at, last);
}

static void alarm_rang(uv_timer_t *alarm);

/* Sets libuv's timer for the earliest deadline, unless it goes off before that anyway. */
static void set_alarm(struct loop *loop, uint64_t now_ns)
{
    struct timer_heap *heap = &loop->timers;
    if (heap->count == 0 || heap->timers[0]->deadline_ns >= heap->alarm_ns)
        return;
    heap->alarm_ns = heap->timers[0]->deadline_ns;
    uint64_t wait_ns = heap->alarm_ns > now_ns ? heap->alarm_ns - now_ns : 0;
    uv_update_time(&loop->uv);
    uv_timer_start(&heap->alarm, alarm_rang, (wait_ns + NS_PER_MS - 1) / NS_PER_MS, 0);
}

static void alarm_rang(uv_timer_t *alarm)
{
    struct loop *loop = alarm->data;
    struct timer_heap *heap = &loop->timers;
    loop_awake(loop);
    uint64_t now_ns = uv_hrtime();
    heap->alarm_ns = UINT64_MAX;
    while (heap->count > 0 && heap->timers[0]->deadline_ns <= now_ns) {
        struct timer *timer = heap->timers[0];
        heap_remove(heap, timer);
        timer->expired(timer->arg);
    }
    set_alarm(loop, now_ns);
}

void timer_heap_init(struct loop *loop)
{
    loop->timers = (struct timer_heap){ .alarm_ns = UINT64_MAX };
    uv_timer_init(&loop->uv, &loop->timers.alarm);
    loop->timers.alarm.data = loop;
}

void timer_heap_close(struct loop *loop)
{
    assert(loop->timers.count == 0);
    uv_close((uv_handle_t *)&loop->timers.alarm, NULL);
}

void timer_heap_fini(struct loop *loop)
{
    free(loop->timers.timers);
}

void timer_init(struct timer *timer, void (*expired)(void *arg), void *arg)
{
    assert(current_loop);
    *timer = (struct timer){ .loop = current_loop, .expired = expired, .arg = arg };
}

struct timer *timer_create_on_loop(void (*expired)(void *arg), void *arg)
{
    struct timer *timer = xmalloc(sizeof(*timer));
    timer_init(timer, expired, arg);
    return timer;
}

void timer_start(struct timer *timer, uint64_t ms)
{
    assert(timer->loop == current_loop);
    uint64_t now_ns = uv_hrtime();
    timer_stop(timer);
    timer->deadline_ns = ms < (UINT64_MAX - now_ns) / NS_PER_MS ? now_ns + ms * NS_PER_MS : UINT64_MAX - 1;
    heap_add(&timer->loop->timers, timer);
    set_alarm(timer->loop, now_ns);
}

void timer_stop(struct timer *timer)
{
    assert(timer->loop == current_loop);
    if (timer->place > 0)
        heap_remove(&timer->loop->timers, timer);
}

void timer_destroy(struct timer *timer)
{
    if (!timer)
        return;
    timer_stop(timer);
    free(timer);
}
