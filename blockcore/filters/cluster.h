/* cluster - the unit in which the format below some filters takes storage */
#ifndef CAIRN_FILTERS_CLUSTER_H
#define CAIRN_FILTERS_CLUSTER_H

#include "blockcore/base/annotations.h"

#include <stdint.h>

struct node;

/* Bytes of a cluster of the format of @node, below filters; 0 if it has none. */
uint64_t node_cluster_bytes(struct node *node) CONTROL_FN;

#endif
