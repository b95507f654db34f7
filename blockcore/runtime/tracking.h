/* tracking - requests that must not overlap wait for each other
 *
 * A read-modify-write changes bytes that nobody asked it to change: a write that lands between its read and its write
 * would be lost. So on nodes where that can happen every write is listed while it runs, and of two that overlap, one of
 * them serialising, the later waits for the earlier. Requests that do not overlap never wait. Waiting follows the order
 * of arrival, so there is no circle. */
#ifndef CAIRN_RUNTIME_TRACKING_H
#define CAIRN_RUNTIME_TRACKING_H

#include "blockcore/base/list.h"
#include "blockcore/base/range.h"
#include "blockcore/runtime/sync.h"

#include <stdbool.h>

struct tracker {
    struct spinlock lock;
    struct list requests GUARDED_BY(lock); /* oldest first */
    bool open GUARDED_BY(lock);            /* nobody waits */
};

struct tracked {
    struct list link;
    struct range range;
    bool serialising;
    struct co_queue waiters;
};

void tracker_init(struct tracker *tracker);

/* Lists the request and waits for earlier ones that it must not overlap. @tracked lives until tracked_end(). */
void tracked_begin(struct tracker *tracker, struct tracked *tracked, struct range range, bool serialising) CO_FN;
void tracked_end(struct tracker *tracker, struct tracked *tracked);

/* Order does not matter any more: who waits goes on, and nobody waits from now on. */
void tracker_open(struct tracker *tracker);

#endif
