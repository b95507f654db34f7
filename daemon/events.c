#include "daemon/events.h"

#include "blockcore/export/export.h"
#include "blockcore/graph/notice.h"
#include "blockcore/jobs/job.h"
#include "daemon/log.h"
#include "schema/cairn_events.h"

static bool data_lost;

static void job_changed(const struct job *job, enum job_status status, void *sink)
{
    event_job_status_change(sink, &(struct job_status_change_event){ .id = job_id(job), .status = status });
}

static void export_deleted(const char *id, void *sink)
{
    event_block_export_deleted(sink, &(struct block_export_deleted_event){ .id = id });
}

static void send_corrupted(const struct notice *notice, void *sink)
{
    struct block_image_corrupted_event event = {
        .device = "",
        .node_name = notice->node_name,
        .msg = notice->message,
        .fatal = notice->fatal,
    };
    event.has_offset = event.has_size = notice->place.bytes > 0;
    event.offset = (int64_t)notice->place.offset;
    event.size = (int64_t)notice->place.bytes;
    event_block_image_corrupted(sink, &event);
}

static void noticed(const struct notice *notice, void *sink)
{
    log_error("node '%s': %s", notice->node_name, notice->message);
    switch (notice->kind) {
    case NOTICE_IMAGE_CORRUPTED:
        send_corrupted(notice, sink);
        break;
    case NOTICE_FLUSH_FAILED:
        data_lost = true;
        break;
    }
}

bool events_data_lost(void)
{
    return data_lost;
}

void events_send_to(struct event_sink *sink)
{
    job_set_listener(sink ? job_changed : NULL, sink);
    export_set_listener(sink ? export_deleted : NULL, sink);
    notice_set_listener(sink ? noticed : NULL, sink);
}
