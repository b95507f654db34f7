/* inventory - what runs, as the configuration that would make it
 *
 * Each thing remembers what it was made with; what has changed since is put in: the names of children that are others
 * by now, the nodes of exports, properties of objects. So what a snapshot, a finished job or blockdev-replace has done
 * to the graph is in the inventory too. Nodes come after those that they refer to.
 *
 * Filters of jobs that run are looked through. What cannot be said in a configuration is told in words: secrets that
 * are not in files, monitors of the command line, nodes without a name of their own. */
#ifndef CAIRN_DAEMON_RECONCILE_INVENTORY_H
#define CAIRN_DAEMON_RECONCILE_INVENTORY_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/arena.h"
#include "schema/cairn_types.h"

#include <stdbool.h>
#include <stddef.h>

struct inventory {
    struct cairn_config values;
    const char **left_out; /* sentences */
    size_t left_out_count;
    size_t left_out_room;
    bool incomplete; /* the arena's limit was reached */
};

/* @settings: what is said once in a configuration, and cannot be asked of what runs. Memory is from @arena. Gives
 * others a turn now and then: what they change meanwhile may be there or not. */
void inventory_take(struct inventory *out, const struct cairn_config *settings, struct arena *arena) CO_FN CONTROL_FN;

/* Leaves out what shall not be seen in options of nodes, and tells so: before it is shown, not before it is compared.
 */
void inventory_hide_secrets(struct inventory *inventory, struct arena *arena) CO_FN;

#endif
