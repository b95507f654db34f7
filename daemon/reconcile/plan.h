/* plan - the steps from what runs to what is described
 *
 * A pure comparison of two configurations: that of what runs (inventory.h) and the described one. The order:
 *
 *     exports removed, servers stopped         whoever would be in the way of the rest
 *     nodes removed that nothing stands on     their files may be wanted by new ones
 *     objects, nodes added                     those that are referred to first
 *     nodes reopened (all at once), replaced
 *     bitmaps, servers, exports, monitors      added or changed; exports moved
 *     nodes, objects removed                   what the steps before have left without users
 *     bitmaps, monitors removed                what could not be put back
 *
 * An export, a server or an object that is replaced is removed and added in two steps, of which the second one is told.
 * What a step removes for another one to work goes with it: exports of a server that is replaced, servers that use an
 * object which is replaced. */
#ifndef CAIRN_DAEMON_RECONCILE_PLAN_H
#define CAIRN_DAEMON_RECONCILE_PLAN_H

#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"
#include "blockcore/base/hash.h"
#include "schema/cairn_types.h"

#include <stdbool.h>
#include <stddef.h>

struct plan_step {
    enum config_action action;
    enum config_item item;
    const char *name; /* of a bitmap "NODE/NAME" */
    const char *text; /* for people */
    const void *now;  /* as it is: the options of its kind; NULL: it is not there */
    const void *then; /* as it is going to be; NULL: gone */
    const char *path; /* of @then in the description, for messages: "nodes.3"; NULL: it is not there */
    bool untold;      /* the first half of a replacement */
};

struct plan {
    struct plan_step *steps;
    size_t count;
};

struct plan_request {
    const struct cairn_config *now;
    const struct cairn_config *wanted;
    const struct hash *described; /* what configurations described before, by plan_key() */
    bool prune;                   /* what is not described is removed, also if it never was */
};

/* @plan in @arena, and borrowing from both configurations, which are right in themselves (check.h). An error says what
 * cannot be done at all. Any thread that may use @arena. */
struct error *plan_make(const struct plan_request *request, struct arena *arena, struct plan *plan) MUST_CHECK;

/* "NBD server" */
const char *plan_item_text(enum config_item item);

/* "node/disk0" */
const char *plan_key(struct arena *arena, enum config_item item, const char *name);

/* Calls @visit for each thing that @config describes. */
void plan_for_each(const struct cairn_config *config, struct arena *arena,
                   void (*visit)(enum config_item item, const char *name, void *arg), void *arg);

/* "default" where none is given. */
const char *plan_server_id(const struct nbd_server_options *server);

#endif
