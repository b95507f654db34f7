/* child - children that come and go while their parent is at work
 *
 * Requests walk along a node's children without a lock, so a new one is first a claim, which holds permissions and
 * carries no requests, and becomes a child while the parent is drained. One that goes takes the same way back.
 *
 *     child_claim(node, "children.2", CHILD_DATA, disk, &child)   may await: permissions, locks of files
 *     drain = drain_begin(node)
 *     child_begin(child), and what the driver remembers of it     does not wait
 *     drain_end(drain) */
#ifndef CAIRN_GRAPH_CHILD_H
#define CAIRN_GRAPH_CHILD_H

#include "blockcore/graph/drain.h"
#include "blockcore/graph/node.h"

/* x-blockdev-change: one more child for @parent, or one less, through the hooks of its driver. The caller keeps neither
 * node. Errors: the driver has no such children; a name that is not there; whatever the driver minds. */
struct error *node_add_child(struct node *parent, struct node *node) CO_FN CONTROL_FN MUST_CHECK;
struct error *node_remove_child(struct node *parent, const char *name) CO_FN CONTROL_FN MUST_CHECK;

/* For drivers: child_permissions says less of @child now than it did. Locks of files follow. */
struct error *child_update_permissions(struct child *child) CO_FN CONTROL_FN MUST_CHECK;

/* For drivers that do that. A node is not claimed twice by one parent. A claim is given up with child_close(). */
struct error *child_claim(struct node *parent, const char *name, unsigned role, struct node *node, struct child **out)
    CO_FN CONTROL_FN MUST_CHECK;
/* The claim is a child from now on. The parent is drained. */
void child_begin(struct child *child) CONTROL_FN;
/* The child is a claim from now on, to be closed when the drain is over. The parent is drained. */
void child_end(struct child *child) CONTROL_FN;

#endif
