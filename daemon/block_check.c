/* blockdev-check (schema/block-check.json). */
#include "blockcore/io/check.h"

#include "blockcore/base/arena.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

/* The node that exists, or one that is opened for the check alone. The caller lets go of it. */
static struct error *find_image(const struct blockdev_ref *image, enum image_repair repair, struct node **out) CO_FN;

static struct error *find_image(const struct blockdev_ref *image, enum image_repair repair, struct node **out)
{
    if (image->kind == BLOCKDEV_REF_KIND_DEFINITION) {
        struct blockdev_options options = *image->u.definition;
        options.has_read_only = true;
        options.read_only = repair == IMAGE_REPAIR_NONE;
        return node_open_for_check(&options, out);
    }
    *out = node_find(image->u.reference);
    if (!*out)
        return error_set_class(node_not_found(image->u.reference), ERROR_DEVICE_NOT_FOUND);
    node_ref(*out);
    return NULL;
}

struct error *handle_blockdev_check(struct command_context *context, const struct blockdev_check_arguments *arguments,
                                    struct image_check *result)
{
    struct node *node;
    struct error *err = find_image(arguments->image, arguments->repair, &node);
    if (err)
        return err;
    struct arena *arena = command_arena(context);
    result->filename = arena_strdup(arena, node_filename(node));
    result->format = arena_strdup(arena, node_driver(node)->name);
    err = node_check(node, arguments->repair, result);
    node_unref(node);
    return err;
}
