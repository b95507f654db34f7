/* Children that come and go while their parent is at work. */
#include "blockcore/graph/child.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/layout.h"

#include <assert.h>

static struct error *check_free(const struct node *parent)
{
    if (parent->phase != NODE_OPEN)
        return error_new("node '%s' is being %s", parent->name, parent->phase == NODE_OPENING ? "opened" : "closed");
    if (parent->in_reopen)
        return error_new("node '%s' is being reopened", parent->name);
    return NULL;
}

struct error *node_add_child(struct node *parent, struct node *node)
{
    if (!parent->driver->add_child)
        return error_new("The node %s does not support adding a child", parent->name);
    struct error *err = check_free(parent);
    if (err)
        return err;
    node_ref(parent);
    node_ref(node);
    parent->changing_children++;
    err = parent->driver->add_child(parent, node);
    parent->changing_children--;
    node_unref(node);
    node_unref(parent);
    return err;
}

struct error *node_remove_child(struct node *parent, const char *name)
{
    if (!parent->driver->remove_child)
        return error_new("The node %s does not support removing a child", parent->name);
    struct error *err = check_free(parent);
    if (err)
        return err;
    if (!node_child(parent, name))
        return error_new("Node '%s' does not have child '%s'", parent->name, name);
    node_ref(parent);
    parent->changing_children++;
    err = parent->driver->remove_child(parent, name);
    parent->changing_children--;
    node_unref(parent);
    return err;
}

struct error *child_claim(struct node *parent, const char *name, unsigned role, struct node *node, struct child **out)
{
    if (node_reaches(node, parent))
        return error_new("making node '%s' a child of node '%s' would make the graph a loop", node->name, parent->name);
    for (const struct child *edge = NULL; (edge = node_parent_next(node, edge));) {
        if (edge->parent == parent)
            return error_new("node '%s' is a child of node '%s' already", node->name, parent->name);
    }
    if (!height_raise(parent, node->height)) {
        height_settle(parent);
        return error_new("the graph would be more than %d nodes deep", GRAPH_DEPTH_MAX);
    }
    struct child *edge = xcalloc(1, sizeof(*edge));
    edge->name = xstrdup(name);
    edge->role = role;
    edge->parent = parent;
    edge->claim = true;
    edge_attach(edge, node);

    unsigned perm;
    unsigned shared;
    edge_wanted(parent, edge, &perm, &shared);
    struct error *err = edge_claim(edge, perm, shared);
    if (err)
        child_close(edge);
    else
        *out = edge;
    return err;
}

void child_begin(struct child *child)
{
    assert(child->claim);
    list_remove(&child->in_parent);
    child->claim = false;
    list_append(&child->parent->children, &child->in_parent);
    drains_refresh();
}

void child_end(struct child *child)
{
    assert(!child->claim);
    list_remove(&child->in_parent);
    child->claim = true;
    list_append(&child->parent->claims, &child->in_parent);
}
