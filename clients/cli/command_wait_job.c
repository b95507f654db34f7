#include "clients/cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_INTERVAL_MS 200
#define BAR_WIDTH 40

struct wait {
    const char *job;
    bool show_progress;
    bool failed; /* an event told of the end of a job that dismisses itself */
    bool gone;
};

static void print_progress(const json_t *job)
{
    json_int_t current = json_integer_value(json_object_get(job, "current-progress"));
    json_int_t total = json_integer_value(json_object_get(job, "total-progress"));
    double share = total > 0 ? (double)current / (double)total : 0;
    int filled = share > 1 ? BAR_WIDTH : (int)(share * BAR_WIDTH);

    fprintf(stderr, "\r%s [", json_string_value(json_object_get(job, "id")));
    for (int i = 0; i < BAR_WIDTH; i++)
        fputc(i < filled ? '#' : '.', stderr);
    fprintf(stderr, "] %5.1f%% %s \033[K", share * 100, json_string_value(json_object_get(job, "status")));
}

/* The job's JobInfo, a new reference; NULL when there is no such job. */
static struct error *find_job(struct client *client, const char *id, json_t **job)
{
    CLEANUP(json_decref) json_t *jobs = NULL;
    struct error *err = client_call(client, "query-jobs", NULL, &jobs);
    size_t i;
    json_t *candidate;

    *job = NULL;
    if (err)
        return err;
    json_array_foreach(jobs, i, candidate) if (strcmp(json_string_value(json_object_get(candidate, "id")), id) ==
                                               0) *job = json_incref(candidate);
    return NULL;
}

/* Waits for something to happen, to this job or another; *@came: it has. */
static struct error *take_event(struct client *client, struct wait *wait, int timeout_ms, bool *came)
{
    CLEANUP(json_decref) json_t *event = NULL;
    struct error *err = client_next_event(client, timeout_ms, &event);
    *came = event;
    if (err || !event)
        return err;
    const json_t *data = json_object_get(event, "data");
    const char *id = json_string_value(json_object_get(data, "id"));
    const char *status = json_string_value(json_object_get(data, "status"));
    if (!id || !status || strcmp(id, wait->job) != 0)
        return NULL;
    wait->failed |= strcmp(status, "aborting") == 0;
    wait->gone |= strcmp(status, "null") == 0;
    return NULL;
}

/* The job was not in an answer: what has become of it was told before that. */
static struct error *take_last_events(struct client *client, struct wait *wait)
{
    bool came = true;
    struct error *err = NULL;
    while (!err && came)
        err = take_event(client, wait, 0, &came);
    return err;
}

/* Until the job is concluded (*job is its last JobInfo) or gone (NULL). */
static struct error *wait_for_end(struct client *client, struct wait *wait, json_t **job)
{
    bool seen = false, came;

    for (;;) {
        CLEANUP(json_decref) json_t *now = NULL;
        struct error *err = find_job(client, wait->job, &now);
        if (err)
            return err;
        if (!now) {
            *job = NULL;
            err = take_last_events(client, wait);
            if (err)
                return err;
            return seen || wait->gone ? NULL : error_new("there is no job '%s'", wait->job);
        }
        seen = true;
        if (wait->show_progress)
            print_progress(now);
        if (strcmp(json_string_value(json_object_get(now, "status")), "concluded") == 0) {
            *job = steal(&now);
            return NULL;
        }
        err = take_event(client, wait, PROGRESS_INTERVAL_MS, &came);
        if (err)
            return err;
    }
}

static int wait_job_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = { { "dismiss", no_argument, NULL, 'd' },
                                             { "quiet", no_argument, NULL, 'q' },
                                             { 0 } };
    struct wait wait = { .show_progress = isatty(STDERR_FILENO) };
    bool dismiss = false;

    for (int option; (option = getopt_long(argc, argv, "dq", options, NULL)) != -1;) {
        if (option == '?')
            return EXIT_USAGE;
        dismiss |= option == 'd';
        wait.show_progress &= option != 'q';
    }
    if (argc - optind != 1)
        return cli_usage("wait-job: which job?");
    wait.job = argv[optind];

    CLEANUP(json_decref) json_t *job = NULL;
    struct error *err = wait_for_end(cli->client, &wait, &job);
    if (wait.show_progress)
        fputc('\n', stderr);
    if (!err && job && dismiss)
        err = client_call(cli->client, "job-dismiss", json_pack("{s:s}", "id", wait.job), NULL);
    if (err)
        return cli_fail(cli, err);
    const char *failure = json_string_value(json_object_get(job, "error"));
    if (!failure && !wait.failed)
        return EXIT_OK;
    fprintf(stderr, "cairnctl: job '%s' failed%s%s\n", wait.job, failure ? ": " : "", failure ? failure : "");
    return EXIT_REFUSED;
}

const struct subcommand wait_job_subcommand = {
    .name = "wait-job",
    .arguments = "[-d] [-q] JOB",
    .summary = "wait until a job is over, with a progress bar on a terminal",
    .help = "Ends when the job is concluded or gone; exit status 1 if it failed.\n"
            "\n"
            "  -d, --dismiss   dismiss the job then\n"
            "  -q, --quiet     no progress bar\n",
    .run = wait_job_run,
};
