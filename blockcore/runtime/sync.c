#include "blockcore/runtime/sync.h"

#include "blockcore/runtime/coroutine.h"

#include <assert.h>
#include <sched.h>

/* The holder needs a few instructions; if it takes longer, it has lost its processor, so let it have ours. */
#define SPINS_BEFORE_YIELD 128

struct waiter {
    struct list link;
    struct co_event go_on;
    bool write; /* co_rwlock only */
};

static void waiter_init(struct waiter *waiter, struct list *waiters)
{
    co_event_init(&waiter->go_on);
    list_append(waiters, &waiter->link);
}

static struct waiter *take_first(struct list *waiters)
{
    struct list *link = list_take_first(waiters);
    return link ? list_entry(link, struct waiter, link) : NULL;
}

static void wake_all(struct list *waiters)
{
    struct waiter *waiter;
    while ((waiter = take_first(waiters)))
        co_event_set(&waiter->go_on);
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void spinlock_init(struct spinlock *lock)
{
    atomic_flag_clear_explicit(&lock->taken, memory_order_relaxed);
}

void spinlock_lock(struct spinlock *lock)
{
    unsigned spins = 0;
    while (atomic_flag_test_and_set_explicit(&lock->taken, memory_order_acquire)) {
        if (++spins % SPINS_BEFORE_YIELD == 0)
            sched_yield();
        else
            relax();
    }
}

void spinlock_unlock(struct spinlock *lock)
{
    atomic_flag_clear_explicit(&lock->taken, memory_order_release);
}

void co_mutex_init(struct co_mutex *mutex)
{
    spinlock_init(&mutex->guard);
    mutex->locked = false;
    list_init(&mutex->waiters);
}

void co_mutex_fini(struct co_mutex *mutex)
{
    assert(!mutex->locked);
    assert(list_empty(&mutex->waiters));
    (void)mutex;
}

void co_mutex_lock(struct co_mutex *mutex)
{
    struct waiter waiter;
    spinlock_lock(&mutex->guard);
    bool wait = mutex->locked;
    if (wait)
        waiter_init(&waiter, &mutex->waiters);
    mutex->locked = true;
    spinlock_unlock(&mutex->guard);
    if (wait)
        co_event_wait(&waiter.go_on, "a mutex");
}

bool co_mutex_try_lock(struct co_mutex *mutex)
{
    spinlock_lock(&mutex->guard);
    bool taken = !mutex->locked;
    mutex->locked = true;
    spinlock_unlock(&mutex->guard);
    return taken;
}

void co_mutex_unlock(struct co_mutex *mutex)
{
    spinlock_lock(&mutex->guard);
    assert(mutex->locked);
    struct waiter *next = take_first(&mutex->waiters);
    mutex->locked = next;
    spinlock_unlock(&mutex->guard);
    if (next)
        co_event_set(&next->go_on);
}

struct co_mutex *co_mutex_hold(struct co_mutex *mutex)
{
    co_mutex_lock(mutex);
    return mutex;
}

void co_rwlock_init(struct co_rwlock *lock)
{
    spinlock_init(&lock->guard);
    lock->holders = 0;
    list_init(&lock->waiters);
}

void co_rwlock_fini(struct co_rwlock *lock)
{
    assert(lock->holders == 0);
    assert(list_empty(&lock->waiters));
    (void)lock;
}

static bool rwlock_admit(struct co_rwlock *lock, bool write)
{
    if (lock->holders < 0 || (write && lock->holders > 0))
        return false;
    lock->holders = write ? -1 : lock->holders + 1;
    return true;
}

static void rwlock_take(struct co_rwlock *lock, bool write, const char *what)
{
    struct waiter waiter;
    spinlock_lock(&lock->guard);
    bool wait = !list_empty(&lock->waiters) || !rwlock_admit(lock, write);
    if (wait) {
        waiter_init(&waiter, &lock->waiters);
        waiter.write = write;
    }
    spinlock_unlock(&lock->guard);
    if (wait)
        co_event_wait(&waiter.go_on, what);
}

void co_rwlock_read(struct co_rwlock *lock)
{
    rwlock_take(lock, false, "a lock, to read");
}

void co_rwlock_write(struct co_rwlock *lock)
{
    rwlock_take(lock, true, "a lock, to write");
}

void co_rwlock_unlock(struct co_rwlock *lock)
{
    struct list admitted;
    list_init(&admitted);
    spinlock_lock(&lock->guard);
    assert(lock->holders != 0);
    lock->holders = lock->holders < 0 ? 0 : lock->holders - 1;
    for (;;) {
        struct waiter *first = list_first(&lock->waiters, struct waiter, link);
        if (!first || !rwlock_admit(lock, first->write))
            break;
        list_remove(&first->link);
        list_append(&admitted, &first->link);
    }
    spinlock_unlock(&lock->guard);
    wake_all(&admitted);
}

void co_queue_init(struct co_queue *queue)
{
    spinlock_init(&queue->guard);
    list_init(&queue->waiters);
}

void co_queue_fini(struct co_queue *queue)
{
    assert(list_empty(&queue->waiters));
    (void)queue;
}

static void queue_up(struct co_queue *queue, struct waiter *waiter)
{
    spinlock_lock(&queue->guard);
    waiter_init(waiter, &queue->waiters);
    spinlock_unlock(&queue->guard);
}

void co_queue_wait(struct co_queue *queue, struct co_mutex *lock, const char *what)
{
    struct waiter waiter;
    queue_up(queue, &waiter);
    if (lock)
        co_mutex_unlock(lock);
    co_event_wait(&waiter.go_on, what);
    if (lock)
        co_mutex_lock(lock);
}

bool co_queue_wait_unless_cancelled(struct co_queue *queue, const char *what)
{
    struct waiter waiter;
    queue_up(queue, &waiter);
    bool woken = co_event_wait_unless_cancelled(&waiter.go_on, what);
    /* Not taken off the list yet: nobody will set the event then. All are on this thread. */
    list_remove(&waiter.link);
    return woken;
}

void co_queue_wait_spin(struct co_queue *queue, struct spinlock *lock, const char *what)
{
    struct waiter waiter;
    queue_up(queue, &waiter);
    spinlock_unlock(lock);
    co_event_wait(&waiter.go_on, what);
    spinlock_lock(lock);
}

bool co_queue_wake_one(struct co_queue *queue)
{
    spinlock_lock(&queue->guard);
    struct waiter *first = take_first(&queue->waiters);
    spinlock_unlock(&queue->guard);
    if (first)
        co_event_set(&first->go_on);
    return first;
}

void co_queue_wake_all(struct co_queue *queue)
{
    struct list woken;
    list_init(&woken);
    spinlock_lock(&queue->guard);
    list_splice(&woken, &queue->waiters);
    spinlock_unlock(&queue->guard);
    wake_all(&woken);
}

bool co_queue_empty(struct co_queue *queue)
{
    spinlock_lock(&queue->guard);
    bool empty = list_empty(&queue->waiters);
    spinlock_unlock(&queue->guard);
    return empty;
}
