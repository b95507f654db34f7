#include "blockcore/graph/layout.h"

#include "blockcore/base/memory.h"

/* What is held still: the graph above some nodes, and single handles. The list of drains lets handles and edges that
 * come while a drain lasts be held too. */
struct drain {
    struct list link;
    struct node **nodes; /* the caller keeps them */
    size_t nodes_count;
    struct handle **handles; /* held; NULL: closed meanwhile */
    size_t handles_count;
};

static struct list drains = LIST_INIT(drains);

static bool drain_has(const struct drain *drain, const struct handle *handle)
{
    for (size_t i = 0; i < drain->handles_count; i++) {
        if (drain->handles[i] == handle)
            return true;
    }
    return false;
}

static void drain_add(struct drain *drain, struct handle *handle)
{
    drain->handles = xrealloc_array(drain->handles, drain->handles_count + 1, sizeof(struct handle *));
    drain->handles[drain->handles_count++] = handle;
    handle_hold(handle);
}

/* Holds all handles above @node that the drain does not hold yet. The first walk finds each handle once: no search. */
static void hold_above(struct drain *drain, struct node *node, bool first)
{
    if (node->visit == graph.visit)
        return;
    node->visit = graph.visit;
    struct child *edge = NULL;
    while ((edge = node_parent_next(node, edge))) {
        if (edge->claim)
            continue;
        if (edge->parent)
            hold_above(drain, edge->parent, first);
        else if (first || !drain_has(drain, edge->handle))
            drain_add(drain, edge->handle);
    }
}

static void drain_collect(struct drain *drain, bool first)
{
    graph.visit++;
    for (size_t i = 0; i < drain->nodes_count; i++)
        hold_above(drain, drain->nodes[i], first);
}

static void drain_add_node(struct drain *drain, struct node *node)
{
    drain->nodes = xrealloc_array(drain->nodes, drain->nodes_count + 1, sizeof(struct node *));
    drain->nodes[drain->nodes_count++] = node;
}

/* The list may grow while we wait: handles that come are held from their start, so they are quiet soon. */
static void drain_wait(struct drain *drain)
{
    for (size_t i = 0; i < drain->handles_count; i++) {
        if (drain->handles[i])
            handle_wait_quiet(drain->handles[i]);
    }
}

static struct drain *drain_make(void)
{
    struct drain *drain = xcalloc(1, sizeof(*drain));
    list_append(&drains, &drain->link);
    return drain;
}

struct drain *drain_begin(struct node *node)
{
    struct drain *drain = drain_make();
    drain_add_node(drain, node);
    drain_collect(drain, true);
    drain_wait(drain);
    return drain;
}

struct drain *drain_begin_edges(struct child *const *edges, size_t count)
{
    struct drain *drain = drain_make();
    for (size_t i = 0; i < count; i++) {
        if (edges[i]->parent)
            drain_add_node(drain, edges[i]->parent);
    }
    drain_collect(drain, true);
    for (size_t i = 0; i < count; i++) {
        if (edges[i]->handle && !drain_has(drain, edges[i]->handle))
            drain_add(drain, edges[i]->handle);
    }
    drain_wait(drain);
    return drain;
}

void drain_end(struct drain *drain)
{
    if (!drain)
        return;
    list_remove(&drain->link);
    for (size_t i = 0; i < drain->handles_count; i++) {
        if (drain->handles[i])
            handle_release(drain->handles[i]);
    }
    free(drain->nodes);
    free(drain->handles);
    free(drain);
}

void drains_refresh(void)
{
    struct drain *drain;
    list_for_each (drain, &drains, link)
        drain_collect(drain, false);
}

void drains_forget(struct handle *handle)
{
    struct drain *drain;
    list_for_each (drain, &drains, link) {
        for (size_t i = 0; i < drain->handles_count; i++) {
            if (drain->handles[i] == handle) {
                drain->handles[i] = NULL;
                handle_release(handle);
            }
        }
    }
}
