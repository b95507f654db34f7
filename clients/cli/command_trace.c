#include "clients/cli/cli.h"
#include "clients/cli/size.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RECORDS_DEFAULT 100

enum action { ACTION_PRINT, ACTION_LIST, ACTION_SHOW, ACTION_HIDE };

static void print_record(const json_t *record)
{
    time_t seconds = (time_t)json_integer_value(json_object_get(record, "seconds"));
    struct tm local;
    char time[32];
    localtime_r(&seconds, &local);
    strftime(time, sizeof(time), "%F %T", &local);
    printf("%s.%06lld [%lld] %s %s\n", time, (long long)json_integer_value(json_object_get(record, "microseconds")),
           (long long)json_integer_value(json_object_get(record, "thread")),
           json_string_value(json_object_get(record, "name")), json_string_value(json_object_get(record, "text")));
}

static struct error *print_records(struct client *client, const char *pattern, uint64_t last)
{
    json_t *arguments = json_pack("{ss sI}", "name", pattern, "last", (json_int_t)last);
    CLEANUP(json_decref) json_t *records = NULL;
    struct error *err = client_call(client, "query-trace-records", arguments, &records);
    size_t i;
    const json_t *record;
    if (!err)
        json_array_foreach(records, i, record) print_record(record);
    return err;
}

static struct error *list_points(struct client *client, const char *pattern)
{
    json_t *arguments = json_pack("{ss}", "name", pattern);
    CLEANUP(json_decref) json_t *points = NULL;
    struct error *err = client_call(client, "trace-event-get-state", arguments, &points);
    size_t i;
    const json_t *point;
    if (!err)
        json_array_foreach(points, i, point) printf("%-24s %s\n", json_string_value(json_object_get(point, "name")),
                                                    json_string_value(json_object_get(point, "state")));
    return err;
}

static struct error *set_state(struct client *client, const char *pattern, bool enable)
{
    json_t *arguments = json_pack("{ss sb}", "name", pattern, "enable", enable);
    CLEANUP(json_decref) json_t *nothing = NULL;
    return client_call(client, "trace-event-set-state", arguments, &nothing);
}

static struct error *act(struct client *client, enum action action, const char *pattern, uint64_t last)
{
    switch (action) {
    case ACTION_LIST:
        return list_points(client, pattern);
    case ACTION_SHOW:
    case ACTION_HIDE:
        return set_state(client, pattern, action == ACTION_SHOW);
    default:
        return print_records(client, pattern, last);
    }
}

static int trace_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        { "last", required_argument, NULL, 'n' },
        { "list", no_argument, NULL, 'l' },
        { "show", no_argument, NULL, 's' },
        { "hide", no_argument, NULL, 'x' },
        { 0 },
    };
    enum action action = ACTION_PRINT;
    uint64_t last = RECORDS_DEFAULT;
    for (int option; (option = getopt_long(argc, argv, "+n:l", options, NULL)) != -1;) {
        if (option == 'n' && !size_parse(optarg, &last))
            return cli_usage("trace: '%s' is no number", optarg);
        if (option == '?')
            return EXIT_USAGE;
        if (option != 'n')
            action = option == 'l' ? ACTION_LIST : option == 's' ? ACTION_SHOW : ACTION_HIDE;
    }
    bool changes = action == ACTION_SHOW || action == ACTION_HIDE;
    if (argc - optind > 1 || (changes && argc == optind))
        return cli_usage("trace: expected one name or pattern");
    struct error *err = act(cli->client, action, optind < argc ? argv[optind] : "*", last);
    return err ? cli_fail(cli, err) : EXIT_OK;
}

const struct subcommand trace_subcommand = {
    .name = "trace",
    .arguments = "[-n COUNT | --list | --show | --hide] [PATTERN]",
    .summary = "print what happened last inside of the daemon, or choose what it writes of that",
    .help = "Of all trace points, or of those whose names match PATTERN (\"*\" stands for any text).\n"
            "\n"
            "  -n, --last COUNT   print the last COUNT records of the black box (default: 100)\n"
            "  -l, --list         list the trace points, and which of them the daemon writes\n"
            "      --show         let the daemon write them from now on, to standard error or its trace file\n"
            "      --hide         and no more\n"
            "\n"
            "Examples:\n"
            "  cairnctl trace 'job_*'\n"
            "  cairnctl trace --show 'node_*'\n",
    .run = trace_run,
};
