/* log_format - a record of the log as a line for people, as a line of JSON, and as an entry of the journal */
#ifndef CAIRN_DAEMON_LOG_FORMAT_H
#define CAIRN_DAEMON_LOG_FORMAT_H

#include "daemon/log.h"
#include "schema/codec/text.h"

#include <time.h>

struct log_record {
    enum log_level level;
    const struct log_about *about;
    const char *message; /* one line */
    struct timespec time;
};

/* "cairnd: warning: MESSAGE", with a line feed; @fields: " node=disk0 client=..." before it. */
void log_format_plain(struct text *out, const struct log_record *record, bool fields);

/* {"time": "2026-01-31T12:00:00.123456Z", "level": "warning", "message": "...", "node": "disk0"}, with a line feed. */
void log_format_json(struct text *out, const struct log_record *record);

/* PRIORITY=4 and so on, with CAIRN_NODE= and its like. */
void log_format_journal(struct text *out, const struct log_record *record);

#endif
