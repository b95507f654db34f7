#include "daemon/trace_writer.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/ticks.h"
#include "daemon/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INTERVAL_MS 20
#define IDLE_MS 1000       /* the same while nothing is shown */
#define LAST_WRITE_MS 1000 /* for what is left at the end */
#define BATCH 1024         /* records that are put in order together */
#define NS_PER_S 1000000000
#define NS_PER_MS 1000000
#define MS_PER_S 1000

static struct {
    bool running;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wakeup;
    bool stopping; /* GUARDED_BY(mutex) */
    bool hurried;  /* GUARDED_BY(mutex) something is shown again */
    int fd;
    unsigned patience_ms; /* that is left for all that is left at the end; a multiple of INTERVAL_MS */
    struct trace_cursor cursor;
    struct trace_record batch[BATCH];
    char lines[PIPE_BUF];
    size_t lines_length;
} writer = { .mutex = PTHREAD_MUTEX_INITIALIZER };

struct timespec trace_time(const struct trace_record *record)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t age = ticks_to_ns(ticks_now() - record->ticks);
    uint64_t ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec - age;
    return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };
}

static bool is_stopping(void)
{
    pthread_mutex_lock(&writer.mutex);
    bool stopping = writer.stopping;
    pthread_mutex_unlock(&writer.mutex);
    return stopping;
}

/* False when it is not taken now. */
static bool write_once(const char *line, size_t length)
{
    if (writer.fd == STDERR_FILENO)
        return log_write_stderr(line, length);
    return write(writer.fd, line, length) >= 0 || (errno != EAGAIN && errno != EINTR);
}

/* A pipe that nobody reads is waited for, but not at the end. */
static void flush_lines(void)
{
    while (writer.lines_length > 0 && writer.patience_ms > 0 && !write_once(writer.lines, writer.lines_length)) {
        struct pollfd fd = { .fd = writer.fd, .events = POLLOUT };
        poll(&fd, 1, INTERVAL_MS);
        if (is_stopping())
            writer.patience_ms -= INTERVAL_MS;
    }
    writer.lines_length = 0;
}

/* Whole lines are written together, as many as a pipe takes at once. */
static void write_line(const char *line, size_t length)
{
    if (length > sizeof(writer.lines) - writer.lines_length)
        flush_lines();
    memcpy(writer.lines + writer.lines_length, line, length);
    writer.lines_length += length;
}

static void write_record(const struct trace_record *record)
{
    char text[TRACE_LINE_BYTES];
    char line[TRACE_LINE_BYTES + 64];
    struct timespec time = trace_time(record);
    trace_format(record, text);
    int length = snprintf(line, sizeof(line), "%u@%lld.%06ld:%s\n", record->thread, (long long)time.tv_sec,
                          time.tv_nsec / 1000, text);
    write_line(line, (size_t)length);
}

static int by_time(const void *a, const void *b)
{
    uint64_t first = ((const struct trace_record *)a)->ticks;
    uint64_t second = ((const struct trace_record *)b)->ticks;
    return first < second ? -1 : first > second;
}

static void write_lost(uint64_t lost)
{
    char line[64];
    int length = snprintf(line, sizeof(line), "(%llu trace records were lost)\n", (unsigned long long)lost);
    write_line(line, (size_t)length);
}

static void write_new_records(void)
{
    uint64_t lost = 0;
    size_t count;
    do {
        count = trace_read(&writer.cursor, writer.batch, BATCH, &lost);
        qsort(writer.batch, count, sizeof(writer.batch[0]), by_time);
        for (size_t i = 0; i < count; i++) {
            if (writer.batch[i].mode & TRACE_SHOWN)
                write_record(&writer.batch[i]);
        }
    } while (count == BATCH);
    if (lost > 0)
        write_lost(lost);
    flush_lines();
}

/* False when it is time to end. */
static bool wait_a_moment(void)
{
    struct timespec until;
    long ms = trace_is_any_shown() ? INTERVAL_MS : IDLE_MS;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / MS_PER_S;
    until.tv_nsec += ms % MS_PER_S * NS_PER_MS;
    until.tv_sec += until.tv_nsec / NS_PER_S;
    until.tv_nsec %= NS_PER_S;
    pthread_mutex_lock(&writer.mutex);
    while (!writer.stopping && !writer.hurried && pthread_cond_timedwait(&writer.wakeup, &writer.mutex, &until) == 0)
        ;
    writer.hurried = false;
    bool stopping = writer.stopping;
    pthread_mutex_unlock(&writer.mutex);
    return !stopping;
}

static void *run(void *arg)
{
    (void)arg;
    do
        write_new_records();
    while (wait_a_moment());
    write_new_records();
    return NULL;
}

struct error *trace_writer_start(int fd)
{
    pthread_condattr_t attributes;
    if (writer.running) {
        pthread_mutex_lock(&writer.mutex);
        writer.hurried = true;
        pthread_cond_signal(&writer.wakeup);
        pthread_mutex_unlock(&writer.mutex);
        return NULL;
    }
    writer.fd = fd;
    writer.patience_ms = LAST_WRITE_MS;
    writer.stopping = false;
    trace_cursor_to_end(&writer.cursor);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&writer.wakeup, &attributes);
    pthread_condattr_destroy(&attributes);
    int errnum = pthread_create(&writer.thread, NULL, run, NULL);
    if (errnum != 0)
        return error_errno(errnum, "cannot start the thread that writes trace points");
    writer.running = true;
    return NULL;
}

void trace_writer_stop(void)
{
    if (!writer.running)
        return;
    pthread_mutex_lock(&writer.mutex);
    writer.stopping = true;
    pthread_cond_signal(&writer.wakeup);
    pthread_mutex_unlock(&writer.mutex);
    pthread_join(writer.thread, NULL);
    pthread_cond_destroy(&writer.wakeup);
    writer.running = false;
}
