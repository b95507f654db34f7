/* stats_count - counting, for graph/ and io/ only: see stats.h */
#ifndef CAIRN_GRAPH_STATS_COUNT_H
#define CAIRN_GRAPH_STATS_COUNT_H

#include "blockcore/base/latency.h"
#include "blockcore/base/ticks.h"
#include "blockcore/graph/layout.h"
#include "blockcore/graph/stats.h"
#include "blockcore/runtime/loop.h"

/* Of those who time requests, made with the first one. */
struct stats_latency {
    struct latency of[STATS_KINDS];
};

/* A loop's share, written by it alone. */
struct stats_lane {
    _Atomic uint64_t done[STATS_KINDS];
    _Atomic uint64_t bytes[STATS_KINDS];
    _Atomic uint64_t failed[STATS_KINDS];
    _Atomic uint64_t invalid[STATS_KINDS];
    _Atomic uint64_t ticks[STATS_KINDS];
    _Atomic uint64_t highest_write;
    _Atomic uint64_t last; /* ticks when the last request of a user ended; 0: never */
    _Atomic uint64_t in_flight;
    struct stats_latency *_Atomic latency; /* NULL: none was timed here */
} __attribute__((aligned(64)));

struct stats_lane *stats_make(struct node *node);
void stats_free(struct stats_lane *lanes);
struct stats_latency *stats_latency_make(struct stats_lane *lane);

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

static inline void stats_count_in(struct stats_lane *lane, enum stats_kind kind, uint64_t bytes, int ret)
{
    if (unlikely(ret < 0)) {
        stats_add(&lane->failed[kind], 1);
        return;
    }
    stats_add(&lane->done[kind], 1);
    stats_add(&lane->bytes[kind], bytes);
}

/* A request to @node was carried out elsewhere. */
static inline void stats_count(struct node *node, enum stats_kind kind, uint64_t bytes, int ret)
{
    stats_count_in(stats_lane(node), kind, bytes, ret);
}

/* A request to @node begins, which will end on this loop with what is returned here. */
static inline struct stats_lane *stats_begin(struct node *node)
{
    struct stats_lane *lane = stats_lane(node);
    stats_add(&lane->in_flight, 1);
    return lane;
}

/* It has ended without having been one. */
static inline void stats_drop(struct stats_lane *lane)
{
    stats_add(&lane->in_flight, (uint64_t)-1);
}

/* It has ended with @ret. */
static inline void stats_end(struct stats_lane *lane, enum stats_kind kind, uint64_t bytes, int ret)
{
    stats_drop(lane);
    stats_count_in(lane, kind, bytes, ret);
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

static inline void stats_wrote(struct stats_lane *lane, uint64_t end, uint64_t bytes, int ret)
{
    stats_end(lane, STATS_WRITE, bytes, ret);
    if (ret == 0 && end > atomic_load_explicit(&lane->highest_write, memory_order_relaxed))
        atomic_store_explicit(&lane->highest_write, end, memory_order_relaxed);
}

static inline struct stats_latency *stats_latency(struct stats_lane *lane)
{
    struct stats_latency *latency = atomic_load_explicit(&lane->latency, memory_order_relaxed);
    return likely(latency) ? latency : stats_latency_make(lane);
}

/* A user's request, begun at @begin ticks, has ended at @now. Counted for @node, and in @own if that is not NULL. */
static inline void stats_time(struct node *node, struct stats_lane *own, enum stats_kind kind, uint64_t begin,
                              uint64_t now, int ret)
{
    struct stats_lane *lane = stats_lane(node);
    struct stats_latency *latency = stats_latency(lane); /* from here on ticks can be told in ns */
    unsigned bin = latency_bin(ticks_ns(now - begin));
    for (;;) {
        if (ret == 0) {
            stats_add(&lane->ticks[kind], now - begin);
            stats_add(&latency->of[kind].bins[bin], 1);
        }
        atomic_store_explicit(&lane->last, now, memory_order_relaxed);
        if (!own)
            return;
        lane = own;
        latency = stats_latency(lane);
        own = NULL;
    }
}

static inline void stats_refused(struct stats_lane *lane, enum stats_kind kind)
{
    stats_add(&lane->invalid[kind], 1);
}

#endif
