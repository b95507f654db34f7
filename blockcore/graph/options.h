/* options - what is done with descriptions of nodes by somebody who knows the tables of the schema
 *
 * The graph takes descriptions as plain structures and cannot walk them. Whoever can says so once, before the first
 * node is opened; without that, nodes do not remember their options, and only plain paths lead to files. */
#ifndef CAIRN_GRAPH_OPTIONS_H
#define CAIRN_GRAPH_OPTIONS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"

#include <stddef.h>

struct blockdev_options;

struct options_service {
    /* A deep copy in @arena. NULL: no memory. */
    struct blockdev_options *(*copy)(const struct blockdev_options *options, struct arena *arena);
    /* The paths of what differs, in @arena: "file.filename". A member that is left out equals its default. */
    struct error *(*diff)(const struct blockdev_options *a, const struct blockdev_options *b, struct arena *arena,
                          const char *const **paths, size_t *count);
    /* What an image calls another file, when that is no path: "json:{...}", "nbd://...". In @arena. */
    struct error *(*from_name)(const char *name, struct arena *arena, const struct blockdev_options **out);
};

/* @service lives as long as the process. */
void options_set_service(const struct options_service *service) CONTROL_FN;

/* Never NULL; its members may be. */
const struct options_service *options_service(void);

#endif
