#include "daemon/events.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/export.h"
#include "blockcore/graph/notice.h"
#include "daemon/job_events.h"
#include "daemon/log.h"
#include "schema/cairn_events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512

static bool data_lost;

static void export_deleted(const char *id, void *sink)
{
    log_about(LOG_LEVEL_INFO, &(struct log_about){ .export_ = id }, "export '%s' is gone", id);
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

static int64_t first_sector(struct range range)
{
    return (int64_t)(range.offset / SECTOR);
}

static int64_t count_sectors(struct range range)
{
    return (int64_t)div_round_up(range_end(range), SECTOR) - first_sector(range);
}

static void quorum_failed(const struct notice *notice, struct event_sink *sink)
{
    event_quorum_failure(sink, &(struct quorum_failure_event){
                                   .reference = notice->node_name,
                                   .sector_num = first_sector(notice->place),
                                   .sectors_count = count_sectors(notice->place),
                               });
}

static void quorum_child_bad(const struct notice *notice, struct event_sink *sink)
{
    static const enum quorum_op_type types[] = {
        [NOTICE_READ] = QUORUM_OP_TYPE_READ,
        [NOTICE_WRITE] = QUORUM_OP_TYPE_WRITE,
        [NOTICE_FLUSH] = QUORUM_OP_TYPE_FLUSH,
    };
    char text[128];
    event_quorum_report_bad(sink, &(struct quorum_report_bad_event){
                                      .type = types[notice->request],
                                      .error = notice->errnum ? strerror_r(notice->errnum, text, sizeof(text)) : NULL,
                                      .node_name = notice->node_name,
                                      .sector_num = first_sector(notice->place),
                                      .sectors_count = count_sectors(notice->place),
                                  });
}

/* A child that is bad is bad with each request: that is for those who listen to events, at their rate. */
static bool is_for_log(enum notice_kind kind)
{
    return kind != NOTICE_QUORUM_BAD && kind != NOTICE_QUORUM_FAILURE && kind != NOTICE_WRITE_THRESHOLD &&
           kind != NOTICE_EXPORT_FAILED;
}

static void threshold_reached(const struct notice *notice, struct event_sink *sink)
{
    event_block_write_threshold(sink, &(struct block_write_threshold_event){
                                          .node_name = notice->node_name,
                                          .amount_exceeded = notice->place.bytes,
                                          .write_threshold = notice->place.offset,
                                      });
}

static void export_failed(const struct notice *notice, struct event_sink *sink)
{
    const char *id = notice->message;
    const struct export *export = export_find(id);
    CLEANUP(free) char *path = xasprintf("/exports/%s", id);
    char text[128];
    event_block_io_error(
        sink, &(struct block_io_error_event){
                  .qom_path = path,
                  .device = "",
                  .node_name = export ? export_node_name(export) : NULL,
                  .operation = notice->request == NOTICE_READ ? IO_OPERATION_TYPE_READ : IO_OPERATION_TYPE_WRITE,
                  .action = BLOCK_ERROR_ACTION_REPORT,
                  .has_nospace = true,
                  .nospace = notice->errnum == ENOSPC,
                  .reason = strerror_r(notice->errnum, text, sizeof(text)),
              });
}

static void log_notice(const struct notice *notice)
{
    static const char *const ids[] = {
        [NOTICE_IMAGE_CORRUPTED] = LOG_ID_IMAGE_CORRUPTED,
        [NOTICE_FLUSH_FAILED] = LOG_ID_DATA_LOST,
    };
    const struct log_about about = {
        .node = notice->node_name,
        .client = notice->client,
        .message_id = (size_t)notice->kind < ARRAY_SIZE(ids) ? ids[notice->kind] : NULL,
    };
    if (notice->kind == NOTICE_CLIENT)
        log_about(LOG_LEVEL_WARNING, &(struct log_about){ .client = notice->client }, "%s", notice->message);
    else if (notice->kind == NOTICE_LEFT_OVER)
        log_about(LOG_LEVEL_WARNING, &about, "node '%s': %s", notice->node_name, notice->message);
    else if (is_for_log(notice->kind))
        log_about(LOG_LEVEL_ERROR, &about, "node '%s': %s", notice->node_name, notice->message);
}

static void noticed(const struct notice *notice, void *sink)
{
    log_notice(notice);
    switch (notice->kind) {
    case NOTICE_IMAGE_CORRUPTED:
        send_corrupted(notice, sink);
        break;
    case NOTICE_FLUSH_FAILED:
        data_lost = true;
        break;
    case NOTICE_QUORUM_FAILURE:
        quorum_failed(notice, sink);
        break;
    case NOTICE_QUORUM_BAD:
        quorum_child_bad(notice, sink);
        break;
    case NOTICE_WRITE_THRESHOLD:
        threshold_reached(notice, sink);
        break;
    case NOTICE_EXPORT_FAILED:
        export_failed(notice, sink);
        break;
    case NOTICE_SNAPSHOT_BROKEN:
    case NOTICE_LEFT_OVER:
    case NOTICE_SERVER:
    case NOTICE_MISMATCH:
    case NOTICE_CLIENT:
        break; /* told in the log */
    }
}

bool events_data_lost(void)
{
    return data_lost;
}

void events_send_to(struct event_sink *sink)
{
    job_set_listener(sink ? job_events_send : NULL, sink);
    export_set_listener(sink ? export_deleted : NULL, sink);
    notice_set_listener(sink ? noticed : NULL, sink);
}
