/* reopen - other options for nodes that are in use
 *
 *     prepare   drivers look at the options, say which children there shall be, make what is new; requests go on
 *     change    permissions, locks, drain (change.h): all nodes at once
 *     leave     drained, the old graph is in place still: what must be done to storage before
 *     enter     drained, the new graph is in place: what a driver must do to storage, and what may still fail
 *     commit    drained; or abort, at any moment before, with the old graph in place. Before it, when enter of one node
 *               has failed, undo of those that had entered: the new graph is in place still
 *
 * An option that is left out gets its default. Children that were described inside their parent, and say nothing
 * of an option that is inherited, follow their parent. */
#ifndef CAIRN_GRAPH_REOPEN_H
#define CAIRN_GRAPH_REOPEN_H

#include "blockcore/graph/node.h"

#include <stddef.h>

struct blockdev_options;
struct blockdev_ref;
struct blockdev_ref_or_null;
struct reopen;

/* blockdev-reopen: each of @options names a node that exists. All of them, or none. */
struct error *blockdev_reopen(const struct blockdev_options *options, size_t count) CO_FN CONTROL_FN MUST_CHECK;

/* For jobs: a node that is read-only, though it could be written, becomes writable for a time, and as it was described
 * again; its children stay what they are, and those that it describes follow. Errors: it is read-only for another
 * reason; its options are not known. */
struct error *node_reopen_writable(struct node *node) CO_FN CONTROL_FN MUST_CHECK;
struct error *node_reopen_read_only(struct node *node) CO_FN CONTROL_FN MUST_CHECK;

/* For drivers, in reopen_prepare ------------------------------------------------------------------------------ */

/* What the options say of child @name: the one that is there, another node by its name, or other options for the one
 * that is there. Called for each child that options can describe. */
struct error *reopen_child(struct reopen *reopen, const char *name, const struct blockdev_ref *ref)
    CO_FN CONTROL_FN MUST_CHECK;

/* The same for a child that cannot become another node. */
struct error *reopen_same_child(struct reopen *reopen, const char *name, const struct blockdev_ref *ref)
    CO_FN CONTROL_FN MUST_CHECK;

/* The same for the backing child, which may come and go. @ref NULL: an error if there is one. */
struct error *reopen_backing(struct reopen *reopen, const struct blockdev_ref_or_null *ref) CO_FN CONTROL_FN MUST_CHECK;

/* The driver's own; NULL until it is set. It is the driver that frees it, in commit or abort. */
void reopen_set_state(struct reopen *reopen, void *state) CONTROL_FN;
void *reopen_state(const struct reopen *reopen);

/* What the node is going to be. In prepare a driver may say that it cannot be written, if auto-read-only allows it. */
bool reopen_read_only(const struct reopen *reopen);
bool reopen_auto_read_only(const struct reopen *reopen);
bool reopen_cache_direct(const struct reopen *reopen);
bool reopen_cache_no_flush(const struct reopen *reopen);
bool reopen_unmap(const struct reopen *reopen);
void reopen_set_read_only(struct reopen *reopen) CONTROL_FN;

#endif
