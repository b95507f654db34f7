/* node - what answers requests: a driver with its state, and edges to its children
 *
 *     handle --> overlay (qcow2) --file----> a.qcow2 (file)
 *                     '----------backing--> base (qcow2) --file--> b.qcow2 (file)
 *
 * There is one graph in the process; its shape is read and changed on the control thread only, except that requests
 * follow edges on any thread: an edge changes only while every handle that reaches its parent is drained (drain.h).
 *
 * A child edge holds a reference on its node, as do handles and the monitor (for nodes that blockdev-add made);
 * the last one gone closes the node. Looking a node up by name is hashed. */
#ifndef CAIRN_GRAPH_NODE_H
#define CAIRN_GRAPH_NODE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/graph/permission.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct blockdev_options;
struct blockdev_ref;
struct child;
struct driver;
struct handle;
struct node;
struct pool_domain;

#define GRAPH_DEPTH_MAX 200 /* edges from a handle down; so that a request's recursion fits its stack */
#define NODE_LENGTH_MAX (INT64_MAX & ~(uint64_t)0x1fffff)

/* What a child is for: one or more of these. block-status follows the role (docs/architecture.md). */
enum child_role {
    CHILD_DATA = 0x1,     /* the parent computes its content from the child's bytes */
    CHILD_METADATA = 0x2, /* holds the parent's tables */
    CHILD_FILTERED = 0x4, /* the parent shows the child's content unchanged */
    CHILD_BACKING = 0x8,  /* shows through where the parent has nothing of its own */
};

/* What requests to a node must look like. io/ cuts and aligns; the driver fills this in when it opens. */
struct node_limits {
    uint32_t request_alignment;   /* of offset and length, power of two, at least 1 */
    uint32_t memory_alignment;    /* of request memory, power of two, at least 1 (O_DIRECT: more) */
    uint64_t max_transfer;        /* longest read or write; 0: no limit */
    uint64_t optimal_transfer;    /* what the driver likes best; 0: says nothing */
    uint64_t max_write_zeroes;    /* longest pwrite_zeroes; 0: no limit */
    uint64_t max_discard;         /* longest pdiscard; 0: no limit */
    uint32_t discard_granularity; /* discards are cut inwards to it; power of two, at least 1 */
    uint32_t zero_granularity;    /* pwrite_zeroes is cut at its multiples, head and tail come alone; at least 1 */
};

/* What becomes of written data that is all zero. */
enum detect_zeroes {
    DETECT_ZEROES_OFF,
    DETECT_ZEROES_ON,
    DETECT_ZEROES_UNMAP,
};

/* Opens a node from its description, with the children it describes inline; the caller gets a reference. The
 * name is reserved from the first moment, so two at once with the same name cannot both succeed; a node that is
 * still opening is not found by node_find(). Awaits. Errors name the path inside the options where they can. */
struct error *node_open(const struct blockdev_options *options, struct node **out) CO_FN CONTROL_FN MUST_CHECK;
/* The same, but the driver lets pass what keeps an image from being written, since it is to be repaired, and changes
 * nothing by itself. */
struct error *node_open_for_check(const struct blockdev_options *options, struct node **out)
    CO_FN CONTROL_FN MUST_CHECK;

/* The node that @ref names, or a new one that it describes; the caller gets a reference. */
struct error *node_open_ref(const struct blockdev_ref *ref, struct node **out) CO_FN CONTROL_FN MUST_CHECK;

/* blockdev-add and blockdev-del: the monitor's own reference. Del refuses a node in use and names its users; it
 * returns when the node is flushed and closed. */
struct error *blockdev_add(const struct blockdev_options *options) CO_FN CONTROL_FN MUST_CHECK;
struct error *blockdev_del(const char *node_name) CO_FN CONTROL_FN MUST_CHECK;

/* Drops every monitor reference, overlays before what they stand on, otherwise side by side: for the end of the
 * process. */
void blockdev_del_all(void) CO_FN CONTROL_FN;

/* The process is about to end: what is being opened is given up, and nothing more is opened. Does not wait. */
void node_open_give_up(void) CONTROL_FN;

struct node *node_ref(struct node *node) CONTROL_FN;
/* The last reference flushes and closes the node, awaited. NULL is allowed. */
void node_unref(struct node *node) CO_FN CONTROL_FN;

/* How many there are, those that are being opened or closed included. */
size_t node_count(void) CONTROL_FN;

/* NULL when there is none (or it is still opening). No reference is taken: valid until the next await. */
struct node *node_find(const char *name) CONTROL_FN;

/* The error that clients know: "Failed to find node with node-name='x'". */
struct error *node_not_found(const char *name) MUST_CHECK;

/* All nodes that are open, in the order of their opening: pass NULL first; NULL ends. Without awaits between. */
struct node *node_next(const struct node *after) CONTROL_FN;

/* These may be called on any thread while the caller's handle or reference keeps the node. */
const char *node_name(const struct node *node);
const struct driver *node_driver(const struct node *node);
void *node_state(struct node *node); /* driver->state_size bytes, zeroed before open */
uint64_t node_length(const struct node *node);
const struct node_limits *node_limits(const struct node *node);
bool node_is_read_only(const struct node *node);
bool node_is_inactive(const struct node *node); /* another host uses the image */
/* As its options say, its parent's where they say nothing. */
enum detect_zeroes node_detect_zeroes(const struct node *node);
bool node_unmaps(const struct node *node); /* discard=unmap */
bool node_cache_direct(const struct node *node);
bool node_cache_no_flush(const struct node *node);
/* A filename or a description for people; never NULL. A filter that has none shows that of what it filters. */
const char *node_filename(const struct node *node);

/* As they were given, or by the last reopen; NULL when they are not known, or a job made the node. Valid until the next
 * await. */
const struct blockdev_options *node_options(const struct node *node) CONTROL_FN;

/* Was it made by blockdev-add (or the configuration), rather than inline or from a header? */
bool node_is_monitor_owned(const struct node *node) CONTROL_FN;

/* Was it made by the options (or the header) of @parent? By its name it would have to be there before. */
bool node_is_described_by(const struct node *node, const struct node *parent) CONTROL_FN;

/* Children in the order they were attached: pass NULL first. Control thread, or a driver in its own node. */
struct child *node_child_next(const struct node *node, const struct child *after);
/* By name ("file", "backing"); NULL when there is none. */
struct child *node_child(const struct node *node, const char *name);

/* The backing child of an overlay or the filtered child of a filter; NULL when there is none. Driver or I/O path. */
struct child *node_backing(const struct node *node);
struct child *node_filtered(const struct node *node);

const char *child_name(const struct child *child);
unsigned child_role(const struct child *child);       /* enum child_role */
struct node *child_node(const struct child *child);   /* what the edge leads to */
struct node *child_parent(const struct child *child); /* NULL when a handle is the parent */
unsigned child_permissions(const struct child *child) CONTROL_FN;
unsigned child_shared(const struct child *child) CONTROL_FN;
/* Who stands at the upper end, for messages: "node 'overlay'" or "export 'x'". The caller frees it. */
char *child_user(const struct child *child) CONTROL_FN;

/* Edges and handles that lead to the node: pass NULL first. */
struct child *node_parent_next(const struct node *node, const struct child *after) CONTROL_FN;

/* Does a way lead down from @from to @to? What commands that run are about to add counts. */
bool node_reaches(struct node *from, const struct node *to) CONTROL_FN;

/* Used by drivers ------------------------------------------------------------------------------------------- */

/* Where an open happens: drivers hand it on to the children they open. */
struct open_context;
struct path_list;

/* Attaches the node that @ref names or describes as child @name of @parent. Called in driver->open (and where
 * a driver learns of a child later), on the control thread. With @ref NULL: "missing" error.
 * The child's permissions follow from the role (permission rules in permission.c) or from driver->child_permissions.
 * On success *@out is valid until the node closes; the graph owns it. */
struct error *child_open(struct node *parent, const char *name, unsigned role, const struct blockdev_ref *ref,
                         const struct open_context *context, struct child **out) CO_FN CONTROL_FN MUST_CHECK;

/* The same with a description made by the driver, for what an image's header names (a backing file): read-only
 * and without a name given by the user. */
struct error *child_open_options(struct node *parent, const char *name, unsigned role,
                                 const struct blockdev_options *options, const struct open_context *context,
                                 struct child **out) CO_FN CONTROL_FN MUST_CHECK;

/* During driver->open: what the child is for turned out to be something else, with the same permissions. */
void child_set_role(struct child *child, unsigned role) CONTROL_FN;

/* Lets go of a child during driver->open or driver->close, before the graph does it. */
void child_close(struct child *child) CO_FN CONTROL_FN;

/* For driver->child_permissions: while the node is being reopened, there are edges for the node as it is and for the
 * node as it will be (reopen.h). What node_is_read_only() says of the one that @child is for; and what reopen_prepare
 * made with reopen_set_state(), NULL where @child is for the node as it is. */
bool node_is_read_only_for(const struct node *node, const struct child *child) CONTROL_FN;
void *node_next_state(const struct node *node, const struct child *child) CONTROL_FN;

/* Another state for the node, drained; returns the old one, which the driver frees. */
void *node_replace_state(struct node *node, void *state) CONTROL_FN;

/* Identity of the file below, so that a backing chain that loops is found before the second visit opens anything.
 * The protocol driver calls this with what it is about to open: an error when @context's ancestors stand on it. */
struct error *open_check_loop(const struct open_context *context, dev_t device, ino_t inode,
                              const char *filename) CONTROL_FN MUST_CHECK;
void node_set_identity(struct node *node, dev_t device, ino_t inode) CONTROL_FN;
/* The number of the file that the node's data or tables lie in; 0: not known. */
ino_t node_inode(const struct node *node) CONTROL_FN;

/* Where the file must be that is opened: an image names it, or something above it. NULL: anywhere. Any thread may look
 * into it, since it lasts as long as the process. */
const struct path_list *open_directories(const struct open_context *context);

/* In open: what the options say. The members of BlockdevOptions that a child inherits from its parent where they are
 * not given (read-only, auto-read-only, discard, cache, force-share) are filled in in the options that open gets. */
bool open_read_only(const struct open_context *context);      /* "read-only", or below a read-only parent */
bool open_for_check(const struct open_context *context);      /* see node_open_for_check() */
bool open_auto_read_only(const struct open_context *context); /* may fall back to read-only */
void node_set_read_only(struct node *node, bool read_only);   /* in open only: the fall-back happened */
struct node_limits *node_limits_mutable(struct node *node);   /* in open and reopen_commit; begins as 1 or 0 */
void node_set_filename(struct node *node, const char *filename) CONTROL_FN; /* copies */

/* Any thread: after open, after a resize, after a write that made the file longer. */
void node_set_length(struct node *node, uint64_t bytes);
/* The node is always as long as @child's node: what a filter does by default; any thread. NULL: as long as it is
 * told. */
void node_follow_length(struct node *node, struct child *child);
/* Makes it at least @bytes: for writes that end past the end, which may race with each other. */
void node_grow_length(struct node *node, uint64_t bytes);

#endif
