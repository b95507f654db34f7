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

static bool has_waiters(const struct nbd_account *account)
{
    return account->waiting.next && !list_empty(&account->waiting);
}

/* Until it is first in line and there are @bytes, or *given_up. */
static void CO_FN wait_in_line(struct nbd_account *account, uint64_t bytes, const bool *given_up)
{
    struct list place;
    if (!account->waiting.next)
        list_init(&account->waiting);
    list_append(&account->waiting, &place);
    budget.waiting++;
    while ((account->waiting.next != &place || !can_take(account, bytes)) && !*given_up)
        co_queue_wait_spin(&budget.queue, &budget.lock, "memory for requests");
    budget.waiting--;
    list_remove(&place);
}

bool nbd_budget_take(struct nbd_account *account, uint64_t bytes, const bool *given_up)
{
    bool waited = false;
    spinlock_lock(&budget.lock);
    if ((has_waiters(account) || !can_take(account, bytes)) && !*given_up) {
        wait_in_line(account, bytes, given_up);
        waited = true;
    }
    bool taken = !*given_up;
    if (taken) {
        budget.left -= beyond_own(account->taken + bytes) - beyond_own(account->taken);
        account->taken += bytes;
    }
    bool wake = waited && has_waiters(account); /* there is another first one in line */
    spinlock_unlock(&budget.lock);
    if (wake)
        co_queue_wake_all(&budget.queue);
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
    bool is_short = has_waiters(account) || (budget.waiting > 0 && account->taken > NBD_EXPORT_BYTES);
    spinlock_unlock(&budget.lock);
    return is_short;
}

void nbd_budget_kick(void)
{
    co_queue_wake_all(&budget.queue);
}
