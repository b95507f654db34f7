#include "blockcore/graph/change.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"
#include "blockcore/graph/layout.h"
#include "blockcore/runtime/coroutine.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* For each edge that moves, a claim: an edge of the same parent, name and role to the new node. At commit the two swap
 * their nodes, so that the pointers which drivers hold to the moving edge stay good; the claim then leads to the old
 * node and is dropped. An edge that shall be gone becomes a claim, and the claim for one that is new becomes an edge.
 */
struct move {
    struct child *edge;  /* NULL: it is new */
    struct child *claim; /* NULL: it shall be gone */
    bool forgotten;      /* the edge's handle was closed meanwhile */
    unsigned perm;       /* of the edge, when the claims take permissions */
    unsigned shared;
    bool asked; /* of a handle: the claim shall have others */
    unsigned asked_perm;
    unsigned asked_shared;
};

struct held {
    struct node *node; /* with a reference */
    bool requests;
};

struct owner {
    const struct change_owner *does;
    void *arg;
};

/* Whoever leads to @from shall lead to @to. */
struct replaced {
    const struct node *from;
    struct node *to;
};

struct change {
    struct journal *journal;
    struct move *moves;
    size_t moves_count;
    struct replaced *replaced;
    size_t replaced_count;
    struct node **nodes; /* whose settings change, with a reference each */
    size_t nodes_count;
    struct held *held;
    size_t held_count;
    struct node **kept; /* references only */
    size_t kept_count;
    struct owner *owners;
    size_t owners_count;
    unsigned patience_ms; /* 0: endless */
    bool may_be_cancelled;
};

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

/* Edges from @to or from below it stay, as do a node's that closes, which keeps what it stands on until it is gone. */
static bool is_replaced(const struct child *edge, struct node *to)
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
        if (edge_counts(change, edge) && is_replaced(edge, to))
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

/* Permissions ------------------------------------------------------------------------------------------------- */

/* The next one that still counts; NULL begins and ends. */
static struct move *move_next(struct change *change, struct move *after)
{
    struct move *end = change->moves + change->moves_count;
    struct move *move = after ? after + 1 : change->moves;
    while (move < end && move->forgotten)
        move++;
    return move < end ? move : NULL;
}

static struct error *claim_take_permissions(struct change *change, struct move *move)
{
    if (!move->claim)
        return NULL;
    unsigned perm = move->asked ? move->asked_perm : move->perm;
    unsigned shared = move->asked ? move->asked_shared : move->shared;
    if (move->claim->parent)
        edge_wanted(move->claim->parent, move->claim, &perm, &shared);
    return journal_set(change->journal, move->claim, perm, shared);
}

/* Nobody may write to a node that becomes read-only or inactive, except those who stop it in the same change. */
static struct error *check_writers(const struct node *node)
{
    bool refuses = node->next.read_only || node->next.inactive;
    if (!refuses || node_refuses_writes(node))
        return NULL;
    const struct child *edge = NULL;
    while ((edge = node_parent_next(node, edge))) {
        unsigned writes = edge->perm & (PERM_WRITE | PERM_WRITE_UNCHANGED | PERM_RESIZE);
        if (writes) {
            CLEANUP(free) char *user = child_user(edge);
            return error_new("node '%s' cannot become %s: %s holds permission '%s'", node->name,
                             node->next.inactive ? "inactive" : "read-only", user, permission_name(writes & -writes));
        }
    }
    return NULL;
}

/* Would the graph be right with the claims in place of the edges? Asked of just that graph: the edges give up their
 * permissions while the claims take theirs. Afterwards both hold them, until the change is done or given up. Nobody
 * else runs in between. */
static struct error *claims_take_permissions(struct change *change)
{
    struct move *move = NULL;
    struct error *err = NULL;
    /* Of all first: giving up those of one edge changes those of another below it. */
    while ((move = move_next(change, move))) {
        move->perm = move->edge ? move->edge->perm : 0;
        move->shared = move->edge ? move->edge->shared : PERM_ALL;
    }
    journal_hide(change->journal);
    journal_without(change->journal, change);
    while ((move = move_next(change, move))) {
        if (move->edge)
            journal_relax(change->journal, move->edge);
    }
    for (size_t i = 0; i < change->nodes_count && !err; i++)
        err = check_writers(change->nodes[i]);
    while (!err && (move = move_next(change, move)))
        err = claim_take_permissions(change, move);
    if (err) {
        journal_undo(change->journal);
        return err;
    }
    while ((move = move_next(change, move))) {
        if (move->edge)
            journal_force(change->journal, move->edge, move->perm, move->shared);
    }
    journal_without(change->journal, NULL);
    journal_publish(change->journal);
    return NULL;
}

/* The turning point ------------------------------------------------------------------------------------------- */

static void swap_nodes(struct child *a, struct child *b)
{
    struct node *node = a->node;
    a->node = b->node;
    b->node = node;
    list_remove(&a->in_node);
    list_remove(&b->in_node);
    list_append(&a->node->parents, &a->in_node);
    list_append(&b->node->parents, &b->in_node);

    /* Counters of a node sum over its edges: each takes over what the other had there. */
    unsigned perm = a->perm;
    unsigned shared = a->shared;
    a->perm = b->perm;
    a->shared = b->shared;
    b->perm = perm;
    b->shared = shared;
    atomic_store_explicit(&a->granted, a->perm, memory_order_relaxed);
    atomic_store_explicit(&b->granted, b->perm, memory_order_relaxed);
}

static void edge_becomes_claim(struct child *edge, bool claim)
{
    struct node *parent = edge->parent;
    list_remove(&edge->in_parent);
    list_append(claim ? &parent->claims : &parent->children, &edge->in_parent);
    edge->claim = claim;
    if (claim)
        edge_give_up_role(parent, edge);
    else
        edge_assign_role(parent, edge);
}

static void trace_edge(const struct child *edge)
{
    TRACE(change_edge_of, edge->parent ? edge->parent->name : edge->handle->user);
    TRACE(change_edge_to, edge->node->name);
}

/* Done once more, it is as before. */
static void move_flip(struct move *move)
{
    if (move->edge && move->claim)
        swap_nodes(move->edge, move->claim);
    else if (move->edge)
        edge_becomes_claim(move->edge, !move->edge->claim);
    else
        edge_becomes_claim(move->claim, !move->claim->claim);
    trace_edge(move->edge ? move->edge : move->claim);
}

static void settings_flip(struct node *node)
{
    const struct node_settings before = node->set;
    node->set = node->next;
    node->next = before;
}

static void flip(struct change *change)
{
    struct move *move = NULL;
    while ((move = move_next(change, move)))
        move_flip(move);
    for (size_t i = 0; i < change->nodes_count; i++)
        settings_flip(change->nodes[i]);
    drains_refresh();
}

/* Our own doors are closed as well, so nothing but this tells others that requests are on their way. */
static void set_busy(struct change *change, bool busy)
{
    for (size_t i = 0; i < change->nodes_count; i++)
        node_set_busy(change->nodes[i], busy);
    for (size_t i = 0; i < change->held_count; i++)
        node_set_busy(change->held[i].node, busy);
}

static bool owners_do_something(const struct change *change)
{
    for (size_t i = 0; i < change->owners_count; i++) {
        if (change->owners[i].does->before || change->owners[i].does->try_new)
            return true;
    }
    return false;
}

/* *@reached: how many have had their turn, also the one that failed. */
static struct error *owners_before(struct change *change, size_t *reached) CO_FN;

static struct error *owners_before(struct change *change, size_t *reached)
{
    struct error *err = NULL;
    for (*reached = 0; *reached < change->owners_count && !err; ++*reached) {
        const struct owner *owner = &change->owners[*reached];
        err = owner->does->before ? owner->does->before(owner->arg) : NULL;
    }
    return err;
}

static struct error *owners_try_new(struct change *change) CO_FN;

static struct error *owners_try_new(struct change *change)
{
    struct error *err = NULL;
    size_t reached;
    for (reached = 0; reached < change->owners_count && !err; reached++) {
        const struct owner *owner = &change->owners[reached];
        err = owner->does->try_new ? owner->does->try_new(owner->arg) : NULL;
    }
    while (err && reached-- > 0) {
        const struct owner *owner = &change->owners[reached];
        if (owner->does->undo_new)
            owner->does->undo_new(owner->arg);
    }
    return err;
}

/* A node that is asked to do something on the way would wait for a door that we have closed. */
static struct error *check_way_of(struct node *node, const struct drain *drain)
{
    const char *user = drain_in_the_way_of(drain, node);
    return user ? error_new("requests to node '%s' come back to this daemon by %s, and what that leads to is changed "
                            "by the same command: change one after the other",
                            node->name, user)
                : NULL;
}

static struct error *check_way_back(const struct change *change, const struct drain *drain)
{
    struct error *err = NULL;
    for (size_t i = 0; i < change->nodes_count && !err; i++)
        err = check_way_of(change->nodes[i], drain);
    for (size_t i = 0; i < change->held_count && !err; i++)
        err = change->held[i].requests ? check_way_of(change->held[i].node, drain) : NULL;
    return err;
}

/* While the change waited, others may have brought their edges to what is replaced. */
static struct error *check_newcomers(const struct change *change)
{
    for (size_t i = 0; i < change->replaced_count; i++) {
        const struct node *from = change->replaced[i].from;
        struct child *edge = NULL;
        while ((edge = node_parent_next(from, edge))) {
            if (!edge->claim && edge->leaving != change && is_replaced(edge, change->replaced[i].to)) {
                CLEANUP(free) char *user = child_user(edge);
                return error_errno(EAGAIN, "node '%s' is replaced, but %s uses it since a moment", from->name, user);
            }
        }
    }
    return NULL;
}

static struct error *turn(struct change *change, const struct drain *drain) CO_FN;

static struct error *turn(struct change *change, const struct drain *drain)
{
    bool busy = owners_do_something(change);
    size_t reached = 0;
    struct error *err = check_way_back(change, drain);
    if (!err)
        err = check_newcomers(change);
    if (busy)
        set_busy(change, true);
    if (!err)
        err = owners_before(change, &reached);
    if (!err) {
        flip(change);
        err = owners_try_new(change);
        if (err)
            flip(change);
    }
    while (err && reached-- > 0) {
        if (change->owners[reached].does->failed)
            change->owners[reached].does->failed(change->owners[reached].arg);
    }
    if (busy)
        set_busy(change, false);
    for (size_t i = 0; !err && i < change->owners_count; i++) {
        if (change->owners[i].does->done)
            change->owners[i].does->done(change->owners[i].arg);
    }
    return err;
}

/* Holds still what the edges carry requests of. The claims keep parents and handles. */
static struct error *drain_moves(struct change *change, struct drain *drain) CO_FN;

static struct error *drain_moves(struct change *change, struct drain *drain)
{
    if (change->may_be_cancelled)
        drain_may_be_cancelled(drain);
    struct move *move = NULL;
    while ((move = move_next(change, move))) {
        const struct child *edge = move->edge ? move->edge : move->claim;
        if (edge->parent)
            drain_cover_node(drain, edge->parent);
        else
            drain_cover_handle(drain, edge->handle);
    }
    for (size_t i = 0; i < change->nodes_count; i++)
        drain_cover_node(drain, change->nodes[i]);
    for (size_t i = 0; i < change->held_count; i++)
        drain_cover_node(drain, change->held[i].node);
    return drain_try_hold(drain, change->patience_ms);
}

/* The end ----------------------------------------------------------------------------------------------------- */

/* What does not carry requests any more: the claim of an edge that stays, an edge that is gone, or the claim for one
 * that did not come. NULL: the claim has become the edge. */
static struct child *leftover(const struct move *move)
{
    if (move->edge && !move->claim)
        return move->edge->claim ? move->edge : NULL;
    return move->claim->claim ? move->claim : NULL;
}

static void move_settle(struct move *move)
{
    if (move->edge && !move->forgotten) {
        move->edge->leaving = NULL;
        move->edge->twin = NULL;
    }
    if (move->claim) {
        move->claim->made_for = NULL;
        move->claim->twin = NULL;
    }
}

static void move_drop(struct move *move) CO_FN;

static void move_drop(struct move *move)
{
    struct child *over = leftover(move);
    const struct child *known = move->claim ? move->claim : move->edge;
    struct node *parent = known->parent;
    struct handle *handle = known->handle;
    if (over) {
        node_unref(edge_detach(over));
        edge_fini(over);
        free(over);
    }
    if (handle)
        handle_put(handle);
    node_unref(parent);
}

/* Permissions first, for all, then locks once, then references: those may await. */
static void moves_drop(struct change *change) CO_FN;

static void moves_drop(struct change *change)
{
    for (size_t i = 0; i < change->nodes_count; i++)
        change->nodes[i]->reopening = NULL;
    for (size_t i = 0; i < change->moves_count; i++) {
        struct child *over = leftover(&change->moves[i]);
        move_settle(&change->moves[i]);
        if (over)
            journal_relax(change->journal, over);
        /* While locks are awaited others may change what the parent needs: not of this one. */
        if (over)
            list_remove(&over->in_parent);
    }
    /* Giving locks up can only fail where the file is lost anyway. */
    error_free(journal_sync(change->journal));
    for (size_t i = 0; i < change->moves_count; i++)
        move_drop(&change->moves[i]);
}

static void change_free(struct change *change) CO_FN;

static void change_free(struct change *change)
{
    moves_drop(change);
    journal_end(change->journal);
    for (size_t i = 0; i < change->nodes_count; i++)
        node_unref(change->nodes[i]);
    for (size_t i = 0; i < change->held_count; i++)
        node_unref(change->held[i].node);
    for (size_t i = 0; i < change->kept_count; i++)
        node_unref(change->kept[i]);
    free(change->kept);
    free(change->held);
    free(change->owners);
    free(change->nodes);
    free(change->replaced);
    free(change->moves);
    free(change);
}

void change_forget(struct change *change, struct child *edge)
{
    for (size_t i = 0; i < change->moves_count; i++) {
        struct move *move = &change->moves[i];
        if (move->edge == edge) {
            move->forgotten = true;
            if (move->claim)
                move->claim->twin = NULL;
        }
    }
    edge->leaving = NULL;
    edge->twin = NULL;
}

void change_abort(struct change *change)
{
    change_free(change);
}

void change_may_be_cancelled(struct change *change)
{
    change->may_be_cancelled = true;
}

struct error *change_commit(struct change *change)
{
    TRACE(change_commit, NULL, change->moves_count, change->nodes_count);
    struct error *err = claims_take_permissions(change);
    if (!err)
        err = journal_sync(change->journal);
    if (!err) {
        struct drain *drain = drain_make();
        err = drain_moves(change, drain);
        if (!err)
            err = turn(change, drain);
        drain_end(drain);
    }
    TRACE(change_end, NULL, TRACE_CONSTANT(err ? "refused" : "done"));
    change_free(change);
    return err;
}
