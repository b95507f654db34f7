/* node_policy - which nodes there may be: drivers of storage, and how many
 *
 * By default all and any number. Set before the first node is opened. */
#ifndef CAIRN_GRAPH_NODE_POLICY_H
#define CAIRN_GRAPH_NODE_POLICY_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct driver;

struct node_policy {
    bool any_protocol;            /* else only drivers of storage that are listed, and those without any */
    const char *const *protocols; /* names of drivers */
    size_t protocols_count;
    size_t nodes_max;               /* 0: any number */
    struct error *(*no_room)(void); /* NULL, or says why there is none for another node; NULL: there is */
};

/* @policy lives as long as the process. */
void node_policy_set(const struct node_policy *policy) CONTROL_FN;

/* May a node of @driver be made or an image be created by it? */
struct error *node_policy_check_driver(const struct driver *driver) MUST_CHECK;

/* May there be one more than @count nodes? */
struct error *node_policy_check_count(size_t count) CONTROL_FN MUST_CHECK;

#endif
