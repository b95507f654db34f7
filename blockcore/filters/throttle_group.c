#include "blockcore/filters/throttle_group.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"

#include <stdlib.h>
#include <time.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_SECOND UINT64_C(1000000000)

struct throttle_group {
    const _Atomic uint64_t *clock; /* NULL: real time */
    _Atomic bool limited;          /* changes with the lock held */
    struct spinlock lock;
    bool open GUARDED_BY(lock); /* the process ends */
    struct throttle_buckets buckets GUARDED_BY(lock);
    struct list rings[THROTTLE_DIRECTIONS] GUARDED_BY(lock); /* of struct throttle_queue, the next one first */
    enum throttle_direction turn GUARDED_BY(lock);
    struct waiter *keeper GUARDED_BY(lock);
    unsigned waiting GUARDED_BY(lock);
};

/* A request that may not pass yet; on its coroutine's stack. */
struct waiter {
    struct list in_queue;
    struct throttle_group *group;
    struct throttle_queue *queue;
    uint64_t bytes;
    bool passes; /* it is out of its queue, and accounted */
    bool woken;  /* wake was set since the last wait began */
    struct co_event wake;
};

static const _Atomic uint64_t *clock_of_tests;

static uint64_t clock_ns(const struct throttle_group *group)
{
    if (group->clock)
        return atomic_load(group->clock);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* With the lock held --------------------------------------------------------------------------------------------- */

static void wake(struct waiter *waiter)
{
    if (waiter->woken)
        return;
    waiter->woken = true;
    co_event_set(&waiter->wake);
}

static bool is_free(const struct throttle_group *group)
{
    return group->open || !throttle_config_limits(&group->buckets.config);
}

static uint64_t wait_of(struct throttle_group *group, enum throttle_direction direction, uint64_t now_ns)
{
    return is_free(group) ? 0 : throttle_buckets_wait(&group->buckets, direction, now_ns);
}

static void queue_up(struct waiter *waiter, enum throttle_direction direction)
{
    struct throttle_group *group = waiter->group;
    if (list_empty(&waiter->queue->waiters))
        list_append(&group->rings[direction], &waiter->queue->in_group);
    list_append(&waiter->queue->waiters, &waiter->in_queue);
    group->waiting++;
}

/* The waiter may be gone when the lock is released. */
static void let_pass(struct waiter *waiter, enum throttle_direction direction)
{
    struct throttle_group *group = waiter->group;
    throttle_buckets_account(&group->buckets, direction, waiter->bytes);
    list_remove(&waiter->in_queue);
    if (list_empty(&waiter->queue->waiters))
        list_remove(&waiter->queue->in_group);
    group->waiting--;
    if (group->keeper == waiter)
        group->keeper = NULL;
    waiter->passes = true;
    wake(waiter);
}

/* The queue whose turn it is goes to the end of the ring. */
static void pass_first(struct throttle_group *group, enum throttle_direction direction)
{
    struct throttle_queue *queue = list_first(&group->rings[direction], struct throttle_queue, in_group);
    list_remove(&queue->in_group);
    list_append(&group->rings[direction], &queue->in_group);
    let_pass(list_first(&queue->waiters, struct waiter, in_queue), direction);
}

static enum throttle_direction other(enum throttle_direction direction)
{
    return direction == THROTTLE_READ ? THROTTLE_WRITE : THROTTLE_READ;
}

/* Lets one request pass, if any may; otherwise how long to wait is in *wait_ns. */
static bool pass_one(struct throttle_group *group, uint64_t now_ns, uint64_t *wait_ns)
{
    enum throttle_direction direction = group->turn;
    *wait_ns = UINT64_MAX;
    for (unsigned i = 0; i < THROTTLE_DIRECTIONS; i++, direction = other(direction)) {
        if (list_empty(&group->rings[direction]))
            continue;
        uint64_t wait = wait_of(group, direction, now_ns);
        if (wait == 0) {
            pass_first(group, direction);
            group->turn = other(direction);
            return true;
        }
        *wait_ns = min_u64(*wait_ns, wait);
    }
    return false;
}

static struct waiter *first_waiter(struct throttle_group *group)
{
    for (unsigned i = 0; i < THROTTLE_DIRECTIONS; i++) {
        struct throttle_queue *queue = list_first(&group->rings[i], struct throttle_queue, in_group);
        if (queue)
            return list_first(&queue->waiters, struct waiter, in_queue);
    }
    return NULL;
}

/* Lets pass all that may; those who have to wait have a keeper afterwards. How long it has to sleep. */
static uint64_t settle(struct throttle_group *group)
{
    uint64_t now_ns = clock_ns(group);
    uint64_t wait_ns;
    while (pass_one(group, now_ns, &wait_ns))
        ;
    if (!group->keeper && (group->keeper = first_waiter(group)))
        wake(group->keeper);
    return wait_ns;
}

/* Something has changed: whoever keeps the time looks again. */
static void look_again(struct throttle_group *group)
{
    settle(group);
    if (group->keeper)
        wake(group->keeper);
}

/* Waiting -------------------------------------------------------------------------------------------------------- */

static void time_is_up(void *arg)
{
    struct waiter *waiter = arg;
    spinlock_lock(&waiter->group->lock);
    wake(waiter);
    spinlock_unlock(&waiter->group->lock);
}

/* Releases the lock, and takes it again. */
static void wait_woken(struct waiter *waiter, struct timer *timer, uint64_t ns) CO_FN;

static void wait_woken(struct waiter *waiter, struct timer *timer, uint64_t ns)
{
    struct throttle_group *group = waiter->group;
    bool by_timer = ns != UINT64_MAX && !group->clock;
    co_event_init(&waiter->wake);
    waiter->woken = false;
    spinlock_unlock(&group->lock);
    if (by_timer)
        timer_start(timer, (ns + NS_PER_MS - 1) / NS_PER_MS);
    co_event_wait(&waiter->wake, "the limits of a throttle group");
    if (by_timer)
        timer_stop(timer);
    spinlock_lock(&group->lock);
}

/* Releases the lock when the request may pass. */
static void wait_for_turn(struct waiter *waiter) CO_FN;

static void wait_for_turn(struct waiter *waiter)
{
    struct throttle_group *group = waiter->group;
    struct timer *timer = timer_create_on_loop(time_is_up, waiter);
    while (!waiter->passes) {
        uint64_t ns = UINT64_MAX;
        if (!group->keeper)
            group->keeper = waiter;
        if (group->keeper == waiter) {
            waiter->woken = true; /* nobody need wake us while we look */
            ns = settle(group);
        }
        if (!waiter->passes)
            wait_woken(waiter, timer, ns);
    }
    spinlock_unlock(&group->lock);
    timer_destroy(timer);
}

static void pass_limited(struct throttle_member *member, enum throttle_direction direction, uint64_t bytes) CO_FN;

static void pass_limited(struct throttle_member *member, enum throttle_direction direction, uint64_t bytes)
{
    struct throttle_group *group = member->group;
    spinlock_lock(&group->lock);
    bool first = list_empty(&group->rings[direction]);
    if (member->hasty || (first && wait_of(group, direction, clock_ns(group)) == 0)) {
        throttle_buckets_account(&group->buckets, direction, bytes);
        spinlock_unlock(&group->lock);
        return;
    }
    struct waiter waiter = { .group = group, .queue = &member->queues[direction], .bytes = bytes };
    queue_up(&waiter, direction);
    if (first && group->keeper)
        wake(group->keeper); /* it sleeps as long as the other direction has to wait */
    wait_for_turn(&waiter);
}

void throttle_pass(struct throttle_member *member, enum throttle_direction direction, uint64_t bytes)
{
    if (unlikely(atomic_load_explicit(&member->group->limited, memory_order_relaxed)))
        pass_limited(member, direction, bytes);
}

/* Members -------------------------------------------------------------------------------------------------------- */

void throttle_member_init(struct throttle_member *member, struct throttle_group *group)
{
    *member = (struct throttle_member){ .group = group };
    for (unsigned i = 0; i < THROTTLE_DIRECTIONS; i++) {
        list_init(&member->queues[i].in_group);
        list_init(&member->queues[i].waiters);
    }
}

void throttle_member_move(struct throttle_member *member, struct throttle_group *group)
{
    member->group = group;
}

void throttle_member_hasten(struct throttle_member *member, bool hasty)
{
    struct throttle_group *group = member->group;
    spinlock_lock(&group->lock);
    member->hasty = hasty;
    for (unsigned i = 0; hasty && i < THROTTLE_DIRECTIONS; i++) {
        struct waiter *waiter;
        while ((waiter = list_first(&member->queues[i].waiters, struct waiter, in_queue)))
            let_pass(waiter, (enum throttle_direction)i);
    }
    settle(group);
    spinlock_unlock(&group->lock);
}

/* Groups --------------------------------------------------------------------------------------------------------- */

struct throttle_group *throttle_group_create(const struct throttle_config *config)
{
    struct throttle_group *group = xcalloc(1, sizeof(*group));
    group->clock = clock_of_tests;
    spinlock_init(&group->lock);
    for (unsigned i = 0; i < THROTTLE_DIRECTIONS; i++)
        list_init(&group->rings[i]);
    throttle_group_configure(group, config);
    return group;
}

void throttle_group_destroy(struct throttle_group *group)
{
    free(group);
}

void throttle_group_configure(struct throttle_group *group, const struct throttle_config *config)
{
    spinlock_lock(&group->lock);
    throttle_buckets_init(&group->buckets, config, clock_ns(group));
    atomic_store(&group->limited, !is_free(group));
    look_again(group);
    spinlock_unlock(&group->lock);
}

void throttle_group_config(struct throttle_group *group, struct throttle_config *config)
{
    spinlock_lock(&group->lock);
    *config = group->buckets.config;
    spinlock_unlock(&group->lock);
}

void throttle_group_open(struct throttle_group *group)
{
    spinlock_lock(&group->lock);
    group->open = true;
    atomic_store(&group->limited, false);
    look_again(group);
    spinlock_unlock(&group->lock);
}

void throttle_use_clock(const _Atomic uint64_t *now_ns)
{
    clock_of_tests = now_ns;
}

void throttle_group_clock_moved(struct throttle_group *group)
{
    spinlock_lock(&group->lock);
    look_again(group);
    spinlock_unlock(&group->lock);
}

unsigned throttle_group_waiting(struct throttle_group *group)
{
    spinlock_lock(&group->lock);
    unsigned waiting = group->waiting;
    spinlock_unlock(&group->lock);
    return waiting;
}
