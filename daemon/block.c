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

static struct error *check_resize(const struct block_resize_arguments *arguments)
{
    if (arguments->device || !arguments->node_name)
        return error_new_class(ERROR_DEVICE_NOT_FOUND, "Cannot find device='%s' nor node-name='%s'",
                               arguments->device ? arguments->device : "",
                               arguments->node_name ? arguments->node_name : "");
    if (!node_find(arguments->node_name))
        return error_set_class(node_not_found(arguments->node_name), ERROR_DEVICE_NOT_FOUND);
    if (arguments->size < 0 || (uint64_t)arguments->size > NODE_LENGTH_MAX)
        return error_new("Parameter 'size' expects a size from 0 to %llu, not %lld",
                         (unsigned long long)NODE_LENGTH_MAX, (long long)arguments->size);
    return NULL;
}

struct error *handle_block_resize(struct command_context *context, const struct block_resize_arguments *arguments)
{
    (void)context;
    struct error *err = check_resize(arguments);
    if (err)
        return err;
    struct handle *handle;
    err = handle_open(node_find(arguments->node_name), "block_resize", PERM_RESIZE, PERM_ALL, &handle);
    if (err)
        return err;
    int ret = handle_resize(handle, (uint64_t)arguments->size, TRUNCATE_SPARSE);
    if (ret < 0)
        err = error_errno(-ret, "cannot resize node '%s' to %lld bytes", arguments->node_name,
                          (long long)arguments->size);
    handle_close(handle);
    return err;
}
