#include "blockcore/graph/change.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/layout.h"

#include <assert.h>

/* For each edge that moves, a claim: an edge of the same parent, name and role to the new node. At commit the two swap
 * their nodes, so that the pointers which drivers hold to the moving edge stay good; the claim then leads to the old
 * node and is dropped. */
struct move {
    struct child *edge; /* NULL: its handle was closed meanwhile */
    struct child *claim;
    unsigned perm; /* of the edge, when the claims take permissions */
    unsigned shared;
};

struct change {
    struct journal *journal;
    struct move *moves;
    size_t moves_count;
};

struct change *change_begin(void)
{
    struct change *change = xcalloc(1, sizeof(*change));
    change->journal = journal_begin();
    return change;
}

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

static void claim_make(struct change *change, struct child *edge, struct node *node)
{
    struct child *claim = xcalloc(1, sizeof(*claim));
    claim->name = xstrdup(edge->name ? edge->name : "");
    claim->role = edge->role;
    claim->parent = edge->parent;
    claim->handle = edge->handle;
    claim->claim = true;
    edge_attach(claim, node);

    change->moves = xrealloc_array(change->moves, change->moves_count + 1, sizeof(struct move));
    change->moves[change->moves_count++] = (struct move){ .edge = edge, .claim = claim };
    edge->leaving = change;
    if (edge->parent)
        node_ref(edge->parent);
    else
        edge->handle->refs++;
}

struct error *change_edge(struct change *change, struct child *edge, struct node *node)
{
    CLEANUP(free) char *user = child_user(edge);
    if (edge->leaving)
        return error_new("%s: the edge to node '%s' is already being changed by another command", user,
                         edge->node->name);
    if (edge->parent && edge->parent->phase != NODE_OPEN)
        return error_new("node '%s' is being %s", edge->parent->name,
                         edge->parent->phase == NODE_OPENING ? "opened" : "closed");
    if (edge->parent && node_reaches(node, edge->parent))
        return error_new("making node '%s' a child of node '%s' would make the graph a loop", node->name,
                         edge->parent->name);
    if (edge->parent && !height_raise(edge->parent, node->height)) {
        height_settle(edge->parent);
        return error_new("the graph would be more than %d nodes deep", GRAPH_DEPTH_MAX);
    }
    claim_make(change, edge, node);
    return NULL;
}

struct error *change_replace(struct change *change, struct node *from, struct node *to)
{
    struct error *err = NULL;
    struct child *edge = node_parent_next(from, NULL);
    while (edge && !err) {
        /* change_edge adds claims to lists of @to only, so the walk over @from's parents stays valid. */
        struct child *next = node_parent_next(from, edge);
        bool below_to = edge->parent && (edge->parent == to || node_reaches(to, edge->parent));
        /* A node that closes keeps what it stands on until it is gone. */
        bool closing = edge->parent && edge->parent->phase == NODE_CLOSING;
        if (!edge->claim && !below_to && !closing)
            err = change_edge(change, edge, to);
        edge = next;
    }
    return err;
}

/* The next one whose edge is still there; NULL begins and ends. */
static struct move *move_next(struct change *change, struct move *after)
{
    struct move *end = change->moves + change->moves_count;
    struct move *move = after ? after + 1 : change->moves;
    while (move < end && !move->edge)
        move++;
    return move < end ? move : NULL;
}

/* Would the graph be right with the claims in place of the edges? Asked of just that graph: the edges give up their
 * permissions while the claims take theirs. Afterwards both hold them, until the change is done or given up. Nobody
 * else runs in between. */
static struct error *claims_take_permissions(struct change *change)
{
    struct move *move = NULL;
    /* Of all first: giving up those of one edge changes those of another below it. */
    while ((move = move_next(change, move))) {
        move->perm = move->edge->perm;
        move->shared = move->edge->shared;
    }
    journal_hide(change->journal);
    while ((move = move_next(change, move)))
        journal_relax(change->journal, move->edge);
    while ((move = move_next(change, move))) {
        struct error *err = journal_set(change->journal, move->claim, move->perm, move->shared);
        if (err)
            return err;
    }
    while ((move = move_next(change, move)))
        journal_force(change->journal, move->edge, move->perm, move->shared);
    journal_publish(change->journal);
    return NULL;
}

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

static void moves_switch(struct change *change)
{
    struct move *move = NULL;
    while ((move = move_next(change, move)))
        swap_nodes(move->edge, move->claim);
}

/* Permissions first, for all, then locks once, then references: those may await. */
static void claims_drop(struct change *change)
{
    for (size_t i = 0; i < change->moves_count; i++) {
        if (change->moves[i].edge)
            change->moves[i].edge->leaving = NULL;
        journal_relax(change->journal, change->moves[i].claim);
    }
    /* Giving locks up can only fail where the file is lost anyway. */
    error_free(journal_sync(change->journal));
    for (size_t i = 0; i < change->moves_count; i++) {
        struct child *claim = change->moves[i].claim;
        struct node *parent = claim->parent;
        node_unref(edge_detach(claim));
        if (!parent)
            handle_put(claim->handle);
        edge_fini(claim);
        free(claim);
        node_unref(parent);
    }
}

static void change_free(struct change *change)
{
    claims_drop(change);
    journal_end(change->journal);
    free(change->moves);
    free(change);
}

void change_forget(struct change *change, const struct child *edge)
{
    for (size_t i = 0; i < change->moves_count; i++) {
        if (change->moves[i].edge == edge)
            change->moves[i].edge = NULL;
    }
}

void change_abort(struct change *change)
{
    change_free(change);
}

/* Holds still what the edges carry requests of. The claims keep parents and handles. */
static struct drain *drain_moves(struct change *change)
{
    struct drain *drain = drain_make();
    struct move *move = NULL;
    while ((move = move_next(change, move))) {
        if (move->edge->parent)
            drain_cover_node(drain, move->edge->parent);
        else
            drain_cover_handle(drain, move->edge->handle);
    }
    drain_hold(drain);
    return drain;
}

struct error *change_commit(struct change *change)
{
    struct error *err = claims_take_permissions(change);
    if (!err)
        err = journal_sync(change->journal);
    if (!err) {
        struct drain *drain = drain_moves(change);
        moves_switch(change);
        drains_refresh();
        drain_end(drain);
    }
    change_free(change);
    return err;
}
