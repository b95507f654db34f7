#include "daemon/trace.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/ticks.h"
#include "blockcore/base/trace.h"
#include "blockcore/runtime/pool.h"
#include "daemon/log.h"
#include "daemon/trace_writer.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORDS_MANY 100     /* to be shown: encoding more of them takes so long that others would notice */
#define EVENTS_LINE_MAX 1024 /* of a file of names */

static struct {
    const char *path; /* of the file; NULL: standard error */
    int fd;
} output = { .fd = STDERR_FILENO };

static enum trace_point point_at(int index)
{
    return (enum trace_point)index;
}

void trace_print_names(void)
{
    for (int i = 0; i < TRACE_POINT_COUNT; i++)
        puts(trace_point_name(point_at(i)));
}

static void show_matching(const char *pattern, bool shown)
{
    for (int i = 0; i < TRACE_POINT_COUNT; i++) {
        if (trace_matches(pattern, trace_point_name(point_at(i))))
            trace_show(point_at(i), shown);
    }
}

/* The command line ---------------------------------------------------------------------------------------------- */

static void enable(const char *name)
{
    bool shown = *name != '-';
    if (!shown)
        name++;
    if (!trace_is_pattern(name) && trace_point_find(name) < 0)
        log_warning("trace event '%s' does not exist", name);
    show_matching(name, shown);
}

static struct error *enable_listed(const char *path)
{
    FILE *file = fopen(path, "re");
    char line[EVENTS_LINE_MAX];
    if (!file)
        return error_errno(errno, "cannot open '%s'", path);
    while (fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = 0;
        if (*line && *line != '#')
            enable(line);
    }
    struct error *err = ferror(file) ? error_errno(errno, "cannot read '%s'", path) : NULL;
    fclose(file);
    return err;
}

struct error *trace_apply(const struct trace_options *options)
{
    if (options->enable)
        enable(options->enable);
    if (options->file)
        output.path = options->file;
    return options->events ? enable_listed(options->events) : NULL;
}

/* Life ---------------------------------------------------------------------------------------------------------- */

static struct error *write_if_shown(void)
{
    return trace_is_any_shown() ? trace_writer_start(output.fd) : NULL;
}

struct error *trace_begin(void)
{
    ticks_begin();
    if (output.path) {
        output.fd = open(output.path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0600);
        if (output.fd < 0)
            return error_errno(errno, "cannot write trace points to '%s'", output.path);
    }
    return write_if_shown();
}

const char *trace_path(void)
{
    return output.path;
}

void trace_end(void)
{
    trace_writer_stop();
    if (output.path)
        close(output.fd);
}

/* Commands ------------------------------------------------------------------------------------------------------ */

static struct error *check_name(const char *name)
{
    if (!trace_is_pattern(name) && trace_point_find(name) < 0)
        return error_new("unknown event \"%s\"", name);
    return NULL;
}

struct error *handle_trace_event_get_state(struct command_context *context,
                                           const struct trace_event_get_state_arguments *arguments,
                                           struct trace_event_info_list *result)
{
    struct error *err = check_name(arguments->name);
    if (err)
        return err;
    result->items = arena_array(command_arena(context), TRACE_POINT_COUNT, sizeof(result->items[0]));
    for (int i = 0; i < TRACE_POINT_COUNT; i++) {
        if (!trace_matches(arguments->name, trace_point_name(point_at(i))))
            continue;
        result->items[result->count++] = (struct trace_event_info){
            .name = trace_point_name(point_at(i)),
            .state = trace_is_shown(point_at(i)) ? TRACE_EVENT_STATE_ENABLED : TRACE_EVENT_STATE_DISABLED,
        };
    }
    return NULL;
}

struct error *handle_trace_event_set_state(struct command_context *context,
                                           const struct trace_event_set_state_arguments *arguments)
{
    (void)context;
    struct error *err = check_name(arguments->name);
    if (err)
        return err;
    show_matching(arguments->name, arguments->enable);
    return write_if_shown();
}

static void describe_record(struct arena *arena, const struct trace_record *record, struct trace_record_info *out)
{
    char line[TRACE_LINE_BYTES];
    struct timespec time = trace_time(record);
    const char *name = trace_point_name(point_at(record->point));
    trace_format(record, line);
    *out = (struct trace_record_info){
        .seconds = time.tv_sec,
        .microseconds = time.tv_nsec / 1000,
        .thread = record->thread,
        .name = name,
        .text = arena_strdup(arena, line + strlen(name) + 1),
    };
}

struct search {
    struct arena *arena;
    const struct query_trace_records_arguments *arguments;
    struct trace_record_info_list *result;
};

/* Those that match, of as many as there are at most. */
static int search(void *arg)
{
    const struct search *search = arg;
    const char *name = search->arguments->name;
    struct trace_record_info_list *result = search->result;
    bool all = strcmp(name, "*") == 0;
    size_t max = all ? search->arguments->last : (size_t)TRACE_RINGS_MAX * TRACE_RECORDS;
    CLEANUP(free) struct trace_record *records = xcalloc(max, sizeof(*records));
    size_t count = trace_last(records, max);
    size_t first = count;
    for (size_t wanted = search->arguments->last; first > 0 && wanted > 0; first--)
        wanted -= trace_matches(name, trace_point_name(point_at(records[first - 1].point)));
    result->items = arena_array(search->arena, count - first, sizeof(result->items[0]));
    for (size_t i = first; i < count; i++) {
        if (trace_matches(name, trace_point_name(point_at(records[i].point))))
            describe_record(search->arena, &records[i], &result->items[result->count++]);
    }
    return 0;
}

/* On the pool: full rings of all threads take some hundred milliseconds. */
struct error *handle_query_trace_records(struct command_context *context,
                                         const struct query_trace_records_arguments *arguments,
                                         struct trace_record_info_list *result)
{
    struct search job = { .arena = command_arena(context), .arguments = arguments, .result = result };
    if (co_blocking(NULL, search, &job) < 0)
        return error_errno(ENOMEM, "looking for records");
    if (result->count > RECORDS_MANY)
        command_expect_large_reply(context);
    return NULL;
}
