/* stats - what a node has been asked, and what became of it
 *
 * Counted for every node; times only where requests enter the graph, at the node that a handle leads to: there they
 * are what a user waits for. An export's handle (handle_keep_stats()) counts what came in through it. Each loop counts
 * in memory of its own, so counting moves no line of memory between threads; who asks adds them up, and sees each
 * counter as it was at some moment. */
#ifndef CAIRN_GRAPH_STATS_H
#define CAIRN_GRAPH_STATS_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>
#include <stdint.h>

struct handle;
struct node;

enum stats_kind {
    STATS_READ,
    STATS_WRITE, /* also of zeroes */
    STATS_FLUSH,
    STATS_UNMAP,
};

#define STATS_KINDS 4

struct node_stats {
    uint64_t done[STATS_KINDS]; /* requests that succeeded */
    uint64_t bytes[STATS_KINDS];
    uint64_t failed[STATS_KINDS];
    uint64_t invalid[STATS_KINDS]; /* refused: outside the node, read-only, without permission */
    uint64_t ns[STATS_KINDS];      /* of those that succeeded, together */
    unsigned in_flight;            /* requests inside the node right now */
    uint64_t highest_write;        /* end of the write that reached farthest, in bytes */
    bool used;                     /* a user has sent a request; idle_ns counts */
    uint64_t idle_ns;              /* since the last one ended */
};

/* The caller keeps @node. */
void node_stats(const struct node *node, struct node_stats *stats);
/* Adds to the LATENCY_BINS numbers of @bins (base/latency.h) how many of the requests that users sent to @node, and
 * that succeeded, took how long. */
void node_latency(const struct node *node, enum stats_kind kind, uint64_t *bins);

/* The same for requests that came through @handle, if it keeps statistics, else nothing. Those in flight are
 * handle_in_flight(). */
void handle_stats(const struct handle *handle, struct node_stats *stats);
void handle_latency(const struct handle *handle, enum stats_kind kind, uint64_t *bins);

/* block-set-write-threshold: a write that ends behind offset @bytes gives NOTICE_WRITE_THRESHOLD, once; then the
 * threshold is 0 again, which is none. */
void node_set_write_threshold(struct node *node, uint64_t bytes);
uint64_t node_write_threshold(const struct node *node);

#endif
