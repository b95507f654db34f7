#include "clients/cli/job_table.h"

#include "blockcore/base/annotations.h"

#include "clients/cli/json_get.h"
#include "clients/cli/size.h"
#include "clients/cli/terminal.h"

#include <string.h>

#define BAR_COLUMNS 20
#define ID_COLUMNS 20
#define TYPE_COLUMNS 8
#define STATUS_COLUMNS 10
#define RATE_COLUMNS 11
#define SECONDS_MAX 8640000 /* a hundred days: longer is not known */

const char *job_duration(double seconds, char text[JOB_DURATION_MAX])
{
    if (seconds < 0 || seconds > SECONDS_MAX)
        return "-";
    unsigned whole = (unsigned)(seconds + 0.5);
    unsigned hours = whole / 3600, minutes = whole / 60 % 60;
    if (hours > 0)
        snprintf(text, JOB_DURATION_MAX, "%u:%02u:%02u", hours, minutes, whole % 60);
    else
        snprintf(text, JOB_DURATION_MAX, "%u:%02u", minutes, whole % 60);
    return text;
}

static bool has_status(const json_t *job, const char *status)
{
    return strcmp(get_text(job, "status"), status) == 0;
}

bool job_is_over(const json_t *job)
{
    return has_status(job, "concluded") || has_status(job, "null");
}

/* Jobs that copy count bytes; others count whatever they like. */
static bool counts_bytes(const json_t *job)
{
    static const char *const types[] = { "commit", "stream", "mirror", "backup" };

    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (strcmp(types[i], get_text(job, "type")) == 0)
            return true;
    return false;
}

static double share_of(const json_t *job)
{
    double total = (double)get_number(job, "total-progress");
    double share = total > 0 ? (double)get_number(job, "current-progress") / total : 0;
    return share > 1 ? 1 : share;
}

static const char *color_of(const json_t *job)
{
    if (*get_text(job, "error") || has_status(job, "aborting"))
        return COLOR_RED;
    if (job_is_over(job))
        return COLOR_FAINT;
    if (has_status(job, "paused") || has_status(job, "standby"))
        return COLOR_YELLOW;
    return has_status(job, "running") ? COLOR_GREEN : COLOR_CYAN;
}

static void put_bar(FILE *out, double share)
{
    unsigned filled = (unsigned)(share * BAR_COLUMNS);
    for (unsigned i = 0; i < BAR_COLUMNS; i++)
        fputc(i < filled ? '#' : '.', out);
    fprintf(out, " %5.1f%%  ", share * 100);
}

static void put_rate(FILE *out, const json_t *job, double rate)
{
    char size[SIZE_TEXT_MAX];
    char text[SIZE_TEXT_MAX + 8] = "-";

    if (rate >= 0 && !job_is_over(job) && counts_bytes(job))
        snprintf(text, sizeof(text), "%s/s", size_format((uint64_t)rate, size));
    else if (rate >= 0 && !job_is_over(job))
        snprintf(text, sizeof(text), "%.1f/s", rate);
    terminal_put(out, text, RATE_COLUMNS, ALIGN_RIGHT);
}

void job_table_head(FILE *out, const char *end)
{
    fprintf(out, "%-*s %-*s %-*s %-*s %*s %9s  %s%s", ID_COLUMNS, "JOB", TYPE_COLUMNS, "TYPE", STATUS_COLUMNS, "STATUS",
            BAR_COLUMNS + 8, "PROGRESS", RATE_COLUMNS, "RATE", "REMAINING", "ERROR", end);
}

void job_table_row(FILE *out, const json_t *job, const struct job_rates *rates, const char *end)
{
    char duration[JOB_DURATION_MAX];
    const char *error = get_text(job, "error");

    terminal_put(out, get_text(job, "id"), ID_COLUMNS, ALIGN_LEFT);
    fputc(' ', out);
    terminal_put(out, get_text(job, "type"), TYPE_COLUMNS, ALIGN_LEFT);
    fputc(' ', out);
    terminal_color(out, color_of(job));
    terminal_put(out, get_text(job, "status"), STATUS_COLUMNS, ALIGN_LEFT);
    terminal_color(out, COLOR_NONE);
    fputc(' ', out);
    put_bar(out, share_of(job));
    put_rate(out, job, job_rate(rates, get_text(job, "id")));
    fputc(' ', out);
    terminal_put(out, job_is_over(job) ? "-" : job_duration(job_remaining(rates, job), duration), 9, ALIGN_RIGHT);
    fputs("  ", out);
    terminal_put(out, error, terminal_width(error), ALIGN_LEFT);
    fputs(end, out);
}
