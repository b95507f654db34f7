#include "daemon/metrics_text.h"

#include "blockcore/base/annotations.h"
#include "blockcore/base/memory.h"
#include "schema/cairn_types.h"
#include "schema/codec/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_SECOND 1e9
#define NUMBER_MAX 40
/* Buckets of histograms: powers of two, in ns; each is a bound of query-statistics as well. */
#define BUCKET_FIRST_BIT 10
#define BUCKET_LAST_BIT 34

/* Samples --------------------------------------------------------------------------------------------------------- */

struct family {
    const char *name;
    const char *type;
    const char *unit; /* "": none; else the name ends with it */
    const char *help;
};

static void append_all(struct text *text, const char *const *strings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        text_append_string(text, strings[i]);
}

#define APPEND(text, ...)                                                                                              \
    append_all(text, (const char *const[]){ __VA_ARGS__ },                                                             \
               sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))

static void begin_family(struct text *text, const struct family *family)
{
    APPEND(text, "# TYPE ", family->name, " ", family->type, "\n");
    if (*family->unit)
        APPEND(text, "# UNIT ", family->name, " ", family->unit, "\n");
    APPEND(text, "# HELP ", family->name, " ", family->help, "\n");
}

/* @labels: without braces, may be "". */
static void begin_sample(struct text *text, const char *name, const char *suffix, const char *labels)
{
    APPEND(text, name, suffix);
    if (*labels)
        APPEND(text, "{", labels, "}");
    text_append_string(text, " ");
}

static void sample(struct text *text, const char *name, const char *suffix, const char *labels, uint64_t value)
{
    begin_sample(text, name, suffix, labels);
    text_append_unsigned(text, value);
    text_append_string(text, "\n");
}

static void sample_seconds(struct text *text, const char *name, const char *suffix, const char *labels, uint64_t ns)
{
    char number[NUMBER_MAX];
    begin_sample(text, name, suffix, labels);
    snprintf(number, sizeof(number), "%.15g\n", (double)ns / NS_PER_SECOND);
    text_append_string(text, number);
}

/* A family of one sample without labels. */
static void single(struct text *text, const struct family *family, const char *suffix, uint64_t value)
{
    begin_family(text, family);
    sample(text, family->name, suffix, "", value);
}

static void append_escaped(struct text *text, const char *value)
{
    for (; *value; value++) {
        if (*value == '\n')
            text_append_string(text, "\\n");
        else if (*value == '\\' || *value == '"')
            APPEND(text, "\\", (const char[]){ *value, '\0' });
        else
            text_append(text, value, 1);
    }
}

/* `name="value"` pairs, with commas between; NULL ends. The caller frees it. */
static char *make_labels(const char *const *pairs)
{
    struct text text = { 0 };
    for (size_t i = 0; pairs[i]; i += 2) {
        APPEND(&text, i ? "," : "", pairs[i], "=\"");
        append_escaped(&text, pairs[i + 1]);
        text_append_string(&text, "\"");
    }
    text_append(&text, "", 1);
    return text.data;
}

#define LABELS(...) make_labels((const char *const[]){ __VA_ARGS__, NULL })

static char *with_label(const char *labels, const char *name, const char *value)
{
    return xasprintf("%s%s%s=\"%s\"", labels, *labels ? "," : "", name, value);
}

/* Histograms ------------------------------------------------------------------------------------------------------ */

struct bounds {
    const uint64_t *begins;
    size_t count;
};

struct timed {
    const uint64_t *bins;
    size_t count;
    uint64_t ns; /* of all together */
};

static void bucket(struct text *text, const char *name, const char *labels, const char *end, uint64_t count)
{
    CLEANUP(free) char *all = with_label(labels, "le", end);
    sample(text, name, "_bucket", all, count);
}

static void histogram(struct text *text, const char *name, const char *labels, struct bounds bounds, struct timed timed)
{
    uint64_t count = 0;
    size_t bin = 0;
    for (unsigned bit = BUCKET_FIRST_BIT; bit <= BUCKET_LAST_BIT; bit++) {
        char end[NUMBER_MAX];
        uint64_t end_ns = UINT64_C(1) << bit;
        for (; bin < timed.count && bin + 1 < bounds.count && bounds.begins[bin + 1] <= end_ns; bin++)
            count += timed.bins[bin];
        snprintf(end, sizeof(end), "%.10g", (double)end_ns / NS_PER_SECOND);
        bucket(text, name, labels, end, count);
    }
    for (; bin < timed.count; bin++)
        count += timed.bins[bin];
    bucket(text, name, labels, "+Inf", count);
    sample(text, name, "_count", labels, count);
    sample_seconds(text, name, "_sum", labels, timed.ns);
}

/* Requests -------------------------------------------------------------------------------------------------------- */

/* A node or an export. */
struct subject {
    char *labels;
    const struct io_statistics *io;
    uint64_t in_flight;
};

struct subjects {
    const char *kind; /* "node" */
    struct subject *items;
    size_t count;
};

static const struct {
    const char *name;
    size_t offset; /* in struct io_statistics */
    bool has_bytes;
} operations[] = {
    { "read", offsetof(struct io_statistics, read), true },
    { "write", offsetof(struct io_statistics, write), true },
    { "flush", offsetof(struct io_statistics, flush), false },
    { "discard", offsetof(struct io_statistics, discard), true },
};

static const struct io_counters *counters_of(const struct io_statistics *io, size_t operation)
{
    const struct io_counters *counters;
    memcpy(&counters, (const char *)io + operations[operation].offset, sizeof(counters));
    return counters;
}

static void append_operations(struct text *text, const struct subjects *subjects, size_t operation)
{
    CLEANUP(free) char *name = xasprintf("cairn_%s_%s_operations", subjects->kind, operations[operation].name);
    begin_family(text, &(struct family){ name, "counter", "", "Requests of this kind that succeeded." });
    for (size_t i = 0; i < subjects->count; i++) {
        const struct io_counters *counters = counters_of(subjects->items[i].io, operation);
        if (counters)
            sample(text, name, "_total", subjects->items[i].labels, counters->operations);
    }
}

static void append_bytes(struct text *text, const struct subjects *subjects, size_t operation)
{
    CLEANUP(free) char *name = xasprintf("cairn_%s_%s_bytes", subjects->kind, operations[operation].name);
    if (!operations[operation].has_bytes)
        return;
    begin_family(text, &(struct family){ name, "counter", "bytes", "Bytes of requests of this kind that succeeded." });
    for (size_t i = 0; i < subjects->count; i++) {
        const struct io_counters *counters = counters_of(subjects->items[i].io, operation);
        if (counters)
            sample(text, name, "_total", subjects->items[i].labels, counters->bytes);
    }
}

static void append_bad(struct text *text, const struct subjects *subjects, bool refused)
{
    CLEANUP(free) char *name = xasprintf("cairn_%s_%s_operations", subjects->kind, refused ? "refused" : "failed");
    begin_family(text, &(struct family){ name, "counter", "",
                                         refused ? "Requests that were not even begun." : "Requests that failed." });
    for (size_t i = 0; i < subjects->count; i++) {
        for (size_t j = 0; j < ARRAY_SIZE(operations); j++) {
            const struct io_counters *counters = counters_of(subjects->items[i].io, j);
            if (!counters)
                continue;
            CLEANUP(free) char *labels = with_label(subjects->items[i].labels, "operation", operations[j].name);
            sample(text, name, "_total", labels, refused ? counters->refused : counters->failed);
        }
    }
}

static void append_latency(struct text *text, const struct subjects *subjects, struct bounds bounds)
{
    CLEANUP(free) char *name = xasprintf("cairn_%s_latency_seconds", subjects->kind);
    begin_family(text, &(struct family){ name, "histogram", "seconds", "Time of requests that succeeded." });
    for (size_t i = 0; i < subjects->count; i++) {
        for (size_t j = 0; j < ARRAY_SIZE(operations); j++) {
            const struct io_counters *counters = counters_of(subjects->items[i].io, j);
            if (!counters || counters->latency_count == 0)
                continue;
            CLEANUP(free) char *labels = with_label(subjects->items[i].labels, "operation", operations[j].name);
            histogram(text, name, labels, bounds,
                      (struct timed){ counters->latency, counters->latency_count, counters->total_time_ns });
        }
    }
}

static void append_subjects(struct text *text, const struct subjects *subjects, struct bounds bounds)
{
    CLEANUP(free) char *in_flight = xasprintf("cairn_%s_in_flight", subjects->kind);
    begin_family(text, &(struct family){ in_flight, "gauge", "", "Requests inside it." });
    for (size_t i = 0; i < subjects->count; i++)
        sample(text, in_flight, "", subjects->items[i].labels, subjects->items[i].in_flight);
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        append_operations(text, subjects, i);
        append_bytes(text, subjects, i);
    }
    append_bad(text, subjects, false);
    append_bad(text, subjects, true);
    append_latency(text, subjects, bounds);
}

static void free_subjects(struct subjects *subjects)
{
    for (size_t i = 0; i < subjects->count; i++)
        free(subjects->items[i].labels);
    free(subjects->items);
}

static void append_nodes(struct text *text, const struct daemon_statistics *statistics, struct bounds bounds)
{
    struct subjects subjects = { "node", xcalloc(statistics->nodes_count + 1, sizeof(struct subject)),
                                 statistics->nodes_count };
    for (size_t i = 0; i < subjects.count; i++) {
        const struct node_statistics *node = &statistics->nodes[i];
        subjects.items[i] = (struct subject){
            .labels = LABELS("node", node->node_name, "driver", node->driver),
            .io = node->io,
            .in_flight = node->in_flight,
        };
    }
    append_subjects(text, &subjects, bounds);
    free_subjects(&subjects);
}

static void append_export_gauges(struct text *text, const struct daemon_statistics *statistics,
                                 const struct subjects *subjects)
{
    begin_family(text, &(struct family){ "cairn_export_held", "gauge", "", "Requests held back for a change." });
    for (size_t i = 0; i < subjects->count; i++)
        sample(text, "cairn_export_held", "", subjects->items[i].labels, statistics->exports[i].held);
    begin_family(text, &(struct family){ "cairn_export_clients", "gauge", "", "Clients that are connected." });
    for (size_t i = 0; i < subjects->count; i++)
        sample(text, "cairn_export_clients", "", subjects->items[i].labels, statistics->exports[i].clients_count);
}

static void append_exports(struct text *text, const struct daemon_statistics *statistics, struct bounds bounds)
{
    struct subjects subjects = { "export", xcalloc(statistics->exports_count + 1, sizeof(struct subject)),
                                 statistics->exports_count };
    for (size_t i = 0; i < subjects.count; i++) {
        const struct export_statistics *export = &statistics->exports[i];
        subjects.items[i] = (struct subject){
            .labels = LABELS("export", export->id, "node", export->node_name),
            .io = export->io,
            .in_flight = export->in_flight,
        };
    }
    append_subjects(text, &subjects, bounds);
    append_export_gauges(text, statistics, &subjects);
    free_subjects(&subjects);
}

/* Connections ----------------------------------------------------------------------------------------------------- */

static const struct {
    struct family family;
    const char *suffix;
    size_t offset; /* in struct export_client_statistics, a uint64_t */
} connection_families[] = {
    { { "cairn_connection_in_flight", "gauge", "", "Requests whose replies have not been sent." },
      "",
      offsetof(struct export_client_statistics, in_flight) },
    { { "cairn_connection_requests", "counter", "", "Requests that were answered." },
      "_total",
      offsetof(struct export_client_statistics, requests) },
    { { "cairn_connection_read_bytes", "counter", "bytes", "Data that the client has read." },
      "_total",
      offsetof(struct export_client_statistics, bytes_read) },
    { { "cairn_connection_write_bytes", "counter", "bytes", "Data that the client has written." },
      "_total",
      offsetof(struct export_client_statistics, bytes_written) },
};

static void append_connection(struct text *text, const struct export_statistics *export,
                              const struct export_client_statistics *client, size_t family)
{
    char number[NUMBER_MAX];
    uint64_t value;
    snprintf(number, sizeof(number), "%llu", (unsigned long long)client->number);
    memcpy(&value, (const char *)client + connection_families[family].offset, sizeof(value));
    CLEANUP(free) char *labels = LABELS("export", export->id, "connection", number, "address", client->address);
    sample(text, connection_families[family].family.name, connection_families[family].suffix, labels, value);
}

static void append_connections(struct text *text, const struct daemon_statistics *statistics)
{
    for (size_t family = 0; family < ARRAY_SIZE(connection_families); family++) {
        begin_family(text, &connection_families[family].family);
        for (size_t i = 0; i < statistics->exports_count; i++) {
            const struct export_statistics *export = &statistics->exports[i];
            for (size_t j = 0; j < export->clients_count; j++)
                append_connection(text, export, &export->clients[j], family);
        }
    }
}

/* Jobs, commands, the process ------------------------------------------------------------------------------------- */

static char *job_labels(const struct job_info *job)
{
    return LABELS("job", job->id, "type", job_type_name(job->type));
}

static void append_progress(struct text *text, const struct daemon_statistics *statistics, bool expected)
{
    const struct family families[] = {
        { "cairn_job_work_done", "gauge", "", "Work done, in units that only compare with the work expected." },
        { "cairn_job_work_expected", "gauge", "", "Work of the whole job, as far as it is known." },
    };
    begin_family(text, &families[expected]);
    for (size_t i = 0; i < statistics->jobs_count; i++) {
        const struct job_info *job = &statistics->jobs[i];
        CLEANUP(free) char *labels = job_labels(job);
        int64_t value = expected ? job->total_progress : job->current_progress;
        sample(text, families[expected].name, "", labels, (uint64_t)value);
    }
}

static void append_job_status(struct text *text, const struct job_info *job)
{
    CLEANUP(free) char *labels = job_labels(job);
    for (int status = 0; status < JOB_STATUS__MAX; status++) {
        CLEANUP(free) char *all = with_label(labels, "cairn_job_status", job_status_name((enum job_status)status));
        sample(text, "cairn_job_status", "", all, job->status == (enum job_status)status);
    }
}

static void append_jobs(struct text *text, const struct daemon_statistics *statistics)
{
    append_progress(text, statistics, false);
    append_progress(text, statistics, true);
    begin_family(text, &(struct family){ "cairn_job_status", "stateset", "", "Where the job is." });
    for (size_t i = 0; i < statistics->jobs_count; i++)
        append_job_status(text, &statistics->jobs[i]);
}

static void append_commands(struct text *text, const struct daemon_statistics *statistics, struct bounds bounds)
{
    begin_family(text, &(struct family){ "cairn_command_failed", "counter", "", "Commands that ended with an error." });
    for (size_t i = 0; i < statistics->commands_count; i++) {
        CLEANUP(free) char *labels = LABELS("command", statistics->commands[i].command);
        sample(text, "cairn_command_failed", "_total", labels, statistics->commands[i].failed);
    }
    begin_family(text, &(struct family){ "cairn_command_latency_seconds", "histogram", "seconds",
                                         "Time of commands from their arrival to their end." });
    for (size_t i = 0; i < statistics->commands_count; i++) {
        const struct command_statistics *command = &statistics->commands[i];
        CLEANUP(free) char *labels = LABELS("command", command->command);
        histogram(text, "cairn_command_latency_seconds", labels, bounds,
                  (struct timed){ command->latency, command->latency_count, command->total_time_ns });
    }
}

static void append_loops(struct text *text, const struct process_statistics *process)
{
    begin_family(text,
                 &(struct family){ "cairn_loop_cpu_seconds", "counter", "seconds", "Processor time of a thread." });
    for (size_t i = 0; i < process->loops_count; i++) {
        CLEANUP(free) char *labels = LABELS("loop", process->loops[i].name);
        sample_seconds(text, "cairn_loop_cpu_seconds", "_total", labels, process->loops[i].cpu_time_ns);
    }
    begin_family(text, &(struct family){ "cairn_loop_coroutines", "gauge", "", "Work that was begun and not ended." });
    for (size_t i = 0; i < process->loops_count; i++) {
        CLEANUP(free) char *labels = LABELS("loop", process->loops[i].name);
        sample(text, "cairn_loop_coroutines", "", labels, process->loops[i].coroutines);
    }
}

static void append_process(struct text *text, const struct process_statistics *process, const char *version)
{
    CLEANUP(free) char *labels = LABELS("version", version);
    begin_family(text, &(struct family){ "cairn_build", "info", "", "What this is." });
    sample(text, "cairn_build", "_info", labels, 1);
    begin_family(text, &(struct family){ "cairn_uptime_seconds", "gauge", "seconds", "Time since the start." });
    sample_seconds(text, "cairn_uptime_seconds", "", "", process->uptime_ns);
    begin_family(text, &(struct family){ "cairn_cpu_seconds", "counter", "seconds", "Processor time of the process." });
    sample_seconds(text, "cairn_cpu_seconds", "_total", "", process->cpu_time_ns);
    single(text, &(struct family){ "cairn_resident_memory_bytes", "gauge", "bytes", "Memory in use." }, "",
           process->resident_bytes);
    single(text, &(struct family){ "cairn_qmp_clients", "gauge", "", "Clients of monitors." }, "",
           process->qmp_clients);
    append_loops(text, process);
}

void metrics_text_append(struct text *text, const struct daemon_statistics *statistics, const char *version)
{
    struct bounds bounds = { statistics->latency_bounds_ns, statistics->latency_bounds_ns_count };
    append_process(text, statistics->process, version);
    append_nodes(text, statistics, bounds);
    append_exports(text, statistics, bounds);
    append_connections(text, statistics);
    append_jobs(text, statistics);
    append_commands(text, statistics, bounds);
    text_append_string(text, "# EOF\n");
}
