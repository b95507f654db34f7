/* flush - of a node without a handle: what graph/ does before it closes a node, and io/ for all flushes */
#ifndef CAIRN_GRAPH_FLUSH_H
#define CAIRN_GRAPH_FLUSH_H

#include "blockcore/base/annotations.h"

struct node;

/* The node's caches, then its data, metadata and filtered children. 0 or -errno. */
int node_flush(struct node *node) CO_FN;

#endif
