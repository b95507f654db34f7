/* options - what is done with descriptions by somebody who knows the tables of the schema
 *
 * The graph takes descriptions as plain structures and cannot walk them. Whoever can says so once, before the first
 * node is opened; without that, nothing remembers its options, and only plain paths lead to files. */
#ifndef CAIRN_GRAPH_OPTIONS_H
#define CAIRN_GRAPH_OPTIONS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"

#include <stddef.h>

struct block_export_options;
struct blockdev_options;
struct nbd_server_options;
struct object_options;

struct options_service {
    /* A deep copy in @arena. NULL: no memory. */
    struct blockdev_options *(*copy)(const struct blockdev_options *options, struct arena *arena);
    /* The same of an export and of an NBD server. */
    struct block_export_options *(*copy_export)(const struct block_export_options *options, struct arena *arena);
    struct nbd_server_options *(*copy_server)(const struct nbd_server_options *options, struct arena *arena);
    /* The same of an object, without what is secret; and with some members as in @over. */
    struct object_options *(*copy_object)(const struct object_options *options, struct arena *arena);
    struct object_options *(*overlay_object)(const struct object_options *options, const struct object_options *over,
                                             struct arena *arena);
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
