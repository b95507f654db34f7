/* Commands for jobs (schema/job.json, blockdev-create). */
#include "blockcore/jobs/job.h"

#include "blockcore/base/arena.h"
#include "blockcore/jobs/create.h"
#include "daemon/job.h"
#include "schema/cairn_commands.h"

struct error *handle_blockdev_create(struct command_context *context, const struct blockdev_create_arguments *arguments)
{
    return create_job_start(arguments->job_id, arguments->options, command_arena(context));
}

struct error *handle_job_pause(struct command_context *context, const struct job_pause_arguments *arguments)
{
    (void)context;
    struct job *job = job_find(arguments->id);
    return job ? job_pause(job) : job_not_found();
}

struct error *handle_job_resume(struct command_context *context, const struct job_resume_arguments *arguments)
{
    (void)context;
    struct job *job = job_find(arguments->id);
    return job ? job_resume(job) : job_not_found();
}

struct error *handle_job_cancel(struct command_context *context, const struct job_cancel_arguments *arguments)
{
    (void)context;
    struct job *job = job_find(arguments->id);
    return job ? job_cancel_from_outside(job, true) : job_not_found();
}

struct error *handle_job_complete(struct command_context *context, const struct job_complete_arguments *arguments)
{
    (void)context;
    struct job *job = job_find(arguments->id);
    return job ? job_complete(job) : job_not_found();
}

struct error *handle_job_finalize(struct command_context *context, const struct job_finalize_arguments *arguments)
{
    (void)context;
    struct job *job = job_find(arguments->id);
    return job ? job_finalize(job) : job_not_found();
}

struct error *handle_job_dismiss(struct command_context *context, const struct job_dismiss_arguments *arguments)
{
    (void)context;
    struct job *job = job_find(arguments->id);
    return job ? job_dismiss(job) : job_not_found();
}

static void describe(struct arena *arena, struct job *job, struct job_info *info)
{
    const struct error *err = job_error(job);
    *info = (struct job_info){
        .id = arena_strdup(arena, job_id(job)),
        .type = job_get_type(job),
        .status = job_get_status(job),
        .current_progress = (int64_t)job_progress_current(job),
        .total_progress = (int64_t)job_progress_total(job),
        .error = err ? arena_strdup(arena, error_message(err)) : NULL,
    };
}

struct job_info *jobs_describe(struct arena *arena, size_t *count)
{
    *count = 0;
    for (struct job *job = job_next(NULL); job; job = job_next(job))
        ++*count;
    struct job_info *infos = arena_array(arena, *count, sizeof(*infos));
    size_t described = 0;
    for (struct job *job = job_next(NULL); job; job = job_next(job))
        describe(arena, job, &infos[described++]);
    return infos;
}

struct error *handle_query_jobs(struct command_context *context, struct job_info_list *result)
{
    result->items = jobs_describe(command_arena(context), &result->count);
    return NULL;
}
