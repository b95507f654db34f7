/* Overlays and the names of backing files (schema/block-graph.json). */
#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/options.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/block_status.h"
#include "blockcore/runtime/pool.h"
#include "schema/cairn_commands.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct error *handle_blockdev_snapshot(struct command_context *context, const struct blockdev_snapshot *arguments)
{
    (void)context;
    struct node *node = node_find(arguments->node);
    struct node *overlay = node_find(arguments->overlay);
    if (!node || !overlay)
        return node_not_found(node ? arguments->overlay : arguments->node);
    return node_snapshot(node, overlay);
}

/* blockdev-snapshot-sync -------------------------------------------------------------------------------------- */

/* The overlay in the making. */
struct making {
    const struct blockdev_snapshot_sync *arguments;
    struct node *node; /* below; kept */
    const struct driver *format;
    enum blockdev_driver format_name;
    char *backing_file; /* what its header shall say */
    bool has_backing_format;
    enum blockdev_driver backing_format;
};

static struct error *find_format(const char *name, enum blockdev_driver *value, const struct driver **driver)
{
    *driver = driver_find(name);
    for (int i = 0; *driver && blockdev_driver_names[i]; i++) {
        *value = (enum blockdev_driver)i;
        if (strcmp(blockdev_driver_names[i], name) == 0)
            return (*driver)->supports_backing ? NULL : error_new("format '%s' does not support backing images", name);
    }
    return error_new("Unknown driver '%s'", name);
}

static struct error *check_arguments(struct making *making)
{
    const struct blockdev_snapshot_sync *arguments = making->arguments;
    const char *node_name = arguments->node_name ? arguments->node_name : "";
    making->node = arguments->device ? NULL : node_find(node_name);
    if (!making->node)
        return error_new("Cannot find device='%s' nor node-name='%s'", arguments->device ? arguments->device : "",
                         node_name);
    if (!arguments->snapshot_node_name)
        return error_new("New overlay node-name missing");
    if (node_find(arguments->snapshot_node_name))
        return error_new("New overlay node-name already in use");
    return find_format(arguments->format ? arguments->format : "qcow2", &making->format_name, &making->format);
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

static enum blockdev_driver format_of(const struct node *node)
{
    enum blockdev_driver format = BLOCKDEV_DRIVER_RAW;
    for (int i = 0; node_driver(node)->kind != DRIVER_PROTOCOL && blockdev_driver_names[i]; i++) {
        if (strcmp(blockdev_driver_names[i], node_driver(node)->name) == 0)
            format = (enum blockdev_driver)i;
    }
    return format;
}

/* What the header of the new image will say of its backing file: the file that the node below shows, in its format. */
static struct error *find_backing(struct making *making)
{
    const struct node *node = making->node;
    while (node_driver(node)->kind == DRIVER_FILTER && node_filtered(node))
        node = child_node(node_filtered(node));
    making->backing_format = format_of(node);
    making->has_backing_format = true;
    struct lookup lookup = { .filename = xstrdup(node_filename(node)) };
    struct pool_domain *domain = pool_domain_create(lookup.filename, 1);
    (void)co_blocking(domain, find_absolute, &lookup);
    pool_domain_unref(domain);
    making->backing_file = lookup.absolute;
    struct error *err = NULL;
    if (!making->backing_file)
        err = error_new("node '%s' is not a file that an image could name ('%s'); create the overlay, add it, and use "
                        "blockdev-snapshot",
                        node_name(making->node), lookup.filename);
    free(lookup.filename);
    return err;
}

static struct error *CO_FN create_file(const char *path)
{
    struct blockdev_create_options options = { .driver = BLOCKDEV_DRIVER_FILE };
    options.u.file.filename = path;
    return driver_find("file")->create(&options);
}

static struct error *CO_FN create_format(const struct making *making, const struct blockdev_ref *file)
{
    struct blockdev_create_options options = { .driver = making->format_name };
    if (making->format_name != BLOCKDEV_DRIVER_QCOW2 || !making->format->create)
        return error_new("overlays of format '%s' cannot be created here", making->format->name);
    options.u.qcow2.file = file;
    options.u.qcow2.size = node_length(making->node);
    options.u.qcow2.backing_file = making->backing_file;
    options.u.qcow2.has_backing_fmt = making->has_backing_format;
    options.u.qcow2.backing_fmt = making->backing_format;
    return making->format->create(&options);
}

static struct error *CO_FN create_overlay(struct making *making, const struct blockdev_ref *file)
{
    struct error *err = find_backing(making);
    if (!err)
        err = create_file(making->arguments->snapshot_file);
    if (!err)
        err = create_format(making, file);
    return err;
}

/* Caches and discards are those of the node below. */
static void like_below(const struct node *below, struct blockdev_options *options, struct blockdev_cache_options *cache)
{
    *cache = (struct blockdev_cache_options){
        .has_direct = true,
        .direct = node_cache_direct(below),
        .has_no_flush = true,
        .no_flush = node_cache_no_flush(below),
    };
    options->cache = cache;
    options->has_discard = true;
    options->discard = node_unmaps(below) ? BLOCKDEV_DISCARD_OPTIONS_UNMAP : BLOCKDEV_DISCARD_OPTIONS_IGNORE;
}

static struct error *CO_FN open_overlay(struct making *making, const struct blockdev_ref *file, struct node **out)
{
    static const struct blockdev_ref_or_null no_backing = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    struct blockdev_options options = { .driver = making->format_name };
    struct blockdev_cache_options cache;
    options.node_name = making->arguments->snapshot_node_name;
    like_below(making->node, &options, &cache);
    if (making->format_name != BLOCKDEV_DRIVER_QCOW2)
        return error_new("overlays of format '%s' cannot be opened here", making->format->name);
    options.u.qcow2.file = file;
    options.u.qcow2.backing = &no_backing;
    return node_open(&options, out);
}

static struct error *CO_FN make_overlay(struct making *making, struct node **out)
{
    struct blockdev_options file = { .driver = BLOCKDEV_DRIVER_FILE };
    struct blockdev_ref ref = { .kind = BLOCKDEV_REF_KIND_DEFINITION, .u.definition = &file };
    file.u.file.filename = making->arguments->snapshot_file;
    bool existing = making->arguments->has_mode && making->arguments->mode == NEW_IMAGE_MODE_EXISTING;
    struct error *err = existing ? NULL : create_overlay(making, &ref);
    return err ? err : open_overlay(making, &ref, out);
}

struct error *handle_blockdev_snapshot_sync(struct command_context *context,
                                            const struct blockdev_snapshot_sync *arguments)
{
    (void)context;
    struct making making = { .arguments = arguments };
    struct error *err = check_arguments(&making);
    if (err)
        return err;
    struct node *overlay;
    node_ref(making.node);
    err = make_overlay(&making, &overlay);
    if (!err) {
        err = node_snapshot(making.node, overlay);
        node_unref(overlay);
    }
    node_unref(making.node);
    free(making.backing_file);
    return err;
}

/* change-backing-file ----------------------------------------------------------------------------------------- */

static const struct node *without_filters(const struct node *node)
{
    while (node_driver(node)->kind == DRIVER_FILTER && node_filtered(node))
        node = child_node(node_filtered(node));
    return node;
}

/* With the options that it has, but for this one. */
static struct error *CO_FN make_read_only(struct node *image, const struct blockdev_options *given, bool read_only)
{
    struct blockdev_ref_or_null backing = {
        .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE,
        .u.reference = node_name(child_node(node_backing(image))),
    };
    struct blockdev_options options = *given;
    options.node_name = node_name(image);
    options.has_read_only = true;
    options.read_only = read_only;
    options.has_auto_read_only = given->has_auto_read_only && read_only;
    /* What the header names is not in the options, and stays the same node. */
    if (options.driver == BLOCKDEV_DRIVER_QCOW2)
        options.u.qcow2.backing = &backing;
    return blockdev_reopen(&options, 1);
}

static struct error *CO_FN write_name(struct node *image, const char *name)
{
    const struct node *backing = without_filters(child_node(node_backing(image)));
    const char *format = node_driver(backing)->kind == DRIVER_PROTOCOL ? "raw" : node_driver(backing)->name;
    struct handle *handle;
    struct error *err = handle_enter_here(image, "change-backing-file", &handle);
    if (err)
        return err;
    err = node_driver(image)->change_backing_file(image, *name ? name : NULL, format);
    handle_leave_here(handle);
    return error_wrap(err, "Could not change the backing file of '%s' to '%s'", node_name(image), name);
}

/* @given: its options. The node is writable for as long as this takes. */
static struct error *CO_FN write_name_of_read_only(struct node *image, const struct blockdev_options *given,
                                                   const char *name)
{
    struct error *err = make_read_only(image, given, false);
    if (err)
        return err;
    /* Others may have changed the graph meanwhile. */
    if (!node_backing(image))
        return error_new("node '%s' has lost its backing node, and stays writable", node_name(image));
    err = write_name(image, name);
    struct error *back = make_read_only(image, given, true);
    if (!err)
        return error_wrap(back, "node '%s' stays writable", node_name(image));
    error_free(back);
    return err;
}

static struct error *CO_FN change_name(struct node *image, const char *name)
{
    if (!node_driver(image)->change_backing_file)
        return error_new("driver '%s' of node '%s' does not support a backing file", node_driver(image)->name,
                         node_name(image));
    if (!node_is_read_only(image))
        return write_name(image, name);
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    const struct blockdev_options *given = node_options(image);
    given = given ? options_service()->copy(given, &arena) : NULL;
    struct error *err = given ? write_name_of_read_only(image, given, name)
                              : error_new("the options of node '%s' are not known any more", node_name(image));
    arena_fini(&arena);
    return err;
}

struct error *handle_change_backing_file(struct command_context *context,
                                         const struct change_backing_file_arguments *arguments)
{
    (void)context;
    struct node *top = node_find(arguments->device);
    struct node *image = node_find(arguments->image_node_name);
    if (!top)
        return error_new("Cannot find device='%s' nor node-name='%s'", arguments->device, arguments->device);
    if (!image)
        return error_new("Cannot find device='' nor node-name='%s'", arguments->image_node_name);
    if (!node_backing(image))
        return error_new("not allowing backing file change on an image without a backing file");
    if (!chain_contains(top, image))
        return error_new("'%s' and image file are not in the same chain", arguments->device);
    node_ref(image);
    struct error *err = change_name(image, arguments->backing_file);
    node_unref(image);
    return err;
}
