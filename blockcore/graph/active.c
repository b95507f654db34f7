#include "blockcore/graph/active.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/flush.h"
#include "blockcore/graph/layout.h"

/* The nodes whose state changes, what lies lowest first. */
struct activation {
    bool active;
    struct node **nodes;
    size_t count;
    size_t told; /* drivers that have done their part */
};

static bool is_in(const struct activation *activation, const struct node *node)
{
    for (size_t i = 0; i < activation->count; i++) {
        if (activation->nodes[i] == node)
            return true;
    }
    return false;
}

static void append(struct activation *activation, struct node *node)
{
    activation->nodes = xrealloc_array(activation->nodes, activation->count + 1, sizeof(struct node *));
    activation->nodes[activation->count++] = node_ref(node);
}

static void collect_active(struct activation *activation, struct node *node)
{
    struct child *edge = NULL;
    if (is_in(activation, node))
        return;
    while ((edge = node_child_next(node, edge)))
        collect_active(activation, edge->node);
    if (node->set.inactive)
        append(activation, node);
}

static const struct node *active_parent(const struct activation *activation, const struct node *node)
{
    const struct child *edge = NULL;
    while ((edge = node_parent_next(node, edge))) {
        if (edge->parent && !edge->parent->set.inactive && !is_in(activation, edge->parent))
            return edge->parent;
    }
    return NULL;
}

/* From above, so that a node is met when all that stands on it is in the list; what somebody else needs stays active.
 */
static void collect_inactive(struct activation *activation, struct node *node)
{
    if (is_in(activation, node) || active_parent(activation, node))
        return;
    if (!node->set.inactive)
        append(activation, node);
    struct child *edge = NULL;
    while ((edge = node_child_next(node, edge)))
        collect_inactive(activation, edge->node);
}

static struct error *check_users(const struct node *node)
{
    const struct child *edge = NULL;
    while ((edge = node_parent_next(node, edge))) {
        if (edge->handle && edge->handle->needs_active)
            return error_new("node '%s' cannot become inactive: %s needs it", node->name, edge->handle->user);
    }
    return NULL;
}

static struct error *collect(struct activation *activation, struct node *node)
{
    struct error *err = NULL;
    if (activation->active)
        collect_active(activation, node);
    else
        collect_inactive(activation, node);
    if (!activation->active && !node->set.inactive && !is_in(activation, node))
        return error_new("Node '%s' has active parent node '%s'", node->name, active_parent(activation, node)->name);
    for (size_t i = 0; i < activation->count && !err && !activation->active; i++)
        err = check_users(activation->nodes[i]);
    return err;
}

/* Those that nothing stands on lead to all the others. */
static struct error *collect_all(struct activation *activation)
{
    struct error *err = NULL;
    for (struct node *node = node_next(NULL); node && !err; node = node_next(node)) {
        if (!node_parent_next(node, NULL) || !child_parent(node_parent_next(node, NULL)))
            err = collect(activation, node);
    }
    return err;
}

/* What stands above comes first, since it hands down what it has. */
static struct error *let_go(void *arg) CO_FN;

static struct error *let_go(void *arg)
{
    struct activation *activation = arg;
    struct error *err = NULL;
    for (size_t i = 0; i < activation->count && !err && !activation->active; i++) {
        struct node *node = activation->nodes[i];
        int ret = node->set.read_only ? 0 : node_flush(node);
        if (ret < 0)
            err = error_errno(-ret, "node '%s' cannot be flushed", node->name);
        if (!err && node->driver->inactivate)
            err = error_wrap(node->driver->inactivate(node), "node '%s'", node->name);
        activation->told += !err;
    }
    return err;
}

static struct error *take_up(void *arg) CO_FN;

static struct error *take_up(void *arg)
{
    struct activation *activation = arg;
    struct error *err = NULL;
    for (size_t i = 0; i < activation->count && !err && activation->active; i++) {
        struct node *node = activation->nodes[i];
        if (node->driver->activate)
            err = error_wrap(node->driver->activate(node), "node '%s'", node->name);
        activation->told += !err;
    }
    return err;
}

/* One could not: the others go back. What cannot even do that says so with each write. */
static void go_back(void *arg) CO_FN;

static void go_back(void *arg)
{
    struct activation *activation = arg;
    while (activation->told > 0) {
        struct node *node = activation->nodes[--activation->told];
        const struct driver *driver = node->driver;
        struct error *(*back)(struct node *) = activation->active ? driver->inactivate : driver->activate;
        if (back)
            error_free(back(node));
    }
}

static struct error *change_all(struct activation *activation) CO_FN;

static struct error *change_all(struct activation *activation)
{
    static const struct change_owner owner = { .before = let_go, .try_new = take_up, .failed = go_back };
    struct change *change = change_begin();
    change_may_be_cancelled(change);
    struct error *err = NULL;
    change_add_owner(change, &owner, activation);
    for (size_t i = 0; i < activation->count && !err; i++) {
        struct node_settings settings = activation->nodes[i]->set;
        settings.inactive = !activation->active;
        err = change_settings(change, activation->nodes[i], &settings, NULL);
    }
    if (!err)
        return change_commit(change);
    change_abort(change);
    return err;
}

struct error *node_set_active(struct node *node, bool active)
{
    struct activation activation = { .active = active };
    struct error *err = node ? collect(&activation, node) : collect_all(&activation);
    if (!err && activation.count > 0)
        err = change_all(&activation);
    for (size_t i = 0; i < activation.count; i++)
        node_unref(activation.nodes[i]);
    free(activation.nodes);
    return err;
}
