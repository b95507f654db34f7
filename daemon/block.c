/* Commands that change nodes (schema/block-core.json). */
#include "blockcore/graph/node.h"
#include "blockcore/io/request.h"
#include "schema/cairn_commands.h"

struct error *handle_blockdev_add(struct command_context *context, const struct blockdev_options *arguments)
{
    (void)context;
    return blockdev_add(arguments);
}

struct error *handle_blockdev_del(struct command_context *context, const struct blockdev_del_arguments *arguments)
{
    (void)context;
    return blockdev_del(arguments->node_name);
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
