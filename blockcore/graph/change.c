#include "blockcore/graph/change_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/layout.h"

#include <errno.h>
#include <string.h>

struct change *change_begin(void)
{
    struct change *change = xcalloc(1, sizeof(*change));
    change->journal = journal_begin();
    return change;
}

void change_add_owner(struct change *change, const struct change_owner *owner, void *arg)
{
    change->owners = xrealloc_array(change->owners, change->owners_count + 1, sizeof(struct owner));
    change->owners[change->owners_count++] = (struct owner){ .does = owner, .arg = arg };
}

void change_hold(struct change *change, struct node *node, bool requests)
{
    for (size_t i = 0; i < change->held_count; i++) {
        if (change->held[i].node == node) {
            change->held[i].requests = change->held[i].requests || requests;
            return;
        }
    }
    change->held = xrealloc_array(change->held, change->held_count + 1, sizeof(struct held));
    change->held[change->held_count++] = (struct held){ .node = node_ref(node), .requests = requests };
}

void change_set_patience(struct change *change, unsigned patience_ms)
{
    change->patience_ms = patience_ms;
}

void change_may_be_cancelled(struct change *change)
{
    change->may_be_cancelled = true;
}

/* Describing -------------------------------------------------------------------------------------------------- */

static bool reaches(struct node *from, const struct node *to);

static bool any_reaches(const struct list *edges, const struct node *to)
{
    struct child *edge;
    list_for_each (edge, edges, in_parent) {
        if (reaches(edge->node, to))
            return true;
    }
    return false;
}

/* Does a way lead down from @from to @to? Claims count: they will carry requests. Marks what it has seen. */
static bool reaches(struct node *from, const struct node *to)
{
    if (from == to)
        return true;
    if (from->visit == graph.visit)
        return false;
    from->visit = graph.visit;
    return any_reaches(&from->children, to) || any_reaches(&from->claims, to);
}

bool node_reaches(struct node *from, const struct node *to)
{
    graph.visit++;
    return reaches(from, to);
}

/* What stands above an edge stays until the change is done. */
static void move_append(struct change *change, struct child *edge, struct child *claim)
{
    change->moves = xrealloc_array(change->moves, change->moves_count + 1, sizeof(struct move));
    change->moves[change->moves_count++] = (struct move){ .edge = edge, .claim = claim };
    if (edge)
        edge->leaving = change;
    if (edge && claim) {
        edge->twin = claim;
        claim->twin = edge;
    }
    const struct child *known = edge ? edge : claim;
    if (known->parent)
        node_ref(known->parent);
    else
        known->handle->refs++;
}

static struct child *claim_make(struct change *change, struct node *parent, struct handle *handle, const char *name,
                                unsigned role, struct node *node)
{
    struct child *claim = xcalloc(1, sizeof(*claim));
    claim->name = xstrdup(name ? name : "");
    claim->role = role;
    claim->parent = parent;
    claim->handle = handle;
    claim->claim = true;
    claim->made_for = change;
    edge_attach(claim, node);
    return claim;
}

static struct error *check_parent(struct node *parent, struct node *node)
{
    if (parent->phase != NODE_OPEN)
        return error_new("node '%s' is being %s", parent->name, parent->phase == NODE_OPENING ? "opened" : "closed");
    if (node_reaches(node, parent))
        return error_new("making node '%s' a child of node '%s' would make the graph a loop", node->name, parent->name);
    if (!height_raise(parent, node->height)) {
        height_settle(parent);
        return error_new("the graph would be more than %d nodes deep", GRAPH_DEPTH_MAX);
    }
    return NULL;
}

/* A node may have been deleted while a command that holds it waited for something. An edge would keep it, and the
 * deletion would wait for that. */
static struct error *check_node(const struct node *node)
{
    return node->phase == NODE_CLOSING ? error_new("node '%s' is being closed", node->name) : NULL;
}

static struct error *check_free(const struct child *edge)
{
    if (!edge->leaving)
        return NULL;
    CLEANUP(free) char *user = child_user(edge);
    return error_errno(EAGAIN, "%s: the edge to node '%s' is already being changed by another command", user,
                       edge->node->name);
}

/* QEMU's words, and who it is. */
static struct error *check_frozen(const struct child *edge)
{
    if (!edge->frozen_by)
        return NULL;
    return error_new("Cannot change frozen '%s' link from '%s' to '%s', which %s needs", edge->name, edge->parent->name,
                     edge->node->name, edge->frozen_by);
}

void edge_freeze(struct child *edge, const char *user)
{
    edge_thaw(edge);
    edge->frozen_by = xstrdup(user);
}

void edge_thaw(struct child *edge)
{
    free(steal(&edge->frozen_by));
}

static struct error *check_active(const struct node *parent, const char *name, const struct node *node)
{
    if (!node->set.inactive || parent->set.inactive)
        return NULL;
    return error_new("Inactive '%s' can't be a %s child of active '%s'", node->name, name, parent->name);
}

static struct move *find_move(struct change *change, const struct child *edge)
{
    for (size_t i = 0; i < change->moves_count; i++) {
        struct move *move = &change->moves[i];
        if (!move->forgotten && (move->edge == edge || move->claim == edge))
            return move;
    }
    return NULL;
}

/* A claim has no permissions yet. Its reference on what it led to is dropped at the end, where that may wait. */
static void claim_lead(struct change *change, struct child *claim, struct node *node)
{
    change->kept = xrealloc_array(change->kept, change->kept_count + 1, sizeof(struct node *));
    change->kept[change->kept_count++] = claim->node;
    list_remove(&claim->in_node);
    claim->node = node_ref(node);
    list_append(&node->parents, &claim->in_node);
}

/* Another word on an edge that is in the change already. */
static struct error *change_again(struct change *change, struct move *move, struct node *node)
{
    struct child *claim = move->claim;
    struct error *err = claim ? check_node(node) : error_new("node '%s' is to lose a child", move->edge->parent->name);
    if (!err && claim->parent)
        err = check_active(claim->parent, claim->name, node);
    if (!err && claim->parent)
        err = check_parent(claim->parent, node);
    if (!err)
        claim_lead(change, claim, node);
    return err;
}

struct error *change_edge(struct change *change, struct child *edge, struct node *node)
{
    struct move *move = find_move(change, edge);
    if (move)
        return change_again(change, move, node);
    struct error *err = check_free(edge);
    if (!err && node != edge->node)
        err = check_frozen(edge);
    if (!err)
        err = check_node(node);
    if (!err && edge->parent && node != edge->node)
        err = check_active(edge->parent, edge->name, node);
    if (!err && edge->parent)
        err = check_parent(edge->parent, node);
    if (!err)
        move_append(change, edge, claim_make(change, edge->parent, edge->handle, edge->name, edge->role, node));
    return err;
}

struct error *change_permissions(struct change *change, struct handle *handle, unsigned perm, unsigned shared)
{
    struct error *err = find_move(change, &handle->edge) ? NULL : change_edge(change, &handle->edge, handle->edge.node);
    if (err)
        return err;
    struct move *move = find_move(change, &handle->edge);
    move->asked = true;
    move->asked_perm = perm;
    move->asked_shared = shared;
    return NULL;
}

static bool has_edge(const struct list *edges, const char *name)
{
    const struct child *edge;
    list_for_each (edge, edges, in_parent) {
        if (strcmp(edge->name, name) == 0)
            return true;
    }
    return false;
}

struct error *change_add(struct change *change, struct node *parent, const char *name, unsigned role, struct node *node,
                         struct child **out)
{
    struct error *err = check_parent(parent, node);
    if (!err)
        err = check_node(node);
    if (!err)
        err = check_active(parent, name, node);
    if (!err && (has_edge(&parent->children, name) || has_edge(&parent->claims, name)))
        err = error_new("node '%s' has a child '%s' already", parent->name, name);
    if (err)
        return err;
    *out = claim_make(change, parent, NULL, name, role, node);
    move_append(change, NULL, *out);
    return NULL;
}

struct error *change_remove(struct change *change, struct child *edge)
{
    struct error *err = check_free(edge);
    if (!err)
        err = check_frozen(edge);
    if (!err && edge->parent->phase != NODE_OPEN)
        err = error_new("node '%s' is being closed", edge->parent->name);
    if (!err)
        move_append(change, edge, NULL);
    return err;
}

bool change_replaces(const struct child *edge, struct node *to)
{
    const struct node *parent = edge->parent;
    if (!parent)
        return !edge->handle->stays;
    return parent->phase != NODE_CLOSING && !parent->driver->stays && !parent->unplaced && parent != to &&
           !node_reaches(to, parent);
}

/* By what has been said so far, edges of this change lead to where their claims do. */
static bool edge_counts(const struct change *change, const struct child *edge)
{
    return edge->claim ? edge->made_for == change : edge->leaving != change;
}

struct error *change_replace(struct change *change, struct node *from, struct node *to)
{
    struct error *err = NULL;
    struct child *edge = node_parent_next(from, NULL);
    while (edge && !err) {
        /* change_edge adds claims to lists of @to only, so the walk over @from's parents stays valid. */
        struct child *next = node_parent_next(from, edge);
        if (edge_counts(change, edge) && change_replaces(edge, to))
            err = change_edge(change, edge, to);
        edge = next;
    }
    change->replaced = xrealloc_array(change->replaced, change->replaced_count + 1, sizeof(struct replaced));
    change->replaced[change->replaced_count++] = (struct replaced){ .from = from, .to = to };
    return err;
}

struct node *change_child_node(const struct change *change, const struct node *node, const char *name)
{
    const struct child *edge;
    list_for_each (edge, &node->claims, in_parent) {
        if (edge->made_for == change && strcmp(edge->name, name) == 0)
            return edge->node;
    }
    edge = node_child(node, name);
    return edge && edge->leaving != change ? edge->node : NULL;
}

struct error *change_settings(struct change *change, struct node *node, const struct node_settings *settings,
                              void *state)
{
    if (node->reopening)
        return error_new("node '%s' is already being changed by another command", node->name);
    if (node->phase != NODE_OPEN)
        return error_new("node '%s' is being closed", node->name);
    change->nodes = xrealloc_array(change->nodes, change->nodes_count + 1, sizeof(struct node *));
    change->nodes[change->nodes_count++] = node_ref(node);
    node->reopening = change;
    node->next = *settings;
    node->next_state = state;
    journal_touch(change->journal, node);
    struct error *err = NULL;
    struct child *edge;
    list_for_each (edge, &node->children, in_parent) {
        if (!err && edge->leaving != change)
            err = change_edge(change, edge, edge->node);
    }
    return err;
}
