#include "blockcore/export/nbd/budget.h"

#include "blockcore/runtime/sync.h"

static struct {
    struct spinlock lock;
    uint64_t left GUARDED_BY(lock);
    unsigned waiting GUARDED_BY(lock);
    struct co_queue queue;
} budget = {
    .lock = { ATOMIC_FLAG_INIT },
    .left = NBD_BUDGET_BYTES,
    .queue = { .guard = { ATOMIC_FLAG_INIT }, .waiters = LIST_INIT(budget.queue.waiters) },
};

bool nbd_budget_take(uint64_t bytes, const bool *given_up)
{
    spinlock_lock(&budget.lock);
    while (budget.left < bytes && !*given_up) {
        budget.waiting++;
        co_queue_wait_spin(&budget.queue, &budget.lock, "memory for requests");
        budget.waiting--;
    }
    bool taken = !*given_up;
    if (taken)
        budget.left -= bytes;
    spinlock_unlock(&budget.lock);
    return taken;
}

void nbd_budget_give(uint64_t bytes)
{
    spinlock_lock(&budget.lock);
    budget.left += bytes;
    bool wake = budget.waiting > 0;
    spinlock_unlock(&budget.lock);
    if (wake)
        co_queue_wake_all(&budget.queue);
}

bool nbd_budget_is_short(void)
{
    spinlock_lock(&budget.lock);
    bool is_short = budget.waiting > 0;
    spinlock_unlock(&budget.lock);
    return is_short;
}

void nbd_budget_kick(void)
{
    co_queue_wake_all(&budget.queue);
}
