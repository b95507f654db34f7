#include "daemon/log.h"

#include "blockcore/base/cleanup.h"
#include "daemon/log_format.h"
#include "daemon/log_sink.h"
#include "rpc/hide.h"
#include "schema/codec/text.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000u

static _Atomic int least_urgent = LOG_LEVEL_WARNING;

/* GUARDED_BY(mutex), which nobody holds for longer than a system call that does not wait. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct {
    enum log_target target;
    bool fields;
    const char *journal;

    uint64_t since_ns; /* when `tokens` was right */
    uint64_t tokens;   /* lines that may come now */

    uint64_t left_out; /* all since the start, and those that were told */
    uint64_t left_out_told;
    uint64_t lost;
    uint64_t lost_told;
} sink = { .target = LOG_TARGET_AUTO, .journal = JOURNAL_SOCKET, .tokens = LOG_LINES_BURST };

static _Atomic(const char *) journal_in_use; /* sink.journal, once lines go there */

static const struct log_about about_nothing;

void log_set_level(enum log_level level)
{
    atomic_store(&least_urgent, (int)level);
}

bool log_shows(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&least_urgent, memory_order_relaxed);
}

int log_level_parse(const char *name)
{
    for (int level = 0; level < LOG_LEVEL__MAX; level++) {
        if (strcmp(name, log_level_name((enum log_level)level)) == 0)
            return level;
    }
    return -1;
}

/* Under the mutex. */
static void settle_target(void)
{
    if (sink.target == LOG_TARGET_AUTO)
        sink.target = stderr_is_journal() ? LOG_TARGET_JOURNAL : LOG_TARGET_STDERR;
    if (sink.target == LOG_TARGET_JOURNAL)
        atomic_store(&journal_in_use, sink.journal);
}

void log_apply(const struct log_options *options)
{
    if (options->has_level)
        log_set_level(options->level);
    pthread_mutex_lock(&mutex);
    if (options->has_target)
        sink.target = options->target;
    if (options->has_fields)
        sink.fields = options->fields;
    if (options->journal_socket)
        sink.journal = options->journal_socket;
    if (sink.target == LOG_TARGET_JOURNAL)
        settle_target();
    pthread_mutex_unlock(&mutex);
}

const char *log_journal_socket(void)
{
    return atomic_load(&journal_in_use);
}

void log_describe(struct log_info *out)
{
    pthread_mutex_lock(&mutex);
    *out = (struct log_info){
        .level = (enum log_level)atomic_load(&least_urgent),
        .target = sink.target,
        .left_out = sink.left_out,
        .lost = sink.lost,
    };
    pthread_mutex_unlock(&mutex);
}

/* Under the mutex ----------------------------------------------------------------------------------------------- */

static bool is_too_many(enum log_level level)
{
    struct timespec now;
    if (level == LOG_LEVEL_ERROR || level == LOG_LEVEL_DEBUG)
        return false;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
    uint64_t more = (now_ns - sink.since_ns) / (NS_PER_S / LOG_LINES_PER_SECOND);
    if (more > 0) {
        sink.since_ns = now_ns;
        sink.tokens = sink.tokens + more < LOG_LINES_BURST ? sink.tokens + more : LOG_LINES_BURST;
    }
    if (sink.tokens == 0)
        return true;
    sink.tokens--;
    return false;
}

/* False when it is not taken now. */
static bool write_record(const struct log_record *record)
{
    CLEANUP(text_fini) struct text text = { 0 };
    settle_target();
    if (sink.target == LOG_TARGET_JOURNAL) {
        log_format_journal(&text, record);
        return journal_send(sink.journal, text.data, text.length);
    }
    if (sink.target == LOG_TARGET_JSON)
        log_format_json(&text, record);
    else
        log_format_plain(&text, record, sink.fields);
    return stderr_write(text.data, text.length);
}

static void tell_number(const struct timespec *time, uint64_t number, uint64_t *told, const char *what)
{
    char message[96];
    const struct log_record record = {
        .level = LOG_LEVEL_WARNING,
        .about = &about_nothing,
        .message = message,
        .time = *time,
    };
    snprintf(message, sizeof(message), "%llu %s", (unsigned long long)(number - *told), what);
    if (number > *told && write_record(&record))
        *told = number;
}

static void admit(const struct log_record *record)
{
    if (is_too_many(record->level)) {
        sink.left_out++;
        return;
    }
    tell_number(&record->time, sink.lost, &sink.lost_told, "lines of the log were lost: nobody took them");
    tell_number(&record->time, sink.left_out, &sink.left_out_told,
                "lines of the log were left out: they came too fast");
    sink.lost += !write_record(record);
}

/* Any thread ---------------------------------------------------------------------------------------------------- */

/* Strangers' names and words shall not look like a line of ours. */
static void make_one_line(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = ' ';
    }
}

static void hide_in_line(char **line)
{
    struct text text = { 0 };
    text_append_string(&text, *line);
    hide_secrets(&text, 0, HIDE_IN_TEXT);
    text_append(&text, "", 1);
    free(*line);
    *line = text.data;
}

static void PRINTF_LIKE(3, 0)
    log_line(enum log_level level, const struct log_about *about, const char *format, va_list args)
{
    struct log_record record = { .level = level, .about = about };
    if (!log_shows(level))
        return;
    CLEANUP(free) char *text = NULL;
    if (vasprintf(&text, format, args) < 0)
        return;
    hide_in_line(&text);
    if (strnlen(text, LOG_LINE_BYTES_MAX) == LOG_LINE_BYTES_MAX)
        text[LOG_LINE_BYTES_MAX] = 0;
    make_one_line(text);
    record.message = text;
    clock_gettime(CLOCK_REALTIME, &record.time);
    pthread_mutex_lock(&mutex);
    admit(&record);
    pthread_mutex_unlock(&mutex);
}

void log_about(enum log_level level, const struct log_about *about, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_line(level, about, format, args);
    va_end(args);
}

#define DEFINE_LOG(name, level)                                                                                        \
    void name(const char *format, ...)                                                                                 \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, format);                                                                                        \
        log_line(level, &about_nothing, format, args);                                                                 \
        va_end(args);                                                                                                  \
    }

DEFINE_LOG(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING)
DEFINE_LOG(log_info, LOG_LEVEL_INFO)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG)

bool log_write_stderr(const char *text, size_t length)
{
    pthread_mutex_lock(&mutex);
    bool taken = stderr_write(text, length);
    pthread_mutex_unlock(&mutex);
    return taken;
}
