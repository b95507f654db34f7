#include "blockcore/export/nbd/budget.h"

#include "blockcore/runtime/sync.h"

static struct {
    struct spinlock lock; /* of the accounts, too */
    uint64_t left GUARDED_BY(lock);
    unsigned waiting GUARDED_BY(lock);
    struct co_queue queue;
} budget = {
    .lock = { ATOMIC_FLAG_INIT },
    .left = NBD_BUDGET_BYTES,
    .queue = { .guard = { ATOMIC_FLAG_INIT }, .waiters = LIST_INIT(budget.queue.waiters) },
};

/* Of what is on an account: what the process's budget has to cover. */
static uint64_t beyond_own(uint64_t taken)
{
    return taken > NBD_EXPORT_BYTES ? taken - NBD_EXPORT_BYTES : 0;
}

static bool can_take(const struct nbd_account *account, uint64_t bytes)
{
    uint64_t after = beyond_own(account->taken + bytes);
    uint64_t more = after - beyond_own(account->taken);
    return more == 0 || (more <= budget.left && after <= budget.left - more);
}

static void wait(struct nbd_account *account)
{
    account->waiting++;
    budget.waiting++;
    co_queue_wait_spin(&budget.queue, &budget.lock, "memory for requests");
    budget.waiting--;
    account->waiting--;
}

bool nbd_budget_take(struct nbd_account *account, uint64_t bytes, const bool *given_up)
{
    spinlock_lock(&budget.lock);
    while (!can_take(account, bytes) && !*given_up)
        wait(account);
    bool taken = !*given_up;
    if (taken) {
        budget.left -= beyond_own(account->taken + bytes) - beyond_own(account->taken);
        account->taken += bytes;
    }
    spinlock_unlock(&budget.lock);
    return taken;
}

void nbd_budget_give(struct nbd_account *account, uint64_t bytes)
{
    spinlock_lock(&budget.lock);
    budget.left += beyond_own(account->taken) - beyond_own(account->taken - bytes);
    account->taken -= bytes;
    bool wake = budget.waiting > 0;
    spinlock_unlock(&budget.lock);
    if (wake)
        co_queue_wake_all(&budget.queue);
}

bool nbd_budget_is_short(const struct nbd_account *account)
{
    spinlock_lock(&budget.lock);
    bool is_short = account->waiting > 0 || (budget.waiting > 0 && account->taken > NBD_EXPORT_BYTES);
    spinlock_unlock(&budget.lock);
    return is_short;
}

void nbd_budget_kick(void)
{
    co_queue_wake_all(&budget.queue);
}
