#include "blockcore/graph/flush.h"

#include "blockcore/base/trace.h"
#include "blockcore/graph/stats_count.h"

static int flush_children(struct node *node)
{
    int ret = 0;
    struct child *edge = NULL;
    while (ret == 0 && (edge = node_child_next(node, edge))) {
        bool part_of_node = edge->role & (CHILD_DATA | CHILD_METADATA | CHILD_FILTERED);
        if (part_of_node && !node_refuses_writes(edge->node))
            ret = node_flush(edge->node);
    }
    return ret;
}

int node_flush(struct node *node)
{
    struct stats_lane *stats = stats_begin(node);
    TRACE(node_flush, node->name);
    if (node->driver->debug_event)
        node->driver->debug_event(node, "flush_to_disk");
    /* Before, so that a write that ends meanwhile counts as not flushed. */
    bool written = atomic_exchange(&node->written, false);
    int ret = node->driver->flush ? node->driver->flush(node) : 0;
    if (ret == 0 && !node->driver->flushes_children)
        ret = flush_children(node);
    if (ret == 0 && unlikely(atomic_load(&node->flush_backing)) && node->backing)
        ret = node_flush(node->backing->node);
    if (ret < 0 && written)
        node_set_written(node);
    stats_end(stats, STATS_FLUSH, 0, ret);
    TRACE(node_flush_done, node->name, ret);
    return ret;
}

struct error *node_flush_in_use(struct node *node, const char *user)
{
    struct handle *handle;
    if (node_refuses_writes(node))
        return NULL;
    struct error *err = handle_open_here(node, user, 0, PERM_ALL, &handle);
    if (err)
        return err;
    handle_enter(handle);
    int ret = node_flush(handle->edge.node);
    handle_leave(handle);
    handle_close(handle);
    return ret < 0 ? error_errno(-ret, "node '%s' cannot be flushed", node->name) : NULL;
}
