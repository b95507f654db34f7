#include "clients/cli/cli.h"
#include "clients/cli/job_table.h"
#include "clients/cli/json_get.h"
#include "clients/cli/seconds.h"
#include "clients/cli/terminal.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define INTERVAL_ONCE_S 0.5 /* between the two looks that a rate takes */
#define INTERVAL_WATCH_S 1.0
#define FRAME_LINES_MARGIN 2

struct watch {
    struct client *client;
    int names_count; /* 0: all jobs */
    char *const *names;
    double interval_s;
    bool follow;
    bool live;       /* drawn in place, on a terminal */
    json_t *known;   /* object: id -> JobInfo as last seen; what has gone is "null" */
    json_t *failed;  /* object: ids of jobs that were seen to fail */
    json_t *printed; /* object: id -> "status percent", as last printed */
    struct job_rates rates;
    unsigned lines; /* that were drawn last */
};

static bool is_named(const struct watch *watch, const char *id)
{
    for (int i = 0; i < watch->names_count; i++)
        if (strcmp(watch->names[i], id) == 0)
            return true;
    return watch->names_count == 0;
}

/* True when the event is of one of the jobs. */
static bool take_event(struct watch *watch, const json_t *event)
{
    const json_t *data = json_object_get(event, "data");
    if (strcmp(get_text(event, "event"), "JOB_STATUS_CHANGE") != 0 || !is_named(watch, get_text(data, "id")))
        return false;
    if (strcmp(get_text(data, "status"), "aborting") == 0)
        json_object_set_new(watch->failed, get_text(data, "id"), json_true());
    return true;
}

/* What was told before an answer, which may be the end of jobs that are not in it any more. */
static struct error *take_events(struct watch *watch)
{
    for (;;) {
        CLEANUP(json_decref) json_t *event = NULL;
        struct error *err = client_next_event(watch->client, 0, &event);
        if (err || !event)
            return err;
        take_event(watch, event);
    }
}

/* Jobs that are not in the answer any more have dismissed themselves. */
static void mark_gone(struct watch *watch, const json_t *jobs)
{
    CLEANUP(json_decref) json_t *there = json_object();
    size_t i;
    const json_t *job;
    const char *id;
    json_t *known;

    json_array_foreach(jobs, i, job) json_object_set_new(there, get_text(job, "id"), json_true());
    json_object_foreach(watch->known, id, known) if (!json_object_get(there, id))
        json_object_set_new(known, "status", json_string("null"));
}

static struct error *look(struct watch *watch)
{
    CLEANUP(json_decref) json_t *jobs = NULL;
    struct error *err = client_call(watch->client, "query-jobs", NULL, &jobs);
    size_t i;
    json_t *job;

    if (err)
        return err;
    job_rates_add(&watch->rates, jobs, seconds_now());
    json_array_foreach(jobs, i, job)
    {
        const char *id = get_text(job, "id");
        if (!is_named(watch, id))
            continue;
        json_object_set(watch->known, id, job);
        if (*get_text(job, "error"))
            json_object_set_new(watch->failed, id, json_true());
    }
    mark_gone(watch, jobs);
    return take_events(watch);
}

static struct error *check_names(const struct watch *watch)
{
    for (int i = 0; i < watch->names_count; i++)
        if (!json_object_get(watch->known, watch->names[i]))
            return error_new("there is no job '%s'", watch->names[i]);
    return NULL;
}

static bool all_over(const struct watch *watch)
{
    const char *id;
    const json_t *job;

    json_object_foreach(watch->known, id, job) if (!job_is_over(job)) return false;
    return true;
}

/* Until the next look is due, or a job has moved. */
static struct error *wait_for_news(struct watch *watch)
{
    double end = seconds_now() + watch->interval_s;
    for (double left; (left = end - seconds_now()) > 0;) {
        CLEANUP(json_decref) json_t *event = NULL;
        struct error *err = client_next_event(watch->client, (int)(left * 1000) + 1, &event);
        if (err)
            return err;
        if (take_event(watch, event) && watch->follow)
            return NULL;
    }
    return NULL;
}

/* Drawing --------------------------------------------------------------------------------------------------------- */

static void print_table(const struct watch *watch)
{
    const char *id;
    const json_t *job;

    job_table_head(stdout, "\n");
    json_object_foreach(watch->known, id, job) job_table_row(stdout, job, &watch->rates, "\n");
}

/* Over what was drawn last, which stays where it is on the screen. */
static void draw(struct watch *watch)
{
    unsigned columns, rows, line = 1;
    const char *id;
    const json_t *job;

    terminal_size(STDOUT_FILENO, &columns, &rows);
    if (watch->lines > 0)
        printf("\033[%uA", watch->lines);
    fputs("\r\033[?7l", stdout); /* what is too long for a line is cut, not wrapped */
    job_table_head(stdout, "\033[K\n");
    json_object_foreach(watch->known, id, job)
    {
        if (line + FRAME_LINES_MARGIN > rows)
            break;
        job_table_row(stdout, job, &watch->rates, "\033[K\n");
        line++;
    }
    fputs("\033[J\033[?7h", stdout);
    watch->lines = line;
}

/* For a file or a pipe: a line when there is something new. */
static void print_news(struct watch *watch)
{
    const char *id;
    const json_t *job;

    json_object_foreach(watch->known, id, job)
    {
        uint64_t total = get_number(job, "total-progress");
        double share = total ? 100.0 * (double)get_number(job, "current-progress") / (double)total : 0;
        CLEANUP(json_decref) json_t *now = json_sprintf("%s %.0f", get_text(job, "status"), share);
        if (json_equal(now, json_object_get(watch->printed, id)))
            continue;
        json_object_set(watch->printed, id, now);
        job_table_row(stdout, job, &watch->rates, "\n");
    }
}

static void show(struct watch *watch)
{
    if (!watch->follow)
        print_table(watch);
    else if (watch->live)
        draw(watch);
    else
        print_news(watch);
    fflush(stdout);
}

/* Running --------------------------------------------------------------------------------------------------------- */

/* A rate takes two looks. */
static struct error *look_once(struct watch *watch)
{
    struct error *err = look(watch);
    if (!err)
        err = check_names(watch);
    if (!err && watch->interval_s > 0 && !all_over(watch)) {
        err = wait_for_news(watch);
        if (!err)
            err = look(watch);
    }
    if (!err)
        show(watch);
    return err;
}

static struct error *look_until_over(struct watch *watch)
{
    struct error *err = look(watch);
    if (!err)
        err = check_names(watch);
    while (!err) {
        show(watch);
        if (all_over(watch))
            return NULL;
        err = wait_for_news(watch);
        if (!err)
            err = look(watch);
    }
    return err;
}

static int jobs_show(struct cli *cli, struct watch *watch)
{
    watch->client = cli->client;
    watch->known = json_object();
    watch->failed = json_object();
    watch->printed = json_object();
    watch->live = watch->follow && isatty(STDOUT_FILENO);
    struct error *err = watch->follow ? look_until_over(watch) : look_once(watch);
    int status = json_object_size(watch->failed) > 0 ? EXIT_REFUSED : EXIT_OK;
    json_decref(watch->known);
    json_decref(watch->failed);
    json_decref(watch->printed);
    job_rates_fini(&watch->rates);
    return err ? cli_fail(cli, err) : status;
}

static int jobs_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        { "watch", no_argument, NULL, 'w' },
        { "interval", required_argument, NULL, 'i' },
        { "color", required_argument, NULL, 'c' },
        { 0 },
    };
    struct watch watch = { .interval_s = -1 };

    for (int option; (option = getopt_long(argc, argv, "wi:", options, NULL)) != -1;) {
        if (option == '?')
            return EXIT_USAGE;
        watch.follow |= option == 'w';
        if (option == 'i' && !seconds_parse(optarg, &watch.interval_s))
            return cli_usage("jobs: '%s' is no number of seconds", optarg);
        if (option == 'c' && !terminal_set_color(optarg))
            return cli_usage("jobs: colours are 'auto', 'always' or 'never', not '%s'", optarg);
    }
    if (watch.interval_s < 0)
        watch.interval_s = watch.follow ? INTERVAL_WATCH_S : INTERVAL_ONCE_S;
    if (watch.follow && watch.interval_s < SECONDS_INTERVAL_MIN)
        watch.interval_s = SECONDS_INTERVAL_MIN;
    watch.names_count = argc - optind;
    watch.names = argv + optind;
    return jobs_show(cli, &watch);
}

const struct subcommand jobs_subcommand = {
    .name = "jobs",
    .arguments = "[-w] [OPTION]... [JOB]...",
    .summary = "show jobs: status, progress, rate and remaining time",
    .help =
        "With names, only these. Jobs that are over stay until they are dismissed (call job-dismiss).\n"
        "\n"
        "  -w, --watch              go on until all of them are over: in place on a terminal, else a line whenever\n"
        "                           something has changed\n"
        "  -i, --interval SECONDS   how often to look (default: 1), without --watch the time over which rates are\n"
        "                           measured (default: 0.5; 0: none are)\n"
        "      --color WHEN         auto (the default), always, never\n"
        "\n"
        "Exit status 1 if one of them has failed or was cancelled.\n",
    .run = jobs_run,
};
