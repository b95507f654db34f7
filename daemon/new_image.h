/* new_image - images that commands make and open by themselves (blockdev-snapshot-sync, drive-mirror, drive-backup)
 *
 * A command that only names a path gets a file there, in a format that can be created, and a node for it. */
#ifndef CAIRN_DAEMON_NEW_IMAGE_H
#define CAIRN_DAEMON_NEW_IMAGE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>

struct driver;
struct node;

enum new_image_backing {
    NEW_IMAGE_NO_BACKING,    /* the node gets none, whatever the image says */
    NEW_IMAGE_BACKING_BELOW, /* the node stands on @below */
    NEW_IMAGE_BACKING_NAMED, /* as the image says */
};

struct new_image {
    const char *path;
    const char *node_name; /* NULL: made up */
    enum blockdev_driver format;
    bool existing;            /* the file is there; else it is created */
    const struct node *like;  /* its length and how it caches; the caller keeps it */
    const struct node *below; /* the image names its file as the backing file; kept likewise; NULL: none */
    enum new_image_backing backing;
    bool unmap; /* discards reach the file */
};

/* A node with one reference. Control thread. */
struct error *new_image_open(const struct new_image *image, struct node **out) CO_FN MUST_CHECK;

/* The target of a copy of @source: says all but the path and the name of the node. What @sync does not copy is what the
 * image stands on. @format NULL: that of @source. */
struct error *new_image_for_copy(struct new_image *image, const struct node *source, enum mirror_sync_mode sync,
                                 const char *format, bool existing) MUST_CHECK;

/* "Unknown driver 'x'" when there is none of this name. */
struct error *format_find(const char *name, enum blockdev_driver *format, const struct driver **driver) MUST_CHECK;

/* What the filters at the top of @node stand on. */
const struct node *node_without_filters(const struct node *node);
/* The format of what @node shows; raw where that is no format at all. */
enum blockdev_driver node_format(const struct node *node);

#endif
