/* flush - of a node without a handle: what graph/ does before it closes a node, and io/ for all flushes */
#ifndef CAIRN_GRAPH_FLUSH_H
#define CAIRN_GRAPH_FLUSH_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

struct node;

/* The node's caches, then its data, metadata and filtered children. 0 or -errno. */
int node_flush(struct node *node) CO_FN;

/* The same from outside, as any other request: the node may be in use, and drained by others. @user: for messages. */
struct error *node_flush_in_use(struct node *node, const char *user) CO_FN CONTROL_FN MUST_CHECK;

#endif
