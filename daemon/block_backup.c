/* Commands for backups (schema/block-backup.json). Texts of errors are QEMU's where clients may know them. */
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/node.h"
#include "blockcore/jobs/backup.h"
#include "blockcore/jobs/job.h"
#include "blockcore/jobs/transaction.h"
#include "daemon/new_image.h"
#include "daemon/transaction.h"
#include "schema/cairn_commands.h"

#include <inttypes.h>

#define WORKERS_MAX 1024

static struct error *find(const char *name, struct node **out)
{
    *out = node_find(name);
    return *out ? NULL : error_new("Cannot find device='%s' nor node-name='%s'", name, name);
}

static struct error *check_arguments(const struct backup_common *arguments)
{
    if (!arguments->job_id)
        return error_new("An explicit job ID is required for this node");
    if (arguments->has_speed && arguments->speed < 0)
        return error_new("speed: expected a non-negative value, found %" PRId64, arguments->speed);
    if (arguments->x_perf && arguments->x_perf->has_min_cluster_size && arguments->x_perf->min_cluster_size &&
        !is_power_of_two(arguments->x_perf->min_cluster_size))
        return error_new("min-cluster-size needs to be a power of 2");
    return NULL;
}

/* "incremental" is another name for "bitmap" with "on-success". */
static struct error *check_bitmap_mode(const struct backup_common *arguments, struct backup_options *options)
{
    bool incremental = arguments->sync == MIRROR_SYNC_MODE_INCREMENTAL;
    if ((incremental || arguments->sync == MIRROR_SYNC_MODE_BITMAP) && !arguments->bitmap)
        return error_new("must provide a valid bitmap name for '%s' sync mode", mirror_sync_mode_name(arguments->sync));
    if (incremental && arguments->has_bitmap_mode && arguments->bitmap_mode != BITMAP_SYNC_MODE_ON_SUCCESS)
        return error_new("Bitmap sync mode must be '%s' when using sync mode '%s'",
                         bitmap_sync_mode_name(BITMAP_SYNC_MODE_ON_SUCCESS), mirror_sync_mode_name(arguments->sync));
    if (!arguments->bitmap && arguments->has_bitmap_mode)
        return error_new("Cannot specify bitmap sync mode without a bitmap");
    options->sync = incremental ? MIRROR_SYNC_MODE_BITMAP : arguments->sync;
    options->bitmap_mode = incremental ? BITMAP_SYNC_MODE_ON_SUCCESS : arguments->bitmap_mode;
    return NULL;
}

static struct error *find_bitmap(const struct backup_common *arguments, struct backup_options *options)
{
    if (!arguments->bitmap)
        return NULL;
    options->bitmap = dirty_bitmap_find(options->source, arguments->bitmap);
    if (!options->bitmap)
        return error_new("Bitmap '%s' could not be found", arguments->bitmap);
    if (!arguments->has_bitmap_mode && arguments->sync != MIRROR_SYNC_MODE_INCREMENTAL)
        return error_new("Bitmap sync mode must be given when providing a bitmap");
    if (options->sync == MIRROR_SYNC_MODE_NONE)
        return error_new("sync mode '%s' does not produce meaningful bitmap outputs",
                         mirror_sync_mode_name(options->sync));
    if (options->bitmap_mode == BITMAP_SYNC_MODE_NEVER && options->sync != MIRROR_SYNC_MODE_BITMAP)
        return error_new("Bitmap sync mode '%s' has no meaningful effect when combined with sync mode '%s'",
                         bitmap_sync_mode_name(options->bitmap_mode), mirror_sync_mode_name(options->sync));
    return NULL;
}

static void set_performance(const struct backup_perf *perf, struct backup_options *options)
{
    if (!perf)
        return;
    options->workers_max = perf->has_max_workers ? (unsigned)min_u64((uint64_t)perf->max_workers, WORKERS_MAX) : 0;
    options->chunk_max = (uint64_t)perf->max_chunk;
    options->use_copy_range = perf->use_copy_range;
    options->min_cluster_size = perf->has_min_cluster_size ? perf->min_cluster_size : 0;
}

/* What the schema calls a base, of either kind of backup. */
#define COMMON_OF(arguments)                                                                                           \
    {                                                                                                                  \
        .job_id = (arguments)->job_id, .device = (arguments)->device, .sync = (arguments)->sync,                       \
        .has_speed = (arguments)->has_speed, .speed = (arguments)->speed, .bitmap = (arguments)->bitmap,               \
        .has_bitmap_mode = (arguments)->has_bitmap_mode, .bitmap_mode = (arguments)->bitmap_mode,                      \
        .compress = (arguments)->compress, .on_source_error = (arguments)->on_source_error,                            \
        .on_target_error = (arguments)->on_target_error, .on_cbw_error = (arguments)->on_cbw_error,                    \
        .auto_finalize = (arguments)->auto_finalize, .auto_dismiss = (arguments)->auto_dismiss,                        \
        .filter_node_name = (arguments)->filter_node_name, .discard_source = (arguments)->discard_source,              \
        .x_perf = (arguments)->x_perf,                                                                                 \
    }

static struct backup_options options_of(const struct backup_common *arguments)
{
    struct backup_options options = {
        .id = arguments->job_id,
        .flags =
            (arguments->auto_finalize ? 0u : JOB_MANUAL_FINALIZE) | (arguments->auto_dismiss ? 0u : JOB_MANUAL_DISMISS),
        .compress = arguments->compress,
        .discard_source = arguments->discard_source,
        .filter_node_name = arguments->filter_node_name,
        .speed = arguments->has_speed ? (uint64_t)arguments->speed : 0,
        .on_source_error = arguments->on_source_error,
        .on_target_error = arguments->on_target_error,
        .on_cbw_error = arguments->on_cbw_error,
    };
    set_performance(arguments->x_perf, &options);
    return options;
}

struct error *blockdev_backup_action(struct transaction *transaction, const struct blockdev_backup *arguments)
{
    const struct backup_common common = COMMON_OF(arguments);
    struct backup_options options = options_of(&common);
    options.progress = arguments->progress;
    struct error *err = check_arguments(&common);
    if (!err)
        err = find(common.device, &options.source);
    if (!err)
        err = find(arguments->target, &options.target);
    if (!err)
        err = check_bitmap_mode(&common, &options);
    if (!err)
        err = find_bitmap(&common, &options);
    return err ? err : transaction_back_up(transaction, &options);
}

struct error *handle_blockdev_backup(struct command_context *context, const struct blockdev_backup *arguments)
{
    (void)context;
    struct transaction *transaction = transaction_begin(false);
    return transaction_end(transaction, blockdev_backup_action(transaction, arguments));
}

/* drive-backup --------------------------------------------------------------------------------------------------- */

/* Whatever can be said before a file is touched. */
static struct error *check_drive(struct transaction *transaction, const struct backup_common *arguments,
                                 struct backup_options *options)
{
    struct error *err = check_arguments(arguments);
    if (!err)
        err = find(arguments->device, &options->source);
    if (!err)
        err = check_bitmap_mode(arguments, options);
    if (!err)
        err = find_bitmap(arguments, options);
    if (!err && options->bitmap)
        err = transaction_take_bitmap(transaction, options->bitmap, DIRTY_BITMAP_BUSY | DIRTY_BITMAP_INCONSISTENT);
    if (!err && job_find(arguments->job_id))
        err = error_new("Job ID '%s' already in use", arguments->job_id);
    return err;
}

static struct error *CO_FN back_up_to_file(struct transaction *transaction, const struct drive_backup *arguments,
                                           const struct backup_common *common, struct backup_options *options)
{
    struct new_image image = { .path = arguments->target, .unmap = true };
    bool existing = arguments->has_mode && arguments->mode == NEW_IMAGE_MODE_EXISTING;
    struct error *err = new_image_for_copy(&image, options->source, common->sync, arguments->format, existing);
    if (!err)
        err = new_image_open(&image, &options->target);
    if (err)
        return err;
    err = transaction_back_up(transaction, options);
    node_unref(options->target);
    return err;
}

struct error *drive_backup_action(struct transaction *transaction, const struct drive_backup *arguments)
{
    const struct backup_common common = COMMON_OF(arguments);
    struct backup_options options = options_of(&common);
    struct error *err = check_drive(transaction, &common, &options);
    if (err)
        return err;
    struct node *source = node_ref(options.source); /* others may do much while the file is made */
    err = back_up_to_file(transaction, arguments, &common, &options);
    node_unref(source);
    return err;
}

struct error *handle_drive_backup(struct command_context *context, const struct drive_backup *arguments)
{
    (void)context;
    struct transaction *transaction = transaction_begin(false);
    return transaction_end(transaction, drive_backup_action(transaction, arguments));
}
