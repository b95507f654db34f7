/* sync - locks and queues that coroutines wait in
 *
 * All of them are fair (first come, first served) and may be shared by coroutines of different threads; inside, a
 * spin of a few instructions protects the list of waiters. */
#ifndef CAIRN_RUNTIME_SYNC_H
#define CAIRN_RUNTIME_SYNC_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/list.h"

#include <stdatomic.h>
#include <stdbool.h>

/* A few instructions long critical section between threads. Never held across anything that waits. */
struct spinlock {
    atomic_flag taken;
};

void spinlock_init(struct spinlock *lock);
void spinlock_lock(struct spinlock *lock);
void spinlock_unlock(struct spinlock *lock);

struct co_mutex {
    struct spinlock guard;
    bool locked;
    struct list waiters;
};

void co_mutex_init(struct co_mutex *mutex);
void co_mutex_fini(struct co_mutex *mutex); /* asserts that nobody holds it or waits */
void co_mutex_lock(struct co_mutex *mutex) CO_FN;
bool co_mutex_try_lock(struct co_mutex *mutex);
void co_mutex_unlock(struct co_mutex *mutex); /* hands over to the first waiter; does not wait */

/* Holds the mutex until the end of the scope: CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&m); */
struct co_mutex *co_mutex_hold(struct co_mutex *mutex) CO_FN;
static inline void co_mutex_release_cleanup(struct co_mutex *const *mutex)
{
    if (*mutex)
        co_mutex_unlock(*mutex);
}

/* Readers share; a waiting writer holds back later readers, so writers are not starved. */
struct co_rwlock {
    struct spinlock guard;
    int holders; /* readers, or -1 for a writer */
    struct list waiters;
};

void co_rwlock_init(struct co_rwlock *lock);
void co_rwlock_fini(struct co_rwlock *lock);
void co_rwlock_read(struct co_rwlock *lock) CO_FN;
void co_rwlock_write(struct co_rwlock *lock) CO_FN;
void co_rwlock_unlock(struct co_rwlock *lock); /* either kind */

/* Coroutines that wait for a condition guarded by a spinlock or by living on one thread: a waiter looks at the
 * condition again when woken. */
struct co_queue {
    struct spinlock guard;
    struct list waiters;
};

void co_queue_init(struct co_queue *queue);
void co_queue_fini(struct co_queue *queue);

/* Queues the caller, then releases @lock (a mutex the caller holds; NULL: none), waits, takes @lock again. Since the
 * caller is queued before the lock is released, no wake-up between the two is lost. */
void co_queue_wait(struct co_queue *queue, struct co_mutex *lock, const char *what) CO_FN;
/* The same, without a lock, where all who wait and wake are on one thread; ends also when the coroutine is cancelled
 * (co_cancel), with false. */
bool co_queue_wait_unless_cancelled(struct co_queue *queue, const char *what) CO_FN;
/* The same with a spinlock. */
void co_queue_wait_spin(struct co_queue *queue, struct spinlock *lock, const char *what) CO_FN;
bool co_queue_wake_one(struct co_queue *queue); /* any thread; false when nobody waits */
void co_queue_wake_all(struct co_queue *queue);
bool co_queue_empty(struct co_queue *queue);

#endif
