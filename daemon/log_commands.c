/* Commands for the log (schema/log.json). */
#include "daemon/daemon.h"
#include "daemon/log.h"
#include "schema/cairn_commands.h"

struct error *handle_set_log_level(struct command_context *context, const struct set_log_level_arguments *arguments)
{
    (void)context;
    log_set_level(arguments->level);
    daemon_trace_commands(log_shows(LOG_LEVEL_DEBUG));
    return NULL;
}

struct error *handle_query_log(struct command_context *context, struct log_info *result)
{
    (void)context;
    log_describe(result);
    return NULL;
}
