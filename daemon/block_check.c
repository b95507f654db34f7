/* blockdev-check (schema/block-check.json). */
#include "blockcore/io/check.h"

#include "blockcore/base/arena.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/runtime/loop.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#define ASKER_INTERVAL_MS 200

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

/* A check may take hours. Whoever asked for it may not wait that long. */
struct asker {
    const struct command_context *context;
    struct timer *timer;
    _Atomic bool gone;
};

static void look_for_asker(void *arg)
{
    struct asker *asker = arg;
    if (command_is_wanted(asker->context))
        timer_start(asker->timer, ASKER_INTERVAL_MS);
    else
        asker->gone = true;
}

static struct error *check_while_wanted(const struct command_context *context, struct node *node,
                                        enum image_repair repair, struct image_check *result) CO_FN;

static struct error *check_while_wanted(const struct command_context *context, struct node *node,
                                        enum image_repair repair, struct image_check *result)
{
    struct asker asker = { .context = context };
    asker.timer = timer_create_on_loop(look_for_asker, &asker);
    timer_start(asker.timer, ASKER_INTERVAL_MS);
    struct error *err = node_check_until(node, repair, &asker.gone, result);
    timer_destroy(asker.timer);
    return err;
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
    err = check_while_wanted(context, node, arguments->repair, result);
    node_unref(node);
    return err;
}
