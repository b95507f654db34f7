#include "clients/cli/cli.h"
#include "clients/cli/print.h"
#include "clients/cli/size.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static bool is_wanted(const char *name, int count, char *const *wanted)
{
    for (int i = 0; i < count; i++)
        if (strcmp(wanted[i], name) == 0)
            return true;
    return count == 0;
}

static int events_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = { { "count", required_argument, NULL, 'n' }, { 0 } };
    uint64_t left = UINT64_MAX;

    for (int option; (option = getopt_long(argc, argv, "+n:", options, NULL)) != -1;) {
        if (option != 'n')
            return EXIT_USAGE;
        if (!size_parse(optarg, &left))
            return cli_usage("events: '%s' is no number", optarg);
    }
    while (left > 0) {
        CLEANUP(json_decref) json_t *event = NULL;
        struct error *err = client_next_event(cli->client, -1, &event);
        if (err)
            return cli_fail(cli, err);
        if (!is_wanted(json_string_value(json_object_get(event, "event")), argc - optind, argv + optind))
            continue;
        print_json(event, PRINT_COMPACT);
        putchar('\n');
        if (fflush(stdout) != 0)
            return EXIT_OK; /* the reader has seen enough */
        left--;
    }
    return EXIT_OK;
}

const struct subcommand events_subcommand = {
    .name = "events",
    .arguments = "[-n COUNT] [EVENT]...",
    .summary = "print events as they come, one JSON object in a line",
    .help = "With names, only these events. Ends when the daemon does.\n"
            "\n"
            "  -n, --count COUNT   end after so many\n"
            "\n"
            "Example:\n"
            "  cairnctl events JOB_STATUS_CHANGE BLOCK_EXPORT_DELETED\n",
    .run = events_run,
};
