/* copy_before_write_private - what writers and readers of a point in time share
 *
 * Each cluster is in one of these states, by three bits under one lock:
 *
 *     original   (none)             the disk still has the old bytes
 *     copying    copying            the same, and somebody is copying them to the target
 *     kept       settled, copied    the target has the old bytes
 *     unwanted   settled            nobody needs the old bytes: given up by a discard, or clean in the bitmap that says
 *                                   what is wanted
 *
 * Why every read of the point in time is exact, however many threads write and read:
 *
 *  1. A write goes on to the disk only when each of its clusters is settled (or the point in time is broken). A
 *     cluster becomes "kept" only after the old bytes have been read from the disk and written to the target; while it
 *     is "copying" nobody writes it, by this very rule. So the target gets the bytes of the moment.
 *  2. A reader decides under the lock where it reads. From a kept cluster: the target, which no write touches any
 *     more. From an original (or copying) one: the disk, and it is listed as a frozen read before the lock is given up.
 *  3. A write that finds its clusters settled then waits for the frozen reads of them to end. None can begin any more,
 *     since settled clusters are not read from the disk: so the wait ends, and no frozen read sees new bytes.
 *  4. A frozen read waits for nothing but the disk, and a copy for nothing but disk and target: no circle.
 *
 * The moment itself is when the filter's first user comes: by a change (graph/change.h) all requests that were on
 * their way have ended before, and all later ones come through here. While the filter has users, nobody may write the
 * disk beside it. When its last user goes, after one of them has written or read the point in time, that is over. */
#ifndef CAIRN_FILTERS_COPY_BEFORE_WRITE_PRIVATE_H
#define CAIRN_FILTERS_COPY_BEFORE_WRITE_PRIVATE_H

#include "blockcore/base/bitset.h"
#include "blockcore/base/error.h"
#include "blockcore/base/list.h"
#include "blockcore/filters/copy_before_write.h"
#include "blockcore/io/copy.h"
#include "blockcore/runtime/sync.h"

#include <stdatomic.h>

struct child;
struct dirty_bitmap;
struct handle;
struct node;

struct cbw {
    struct child *file;
    struct child *target;
    struct copy_ends ends;
    uint64_t bytes;   /* of the point in time */
    uint64_t cluster; /* bytes, a power of two */
    bool break_snapshot;
    uint64_t timeout_ms; /* of one write's copies; 0: none */
    _Atomic bool used;
    /* Of a job's filter, see copy_before_write_job.h. */
    bool of_job;         /* which may say that the point in time is over: no write waits for a copy then */
    bool target_alone;   /* the target does not stand on the disk, and others may not write it */
    bool discard_source; /* copies by the job are followed by a discard of what they copied */
    struct handle *asker;
    struct node *base; /* what is decided at it or below is not wanted; NULL: all is */

    struct spinlock lock;
    struct bitset settled GUARDED_BY(lock);
    struct bitset copied GUARDED_BY(lock);
    struct bitset copying GUARDED_BY(lock);
    bool broken GUARDED_BY(lock);
    int broken_error GUARDED_BY(lock); /* -errno */
    void (*broke)(void *arg);          /* tells a job, under the lock, on any thread; must not wait */
    void *broke_arg;
    struct list frozen GUARDED_BY(lock);   /* of struct frozen_read */
    struct list waiters GUARDED_BY(lock);  /* woken whenever something above changes */
    unsigned left_behind GUARDED_BY(lock); /* copies whose writer did not wait for them to end */
};

/* A read of the point in time from the disk; on the reader's stack. */
struct frozen_read {
    struct list link;
    struct range range;
};

/* Waits until something changes; false once @deadline_ns of the loop's clock (0: none) has passed. The caller holds the
 * lock, which is given up meanwhile. */
bool cbw_wait(struct cbw *cbw, uint64_t deadline_ns) CO_FN;

/* Something has changed. The caller holds the lock. */
void cbw_wake(struct cbw *cbw);

/* The point in time is lost, or nobody needs it any more. The caller holds the lock. */
void cbw_break(struct cbw *cbw, int error);

struct cbw_patience {
    bool data;      /* all clusters are wanted, and known not to be zero: nobody need be asked. Not with may_leave */
    bool may_leave; /* copies may go on alone once the point in time is lost, or the deadline has passed */
    uint64_t deadline_ns; /* of the loop's clock; 0: none. With may_leave only */
};

/* Settles the clusters, or finds the point in time broken (0 too). *@write_failed: an error is the target's, where that
 * is known. The caller holds the lock, which is given up meanwhile. */
int cbw_keep_clusters(struct node *node, struct range clusters, const struct cbw_patience *patience, bool *write_failed)
    CO_FN;

/* Making one: before and after there are children. */
void cbw_set_up(struct cbw *cbw);
struct error *cbw_choose_units(struct cbw *cbw, uint64_t wanted_cluster) CONTROL_FN MUST_CHECK;
/* Only what is dirty is wanted. */
void cbw_want_dirty(struct cbw *cbw, struct dirty_bitmap *bitmap) CONTROL_FN;

/* Numbers of the clusters that @range touches. */
static inline struct range cbw_clusters(const struct cbw *cbw, struct range range)
{
    uint64_t first = range.offset / cbw->cluster;
    return range_between(first, div_round_up(range_end(range), cbw->cluster));
}

/* The bytes of clusters; the last one may be short. */
static inline struct range cbw_bytes(const struct cbw *cbw, struct range clusters)
{
    return range_between(clusters.offset * cbw->cluster, min_u64(range_end(clusters) * cbw->cluster, cbw->bytes));
}

#endif
