/* Commands for mirrors (schema/block-mirror.json). */
#include "blockcore/graph/node.h"
#include "blockcore/jobs/job.h"
#include "blockcore/jobs/mirror.h"
#include "daemon/new_image.h"
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

/* All but the target, which has to be there for one command and is made by the other. */
static struct error *read_arguments(const struct blockdev_mirror_arguments *arguments, struct mirror_options *options)
{
    *options = (struct mirror_options){
        .id = arguments->job_id,
        .flags =
            (arguments->auto_finalize ? 0u : JOB_MANUAL_FINALIZE) | (arguments->auto_dismiss ? 0u : JOB_MANUAL_DISMISS),
        .sync = arguments->sync,
        .copy_mode = arguments->copy_mode,
        .filter_node_name = arguments->filter_node_name,
        .granularity = arguments->granularity,
        .buf_size = arguments->has_buf_size ? (uint64_t)arguments->buf_size : 0,
        .target_is_zero = arguments->target_is_zero,
        .progress = arguments->progress,
        .speed = arguments->has_speed ? (uint64_t)arguments->speed : 0,
        .on_source_error = arguments->on_source_error,
        .on_target_error = arguments->on_target_error,
    };
    struct error *err = check_arguments(arguments);
    if (!err)
        err = find(arguments->device, &options->source);
    if (!err && arguments->replaces)
        err = find(arguments->replaces, &options->replaces);
    return err;
}

struct error *handle_blockdev_mirror(struct command_context *context, const struct blockdev_mirror_arguments *arguments)
{
    (void)context;
    struct mirror_options options;
    struct error *err = read_arguments(arguments, &options);
    if (!err)
        err = find(arguments->target, &options.target);
    return err ? err : mirror_job_start(&options, NULL);
}

/* drive-mirror ------------------------------------------------------------------------------------------------- */

/* What both commands have in common. */
static struct blockdev_mirror_arguments as_blockdev_mirror(const struct drive_mirror *arguments)
{
    return (struct blockdev_mirror_arguments){
        .job_id = arguments->job_id,
        .device = arguments->device,
        .replaces = arguments->replaces,
        .sync = arguments->sync,
        .copy_mode = arguments->copy_mode,
        .granularity = arguments->granularity,
        .has_buf_size = arguments->has_buf_size,
        .buf_size = arguments->buf_size,
        .has_speed = arguments->has_speed,
        .speed = arguments->speed,
        .on_source_error = arguments->on_source_error,
        .on_target_error = arguments->on_target_error,
        .auto_finalize = arguments->auto_finalize,
        .auto_dismiss = arguments->auto_dismiss,
    };
}

static struct error *read_drive(const struct drive_mirror *arguments, struct mirror_options *options)
{
    const struct blockdev_mirror_arguments common = as_blockdev_mirror(arguments);
    struct error *err = read_arguments(&common, options);
    options->keep_zeroes = !arguments->unmap;
    if (!err && arguments->replaces && !arguments->node_name)
        err = error_new("a node-name must be provided when replacing a named node of the graph");
    if (!err && job_find(arguments->job_id)) /* before a file is touched */
        err = error_new("Job ID '%s' already in use", arguments->job_id);
    return err;
}

static struct error *CO_FN mirror_to_file(const struct drive_mirror *arguments, struct mirror_options *options)
{
    struct new_image image = {
        .path = arguments->target,
        .node_name = arguments->node_name,
        .unmap = arguments->unmap,
    };
    bool existing = arguments->has_mode && arguments->mode == NEW_IMAGE_MODE_EXISTING;
    struct error *err = new_image_for_copy(&image, options->source, arguments->sync, arguments->format, existing);
    if (!err)
        err = new_image_open(&image, &options->target);
    if (err)
        return err;
    err = mirror_job_start(options, NULL);
    node_unref(options->target);
    return err;
}

struct error *handle_drive_mirror(struct command_context *context, const struct drive_mirror *arguments)
{
    (void)context;
    struct mirror_options options;
    struct error *err = read_drive(arguments, &options);
    if (err)
        return err;
    struct node *source = node_ref(options.source); /* others may do much while the file is made */
    if (options.replaces)
        node_ref(options.replaces);
    err = mirror_to_file(arguments, &options);
    node_unref(options.replaces);
    node_unref(source);
    return err;
}
