/* snapshot - internal snapshots: states of its content that a node keeps inside of itself
 *
 * Requests to the node are held back meanwhile. What a filter shows, it has the snapshots of. One of these, or a
 * resize, at a time: a second one waits.
 *
 * Errors are those that clients of QEMU know. */
#ifndef CAIRN_IO_SNAPSHOT_H
#define CAIRN_IO_SNAPSHOT_H

#include "blockcore/graph/node.h"

struct arena;
struct snapshot_info;

/* Keeps the content as it is now under @name, which no other snapshot of the node has. */
struct error *node_snapshot_create(struct node *node, const char *name) CO_FN CONTROL_FN MUST_CHECK;

/* The same in steps, for whoever holds requests back himself (change_hold() of the session's node): begun before, and
 * ended when requests go on. Undo deletes what create has made. */
struct snapshot_session;
struct error *snapshot_session_begin(struct node *node, struct snapshot_session **out) CO_FN CONTROL_FN MUST_CHECK;
struct node *snapshot_session_node(const struct snapshot_session *session) CONTROL_FN;
struct error *snapshot_session_create(struct snapshot_session *session, const char *name) CO_FN CONTROL_FN MUST_CHECK;
struct error *snapshot_session_undo(struct snapshot_session *session, const char *name) CO_FN CONTROL_FN MUST_CHECK;
/* Takes NULL. */
void snapshot_session_end(struct snapshot_session *session) CO_FN CONTROL_FN;

/* @id or @name may be NULL, not both. @deleted: what there was, with strings from @arena. */
struct error *node_snapshot_delete(struct node *node, const char *id, const char *name, struct arena *arena,
                                   struct snapshot_info *deleted) CO_FN CONTROL_FN MUST_CHECK;

/* The content, and the length, become again what they were; what there is now is lost. Refused while others use the
 * node. */
struct error *node_snapshot_apply(struct node *node, const char *id, const char *name) CO_FN CONTROL_FN MUST_CHECK;

#endif
