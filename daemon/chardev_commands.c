/* Commands for character devices and monitors (schema/chardev.json). */
#include "blockcore/base/arena.h"
#include "daemon/chardev.h"
#include "daemon/monitor.h"
#include "schema/cairn_commands.h"

struct error *handle_query_chardev(struct command_context *context, struct chardev_info_list *result)
{
    chardevs_describe(command_arena(context), result);
    return NULL;
}

struct error *handle_query_chardev_backends(struct command_context *context, struct chardev_backend_info_list *result)
{
    result->items = arena_array(command_arena(context), CHARDEV_BACKEND_KIND__MAX, sizeof(*result->items));
    for (int i = 0; i < CHARDEV_BACKEND_KIND__MAX; i++)
        result->items[result->count++].name = chardev_backend_kind_name((enum chardev_backend_kind)i);
    return NULL;
}

struct error *handle_chardev_add(struct command_context *context, const struct chardev_add_arguments *arguments,
                                 struct chardev_return *result)
{
    (void)context;
    (void)result;
    if (arguments->if_absent && chardev_find(arguments->id))
        return NULL;
    return chardev_add_backend(arguments->id, arguments->backend);
}

struct error *handle_chardev_remove(struct command_context *context, const struct chardev_remove_arguments *arguments)
{
    (void)context;
    return arguments->if_present && !chardev_find(arguments->id) ? NULL : chardev_remove(arguments->id);
}

struct error *handle_monitor_add(struct command_context *context, const struct monitor_options *arguments)
{
    (void)context;
    return monitor_add(arguments);
}

struct error *handle_monitor_remove(struct command_context *context, const struct monitor_remove_arguments *arguments)
{
    return monitor_remove(arguments->chardev, context);
}
