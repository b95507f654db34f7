#include "daemon/events.h"

#include "blockcore/export/export.h"
#include "blockcore/jobs/job.h"
#include "schema/cairn_events.h"

static void job_changed(const struct job *job, enum job_status status, void *sink)
{
    event_job_status_change(sink, &(struct job_status_change_event){ .id = job_id(job), .status = status });
}

static void export_deleted(const char *id, void *sink)
{
    event_block_export_deleted(sink, &(struct block_export_deleted_event){ .id = id });
}

void events_send_to(struct event_sink *sink)
{
    job_set_listener(sink ? job_changed : NULL, sink);
    export_set_listener(sink ? export_deleted : NULL, sink);
}
