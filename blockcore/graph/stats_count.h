/* stats_count - counting, for graph/ and io/ only: see stats.h */
#ifndef CAIRN_GRAPH_STATS_COUNT_H
#define CAIRN_GRAPH_STATS_COUNT_H

#include "blockcore/base/ticks.h"
#include "blockcore/graph/layout.h"
#include "blockcore/graph/stats.h"
#include "blockcore/runtime/loop.h"

/* A loop's share, written by it alone. */
struct stats_lane {
    _Atomic uint64_t done[STATS_KINDS];
    _Atomic uint64_t bytes[STATS_KINDS];
    _Atomic uint64_t failed[STATS_KINDS];
    _Atomic uint64_t invalid[STATS_KINDS];
    _Atomic uint64_t ticks[STATS_KINDS];
    _Atomic uint64_t highest_write;
    _Atomic uint64_t last; /* ticks when the last request of a user ended; 0: never */
} __attribute__((aligned(64)));

struct stats_lane *stats_make(struct node *node);

static inline struct stats_lane *stats_lane(struct node *node)
{
    struct stats_lane *lanes = atomic_load_explicit(&node->stats, memory_order_acquire);
    if (unlikely(!lanes))
        lanes = stats_make(node);
    return &lanes[loop_index(loop_current())];
}

/* Others only look, so adding need not be one step for them. */
static inline void stats_add(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

/* A request to @node has ended with @ret. */
static inline void stats_count(struct node *node, enum stats_kind kind, uint64_t bytes, int ret)
{
    struct stats_lane *lane = stats_lane(node);
    if (unlikely(ret < 0)) {
        stats_add(&lane->failed[kind], 1);
        return;
    }
    stats_add(&lane->done[kind], 1);
    stats_add(&lane->bytes[kind], bytes);
}

/* Gives the notice. */
void write_threshold_reached(struct node *node, uint64_t end);

/* Before a write that ends at @end. */
static inline void stats_write_begins(struct node *node, uint64_t end)
{
    uint64_t threshold = atomic_load_explicit(&node->write_threshold, memory_order_relaxed);
    if (unlikely(threshold && end > threshold))
        write_threshold_reached(node, end);
}

static inline void stats_wrote(struct node *node, uint64_t end, uint64_t bytes, int ret)
{
    struct stats_lane *lane = stats_lane(node);
    stats_count(node, STATS_WRITE, bytes, ret);
    if (ret == 0 && end > atomic_load_explicit(&lane->highest_write, memory_order_relaxed))
        atomic_store_explicit(&lane->highest_write, end, memory_order_relaxed);
}

/* A user's request, begun at @begin ticks, has ended. */
static inline void stats_time(struct node *node, enum stats_kind kind, uint64_t begin, int ret)
{
    struct stats_lane *lane = stats_lane(node);
    uint64_t now = ticks_now();
    if (ret == 0)
        stats_add(&lane->ticks[kind], now - begin);
    atomic_store_explicit(&lane->last, now, memory_order_relaxed);
}

static inline void stats_refused(struct node *node, enum stats_kind kind)
{
    stats_add(&stats_lane(node)->invalid[kind], 1);
}

#endif
