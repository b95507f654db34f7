/* Commands for jobs that work on block nodes (schema/block-job.json). */
#include "blockcore/base/arena.h"
#include "blockcore/jobs/job.h"
#include "schema/cairn_commands.h"

#include <errno.h>

static struct error *find(const char *id, struct job **out)
{
    *out = job_find(id);
    if (*out && job_get_driver(*out)->is_block_job)
        return NULL;
    return error_set_class(error_new("Block job '%s' not found", id), ERROR_DEVICE_NOT_ACTIVE);
}

struct error *handle_block_job_set_speed(struct command_context *context,
                                         const struct block_job_set_speed_arguments *arguments)
{
    (void)context;
    struct job *job;
    struct error *err = find(arguments->device, &job);
    return err ? err : job_set_speed(job, arguments->speed);
}

struct error *handle_block_job_cancel(struct command_context *context,
                                      const struct block_job_cancel_arguments *arguments)
{
    (void)context;
    struct job *job;
    struct error *err = find(arguments->device, &job);
    if (!err && job_is_paused(job) && !arguments->force)
        err = error_new("The block job for device '%s' is currently paused", arguments->device);
    return err ? err : job_cancel_from_outside(job, arguments->force);
}

struct error *handle_block_job_pause(struct command_context *context, const struct block_job_pause_arguments *arguments)
{
    (void)context;
    struct job *job;
    struct error *err = find(arguments->device, &job);
    return err ? err : job_pause(job);
}

struct error *handle_block_job_resume(struct command_context *context,
                                      const struct block_job_resume_arguments *arguments)
{
    (void)context;
    struct job *job;
    struct error *err = find(arguments->device, &job);
    return err ? err : job_resume(job);
}

struct error *handle_block_job_complete(struct command_context *context,
                                        const struct block_job_complete_arguments *arguments)
{
    (void)context;
    struct job *job;
    struct error *err = find(arguments->device, &job);
    return err ? err : job_complete(job);
}

struct error *handle_block_job_dismiss(struct command_context *context,
                                       const struct block_job_dismiss_arguments *arguments)
{
    (void)context;
    struct job *job;
    struct error *err = find(arguments->id, &job);
    return err ? err : job_dismiss(job);
}

struct error *handle_block_job_finalize(struct command_context *context,
                                        const struct block_job_finalize_arguments *arguments)
{
    (void)context;
    struct job *job;
    struct error *err = find(arguments->id, &job);
    return err ? err : job_finalize(job);
}

struct error *handle_block_job_change(struct command_context *context, const struct block_job_change_options *options)
{
    (void)context;
    struct job *job;
    struct error *err = find(options->id, &job);
    if (!err && job_get_type(job) != options->type)
        err = error_new("Job '%s' is a '%s' job and not a '%s' job", options->id, job_type_name(job_get_type(job)),
                        job_type_name(options->type));
    return err ? err : job_change(job, options);
}

/* query-block-jobs --------------------------------------------------------------------------------------------- */

static enum block_device_io_status io_status(const struct job *job)
{
    switch (job_io_error(job)) {
    case 0:
        return BLOCK_DEVICE_IO_STATUS_OK;
    case ENOSPC:
        return BLOCK_DEVICE_IO_STATUS_NOSPACE;
    default:
        return BLOCK_DEVICE_IO_STATUS_FAILED;
    }
}

static void describe(struct arena *arena, struct job *job, struct block_job_info *info)
{
    const struct error *err = job_error(job);
    enum job_status status = job_get_status(job);
    *info = (struct block_job_info){
        .type = job_get_type(job),
        .device = arena_strdup(arena, job_id(job)),
        .len = (int64_t)job_progress_total(job),
        .offset = (int64_t)job_progress_current(job),
        .busy = status == JOB_STATUS_RUNNING || status == JOB_STATUS_READY || status == JOB_STATUS_ABORTING,
        .paused = job_is_paused(job),
        .speed = (int64_t)job_speed(job),
        .io_status = io_status(job),
        .ready = status == JOB_STATUS_READY || status == JOB_STATUS_STANDBY,
        .status = status,
        .auto_finalize = !(job_get_flags(job) & JOB_MANUAL_FINALIZE),
        .auto_dismiss = !(job_get_flags(job) & JOB_MANUAL_DISMISS),
        .error = err ? arena_strdup(arena, error_message(err)) : NULL,
    };
    if (job_get_driver(job)->describe)
        job_get_driver(job)->describe(job, info);
}

static struct job *next_block_job(struct job *after)
{
    do
        after = job_next(after);
    while (after && !job_get_driver(after)->is_block_job);
    return after;
}

struct error *handle_query_block_jobs(struct command_context *context, struct block_job_info_list *result)
{
    struct arena *arena = command_arena(context);
    size_t count = 0;
    for (struct job *job = next_block_job(NULL); job; job = next_block_job(job))
        count++;
    struct block_job_info *infos = arena_array(arena, count, sizeof(*infos));
    count = 0;
    for (struct job *job = next_block_job(NULL); job; job = next_block_job(job))
        describe(arena, job, &infos[count++]);
    *result = (struct block_job_info_list){ .items = infos, .count = count };
    return NULL;
}
