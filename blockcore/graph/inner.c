#include "blockcore/graph/inner.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/layout.h"
#include "blockcore/graph/open_private.h"

struct error *inner_node_begin(const struct driver *driver, const char *name, const char *owner, struct node **out)
{
    struct error *err = name ? node_check_name(name) : NULL;
    if (err)
        return err;
    CLEANUP(free) char *made = name ? NULL : node_make_name();
    struct node *node = node_create(made ? made : name, driver);
    node->owner = xstrdup(owner);
    node->set.unmap = true; /* what users above and nodes below say of discards counts */
    *out = node;
    return NULL;
}

struct error *inner_node_attach(struct node *node, const char *child_name, unsigned role, struct node *child,
                                struct child **out)
{
    return child_attach(node, child_name, role, child, out);
}

void inner_node_publish(struct node *node)
{
    node_published(node);
}

void inner_node_give_up(struct node *node)
{
    while (!list_empty(&node->children))
        child_close(list_entry(node->children.next, struct child, in_parent));
    node_free(node);
}

void inner_node_set_placed(struct node *node, bool placed)
{
    node->unplaced = !placed;
}

const char *node_inner_user(const struct node *node)
{
    if (node->owner)
        return node->owner;
    const struct child *edge = NULL;
    while ((edge = node_parent_next(node, edge))) {
        if (edge->parent && edge->parent->owner && !edge->parent->unplaced)
            return edge->parent->owner;
    }
    return NULL;
}
