#include "blockcore/export/grace.h"

#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

struct waiter {
    struct list link;
    struct co_event go_on;
};

void grace_init(struct grace *grace)
{
    list_init(&grace->waiters);
}

static void lose_patience(void *arg)
{
    struct waiter *waiter = arg;
    if (list_empty(&waiter->link))
        return; /* it goes on already, but did not have its turn yet */
    list_remove(&waiter->link);
    co_event_set(&waiter->go_on);
}

void grace_wait(struct grace *grace, uint64_t ms)
{
    struct waiter waiter;
    co_event_init(&waiter.go_on);
    list_append(&grace->waiters, &waiter.link);
    struct timer *patience = timer_create_on_loop(lose_patience, &waiter);
    timer_start(patience, ms);
    co_event_wait(&waiter.go_on, "the end of users");
    timer_destroy(patience);
}

void grace_over(struct grace *grace)
{
    struct list *link;
    while ((link = list_take_first(&grace->waiters)))
        co_event_set(&list_entry(link, struct waiter, link)->go_on);
}
