/* rearrange - other nodes in the place of nodes that are in use: overlays, filters, replacements
 *
 *     snapshot         users --> node          users --> overlay --backing--> node
 *     insert filter    users --> node          users --> filter --file--> node
 *     remove filter    the reverse
 *
 * Requests are held back while edges switch, and only those of handles that reach the place. */
#ifndef CAIRN_GRAPH_REARRANGE_H
#define CAIRN_GRAPH_REARRANGE_H

#include "blockcore/graph/node.h"

struct change;

/* @overlay, which nobody uses and which has no backing child, goes on top of @node. What was written to @node is
 * flushed, without holding requests back for it. */
struct error *node_snapshot(struct node *node, struct node *overlay) CO_FN CONTROL_FN MUST_CHECK;

/* The same in three steps, for whoever makes the change himself: what takes long; the edges; the end, when the change
 * has been made. The caller keeps both nodes. */
struct error *overlay_prepare(struct node *node, struct node *overlay) CO_FN CONTROL_FN MUST_CHECK;
struct error *overlay_describe(struct node *node, struct node *overlay, struct change *change) CONTROL_FN MUST_CHECK;
void overlay_settle(struct node *node, struct node *overlay) CO_FN CONTROL_FN;

/* Who uses @node uses @replacement, which is as long. @only: just this user; NULL: all of them. */
struct error *node_replace(struct node *node, struct node *replacement, struct handle *only)
    CO_FN CONTROL_FN MUST_CHECK;

/* The same with a filter that stands on @node already, and back. */
struct error *filter_insert(struct node *node, struct node *filter, struct handle *only) CO_FN CONTROL_FN MUST_CHECK;
struct error *filter_remove(struct node *filter, struct handle *only) CO_FN CONTROL_FN MUST_CHECK;

#endif
