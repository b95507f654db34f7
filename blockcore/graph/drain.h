/* drain - hold part of the graph still
 *
 * Changing an edge, closing a node, resizing: none can share the graph with running requests. A drain makes
 * every handle that can reach the node hold back new requests, then awaits those in flight. What is already inside
 * goes on unhindered, so a drain cannot deadlock. Nodes above that are being opened, closed or resized send requests
 * that no handle counts: begin awaits those too, and an opening that gets there later waits for the end.
 *
 *     export --> overlay --> base     draining base holds back export and job;
 *     job ---------------'            a handle that cannot reach base is not touched
 *
 * Where requests leave the process and come back by an export (a node that is a client of this very daemon), what they
 * left by is held first, and the export when none of them is on its way any more.
 *
 * Invariant: while a handle is held, its requests in flight only become fewer. begin awaits, end does not. Drains nest,
 * also of different commands at once. Between begin and end, nothing is opened above the node. */
#ifndef CAIRN_GRAPH_DRAIN_H
#define CAIRN_GRAPH_DRAIN_H

#include "blockcore/graph/node.h"

struct drain;

/* The caller keeps @node until the end. Handles that come to reach it meanwhile are held from their start. */
struct drain *drain_begin(struct node *node) CO_FN CONTROL_FN;
/* The same for @node and the nodes that it shows or computes its content from (data and filtered children, all the way
 * down): what a resize may reach. */
struct drain *drain_begin_content(struct node *node) CO_FN CONTROL_FN;
/* For whoever holds @node still by a drain already, perhaps of others: another one, which may end later. Does not wait.
 */
struct drain *drain_outlast(struct node *node) CONTROL_FN;
/* A driver goes on with requests of its own after the one that began them has ended: drains of what is below wait for
 * them. Begun before that request ends. */
void node_background_begin(struct node *node) CONTROL_FN;
void node_background_end(struct node *node) CONTROL_FN;

/* How long requests have been held back, from the first door that was closed to the opening of all, in nanoseconds;
 * over all drains since the process began. */
struct drain_times {
    uint64_t count;
    uint64_t last_ns;
    uint64_t longest_ns;
    uint64_t total_ns;
};

struct drain_times drain_times(void) CONTROL_FN;

/* Takes NULL. */
void drain_end(struct drain *drain) CONTROL_FN;

#endif
