/* Commands about the session, the interface and the daemon (schema/control.json, schema/introspect.json). */
#include "blockcore/base/arena.h"
#include "daemon/daemon.h"
#include "rpc/in_flight.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"
#include "schema/cairn_introspect.h"

#include <string.h>

#define NS_PER_MS 1000000u
#define COMMANDS_MANY 100 /* to be listed: encoding more of them takes so long that others would notice */

struct error *handle_qmp_capabilities(struct command_context *context,
                                      const struct qmp_capabilities_arguments *arguments)
{
    bool oob = false;
    for (size_t i = 0; i < arguments->enable_count; i++)
        oob |= arguments->enable[i] == QMP_CAPABILITY_OOB;
    command_enter_command_mode(context, oob);
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

struct error *handle_query_commands_in_flight(struct command_context *context, struct command_in_flight_list *result)
{
    static const enum command_in_flight_state states[] = {
        [IN_FLIGHT_QUEUED] = COMMAND_IN_FLIGHT_STATE_QUEUED,
        [IN_FLIGHT_RUNNING] = COMMAND_IN_FLIGHT_STATE_RUNNING,
        [IN_FLIGHT_CANCELLED] = COMMAND_IN_FLIGHT_STATE_CANCELLED,
    };
    struct arena *arena = command_arena(context);
    struct in_flight_command *found;
    in_flight_list(context, arena, &found, &result->count);
    result->items = arena_array(arena, result->count, sizeof(*result->items));
    if (result->count > COMMANDS_MANY)
        command_expect_large_reply(context);
    for (size_t i = 0; i < result->count; i++) {
        result->items[i] = (struct command_in_flight){
            .number = found[i].number,
            .command = found[i].command,
            .id = { .text = found[i].id, .length = found[i].id ? strlen(found[i].id) : 0 },
            .client = found[i].client,
            .state = states[found[i].state],
            .age_ms = found[i].age_ns / NS_PER_MS,
            .waits_for = found[i].waits_for,
        };
    }
    return NULL;
}

struct error *handle_cancel_command(struct command_context *context, const struct cancel_command_arguments *arguments)
{
    if (arguments->has_number == (arguments->id.text != NULL))
        return error_new("one of 'number' and 'id' must be given");
    return arguments->has_number ? in_flight_cancel(context, arguments->number)
                                 : in_flight_cancel_id(context, arguments->id.text);
}

struct error *handle_quit(struct command_context *context)
{
    (void)context;
    daemon_quit();
    return NULL;
}
