#include "blockcore/graph/flush.h"

#include "blockcore/graph/layout.h"

int node_flush(struct node *node)
{
    int ret = node->driver->flush ? node->driver->flush(node) : 0;
    struct child *edge = NULL;
    while (ret == 0 && (edge = node_child_next(node, edge))) {
        bool part_of_node = edge->role & (CHILD_DATA | CHILD_METADATA | CHILD_FILTERED);
        if (part_of_node && !edge->node->read_only)
            ret = node_flush(edge->node);
    }
    return ret;
}
