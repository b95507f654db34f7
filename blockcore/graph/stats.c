#include "blockcore/graph/stats.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/notice.h"
#include "blockcore/graph/stats_count.h"

#include <stdlib.h>
#include <string.h>

static unsigned lane_count(void)
{
    return loop_io_count() + 1;
}

static struct stats_lane *make_lanes(void)
{
    struct stats_lane *lanes = try_aligned_alloc(_Alignof(struct stats_lane), lane_count() * sizeof(*lanes));
    if (!lanes)
        abort();
    memset(lanes, 0, lane_count() * sizeof(*lanes));
    ticks_begin();
    return lanes;
}

/* With the first request, since most nodes of a large graph never see one. */
struct stats_lane *stats_make(struct node *node)
{
    struct stats_lane *lanes = make_lanes();
    struct stats_lane *known = NULL;
    if (atomic_compare_exchange_strong(&node->stats, &known, lanes))
        return lanes;
    free(lanes);
    return known;
}

struct stats_latency *stats_latency_make(struct stats_lane *lane)
{
    struct stats_latency *latency = xcalloc(1, sizeof(*latency));
    ticks_settle();
    atomic_store_explicit(&lane->latency, latency, memory_order_release);
    return latency;
}

void stats_free(struct stats_lane *lanes)
{
    for (unsigned i = 0; lanes && i < lane_count(); i++)
        free(atomic_load(&lanes[i].latency));
    free(lanes);
}

void handle_keep_stats(struct handle *handle)
{
    if (!handle->stats)
        handle->stats = make_lanes();
}

static void add_lane(struct node_stats *stats, struct stats_lane *lane)
{
    for (unsigned i = 0; i < STATS_KINDS; i++) {
        stats->done[i] += atomic_load_explicit(&lane->done[i], memory_order_relaxed);
        stats->bytes[i] += atomic_load_explicit(&lane->bytes[i], memory_order_relaxed);
        stats->failed[i] += atomic_load_explicit(&lane->failed[i], memory_order_relaxed);
        stats->invalid[i] += atomic_load_explicit(&lane->invalid[i], memory_order_relaxed);
        stats->ns[i] += atomic_load_explicit(&lane->ticks[i], memory_order_relaxed);
    }
    stats->in_flight += (unsigned)atomic_load_explicit(&lane->in_flight, memory_order_relaxed);
    uint64_t highest = atomic_load_explicit(&lane->highest_write, memory_order_relaxed);
    if (highest > stats->highest_write)
        stats->highest_write = highest;
}

static void add_lanes(struct node_stats *stats, struct stats_lane *lanes)
{
    uint64_t last = 0;
    *stats = (struct node_stats){ 0 };
    for (unsigned i = 0; lanes && i < lane_count(); i++) {
        add_lane(stats, &lanes[i]);
        uint64_t of_lane = atomic_load_explicit(&lanes[i].last, memory_order_relaxed);
        last = of_lane > last ? of_lane : last;
    }
    uint64_t now = ticks_now();
    for (unsigned i = 0; i < STATS_KINDS; i++)
        stats->ns[i] = ticks_ns(stats->ns[i]); /* by the same rate as ever, so that it never falls */
    stats->used = last > 0;
    stats->idle_ns = last > 0 && now > last ? ticks_to_ns(now - last) : 0;
}

static void add_latency(struct stats_lane *lanes, enum stats_kind kind, uint64_t *bins)
{
    for (unsigned i = 0; lanes && i < lane_count(); i++) {
        struct stats_latency *latency = atomic_load_explicit(&lanes[i].latency, memory_order_acquire);
        if (latency)
            latency_add_to(&latency->of[kind], bins);
    }
}

void node_stats(const struct node *node, struct node_stats *stats)
{
    add_lanes(stats, atomic_load(&node->stats));
}

void node_latency(const struct node *node, enum stats_kind kind, uint64_t *bins)
{
    add_latency(atomic_load(&node->stats), kind, bins);
}

void handle_stats(const struct handle *handle, struct node_stats *stats)
{
    add_lanes(stats, handle->stats);
}

void handle_latency(const struct handle *handle, enum stats_kind kind, uint64_t *bins)
{
    add_latency(handle->stats, kind, bins);
}

void node_set_write_threshold(struct node *node, uint64_t bytes)
{
    atomic_store(&node->write_threshold, bytes);
}

uint64_t node_write_threshold(const struct node *node)
{
    return atomic_load(&node->write_threshold);
}

void write_threshold_reached(struct node *node, uint64_t end)
{
    uint64_t threshold = atomic_exchange(&node->write_threshold, 0);
    if (threshold == 0)
        return; /* another write was faster */
    notice_give(&(struct notice){
        .kind = NOTICE_WRITE_THRESHOLD,
        .node_name = node->name,
        .message = "a write went past the threshold",
        .place = range_between(threshold, end),
    });
}
