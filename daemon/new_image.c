#include "daemon/new_image.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/runtime/pool.h"

#include <stdlib.h>
#include <string.h>

struct error *format_find(const char *name, enum blockdev_driver *format, const struct driver **driver)
{
    *driver = driver_find(name);
    for (int i = 0; *driver && blockdev_driver_names[i]; i++) {
        *format = (enum blockdev_driver)i;
        if (strcmp(blockdev_driver_names[i], name) == 0)
            return NULL;
    }
    return error_new("Unknown driver '%s'", name);
}

const struct node *node_without_filters(const struct node *node)
{
    while (node_driver(node)->kind == DRIVER_FILTER && node_filtered(node))
        node = child_node(node_filtered(node));
    return node;
}

enum blockdev_driver node_format(const struct node *node)
{
    enum blockdev_driver format = BLOCKDEV_DRIVER_RAW;
    node = node_without_filters(node);
    for (int i = 0; node_driver(node)->kind != DRIVER_PROTOCOL && blockdev_driver_names[i]; i++) {
        if (strcmp(blockdev_driver_names[i], node_driver(node)->name) == 0)
            format = (enum blockdev_driver)i;
    }
    return format;
}

/* Of what is looked up while the graph may change. */
struct lookup {
    char *filename;
    char *absolute; /* NULL: there is no such file */
};

static int find_absolute(void *arg)
{
    struct lookup *lookup = arg;
    lookup->absolute = realpath(lookup->filename, NULL);
    return 0;
}

/* What the header of the new image will say of its backing file: the file that the node below shows. */
static struct error *CO_FN find_backing(const struct new_image *image, char **path)
{
    struct lookup lookup = { .filename = xstrdup(node_filename(node_without_filters(image->below))) };
    struct pool_domain *domain = pool_domain_create(lookup.filename, 1);
    (void)co_blocking(domain, find_absolute, &lookup);
    pool_domain_unref(domain);
    *path = lookup.absolute;
    struct error *err = NULL;
    if (!lookup.absolute)
        err = error_new("node '%s' is not a file that an image could name ('%s'); create the image, add it, and use "
                        "the command that takes a node",
                        node_name(image->below), lookup.filename);
    free(lookup.filename);
    return err;
}

static struct error *CO_FN create_file(const char *path, uint64_t bytes)
{
    struct blockdev_create_options options = { .driver = BLOCKDEV_DRIVER_FILE };
    options.u.file.filename = path;
    options.u.file.size = bytes;
    return driver_find("file")->create(&options);
}

static struct error *CO_FN create_qcow2(const struct new_image *image, const struct blockdev_ref *file,
                                        const char *backing_file, enum blockdev_driver backing_format)
{
    struct blockdev_create_options options = { .driver = BLOCKDEV_DRIVER_QCOW2 };
    options.u.qcow2.file = file;
    options.u.qcow2.size = node_length(image->like);
    options.u.qcow2.backing_file = backing_file;
    options.u.qcow2.has_backing_fmt = backing_file;
    options.u.qcow2.backing_fmt = backing_format;
    return driver_find("qcow2")->create(&options);
}

static struct error *CO_FN create_image(const struct new_image *image, const struct blockdev_ref *file)
{
    char *backing = NULL;
    enum blockdev_driver backing_format = image->below ? node_format(image->below) : BLOCKDEV_DRIVER_RAW;
    struct error *err = image->below ? find_backing(image, &backing) : NULL;
    bool raw = image->format == BLOCKDEV_DRIVER_RAW;
    if (!err)
        err = create_file(image->path, raw ? node_length(image->like) : 0);
    if (!err && !raw)
        err = create_qcow2(image, file, backing, backing_format);
    free(backing);
    return err;
}

static struct error *CO_FN open_image(const struct new_image *image, const struct blockdev_ref *file, struct node **out)
{
    struct blockdev_cache_options cache = {
        .has_direct = true,
        .direct = node_cache_direct(image->like),
        .has_no_flush = true,
        .no_flush = node_cache_no_flush(image->like),
    };
    struct blockdev_ref_or_null backing = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    struct blockdev_options options = {
        .driver = image->format,
        .node_name = image->node_name,
        .cache = &cache,
        .has_discard = true,
        .discard = image->unmap ? BLOCKDEV_DISCARD_OPTIONS_UNMAP : BLOCKDEV_DISCARD_OPTIONS_IGNORE,
    };
    if (image->backing == NEW_IMAGE_BACKING_BELOW) {
        backing.kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE;
        backing.u.reference = node_name(image->below);
    }
    if (image->format == BLOCKDEV_DRIVER_RAW) {
        options.u.raw.file = file;
    } else {
        options.u.qcow2.file = file;
        options.u.qcow2.backing = image->backing == NEW_IMAGE_BACKING_NAMED ? NULL : &backing;
    }
    return node_open(&options, out);
}

/* The name of what the image stands on is told to the driver that opens it, so it must stay until then. */
static struct error *CO_FN make_and_open(const struct new_image *image, struct node **out)
{
    struct blockdev_options file = { .driver = BLOCKDEV_DRIVER_FILE };
    struct blockdev_ref ref = { .kind = BLOCKDEV_REF_KIND_DEFINITION, .u.definition = &file };
    file.u.file.filename = image->path;
    bool raw = image->format == BLOCKDEV_DRIVER_RAW;
    if (!raw && image->format != BLOCKDEV_DRIVER_QCOW2)
        return error_new("images of format '%s' cannot be made here", blockdev_driver_names[image->format]);
    if (raw && image->below && !image->existing)
        return error_new("format 'raw' does not support backing images");
    struct error *err = image->existing ? NULL : create_image(image, &ref);
    return err ? err : open_image(image, &ref, out);
}

struct error *new_image_open(const struct new_image *image, struct node **out)
{
    struct node *below = image->below ? node_ref((struct node *)(uintptr_t)image->below) : NULL;
    struct error *err = make_and_open(image, out);
    node_unref(below);
    return err;
}

/* What the target of a copy stands on: whatever is not copied. */
static const struct node *below_of_copy(const struct node *source, enum mirror_sync_mode sync)
{
    if (sync == MIRROR_SYNC_MODE_NONE)
        return source;
    const struct child *backing = node_backing(node_without_filters(source));
    return sync == MIRROR_SYNC_MODE_TOP && backing ? child_node(backing) : NULL;
}

struct error *new_image_for_copy(struct new_image *image, const struct node *source, enum mirror_sync_mode sync,
                                 const char *format, bool existing)
{
    const struct driver *driver;
    image->format = node_format(source);
    image->existing = existing;
    image->like = source;
    image->below = below_of_copy(source, sync);
    image->backing = NEW_IMAGE_NO_BACKING;
    struct error *err = format ? format_find(format, &image->format, &driver) : NULL;
    if (image->format == BLOCKDEV_DRIVER_RAW)
        return err;
    if (image->below)
        image->backing = NEW_IMAGE_BACKING_BELOW;
    else if (existing)
        image->backing = NEW_IMAGE_BACKING_NAMED;
    return err;
}
