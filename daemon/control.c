/* Commands about the session, the interface and the daemon (schema/control.json, schema/introspect.json). */
#include "blockcore/base/arena.h"
#include "daemon/daemon.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"
#include "schema/cairn_introspect.h"

struct error *handle_qmp_capabilities(struct command_context *context,
                                      const struct qmp_capabilities_arguments *arguments)
{
    if (arguments->enable_count > 0)
        return error_new("capability '%s' was not offered", qmp_capability_name(arguments->enable[0]));
    command_enter_command_mode(context);
    return NULL;
}

struct error *handle_query_version(struct command_context *context, struct version_info *result)
{
    (void)context;
    *result = daemon_version;
    return NULL;
}

struct error *handle_query_commands(struct command_context *context, struct command_info_list *result)
{
    struct command_info *infos = arena_array(command_arena(context), cairn_commands.count, sizeof(*infos));
    for (size_t i = 0; i < cairn_commands.count; i++)
        infos[i].name = cairn_commands.commands[i].name;
    *result = (struct command_info_list){ .items = infos, .count = cairn_commands.count };
    return NULL;
}

struct error *handle_query_qmp_schema(struct command_context *context, struct json_text *result)
{
    (void)context;
    *result = (struct json_text){ .text = cairn_introspect_text, .length = cairn_introspect_length };
    return NULL;
}

struct error *handle_quit(struct command_context *context)
{
    (void)context;
    daemon_quit();
    return NULL;
}
