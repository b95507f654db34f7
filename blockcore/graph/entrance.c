/* entrance - requests that leave by a node and come in again by a handle
 *
 *     job --> remote (nbd) ~~~socket~~~> export "disk" --> disk
 *
 * A request of the job ends when one of the export has. So whoever holds both still closes the door of the job first,
 * and that of the export when nothing of the job is on its way any more. */
#include "blockcore/graph/layout.h"

#include "blockcore/base/memory.h"

#include <string.h>

static struct list entrances = LIST_INIT(entrances);

void handle_set_entrance(struct handle *handle, const char *name)
{
    handle->entrance = xstrdup(name);
    list_append(&entrances, &handle->in_entrances);
}

void entrance_forget(struct handle *handle)
{
    if (!handle->entrance)
        return;
    list_remove(&handle->in_entrances);
    free(steal(&handle->entrance));
}

static void walk(struct node *node);

static void come_in(const char *name)
{
    struct handle *handle;
    list_for_each (handle, &entrances, in_entrances) {
        if (handle->reached == graph.visit || strcmp(handle->entrance, name) != 0)
            continue;
        handle->reached = graph.visit;
        walk(handle->edge.node);
    }
}

static void walk(struct node *node)
{
    if (node->visit == graph.visit)
        return;
    node->visit = graph.visit;
    const char *name = node->driver->comes_back_by ? node->driver->comes_back_by(node) : NULL;
    if (name)
        come_in(name);
    struct child *edge;
    list_for_each (edge, &node->children, in_parent)
        walk(edge->node);
}

void entrances_find(struct node *node)
{
    graph.visit++;
    if (!list_empty(&entrances))
        walk(node);
}

bool entrance_is_found(const struct handle *handle)
{
    return handle->reached == graph.visit;
}
