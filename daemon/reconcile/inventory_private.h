/* What the two files of the inventory share. */
#ifndef CAIRN_DAEMON_RECONCILE_INVENTORY_PRIVATE_H
#define CAIRN_DAEMON_RECONCILE_INVENTORY_PRIVATE_H

#include "daemon/reconcile/inventory.h"

struct node;
struct type_descriptor;

/* value_copy(); without memory the inventory is incomplete, and the value as if it were not there. */
void *inventory_copy(struct inventory *inventory, const struct type_descriptor *type, const void *value,
                     struct arena *arena);

/* @sentence: from the arena. */
void inventory_leave_out(struct inventory *inventory, struct arena *arena, const char *sentence);

/* values.nodes; those that exports use are among them. */
void inventory_nodes(struct inventory *inventory, struct arena *arena) CO_FN CONTROL_FN;

/* The first node from @node downwards that is not a job's. */
struct node *inventory_look_through(struct node *node) CONTROL_FN;

#endif
