/* Commands that change nodes in use (schema/block-graph.json). */
#include "blockcore/graph/child.h"
#include "blockcore/graph/reopen.h"
#include "schema/cairn_commands.h"

struct error *handle_blockdev_reopen(struct command_context *context, const struct blockdev_reopen_arguments *arguments)
{
    (void)context;
    return blockdev_reopen(arguments->options, arguments->options_count);
}

struct error *handle_x_blockdev_change(struct command_context *context,
                                       const struct x_blockdev_change_arguments *arguments)
{
    (void)context;
    if (!arguments->child == !arguments->node)
        return error_new(arguments->child ? "The parameters child and node are in conflict"
                                          : "Either child or node must be specified");
    struct node *parent = node_find(arguments->parent);
    if (!parent)
        return node_not_found(arguments->parent);
    if (arguments->child)
        return node_remove_child(parent, arguments->child);
    struct node *node = node_find(arguments->node);
    return node ? node_add_child(parent, node) : node_not_found(arguments->node);
}
