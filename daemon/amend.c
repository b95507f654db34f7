/* Commands for images that change while they are in use (schema/amend.json). */
#include "blockcore/jobs/amend.h"

#include "schema/cairn_commands.h"

struct error *handle_x_blockdev_amend(struct command_context *context,
                                      const struct x_blockdev_amend_arguments *arguments)
{
    return amend_job_start(arguments->job_id, arguments->node_name, arguments->options, arguments->force,
                           command_arena(context));
}
