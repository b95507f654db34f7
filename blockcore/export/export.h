/* export - a node given to the outside
 *
 * An export has an id, holds a handle on its node, and is served by one kind of protocol (export_kind.h). Removing it
 * never waits for a client: its users are cut off, requests inside the graph end by themselves, what they have written
 * is written, and the last user to go takes the export with it.
 *
 *     export_add --> starting --> running --export_del--> shutting down --last user left--> gone: event, id is free
 *                       '--error--> gone */
#ifndef CAIRN_EXPORT_EXPORT_H
#define CAIRN_EXPORT_EXPORT_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>

struct arena;
struct export;
struct export_client_statistics;
struct handle;

/* How long a removal is waited for before the command goes on without it, as it must when storage hangs. */
#define EXPORT_GRACE_MS 1000

/* block-export-add. */
struct error *export_add(const struct block_export_options *options) CO_FN CONTROL_FN MUST_CHECK;

/* block-export-del. With BLOCK_EXPORT_REMOVE_MODE_SAFE an export with users is refused. Returns when the export is
 * gone, or is still shutting down after EXPORT_GRACE_MS; then it goes by itself later. */
struct error *export_del(const char *id, enum block_export_remove_mode mode) CO_FN CONTROL_FN MUST_CHECK;

/* Removes all exports of @type, users or not, and waits as export_del() does: EXPORT_GRACE_MS for all together. With
 * @chosen only those for whose state (export_kind.h) it says yes. */
void export_del_all(enum block_export_type type, bool (*chosen)(const void *state)) CO_FN CONTROL_FN;

/* Who is told that an export is gone (BLOCK_EXPORT_DELETED). Must not wait. NULL: nobody. */
void export_set_listener(void (*deleted)(const char *id, void *arg), void *arg) CONTROL_FN;

/* All exports that are running or shutting down, oldest first: pass NULL first; NULL ends. Without awaits between. */
struct export *export_next(const struct export *after) CONTROL_FN;

/* NULL when there is none of that id. Valid until the next await. */
struct export *export_find(const char *id) CONTROL_FN;

const char *export_id(const struct export *export);
enum block_export_type export_type(const struct export *export);
/* NULL when it is about to be gone: its last user has left, and storage is being let go. */
struct node *export_node(const struct export *export) CONTROL_FN;
/* What its requests go through; NULL likewise. */
struct handle *export_handle(const struct export *export);
/* Also then. Valid until the next await. */
const char *export_node_name(const struct export *export) CONTROL_FN;
/* As they were given; the node may be another by now. NULL when they are not known (graph/options.h). Valid until the
 * next await. */
const struct block_export_options *export_given_options(const struct export *export) CONTROL_FN;
bool export_is_shutting_down(const struct export *export) CONTROL_FN;
unsigned export_users(const struct export *export) CONTROL_FN;
/* Its users one by one, and what they have done; from @arena. */
void export_describe_clients(const struct export *export, struct arena *arena,
                             const struct export_client_statistics **clients, size_t *count) CONTROL_FN;

#endif
