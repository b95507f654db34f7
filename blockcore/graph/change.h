/* change - alter the shape of the graph and the settings of nodes, all of it or nothing
 *
 * Described with change_edge, change_replace, change_add, change_remove, change_settings: each edge that shall lead
 * elsewhere gets a claim, a second edge to the new node that carries no requests. Loops and graphs that would be too
 * deep show here. What is said of an edge later counts, and finds the graph as it would be after what was said before:
 * so a change can be put together of parts that know nothing of each other.
 *
 * Committed:
 *     1. the claims take permissions; conflicts show, and the change is given up
 *     2. locks of files below are brought in line (awaited; may fail, and the change is given up)
 *     3. the handles above are drained (awaited)
 *     4. edges and claims swap their ends: cannot fail, does not wait
 *     5. whoever makes the change may try the new graph while nobody else uses it; if that fails they swap back
 *
 *     before              claimed                  committed
 *     P --file--> A       P --file--> A            P --file--> F --file--> A
 *                         P ..claim..> F --> A
 *
 * A node whose settings change has claims for all its children, also for those that stay: what it needs of them changes
 * with it, and what it needs before and after is held in between.
 *
 * Other changes may run at the same time: permissions of claims are visible to their checks, so two that exclude each
 * other cannot both go on. */
#ifndef CAIRN_GRAPH_CHANGE_H
#define CAIRN_GRAPH_CHANGE_H

#include "blockcore/graph/handle.h"

struct change;
struct node_settings;

struct change *change_begin(void) CONTROL_FN;

/* The edge (of a node or of a handle) shall lead to @node, whatever was said of it before. Edges of one change are all
 * switched at the same moment. On error the change can only be aborted. */
struct error *change_edge(struct change *change, struct child *edge, struct node *node) CONTROL_FN MUST_CHECK;

/* The user of @handle shall need @perm, and let others have @shared. */
struct error *change_permissions(struct change *change, struct handle *handle, unsigned perm,
                                 unsigned shared) CONTROL_FN MUST_CHECK;

/* Everything that leads to @from, or shall by what was said before, shall lead to @to, except edges from @to or from
 * below it, and those of drivers that stay. Where another change brings one more edge to @from meanwhile, this one
 * fails with EAGAIN, as a change does that meets an edge of another's. */
struct error *change_replace(struct change *change, struct node *from, struct node *to) CONTROL_FN MUST_CHECK;

/* @parent shall have one more child. The claim becomes that child and is returned in *@out: a weak pointer, which stays
 * good when the change succeeds. */
struct error *change_add(struct change *change, struct node *parent, const char *name, unsigned role, struct node *node,
                         struct child **out) CONTROL_FN MUST_CHECK;

/* The edge of a node shall be gone. */
struct error *change_remove(struct change *change, struct child *edge) CONTROL_FN MUST_CHECK;

/* @node shall have @settings. @state is what drivers see as node_next_state() in child_permissions. Comes after all
 * that is said of the node's children. */
struct error *change_settings(struct change *change, struct node *node, const struct node_settings *settings,
                              void *state) CONTROL_FN MUST_CHECK;

/* For a job that needs a chain as it is: changes that would lead the edge of a node elsewhere, or remove it, are
 * refused from now on, with the name of @user, which is copied. The caller keeps the node above. */
void edge_freeze(struct child *edge, const char *user) CONTROL_FN;
void edge_thaw(struct child *edge) CONTROL_FN;

/* What child @name of @node shall lead to, by what has been said so far; NULL: there is no such child. */
struct node *change_child_node(const struct change *change, const struct node *node, const char *name) CONTROL_FN;

/* What the one who makes a change does at its turning point: everything is drained, no request runs. */
struct change_owner {
    /* The graph is as before; may send requests to nodes whose settings change. An error gives the
     * change up. Absent: nothing to do. */
    struct error *(*before)(void *arg)CO_FN;
    /* The graph is as it shall be; may send requests likewise. After an error comes undo_new, and it will be
     * as before. Absent: nothing to do. */
    struct error *(*try_new)(void *arg)CO_FN;
    /* try_new has failed; the graph is as it shall be still, and requests can be sent likewise. For what has been done
     * to storage and cannot be taken back when the graph is as before. Absent: nothing to do. */
    void (*undo_new)(void *arg) CO_FN;
    /* Something went wrong in before or try_new; still drained, the graph is as before. Absent: nothing to do. */
    void (*failed)(void *arg) CO_FN;
    /* Nothing can go wrong any more. Must neither wait nor fail. Absent: nothing to do. */
    void (*done)(void *arg) CONTROL_FN;
};

/* Another one who makes it; they have their turns in this order, in reverse to undo. @owner and @arg live as long as
 * the change. */
void change_add_owner(struct change *change, const struct change_owner *owner, void *arg) CONTROL_FN;

/* @node shall be held still as well at the turning point, and nobody else changes it meanwhile. @requests: owners send
 * it requests then. */
void change_hold(struct change *change, struct node *node, bool requests) CONTROL_FN;

/* The change is given up when requests have to be held back for longer, in milliseconds, until those in flight have
 * ended. */
void change_set_patience(struct change *change, unsigned patience_ms) CONTROL_FN;

/* Whoever asked for it may not want it any more (co_cancelled): it is given up while requests are awaited, and holds
 * none of them back then. Not for changes that put things back. */
void change_may_be_cancelled(struct change *change) CONTROL_FN;

/* Makes it so, or aborts; frees @change in both cases. */
struct error *change_commit(struct change *change) CO_FN CONTROL_FN MUST_CHECK;
void change_abort(struct change *change) CO_FN CONTROL_FN;

/* The edge of a handle. */
struct child *handle_edge(struct handle *handle);

#endif
