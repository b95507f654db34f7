#include "blockcore/runtime/lane_lock.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/loop.h"

#include <sched.h>
#include <stdlib.h>

#define SPINS_BEFORE_YIELD 100

/* A loop's own. */
struct lane_lock_lane {
    _Alignas(64) _Atomic bool inside;
};

static struct lane_lock_lane *own_lane(struct lane_lock *lock)
{
    return &lock->lanes[loop_index(loop_current())];
}

static void wait_until_clear(const _Atomic bool *flag)
{
    for (unsigned spins = 0; atomic_load(flag); spins++) {
        if (spins >= SPINS_BEFORE_YIELD)
            sched_yield();
    }
}

bool lane_lock_init(struct lane_lock *lock)
{
    *lock = (struct lane_lock){ .lanes_count = loop_io_count() + 1 };
    lock->lanes = try_aligned_alloc(_Alignof(struct lane_lock_lane), lock->lanes_count * sizeof(*lock->lanes));
    for (unsigned i = 0; lock->lanes && i < lock->lanes_count; i++)
        lock->lanes[i] = (struct lane_lock_lane){ 0 };
    return lock->lanes;
}

void lane_lock_fini(struct lane_lock *lock)
{
    free(lock->lanes);
}

/* Whoever is to be alone says so and then looks at the lanes, we say that we are inside and then look whether somebody
 * is alone: in the one order that all threads see, at least one of the two finds the other. */
void lane_lock_enter(struct lane_lock *lock)
{
    struct lane_lock_lane *lane = own_lane(lock);
    for (;;) {
        atomic_store(&lane->inside, true);
        if (likely(!atomic_load(&lock->taken)))
            return;
        atomic_store(&lane->inside, false);
        wait_until_clear(&lock->taken);
    }
}

void lane_lock_leave(struct lane_lock *lock)
{
    atomic_store_explicit(&own_lane(lock)->inside, false, memory_order_release);
}

void lane_lock_alone(struct lane_lock *lock)
{
    while (atomic_exchange(&lock->taken, true))
        wait_until_clear(&lock->taken);
    for (unsigned i = 0; i < lock->lanes_count; i++)
        wait_until_clear(&lock->lanes[i].inside);
}

void lane_lock_open(struct lane_lock *lock)
{
    atomic_store(&lock->taken, false);
}
