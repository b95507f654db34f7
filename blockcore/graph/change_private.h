/* change_private - a change in the making, for change.c (what is said of it) and change_commit.c (what comes of it) */
#ifndef CAIRN_GRAPH_CHANGE_PRIVATE_H
#define CAIRN_GRAPH_CHANGE_PRIVATE_H

#include "blockcore/graph/change.h"

#include <stddef.h>

struct journal;

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

/* Does what is said of @to's taking the place of another node move this edge, too? Edges from @to or from below it
 * stay, as do a node's that closes, which keeps what it stands on until it is gone. */
bool change_replaces(const struct child *edge, struct node *to) CONTROL_FN;

#endif
