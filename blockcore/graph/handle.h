/* handle - the door through which an outside user's requests enter the graph
 *
 * An export, a job, a monitor command each hold a handle on a node. The handle counts its requests in flight, so nodes
 * need no counters, and a drain (drain.h) closes the doors that can reach a node. Requests may come from any loop:
 * inside, each loop has a lane of its own, so that counting costs no shared cache line.
 *
 * I/O through handles: io/request.h. */
#ifndef CAIRN_GRAPH_HANDLE_H
#define CAIRN_GRAPH_HANDLE_H

#include "blockcore/graph/node.h"

struct handle;

/* Attaches to @node (taking a reference) with the permissions @perm, letting others have @shared. @user says in
 * messages who that is: "export 'disk0'"; it is copied. Fails when a permission conflicts, naming the holder, or when
 * the file below is locked by another process. */
struct error *handle_open(struct node *node, const char *user, unsigned perm, unsigned shared, struct handle **out)
    CO_FN CONTROL_FN MUST_CHECK;

/* The same for who means just this node: its handle stays where it is when a filter, an overlay or a replacement takes
 * over the node's users. */
struct error *handle_open_here(struct node *node, const char *user, unsigned perm, unsigned shared, struct handle **out)
    CO_FN CONTROL_FN MUST_CHECK;

/* For a command that calls a function of the driver by itself, and writes: the call counts as a request in flight until
 * handle_leave_here(), so that nobody reopens, hands over or repairs the image in the middle of it. */
struct error *handle_enter_here(struct node *node, const char *user, struct handle **out) CO_FN CONTROL_FN MUST_CHECK;
void handle_leave_here(struct handle *handle) CO_FN CONTROL_FN;

/* Requests from outside of the process enter here under the name @name, which is copied: where a node's requests leave
 * the process and come back (driver->comes_back_by), drains know the way. At most once per handle. */
void handle_set_entrance(struct handle *handle, const char *name) CONTROL_FN;

/* What comes in is counted and timed (stats.h), by itself and not only together with what else the node is asked.
 * Before the first request. */
void handle_keep_stats(struct handle *handle) CONTROL_FN;

/* The node may not become inactive while the handle is there (active.h). */
void handle_need_active(struct handle *handle) CONTROL_FN;

/* Lets go of the node. The owner has ended its requests before. NULL is allowed. */
void handle_close(struct handle *handle) CO_FN CONTROL_FN;

/* The owner waits for the end of the handle's requests, does not want their results, and lets no other begin: those in
 * flight wait no more for limits of rate, nor for storage that is away. Until handle_close(). */
void handle_abandon(struct handle *handle) CONTROL_FN;

struct node *handle_node(const struct handle *handle);
const char *handle_user(const struct handle *handle);

/* Requests in flight and held back, over all lanes; exact only while drained. For listings and tests. */
unsigned handle_in_flight(const struct handle *handle);
unsigned handle_waiting(const struct handle *handle);

/* A request enters: waits while the handle is held. io/ calls these around each request of handle_*(). They do not
 * nest: a coroutine that is inside must not enter again. */
void handle_enter(struct handle *handle) CO_FN;
void handle_leave(struct handle *handle);

#endif
