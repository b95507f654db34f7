/* Commands that change nodes in use (schema/block-graph.json). */
#include "blockcore/export/export.h"
#include "blockcore/graph/active.h"
#include "blockcore/graph/child.h"
#include "blockcore/graph/drain.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/objects/object.h"
#include "schema/cairn_commands.h"

struct error *handle_blockdev_reopen(struct command_context *context, const struct blockdev_reopen_arguments *arguments)
{
    (void)context;
    return blockdev_reopen(arguments->options, arguments->options_count);
}

struct error *handle_x_blockdev_set_iothread(struct command_context *context,
                                             const struct x_blockdev_set_iothread_arguments *arguments)
{
    (void)context;
    if (!node_find(arguments->node_name))
        return node_not_found(arguments->node_name);
    if (arguments->iothread->kind == STR_OR_NULL_KIND_N)
        return NULL;
    const struct object *object = object_find(arguments->iothread->u.s);
    if (!object || object_kind_of(object)->type != OBJECT_TYPE_IOTHREAD)
        return error_new("Cannot find iothread %s", arguments->iothread->u.s);
    return NULL;
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

/* A rearrangement may be for one export only; NULL: for all users. */
static struct error *find_user(const char *export_id, struct handle **out)
{
    *out = NULL;
    if (!export_id)
        return NULL;
    struct export *export = export_find(export_id);
    *out = export ? export_handle(export) : NULL;
    return *out ? NULL : error_new("Export '%s' is not found", export_id);
}

/* Both nodes stay while @rearrange waits. */
static struct error *CO_FN with_nodes(const char *name, const char *other, const char *export_id,
                                      struct error *(*rearrange)(struct node *node, struct node *other,
                                                                 struct handle *only)CO_FN)
{
    struct handle *only;
    struct error *err = find_user(export_id, &only);
    if (err)
        return err;
    struct node *a = node_find(name);
    struct node *b = node_find(other);
    if (!a || !b)
        return node_not_found(a ? other : name);
    node_ref(a);
    node_ref(b);
    err = rearrange(a, b, only);
    node_unref(b);
    node_unref(a);
    return err;
}

struct error *handle_blockdev_insert_filter(struct command_context *context,
                                            const struct blockdev_insert_filter_arguments *arguments)
{
    (void)context;
    return with_nodes(arguments->node, arguments->filter, arguments->export_, filter_insert);
}

struct error *handle_blockdev_replace(struct command_context *context,
                                      const struct blockdev_replace_arguments *arguments)
{
    (void)context;
    return with_nodes(arguments->node, arguments->replacement, arguments->export_, node_replace);
}

static struct error *CO_FN remove_filter(struct node *filter, struct node *same, struct handle *only)
{
    (void)same;
    return filter_remove(filter, only);
}

struct error *handle_blockdev_remove_filter(struct command_context *context,
                                            const struct blockdev_remove_filter_arguments *arguments)
{
    (void)context;
    return with_nodes(arguments->filter, arguments->filter, arguments->export_, remove_filter);
}

struct error *handle_blockdev_set_active(struct command_context *context,
                                         const struct blockdev_set_active_arguments *arguments)
{
    (void)context;
    struct node *node = arguments->node_name ? node_find(arguments->node_name) : NULL;
    if (arguments->node_name && !node)
        return node_not_found(arguments->node_name);
    return node_set_active(node, arguments->active);
}

struct error *handle_query_drains(struct command_context *context, struct drain_info *result)
{
    const struct drain_times times = drain_times();
    (void)context;
    *result = (struct drain_info){
        .count = times.count,
        .last_ns = times.last_ns,
        .longest_ns = times.longest_ns,
        .total_ns = times.total_ns,
    };
    return NULL;
}
