#include "clients/cli/top_view.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"

#include "clients/cli/job_table.h"
#include "clients/cli/json_get.h"
#include "clients/cli/size.h"
#include "clients/cli/terminal.h"

#include <stdlib.h>
#include <string.h>

#define NUMBERS_COLUMNS 66 /* of a row, behind its name and detail */
#define DETAIL_COLUMNS 14
#define NAME_COLUMNS_MIN 12
#define NAME_COLUMNS_MAX 40
#define NUMBER_MAX 24

/* Numbers --------------------------------------------------------------------------------------------------------- */

static const char *count_text(double value, char text[NUMBER_MAX])
{
    static const char units[] = { ' ', 'k', 'M', 'G' };
    unsigned unit = 0;
    for (; value >= 9999.5 && unit + 1 < sizeof(units); unit++)
        value /= 1000;
    snprintf(text, NUMBER_MAX, value > 0 && value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    if (unit == 0)
        text[strlen(text) - 1] = '\0';
    return text;
}

static const char *rate_text(double bytes, char text[NUMBER_MAX])
{
    char size[SIZE_TEXT_MAX];
    if (bytes < 1)
        return "-";
    snprintf(text, NUMBER_MAX, "%s/s", size_format((uint64_t)bytes, size));
    return text;
}

static const char *time_text(double ns, char text[NUMBER_MAX])
{
    static const char *const units[] = { "ns", "us", "ms", "s" };
    unsigned unit = 0;
    if (ns < 0)
        return "-";
    for (; ns >= 999.5 && unit + 1 < ARRAY_SIZE(units); unit++)
        ns /= 1000;
    snprintf(text, NUMBER_MAX, ns < 9.95 && unit > 0 ? "%.1f%s" : "%.0f%s", ns, units[unit]);
    return text;
}

static void put_number(FILE *out, const char *text, unsigned columns)
{
    fputc(' ', out);
    terminal_put(out, text, columns, ALIGN_RIGHT);
}

/* Rows ------------------------------------------------------------------------------------------------------------ */

static unsigned detail_columns(const struct top_view *view)
{
    return view->columns >= NUMBERS_COLUMNS + DETAIL_COLUMNS + 2 * NAME_COLUMNS_MIN ? DETAIL_COLUMNS : 0;
}

static unsigned name_columns(const struct top_view *view)
{
    unsigned others = NUMBERS_COLUMNS + detail_columns(view) + (detail_columns(view) ? 1 : 0);
    unsigned columns = view->columns > others + NAME_COLUMNS_MIN ? view->columns - others : NAME_COLUMNS_MIN;
    return columns < NAME_COLUMNS_MAX ? columns : NAME_COLUMNS_MAX;
}

static void put_names(FILE *out, const struct top_view *view, const char *name, const char *detail)
{
    terminal_put(out, name, name_columns(view), ALIGN_LEFT);
    if (detail_columns(view) == 0)
        return;
    fputc(' ', out);
    terminal_put(out, detail, detail_columns(view), ALIGN_LEFT);
}

static void put_head(FILE *out, const struct top_view *view, const char *what, const char *detail)
{
    static const struct {
        const char *name;
        unsigned columns;
    } numbers[] = { { "QUEUE", 5 }, { "READ/s", 7 }, { "WRITE/s", 7 }, { "OTHER/s", 7 },
                    { "READ", 10 }, { "WRITE", 10 }, { "P50", 6 },     { "P99", 6 } };
    terminal_color(out, COLOR_BOLD);
    put_names(out, view, what, detail);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        put_number(out, numbers[i].name, numbers[i].columns);
    terminal_color(out, COLOR_NONE);
    fputc('\n', out);
}

static bool is_idle(const struct top_row *row)
{
    return row->queue == 0 && top_row_requests(row) <= 0;
}

static void put_row(FILE *out, const struct top_view *view, const struct top_row *row)
{
    char text[NUMBER_MAX];
    terminal_color(out, is_idle(row) ? COLOR_FAINT : COLOR_NONE);
    put_names(out, view, row->name, row->detail);
    put_number(out, count_text((double)row->queue, text), 5);
    put_number(out, count_text(row->reads, text), 7);
    put_number(out, count_text(row->writes, text), 7);
    put_number(out, count_text(row->others, text), 7);
    put_number(out, rate_text(row->read_bytes, text), 10);
    put_number(out, rate_text(row->write_bytes, text), 10);
    put_number(out, time_text(row->p50_ns, text), 6);
    put_number(out, time_text(row->p99_ns, text), 6);
    terminal_color(out, COLOR_NONE);
    fputc('\n', out);
}

static void put_client(FILE *out, const struct top_view *view, const struct top_row *row)
{
    char text[NUMBER_MAX], duration[JOB_DURATION_MAX];
    CLEANUP(free) char *name = xasprintf("  %s", row->name);

    put_names(out, view, name, job_duration((double)get_number(row->json, "age-ns") / 1e9, duration));
    put_number(out, count_text((double)row->queue, text), 5);
    put_number(out, count_text(row->reads, text), 7);
    put_number(out, "", 15); /* all of its requests are told as one */
    put_number(out, rate_text(row->read_bytes, text), 10);
    put_number(out, rate_text(row->write_bytes, text), 10);
    fputc('\n', out);
}

static void put_clients(FILE *out, const struct top_view *view, const struct top_samples *samples,
                        const struct top_row *export)
{
    size_t count;
    struct top_row *rows = top_clients(samples, export, &count);
    for (size_t i = 0; i < count; i++)
        put_client(out, view, &rows[i]);
    free(rows);
}

static void put_io_list(FILE *out, const struct top_view *view, const struct top_samples *samples, const char *list,
                        const char *what, const char *detail)
{
    size_t count;
    struct top_row *rows = top_rows(samples, list, view->order, view->reverse, &count);
    fputc('\n', out);
    put_head(out, view, what, detail);
    for (size_t i = 0; i < count; i++) {
        if (view->hide_idle && is_idle(&rows[i]))
            continue;
        put_row(out, view, &rows[i]);
        if (view->show_clients)
            put_clients(out, view, samples, &rows[i]);
    }
    free(rows);
}

static void put_commands(FILE *out, const struct top_view *view, const struct top_samples *samples)
{
    size_t count;
    char text[NUMBER_MAX];
    struct top_row *rows = top_rows(samples, "commands", view->order, view->reverse, &count);
    terminal_color(out, COLOR_BOLD);
    fprintf(out, "\n%-*s %9s %9s %7s %7s\n", NAME_COLUMNS_MAX, "COMMAND", "CALLS/s", "FAILED/s", "P50", "P99");
    terminal_color(out, COLOR_NONE);
    for (size_t i = 0; i < count; i++) {
        if (view->hide_idle && rows[i].reads <= 0)
            continue;
        terminal_put(out, rows[i].name, NAME_COLUMNS_MAX, ALIGN_LEFT);
        put_number(out, count_text(rows[i].reads, text), 9);
        put_number(out, count_text(rows[i].writes, text), 9);
        put_number(out, time_text(rows[i].p50_ns, text), 7);
        put_number(out, time_text(rows[i].p99_ns, text), 7);
        fputc('\n', out);
    }
    free(rows);
}

static void put_jobs(FILE *out, const struct top_samples *samples, const struct job_rates *rates)
{
    const json_t *jobs = json_object_get(samples->now, "jobs");
    size_t i;
    const json_t *job;

    if (json_array_size(jobs) == 0)
        return;
    fputc('\n', out);
    terminal_color(out, COLOR_BOLD);
    job_table_head(out, "\n");
    terminal_color(out, COLOR_NONE);
    json_array_foreach(jobs, i, job) job_table_row(out, job, rates, "\n");
}

static void put_process(FILE *out, const struct top_samples *samples)
{
    const json_t *process = json_object_get(samples->now, "process");
    const json_t *before = json_object_get(samples->before, "process");
    char duration[JOB_DURATION_MAX], size[SIZE_TEXT_MAX];
    size_t i;
    const json_t *loop;

    fprintf(out, "cairn: up %s", job_duration((double)get_number(process, "uptime-ns") / 1e9, duration));
    fprintf(out, ", memory %s", size_format(get_number(process, "resident-bytes"), size));
    fprintf(out, ", clients %u", (unsigned)get_number(process, "qmp-clients"));
    fprintf(out, ", cpu %.0f%% (", 100 * top_cpu(samples, process, before));
    json_array_foreach(json_object_get(process, "loops"), i, loop)
    {
        const json_t *last = json_array_get(json_object_get(before, "loops"), i);
        fprintf(out, "%s%s %.0f%%", i ? ", " : "", get_text(loop, "name"), 100 * top_cpu(samples, loop, last));
    }
    fputs(")\n", out);
}

void top_view_print(const struct top_view *view, const struct top_samples *samples, const struct job_rates *rates,
                    FILE *out)
{
    put_process(out, samples);
    put_io_list(out, view, samples, "exports", "EXPORT", "NODE");
    if (!view->hide_nodes)
        put_io_list(out, view, samples, "nodes", "NODE", "DRIVER");
    put_jobs(out, samples, rates);
    if (view->show_commands)
        put_commands(out, view, samples);
}
