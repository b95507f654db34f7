/* blklogwrites - a filter that records all writes, so that tools can replay them up to any point
 *
 * A request goes to the disk first; when that has succeeded it is recorded, and only then it ends. So when a flush is
 * recorded, every write that had ended before it was asked for stands before it in the log, and a replay up to that
 * record has all that the flush promised. Two writes of the same bytes wait for each other, so that the log has them in
 * the order in which the disk has.
 *
 * Records are appended one after the other. The super's number of records is written when all of those stand. A record
 * that could not be written fails its request, and the next one takes its place. */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/filters/write_log.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/sync.h"
#include "blockcore/runtime/tracking.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <string.h>

struct log_writes {
    struct child *file;
    struct child *log;
    uint32_t sector; /* bytes */
    uint64_t interval;
    struct tracker tracker;
    struct co_mutex appending;
    uint64_t next_sector GUARDED_BY(appending);
    uint64_t records GUARDED_BY(appending);
};

/* Recording ---------------------------------------------------------------------------------------------------- */

static int write_super(struct log_writes *log) CO_FN;

static int write_super(struct log_writes *log)
{
    uint8_t *sector = buffer_get(log->sector);
    if (!sector)
        return -ENOMEM;
    memset(sector, 0, log->sector);
    write_log_format_super(&(struct write_log_super){ .records = log->records, .sector_bytes = log->sector }, sector);
    int ret = child_pwrite(log->log, 0, sector, log->sector, 0);
    buffer_put(sector, log->sector);
    return ret;
}

/* The record's sector, its data, and what is missing to whole sectors. @zeroes: as much data, all zero. */
static int write_record(struct log_writes *log, const struct write_log_record *record, const struct iov *data,
                        uint64_t zeroes) CO_FN;

static int write_record(struct log_writes *log, const struct write_log_record *record, const struct iov *data,
                        uint64_t zeroes)
{
    size_t pieces = data ? iov_pieces(data) : 0;
    uint8_t *sector = buffer_get(2ul * log->sector);
    struct iovec *vec = try_calloc(pieces + 2, sizeof(struct iovec));
    int ret = -ENOMEM;
    if (sector && vec) {
        size_t bytes = 0;
        memset(sector, 0, 2ul * log->sector);
        write_log_format_record(record, sector);
        vec[0] = (struct iovec){ .iov_base = sector, .iov_len = log->sector };
        if (data)
            iov_export(data, vec + 1, pieces, &bytes);
        size_t rest = (size_t)(align_up(bytes, log->sector) - bytes);
        vec[pieces + 1] = (struct iovec){ .iov_base = sector + log->sector, .iov_len = rest };
        struct iov all = iov_of_vec(vec, pieces + 2);
        uint64_t offset = log->next_sector * log->sector;
        ret = child_pwritev(log->log, range_make(offset, all.bytes), &all, 0);
        if (ret == 0 && zeroes > 0)
            ret = child_pwrite_zeroes(log->log, range_make(offset + all.bytes, align_up(zeroes, log->sector)), 0);
    }
    free(vec);
    buffer_put(sector, 2ul * log->sector);
    return ret;
}

static int append(struct log_writes *log, struct range range, uint64_t flags, const struct iov *data, uint64_t zeroes)
    CO_FN;

static int append(struct log_writes *log, struct range range, uint64_t flags, const struct iov *data, uint64_t zeroes)
{
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&log->appending);
    struct write_log_record record = {
        .sector = range.offset / log->sector,
        .sectors = div_round_up(range.bytes, log->sector),
        .flags = flags,
    };
    int ret = write_record(log, &record, data, zeroes);
    if (ret < 0)
        return ret;
    log->next_sector += write_log_record_sectors(&record);
    log->records++;
    if (flags & WRITE_LOG_FLUSH || log->records % log->interval == 0)
        ret = write_super(log);
    return ret == 0 && flags & WRITE_LOG_FLUSH ? child_flush(log->log) : ret;
}

/* Requests ----------------------------------------------------------------------------------------------------- */

static uint64_t flags_of(unsigned flags)
{
    return flags & REQ_FUA ? WRITE_LOG_FUA : 0;
}

static int log_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct log_writes *log = node_state(node);
    struct tracked tracked;
    tracked_begin(&log->tracker, &tracked, range, true);
    int ret = child_pwritev(log->file, range, iov, flags);
    if (ret == 0)
        ret = append(log, range, flags_of(flags), iov, 0);
    tracked_end(&log->tracker, &tracked);
    return ret;
}

static int log_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    struct log_writes *log = node_state(node);
    struct tracked tracked;
    tracked_begin(&log->tracker, &tracked, range, true);
    int ret = child_pwrite_zeroes(log->file, range, flags);
    if (ret == 0)
        ret = append(log, range, flags_of(flags), NULL, range.bytes);
    tracked_end(&log->tracker, &tracked);
    return ret;
}

static int log_pdiscard(struct node *node, struct range range)
{
    struct log_writes *log = node_state(node);
    struct tracked tracked;
    tracked_begin(&log->tracker, &tracked, range, true);
    int ret = child_pdiscard(log->file, range);
    if (ret == 0)
        ret = append(log, range, WRITE_LOG_DISCARD, NULL, 0);
    tracked_end(&log->tracker, &tracked);
    return ret;
}

static int log_flush(struct node *node)
{
    struct log_writes *log = node_state(node);
    int ret = child_flush(log->file);
    return ret == 0 ? append(log, range_make(0, 0), WRITE_LOG_FLUSH, NULL, 0) : ret;
}

/* Opening ------------------------------------------------------------------------------------------------------ */

/* Where the log ends. */
static struct error *walk(struct log_writes *log, uint64_t records) CO_FN;

static struct error *walk(struct log_writes *log, uint64_t records)
{
    uint64_t end = child_length(log->log) / log->sector;
    log->next_sector = 1;
    for (log->records = 0; log->records < records; log->records++) {
        uint8_t bytes[WRITE_LOG_RECORD_BYTES];
        struct write_log_record record = { 0 };
        int ret = log->next_sector < end ? child_pread(log->log, log->next_sector * log->sector, bytes, sizeof(bytes))
                                         : -ENODATA;
        struct error *err = ret < 0 ? error_errno(-ret, "cannot read it") : write_log_parse_record(bytes, &record);
        uint64_t sectors = write_log_record_sectors(&record);
        if (!err && sectors > end - log->next_sector)
            err = error_new("it ends behind the end of the log");
        if (err)
            return error_wrap(err, "record %llu of %llu", (unsigned long long)log->records,
                              (unsigned long long)records);
        log->next_sector += sectors;
    }
    return NULL;
}

static struct error *continue_log(struct log_writes *log) CO_FN;

static struct error *continue_log(struct log_writes *log)
{
    uint8_t bytes[WRITE_LOG_SUPER_BYTES];
    struct write_log_super super;
    if (child_length(log->log) == 0)
        return NULL;
    int ret = child_pread(log->log, 0, bytes, sizeof(bytes));
    if (ret < 0)
        return error_errno(-ret, "cannot read the log");
    struct error *err = write_log_parse_super(bytes, &super);
    if (err)
        return err;
    log->sector = super.sector_bytes;
    return walk(log, super.records);
}

/* What an older log says of its records must not be believed of this one. */
static struct error *begin_log(struct log_writes *log) CO_FN;

static struct error *begin_log(struct log_writes *log)
{
    int ret = write_super(log);
    return ret < 0 ? error_errno(-ret, "cannot begin the log") : NULL;
}

static struct error *prepare_log(struct node *node, const struct blockdev_options_blklogwrites *own) CO_FN;

static struct error *prepare_log(struct node *node, const struct blockdev_options_blklogwrites *own)
{
    struct log_writes *log = node_state(node);
    if (own->log_append && own->has_log_sector_size)
        return error_new("log-append and log-sector-size are mutually exclusive");
    log->sector = own->has_log_sector_size ? own->log_sector_size : WRITE_LOG_SECTOR_MIN;
    if (!write_log_sector_is_valid(log->sector))
        return error_new("log-sector-size: %u is not a power of two between %d and %u", log->sector,
                         WRITE_LOG_SECTOR_MIN, WRITE_LOG_SECTOR_MAX);
    log->interval = own->log_super_update_interval;
    log->next_sector = 1;
    struct error *err = own->log_append ? continue_log(log) : NULL;
    if (!err && log->records == 0 && !node_is_read_only(node))
        err = begin_log(log);
    return error_wrap(err, "log: node '%s'", node_name(child_node(log->log)));
}

static struct error *log_open(struct node *node, const struct blockdev_options *options,
                              const struct open_context *context)
{
    const struct blockdev_options_blklogwrites *own = &options->u.blklogwrites;
    struct log_writes *log = node_state(node);
    tracker_init(&log->tracker);
    co_mutex_init(&log->appending);
    struct error *err = child_open(node, "file", CHILD_FILTERED, own->file, context, &log->file);
    if (!err)
        err = child_open(node, "log", CHILD_METADATA, own->log, context, &log->log);
    if (!err)
        err = prepare_log(node, own);
    if (err)
        return err;
    node_limits_mutable(node)->request_alignment = log->sector;
    node_set_filename(node, node_filename(child_node(log->file)));
    return NULL;
}

static struct error *log_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                        struct reopen *reopen)
{
    const struct blockdev_options_blklogwrites *own = &options->u.blklogwrites;
    (void)node;
    struct error *err = reopen_child(reopen, "file", own->file);
    return err ? err : reopen_same_child(reopen, "log", own->log);
}

/* A node that was opened read-only has begun no log. */
static struct error *log_reopen_enter(struct node *node, struct reopen *reopen)
{
    struct log_writes *log = node_state(node);
    return log->records == 0 && !reopen_read_only(reopen) ? begin_log(log) : NULL;
}

static void log_close(struct node *node)
{
    struct log_writes *log = node_state(node);
    co_mutex_fini(&log->appending);
}

const struct driver blklogwrites_driver = {
    .name = "blklogwrites",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct log_writes),
    .write_flags = REQ_FUA,
    .flushes_children = true,
    .open = log_open,
    .reopen_prepare = log_reopen_prepare,
    .reopen_enter = log_reopen_enter,
    .close = log_close,
    .pwritev = log_pwritev,
    .pwrite_zeroes = log_pwrite_zeroes,
    .pdiscard = log_pdiscard,
    .flush = log_flush,
};
