/* What comes of a change that has been described: it takes permissions and locks, holds requests back, turns, and lets
 * go of what is over. */
#include "blockcore/graph/change_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"
#include "blockcore/graph/layout.h"

#include <errno.h>

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
            if (!edge->claim && edge->leaving != change && change_replaces(edge, change->replaced[i].to)) {
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
