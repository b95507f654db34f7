/* flush - of a node without a handle: for graph/, which flushes what it closes */
#ifndef CAIRN_IO_FLUSH_H
#define CAIRN_IO_FLUSH_H

#include "blockcore/base/annotations.h"

struct node;

/* The node's caches, then its data, metadata and filtered children. 0 or -errno. */
int node_flush(struct node *node) CO_FN;

#endif
