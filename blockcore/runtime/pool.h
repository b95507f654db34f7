/* pool - threads for calls that block
 *
 * What may block (open, stat, name look-up, fsync, ioctl, a read where io_uring is refused) runs on a thread of the
 * pool while the coroutine waits. Threads are made on demand and end when idle, except one: where the system gives no
 * others, calls wait for that one.
 *
 * Storage dies in units: one NFS server, one FUSE file. A *domain* is such a unit; it has a limit on the threads it
 * occupies, so that a dead one costs itself, not the others. Calls beyond the limit queue up inside their domain.
 *
 *     domain a.img [####....]  4 of 8 threads, none queued
 *     domain b.img [########]  dead: 8 hang, 12 queued; a.img does not notice */
#ifndef CAIRN_RUNTIME_POOL_H
#define CAIRN_RUNTIME_POOL_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>

#define POOL_THREADS_MAX 1024      /* in the process */
#define POOL_DOMAIN_THREADS_MAX 16 /* default of a domain */
#define POOL_LEFT_MAX 256          /* calls that were left behind and have not come back */

struct pool_domain;

/* @name is copied. @threads_max 0: POOL_DOMAIN_THREADS_MAX. */
struct pool_domain *pool_domain_create(const char *name, unsigned threads_max);
/* Reference counted: calls in flight hold the domain, so it may be dropped while one hangs. NULL is allowed. */
void pool_domain_unref(struct pool_domain *domain);

/* Runs @fn(@arg) on a thread of the pool and waits; returns what it returned. @domain NULL: a shared one for work
 * that uses the processor (compression) and cannot hang. */
int co_blocking(struct pool_domain *domain, int (*fn)(void *arg), void *arg) CO_FN;

/* The same, until the coroutine is cancelled: then the call is left behind, alone with @arg, which is its own from then
 * on; when it comes back, @release(@arg) frees that on the thread of the pool. So @arg must lead to nothing that others
 * free or change: memory and descriptors of its own. A call that had not begun is not made, only released.
 *
 * True: it has ended, *ret is what it returned, and @arg is the caller's as before. False: it was left, and does not
 * count for the limit of its domain any more. Beyond POOL_LEFT_MAX calls are waited for all the same. */
bool co_blocking_or_leave(struct pool_domain *domain, int (*fn)(void *arg), void (*release)(void *arg), void *arg,
                          int *ret) CO_FN;

#endif
