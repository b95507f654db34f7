/* Commands for mirrors (schema/block-mirror.json). */
#include "blockcore/graph/driver.h"
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

static struct error *check_arguments(const char *job_id, enum mirror_sync_mode sync, int64_t speed, int64_t buf_size)
{
    if (!job_id)
        return error_new("An explicit job ID is required for this node");
    if (sync != MIRROR_SYNC_MODE_FULL && sync != MIRROR_SYNC_MODE_TOP && sync != MIRROR_SYNC_MODE_NONE)
        return error_new("Sync mode '%s' not supported", mirror_sync_mode_name(sync));
    if (speed < 0)
        return error_new("speed: expected a non-negative value, found %" PRId64, speed);
    if (buf_size < 0)
        return error_new("buf-size: expected a non-negative value, found %" PRId64, buf_size);
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
    struct error *err = check_arguments(arguments->job_id, arguments->sync, arguments->has_speed ? arguments->speed : 0,
                                        arguments->has_buf_size ? arguments->buf_size : 0);
    if (!err)
        err = find(arguments->device, &options.source);
    if (!err)
        err = find(arguments->target, &options.target);
    if (!err && arguments->replaces)
        err = find(arguments->replaces, &options.replaces);
    return err ? err : mirror_job_start(&options, NULL);
}

/* drive-mirror ------------------------------------------------------------------------------------------------- */

/* What the target stands on: whatever is not copied. */
static const struct node *below_of(const struct drive_mirror *arguments, const struct node *source)
{
    if (arguments->sync == MIRROR_SYNC_MODE_NONE)
        return source;
    const struct child *backing = node_backing(node_without_filters(source));
    return arguments->sync == MIRROR_SYNC_MODE_TOP && backing ? child_node(backing) : NULL;
}

static struct error *describe_target(const struct drive_mirror *arguments, const struct node *source,
                                     struct new_image *image)
{
    const struct driver *driver;
    *image = (struct new_image){
        .path = arguments->target,
        .node_name = arguments->node_name,
        .format = node_format(source),
        .existing = arguments->has_mode && arguments->mode == NEW_IMAGE_MODE_EXISTING,
        .like = source,
        .below = below_of(arguments, source),
        .backing = NEW_IMAGE_NO_BACKING,
        .unmap = arguments->unmap,
    };
    struct error *err = arguments->format ? format_find(arguments->format, &image->format, &driver) : NULL;
    if (image->format == BLOCKDEV_DRIVER_RAW)
        return err;
    if (image->below)
        image->backing = NEW_IMAGE_BACKING_BELOW;
    else if (image->existing)
        image->backing = NEW_IMAGE_BACKING_NAMED;
    return err;
}

static struct error *check_drive(const struct drive_mirror *arguments, struct mirror_options *options)
{
    struct error *err = check_arguments(arguments->job_id, arguments->sync, arguments->has_speed ? arguments->speed : 0,
                                        arguments->has_buf_size ? arguments->buf_size : 0);
    if (!err)
        err = find(arguments->device, &options->source);
    if (!err && arguments->replaces && !arguments->node_name)
        err = error_new("a node-name must be provided when replacing a named node of the graph");
    if (!err && arguments->replaces)
        err = find(arguments->replaces, &options->replaces);
    if (!err && job_find(arguments->job_id)) /* before a file is touched */
        err = error_new("Job ID '%s' already in use", arguments->job_id);
    return err;
}

static struct error *CO_FN mirror_to_file(const struct drive_mirror *arguments, struct mirror_options *options)
{
    struct new_image image;
    struct error *err = describe_target(arguments, options->source, &image);
    if (err)
        return err;
    struct node *below = image.below ? node_ref((struct node *)(uintptr_t)image.below) : NULL;
    err = new_image_open(&image, &options->target);
    node_unref(below);
    if (err)
        return err;
    err = mirror_job_start(options, NULL);
    node_unref(options->target);
    return err;
}

struct error *handle_drive_mirror(struct command_context *context, const struct drive_mirror *arguments)
{
    (void)context;
    struct mirror_options options = {
        .id = arguments->job_id,
        .flags =
            (arguments->auto_finalize ? 0u : JOB_MANUAL_FINALIZE) | (arguments->auto_dismiss ? 0u : JOB_MANUAL_DISMISS),
        .sync = arguments->sync,
        .copy_mode = arguments->copy_mode,
        .granularity = arguments->granularity,
        .buf_size = arguments->has_buf_size ? (uint64_t)arguments->buf_size : 0,
        .speed = arguments->has_speed ? (uint64_t)arguments->speed : 0,
        .keep_zeroes = !arguments->unmap,
        .on_source_error = arguments->on_source_error,
        .on_target_error = arguments->on_target_error,
    };
    struct error *err = check_drive(arguments, &options);
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
