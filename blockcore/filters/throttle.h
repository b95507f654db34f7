/* throttle - the filter whose requests share limits with those of other nodes in a throttle group */
#ifndef CAIRN_FILTERS_THROTTLE_H
#define CAIRN_FILTERS_THROTTLE_H

#include "blockcore/base/annotations.h"

struct node;
struct throttle_limits;

/* The id of the group that the node belongs to, and the limits of the group as they are now, all present. NULL: the
 * node is of another driver, and *@limits is untouched. */
const char *throttle_node_limits(const struct node *node, struct throttle_limits *limits) CONTROL_FN;

#endif
