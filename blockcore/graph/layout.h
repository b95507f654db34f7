/* layout - how nodes, edges and handles look inside: for graph/ and io/ only */
#ifndef CAIRN_GRAPH_LAYOUT_H
#define CAIRN_GRAPH_LAYOUT_H

#include "blockcore/base/arena.h"
#include "blockcore/base/hash.h"
#include "blockcore/base/list.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/drain.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/write_ahead.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"
#include "blockcore/runtime/tracking.h"

#include <stdatomic.h>

struct blockdev_options;
struct change;
struct node_bitmaps;
struct stats_lane;

struct child {
    char *name;
    unsigned role;
    struct node *parent; /* one of parent and handle */
    struct handle *handle;
    struct node *node; /* holds a reference; I/O threads read it, it changes while they are drained */
    unsigned perm;
    unsigned shared;
    _Atomic unsigned granted; /* perm, as I/O threads see it: without the moments in the middle of a change */
    bool claim;               /* prepared by a change: holds permissions, carries no requests */
    struct change *leaving;   /* the change at whose end the edge will lead elsewhere, or be gone */
    struct change *made_for;  /* of a claim: the change that prepared it */
    char *frozen_by;          /* whoever needs that it leads where it does; NULL: nobody */
    struct child *twin;       /* edge and claim that will swap their ends: they do not mind each other */
    struct list in_parent;    /* in parent->children; a claim: in parent->claims */
    struct list in_node;      /* in node->parents */
};

/* What its options say of a node, whatever its driver. */
struct node_settings {
    bool read_only;
    bool auto_read_only; /* may fall back to read-only */
    bool inactive;       /* another host uses the image */
    bool force_share;
    bool unmap; /* discards and the permission to unmap zeroes are passed on */
    enum detect_zeroes detect_zeroes;
    bool cache_direct;
    bool cache_no_flush;
};

/* Somebody's wait for the end of requests: see haste.c. */
struct haste {
    struct list entries;
    uint64_t owner; /* whose requests nobody wants any more; 0: they are wanted */
};

enum node_phase {
    NODE_OPENING, /* the name is reserved; found by nobody */
    NODE_OPEN,
    NODE_CLOSING, /* the name is still reserved: its locks may still be held */
};

struct node {
    char *name;
    char *filename;
    const struct driver *driver;
    void *state;

    /* Read by requests on any thread. */
    _Atomic uint64_t length;
    _Atomic(struct child *) length_of; /* length follows this child */
    struct child *backing;
    struct child *filtered;
    struct node_limits limits;
    struct node_settings set;
    struct tracker tracker;
    _Atomic bool written;       /* since the last flush that succeeded */
    _Atomic bool flush_backing; /* a flush is for the backing child too: what was written there before a snapshot */
    struct node_bitmaps *_Atomic bitmaps; /* see dirty_bitmap.h; NULL: there never was one */
    struct write_ahead *_Atomic ahead;    /* see write_ahead.h; NULL: its image is not told of writes before */
    _Atomic uint64_t write_threshold;     /* 0: none */
    struct stats_lane *_Atomic stats;     /* one per loop; NULL: no request yet */

    /* Control thread. */
    enum node_phase phase;
    unsigned refs;
    unsigned height; /* at least the longest path down, in edges */
    bool monitor_owned;
    char *owner;                          /* of an inner node: who made it, for messages */
    bool unplaced;                        /* of an inner node: it is ready for a change that has not begun */
    uint64_t serial;                      /* no two nodes have the same */
    uint64_t made_with;                   /* serial of the parent whose options described this node; 0: nobody's */
    unsigned made_as;                     /* the role there */
    const struct blockdev_options *given; /* as they were given, without what is inherited; NULL: not known */
    struct arena options_arena;           /* of given */
    bool in_reopen;                       /* a command is reopening the node */
    unsigned changing_children;           /* commands that add or remove a child */
    struct change *reopening;             /* the change that will give the node other settings */
    struct node_settings next;            /* those */
    void *next_state;                     /* what the driver prepared for them */
    bool identified;
    dev_t device;
    ino_t inode;
    uint64_t visit;          /* the last walk over the graph that came by */
    struct list hastened;    /* who waits for requests that the node may hold back */
    struct haste haste;      /* while busy: for its own requests */
    bool busy;               /* with its own opening, closing or resizing: it sends requests that no handle counts */
    unsigned background;     /* the same, for what drivers do that outlasts the request which began it */
    struct co_event *closed; /* blockdev_del waits for it */
    struct list children;    /* requests walk along it too, so what a change only prepares is not in it */
    struct list claims;      /* edges that changes have prepared */
    struct list parents;
    struct list in_graph;
    struct hash_link by_name;

    /* How many edges to this node hold each permission, and how many refuse it to others. */
    unsigned holders[PERM_BITS];
    unsigned refusers[PERM_BITS];
    struct co_mutex locking; /* around driver->set_permissions */
    unsigned locked_perm;    /* what the driver was told last */
    unsigned locked_shared;
};

/* Nothing is written to the node, whoever asks. */
static inline bool node_refuses_writes(const struct node *node)
{
    return node->set.read_only || node->set.inactive;
}

/* A loop's share of a handle, touched by that loop only. */
struct lane {
    struct hold *hold;          /* requests wait; NULL: open */
    bool answered;              /* told the hold that nothing is in flight here */
    _Atomic unsigned in_flight; /* written here only; listings look at it */
    _Atomic unsigned waiting;
    struct list waiters;
} __attribute__((aligned(64)));

struct handle {
    struct child edge;
    char *user;
    bool needs_active;       /* the node must not be inactivated */
    bool stays;              /* with this node, when others are moved to what replaces it */
    unsigned holds;          /* drains that hold it */
    struct hold *hold;       /* while holds > 0 */
    struct co_queue quieted; /* drains that wait for the requests in flight */
    uint64_t owner;          /* co_owner() of its requests */
    bool abandoned;          /* nobody wants its requests any more */
    struct haste haste;      /* while abandoned */
    char *entrance;          /* the name under which requests come in from outside; NULL: they do not */
    struct list in_entrances;
    uint64_t reached; /* the last walk over the graph that came back in here */
    unsigned refs;    /* the owner, drains, the hold */
    unsigned lanes_count;
    struct lane *lanes;
    struct stats_lane *stats; /* one per loop; NULL: it keeps none */
};

/* A write has ended. Once set, later writes only read it: no line of memory moves between their threads. */
static inline void node_set_written(struct node *node)
{
    if (!atomic_load_explicit(&node->written, memory_order_relaxed))
        atomic_store(&node->written, true);
}

/* These bytes may have changed: before the request that did it ends. @flags: of the request. */
static inline void node_mark_dirty(struct node *node, struct range range, unsigned flags) CO_FN;

static inline void node_mark_dirty(struct node *node, struct range range, unsigned flags)
{
    if (unlikely(atomic_load_explicit(&node->bitmaps, memory_order_acquire)) && !(flags & REQ_UNCHANGED))
        node_mark_dirty_slowly(node, range, flags & REQ_COPIED);
}

/* Around all that may change bytes of a node, its bits included (write_ahead.h). An error means that nothing may be
 * written, and that there is nothing to leave. */
static inline int node_enter_regions(struct node *node, struct range range) CO_FN;

static inline int node_enter_regions(struct node *node, struct range range)
{
    struct write_ahead *ahead = atomic_load_explicit(&node->ahead, memory_order_acquire);
    return unlikely(ahead) ? write_ahead_enter(ahead, range) : 0;
}

static inline void node_leave_regions(struct node *node, struct range range)
{
    struct write_ahead *ahead = atomic_load_explicit(&node->ahead, memory_order_acquire);
    if (unlikely(ahead))
        write_ahead_leave(ahead, range);
}

/* node.c */
struct graph {
    struct hash by_name;
    struct list nodes; /* NODE_OPEN, in order of opening */
    uint64_t visit;
    uint64_t names_made;
    uint64_t nodes_made;
    uint64_t owners_made;
    unsigned hastening_nodes; /* that have driver->hasten or driver->abandon */
    unsigned returning_nodes; /* that have driver->comes_back_by */
};

extern struct graph graph;

struct node *node_create(const char *name, const struct driver *driver);
void node_free(struct node *node);
void node_published(struct node *node);

/* Tells @node, and those that it filters, of an event of BlkdebugEvent. */
void node_debug_event(struct node *node, const char *event) CO_FN;
void node_remember_options(struct node *node, const struct blockdev_options *given);

/* Attaches @edge to @node (taking a reference) and to its parent's list of children, without permissions yet. */
void edge_attach(struct child *edge, struct node *node);
/* The reverse; gives the reference to the caller, who unrefs it where it may await. Permissions were dropped before. */
struct node *edge_detach(struct child *edge);
void edge_fini(struct child *edge);

/* Raises node->height to hold for @below standing under it, upwards. False when the graph would be too deep; then
 * height_settle(). */
bool height_raise(struct node *node, unsigned below);
/* Lowers node->height to what the edges and claims below it need now, upwards. */
void height_settle(struct node *node);

/* permission.c: permissions of an edge change on the control thread at once; locks of files follow with an await. */
struct journal;

struct journal *journal_begin(void);
/* Sets what @edge needs and shares, and what follows for the edges below. Error: conflict; all is as before. */
struct error *journal_set(struct journal *journal, struct child *edge, unsigned perm, unsigned shared) MUST_CHECK;
/* The same without looking for conflicts: for what was there before and comes back. */
void journal_force(struct journal *journal, struct child *edge, unsigned perm, unsigned shared);
/* What follows for edges below passes over those that leave with @change; NULL: over none. */
void journal_without(struct journal *journal, const struct change *change);
/* journal_sync() looks at @node too. */
void journal_touch(struct journal *journal, struct node *node);
/* Takes all permissions of @edge away; cannot fail. */
void journal_relax(struct journal *journal, struct child *edge);
/* Until journal_publish, requests go by the permissions from before. */
void journal_hide(struct journal *journal);
void journal_publish(struct journal *journal);
/* As it was before journal_begin; only without an await since. */
void journal_undo(struct journal *journal);
/* Brings locks of the files in line with the permissions as they are now. Nothing can be undone afterwards. */
struct error *journal_sync(struct journal *journal) CO_FN MUST_CHECK;
void journal_end(struct journal *journal) CO_FN;

/* What a child edge of @node needs and shares, given what the node's parents need and share now: a claim for the node
 * as it will be. */
void edge_wanted(const struct node *node, const struct child *edge, unsigned *perm, unsigned *shared);

/* Gives the edge its permissions and locks; on error it has none. Edge is attached. */
struct error *edge_claim(struct child *edge, unsigned perm, unsigned shared) CO_FN MUST_CHECK;
/* Takes permissions away, detaches, unlocks, drops the reference on the node. */
void edge_release(struct child *edge) CO_FN;

/* drain.c */

/* A drain of several things at once: made, told what it covers (the caller keeps all of it), begun, ended with
 * drain_end(). */
struct drain *drain_make(void);
void drain_cover_node(struct drain *drain, struct node *node);
void drain_cover_handle(struct drain *drain, struct handle *handle);
void drain_hold(struct drain *drain) CO_FN;
/* The same, but gives up when requests in flight take longer than @patience_ms: an error that says whose they are. The
 * drain holds nothing then. 0: never. */
struct error *drain_try_hold(struct drain *drain, unsigned patience_ms) CO_FN MUST_CHECK;
/* Until its end a request to @node may wait for the drain itself, coming back by a handle that it holds: the user of
 * that one. NULL: no. */
const char *drain_in_the_way_of(const struct drain *drain, struct node *node);
/* Then drain_try_hold() gives up, too, when the coroutine is cancelled. */
void drain_may_be_cancelled(struct drain *drain);
/* A drain waits for nodes that are busy; a node that would become busy again waits for the drain of what it stands on,
 * so it must not keep one itself. */
void node_set_busy(struct node *node, bool busy);
void node_busy_again(struct node *node) CO_FN;
/* Edges were switched, or a handle is new: handles that now reach a drained node are held too. */
void drains_refresh(void);
/* The handle goes away: drains let go of it. */
void drains_forget(struct handle *handle);
void handle_put(struct handle *handle);

/* entrance.c: finds the handles by which requests to @node come back into the process, and from there on. True of them
 * until the next walk over the graph. */
void entrances_find(struct node *node);
bool entrance_is_found(const struct handle *handle);
/* The handle goes away. */
void entrance_forget(struct handle *handle);

/* haste.c: @haste makes the nodes below some nodes let requests through, from haste_begin() until haste_end(). */
void haste_begin(struct haste *haste);
/* The same, and nobody wants the requests of @owner any more. */
void haste_begin_for(struct haste *haste, uint64_t owner);
/* @node and those below it; those below it only, for requests of its own. No other walk over the graph may come between
 * haste_begin() and these. */
void haste_from(struct haste *haste, struct node *node);
void haste_below(struct haste *haste, const struct node *node);
void haste_end(struct haste *haste);
/* @node goes away. */
void haste_forget(struct node *node);

/* change_commit.c */

/* The edge goes away before the change that would move it is done. */
void change_forget(struct change *change, struct child *edge);

/* Is @edge prepared for @node as it will be when its change is done? */
static inline bool edge_is_for_next(const struct node *node, const struct child *edge)
{
    return edge->claim && node->reopening && edge->made_for == node->reopening;
}

/* The roles have a place of their own in the node, so that requests need not search. */
void edge_assign_role(struct node *parent, struct child *edge);
void edge_give_up_role(struct node *parent, const struct child *edge);

/* handle.c */
void handle_hold(struct handle *handle);
/* @stop: whoever sets it wakes handle->quieted; NULL: nobody. */
void handle_wait_quiet(struct handle *handle, const bool *stop) CO_FN;
/* False when the coroutine is cancelled before. */
bool handle_wait_quiet_unless_cancelled(struct handle *handle, const bool *stop) CO_FN;
void handle_release(struct handle *handle);

#endif
