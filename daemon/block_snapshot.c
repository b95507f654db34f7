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
#include "blockcore/jobs/transaction.h"
#include "daemon/new_image.h"
#include "daemon/transaction.h"
#include "schema/cairn_commands.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct error *find_both(const struct blockdev_snapshot *arguments, struct node **node, struct node **overlay)
{
    *node = node_find(arguments->node);
    *overlay = node_find(arguments->overlay);
    return *node && *overlay ? NULL : node_not_found(*node ? arguments->overlay : arguments->node);
}

struct error *handle_blockdev_snapshot(struct command_context *context, const struct blockdev_snapshot *arguments)
{
    (void)context;
    struct node *node;
    struct node *overlay;
    struct error *err = find_both(arguments, &node, &overlay);
    return err ? err : node_snapshot(node, overlay);
}

struct error *snapshot_action(struct transaction *transaction, const struct blockdev_snapshot *arguments)
{
    struct node *node;
    struct node *overlay;
    struct error *err = find_both(arguments, &node, &overlay);
    return err ? err : transaction_snapshot(transaction, node, overlay);
}

/* blockdev-snapshot-sync -------------------------------------------------------------------------------------- */

static struct error *check_arguments(const struct blockdev_snapshot_sync *arguments, struct node **node,
                                     enum blockdev_driver *format)
{
    const char *node_name = arguments->node_name ? arguments->node_name : "";
    const struct driver *driver;
    *node = arguments->device ? NULL : node_find(node_name);
    if (!*node)
        return error_new("Cannot find device='%s' nor node-name='%s'", arguments->device ? arguments->device : "",
                         node_name);
    if (!arguments->snapshot_node_name)
        return error_new("New overlay node-name missing");
    if (node_find(arguments->snapshot_node_name))
        return error_new("New overlay node-name already in use");
    struct error *err = format_find(arguments->format ? arguments->format : "qcow2", format, &driver);
    if (!err && !driver->supports_backing)
        err = error_new("format '%s' does not support backing images", driver->name);
    return err;
}

struct error *snapshot_sync_action(struct transaction *transaction, const struct blockdev_snapshot_sync *arguments)
{
    struct node *node;
    struct new_image image = {
        .path = arguments->snapshot_file,
        .node_name = arguments->snapshot_node_name,
        .existing = arguments->has_mode && arguments->mode == NEW_IMAGE_MODE_EXISTING,
        .backing = NEW_IMAGE_NO_BACKING,
    };
    struct error *err = check_arguments(arguments, &node, &image.format);
    if (err)
        return err;
    struct node *overlay;
    node_ref(node);
    image.like = image.below = node;
    image.unmap = node_unmaps(node);
    err = new_image_open(&image, &overlay);
    if (!err) {
        err = transaction_snapshot(transaction, node, overlay);
        node_unref(overlay);
    }
    node_unref(node);
    return err;
}

struct error *handle_blockdev_snapshot_sync(struct command_context *context,
                                            const struct blockdev_snapshot_sync *arguments)
{
    (void)context;
    struct transaction *transaction = transaction_begin(false);
    return transaction_end(transaction, snapshot_sync_action(transaction, arguments));
}

/* change-backing-file ----------------------------------------------------------------------------------------- */

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
    const struct node *backing = node_without_filters(child_node(node_backing(image)));
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
