/* active - images that are handed from host to host: blockdev-set-active
 *
 * While another host uses an image its nodes here are inactive: nothing is written, files are not locked against
 * others, and what is known of the content may be out of date. A node becomes inactive with all that it stands on,
 * except what others above still use; a node becomes active with all that it stands on, first of all what lies lowest.
 */
#ifndef CAIRN_GRAPH_ACTIVE_H
#define CAIRN_GRAPH_ACTIVE_H

#include "blockcore/graph/node.h"

/* @node NULL: all nodes. Errors: somebody above needs the node (and is named); storage cannot be flushed, locked or
 * read; then nothing has changed. */
struct error *node_set_active(struct node *node, bool active) CO_FN CONTROL_FN MUST_CHECK;

#endif
