/* Commands that change nodes (schema/block-core.json). */
#include "blockcore/base/list.h"
#include "blockcore/crypto/derive.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/request.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#include <errno.h>
#include <string.h>

/* A node that is being made. How long that takes, a stranger's image may say, which wants its password to be derived
 * for hours: who deletes the node by then puts an end to it. */
struct making {
    struct list link;
    const char *node_name;
    struct derive_waiter waiter;
    bool unwanted;
};

static struct list all_making = LIST_INIT(all_making);

static struct making *find_making(const char *node_name)
{
    struct making *making;
    list_for_each (making, &all_making, link) {
        if (strcmp(making->node_name, node_name) == 0)
            return making;
    }
    return NULL;
}

static void stop_deriving(void *arg)
{
    derive_cancel(arg);
}

static struct error *make_node(struct command_context *context, const struct blockdev_options *arguments) CO_FN;

/* What is made without a name cannot be meant by anybody. */
static struct error *make_node(struct command_context *context, const struct blockdev_options *arguments)
{
    struct making making = { .node_name = arguments->node_name };
    if (!making.node_name || find_making(making.node_name))
        return blockdev_add(arguments);
    list_append(&all_making, &making.link);
    derive_waiter_begin(&making.waiter);
    command_on_cancel(context, stop_deriving, &making.waiter);
    struct error *err = blockdev_add(arguments);
    command_on_cancel(context, NULL, NULL);
    derive_waiter_end(&making.waiter);
    list_remove(&making.link);
    if (!making.unwanted)
        return err;
    if (!err)
        err = blockdev_del(making.node_name);
    error_free(err);
    return error_errno(ECANCELED, "node '%s' was deleted while it was opened", making.node_name);
}

static bool is_there(const struct blockdev_options *wanted)
{
    const struct node *node = wanted->node_name ? node_find(wanted->node_name) : NULL;
    return node && strcmp(node_driver(node)->name, blockdev_driver_name(wanted->driver)) == 0;
}

struct error *handle_blockdev_add(struct command_context *context, const struct blockdev_options *arguments)
{
    if (arguments->if_absent && is_there(arguments))
        return NULL;
    /* It says something about the command, not about the node. */
    struct blockdev_options options = *arguments;
    options.has_if_absent = options.if_absent = false;
    return make_node(context, &options);
}

struct error *handle_blockdev_del(struct command_context *context, const struct blockdev_del_arguments *arguments)
{
    struct making *making = find_making(arguments->node_name);
    (void)context;
    if (!making || node_find(arguments->node_name))
        return arguments->if_present && !node_find(arguments->node_name) ? NULL : blockdev_del(arguments->node_name);
    making->unwanted = true;
    derive_cancel(&making->waiter);
    return NULL;
}

static struct error *find_node(const struct block_resize_arguments *arguments, struct node **out)
{
    *out = arguments->node_name && !arguments->device ? node_find(arguments->node_name) : NULL;
    if (*out)
        return NULL;
    return error_new("Cannot find device='%s' nor node-name='%s'", arguments->device ? arguments->device : "",
                     arguments->node_name ? arguments->node_name : "");
}

struct error *handle_block_resize(struct command_context *context, const struct block_resize_arguments *arguments)
{
    (void)context;
    struct node *node;
    struct error *err = find_node(arguments, &node);
    if (err)
        return err;
    struct handle *handle;
    err = handle_open_here(node, "block_resize", PERM_RESIZE, PERM_ALL, &handle);
    if (err)
        return err;
    int ret = handle_resize(handle, (uint64_t)arguments->size, TRUNCATE_SPARSE);
    if (ret < 0)
        err = error_errno(-ret, "cannot resize node '%s' to %lld bytes", arguments->node_name,
                          (long long)arguments->size);
    handle_close(handle);
    return err;
}
