/* Commands for mirrors (schema/block-mirror.json). */
#include "blockcore/graph/node.h"
#include "blockcore/jobs/job.h"
#include "blockcore/jobs/mirror.h"
#include "schema/cairn_commands.h"

#include <inttypes.h>

static struct error *find(const char *name, struct node **out)
{
    *out = node_find(name);
    return *out ? NULL : error_new("Cannot find device='%s' nor node-name='%s'", name, name);
}

static struct error *check_arguments(const struct blockdev_mirror_arguments *arguments)
{
    if (!arguments->job_id)
        return error_new("An explicit job ID is required for this node");
    if (arguments->sync != MIRROR_SYNC_MODE_FULL && arguments->sync != MIRROR_SYNC_MODE_TOP &&
        arguments->sync != MIRROR_SYNC_MODE_NONE)
        return error_new("Sync mode '%s' not supported", mirror_sync_mode_name(arguments->sync));
    if (arguments->has_speed && arguments->speed < 0)
        return error_new("speed: expected a non-negative value, found %" PRId64, arguments->speed);
    if (arguments->has_buf_size && arguments->buf_size < 0)
        return error_new("buf-size: expected a non-negative value, found %" PRId64, arguments->buf_size);
    return NULL;
}

struct error *handle_blockdev_mirror(struct command_context *context, const struct blockdev_mirror_arguments *arguments)
{
    (void)context;
    struct mirror_options options = {
        .id = arguments->job_id,
        .flags =
            (arguments->auto_finalize ? 0u : JOB_MANUAL_FINALIZE) | (arguments->auto_dismiss ? 0u : JOB_MANUAL_DISMISS),
        .sync = arguments->sync,
        .copy_mode = arguments->copy_mode,
        .filter_node_name = arguments->filter_node_name,
        .granularity = arguments->granularity,
        .buf_size = arguments->has_buf_size ? (uint64_t)arguments->buf_size : 0,
        .target_is_zero = arguments->target_is_zero,
        .speed = arguments->has_speed ? (uint64_t)arguments->speed : 0,
        .on_source_error = arguments->on_source_error,
        .on_target_error = arguments->on_target_error,
    };
    struct error *err = check_arguments(arguments);
    if (!err)
        err = find(arguments->device, &options.source);
    if (!err)
        err = find(arguments->target, &options.target);
    if (!err && arguments->replaces)
        err = find(arguments->replaces, &options.replaces);
    return err ? err : mirror_job_start(&options, NULL);
}
