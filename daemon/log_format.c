#include "daemon/log_format.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;    /* in lines and in JSON */
    const char *journal; /* in the journal */
    size_t offset;
} fields[] = {
    { "node", "CAIRN_NODE", offsetof(struct log_about, node) },
    { "job", "CAIRN_JOB", offsetof(struct log_about, job) },
    { "export", "CAIRN_EXPORT", offsetof(struct log_about, export_) },
    { "client", "CAIRN_CLIENT", offsetof(struct log_about, client) },
    { "command", "CAIRN_COMMAND", offsetof(struct log_about, command) },
    { "command-id", "CAIRN_COMMAND_ID", offsetof(struct log_about, command_id) },
    { "message-id", "MESSAGE_ID", offsetof(struct log_about, message_id) },
};

/* Its begin, the caller's: clients give ids of any length to their commands. NULL: the record is not about one. */
static char *field_value(const struct log_record *record, size_t field)
{
    const char *value = *(const char *const *)((const char *)record->about + fields[field].offset);
    return value ? xstrndup(value, LOG_FIELD_BYTES_MAX) : NULL;
}

/* Quoted where it has to be. */
static void append_plain_value(struct text *out, const char *value)
{
    bool simple = *value != '\0';
    for (const char *byte = value; *byte; byte++)
        simple = simple && (unsigned char)*byte > ' ' && *byte != 0x7f && !strchr("\"=\\", *byte);
    if (simple)
        text_append_string(out, value);
    else
        text_append_json(out, value);
}

void log_format_plain(struct text *out, const struct log_record *record, bool with_fields)
{
    text_append_string(out, "cairnd: ");
    if (record->level != LOG_LEVEL_ERROR) {
        text_append_string(out, log_level_name(record->level));
        text_append_string(out, ": ");
    }
    text_append_string(out, record->message);
    for (size_t i = 0; with_fields && i < ARRAY_SIZE(fields); i++) {
        CLEANUP(free) char *value = field_value(record, i);
        if (!value)
            continue;
        text_append_string(out, " ");
        text_append_string(out, fields[i].name);
        text_append_string(out, "=");
        append_plain_value(out, value);
    }
    text_append_string(out, "\n");
}

static void append_member(struct text *out, const char *name, const char *value)
{
    text_append_string(out, ", ");
    text_append_json(out, name);
    text_append_string(out, ": ");
    text_append_json(out, value);
}

void log_format_json(struct text *out, const struct log_record *record)
{
    struct tm utc;
    char date[32];
    char time[80];
    gmtime_r(&record->time.tv_sec, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(time, sizeof(time), "{\"time\": \"%s.%06ldZ\"", date, record->time.tv_nsec / 1000);
    text_append_string(out, time);
    append_member(out, "level", log_level_name(record->level));
    append_member(out, "message", record->message);
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        CLEANUP(free) char *value = field_value(record, i);
        if (value)
            append_member(out, fields[i].name, value);
    }
    text_append_string(out, "}\n");
}

/* A value with a line feed has its length before it. */
static void append_field(struct text *out, const char *name, const char *value)
{
    size_t length = strlen(value);
    text_append_string(out, name);
    if (memchr(value, '\n', length)) {
        uint8_t bytes[sizeof(uint64_t)];
        store_le64(bytes, length);
        text_append_string(out, "\n");
        text_append(out, (const char *)bytes, sizeof(bytes));
    } else {
        text_append_string(out, "=");
    }
    text_append(out, value, length);
    text_append_string(out, "\n");
}

void log_format_journal(struct text *out, const struct log_record *record)
{
    static const char *const priorities[] = {
        [LOG_LEVEL_ERROR] = "3",
        [LOG_LEVEL_WARNING] = "4",
        [LOG_LEVEL_INFO] = "6",
        [LOG_LEVEL_DEBUG] = "7",
    };
    append_field(out, "PRIORITY", priorities[record->level]);
    append_field(out, "SYSLOG_IDENTIFIER", "cairnd");
    append_field(out, "SYSLOG_FACILITY", "3");
    append_field(out, "MESSAGE", record->message);
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        CLEANUP(free) char *value = field_value(record, i);
        if (value)
            append_field(out, fields[i].journal, value);
    }
}
