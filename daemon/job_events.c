#include "daemon/job_events.h"

#include "daemon/log.h"
#include "schema/cairn_events.h"

static void ready(const struct job *job, struct event_sink *sink)
{
    event_block_job_ready(sink, &(struct block_job_ready_event){
                                    .type = job_get_type(job),
                                    .device = job_id(job),
                                    .len = (int64_t)job_progress_total(job),
                                    .offset = (int64_t)job_progress_current(job),
                                    .speed = (int64_t)job_speed(job),
                                });
}

static void completed(const struct job *job, struct event_sink *sink)
{
    const struct error *err = job_error(job);
    event_block_job_completed(sink, &(struct block_job_completed_event){
                                        .type = job_get_type(job),
                                        .device = job_id(job),
                                        .len = (int64_t)job_progress_total(job),
                                        .offset = (int64_t)job_progress_current(job),
                                        .speed = (int64_t)job_speed(job),
                                        .error = err ? error_message(err) : NULL,
                                    });
}

static void cancelled(const struct job *job, struct event_sink *sink)
{
    event_block_job_cancelled(sink, &(struct block_job_cancelled_event){
                                        .type = job_get_type(job),
                                        .device = job_id(job),
                                        .len = (int64_t)job_progress_total(job),
                                        .offset = (int64_t)job_progress_current(job),
                                        .speed = (int64_t)job_speed(job),
                                    });
}

static void met_error(const struct job *job, const struct job_event *event, struct event_sink *sink)
{
    event_block_job_error(sink, &(struct block_job_error_event){
                                    .device = job_id(job),
                                    .operation = event->write ? IO_OPERATION_TYPE_WRITE : IO_OPERATION_TYPE_READ,
                                    .action = event->action,
                                });
}

static void tell_block_job(const struct job *job, const struct job_event *event, struct event_sink *sink)
{
    switch (event->kind) {
    case JOB_EVENT_STATUS:
        break;
    case JOB_EVENT_READY:
        ready(job, sink);
        break;
    case JOB_EVENT_PENDING:
        event_block_job_pending(sink,
                                &(struct block_job_pending_event){ .type = job_get_type(job), .id = job_id(job) });
        break;
    case JOB_EVENT_COMPLETED:
        completed(job, sink);
        break;
    case JOB_EVENT_CANCELLED:
        cancelled(job, sink);
        break;
    case JOB_EVENT_IO_ERROR:
        met_error(job, event, sink);
        break;
    }
}

static void log_end(const struct job *job)
{
    const struct error *err = job_error(job);
    const char *type = job_type_name(job_get_type(job));
    const struct log_about about = { .job = job_id(job), .message_id = err ? LOG_ID_JOB_FAILED : NULL };
    if (err)
        log_about(LOG_LEVEL_INFO, &about, "job '%s' (%s) has failed: %s", job_id(job), type, error_message(err));
    else
        log_about(LOG_LEVEL_INFO, &about, "job '%s' (%s) has ended", job_id(job), type);
}

void job_events_send(const struct job *job, const struct job_event *event, void *sink)
{
    if (event->kind == JOB_EVENT_STATUS && event->status == JOB_STATUS_CONCLUDED)
        log_end(job);
    if (event->kind == JOB_EVENT_STATUS)
        event_job_status_change(sink, &(struct job_status_change_event){ .id = job_id(job), .status = event->status });
    else if (job_get_driver(job)->is_block_job)
        tell_block_job(job, event, sink);
}
