#include "clients/cli/cli.h"
#include "clients/cli/execute.h"
#include "clients/cli/print.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define END_TIMEOUT_MS 30000

/* Until the daemon has closed its nodes: it says goodbye after that. Who quits it wants the images next. */
static void wait_for_end(struct client *client)
{
    bool more = true;

    while (more) {
        CLEANUP(json_decref) json_t *event = NULL;
        CLEANUP(error_free) struct error *err = client_next_event(client, END_TIMEOUT_MS, &event);
        more = !err && event;
    }
}

static int call_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = { { "compact", no_argument, NULL, 'c' }, { 0 } };
    enum print_format format = PRINT_INDENTED;

    for (int option; (option = getopt_long(argc, argv, "+c", options, NULL)) != -1;) {
        if (option != 'c')
            return EXIT_USAGE;
        format = PRINT_COMPACT;
    }
    if (optind == argc)
        return cli_usage("call: which command?");

    CLEANUP(introspection_free) struct introspection *introspection = NULL;
    CLEANUP(json_decref) json_t *result = NULL;
    struct error *err = execute_words(cli->client, &introspection, (size_t)(argc - optind), argv + optind, &result);
    if (err)
        return cli_fail(cli, err);
    print_json(result, format);
    putchar('\n');
    if (strcmp(argv[optind], "quit") == 0)
        wait_for_end(cli->client);
    return EXIT_OK;
}

const struct subcommand call_subcommand = {
    .name = "call",
    .arguments = "[-c] COMMAND [JSON | KEY=VALUE]...",
    .summary = "execute a command and print what it returns",
    .help = "Arguments are a JSON object, '-' for one on standard input, or KEY=VALUE. In keys, dots lead into\n"
            "objects, and numbers into lists. The daemon is asked for the type of each member, so that a value\n"
            "need not be quoted: sizes may end in k, M, G, T, P or E, and booleans are on or off. A list or an\n"
            "object may be written as JSON. After 'quit' it waits until the daemon has closed all images.\n"
            "\n"
            "  -c, --compact   print JSON in one line\n"
            "\n"
            "Examples:\n"
            "  cairnctl call query-version\n"
            "  cairnctl call blockdev-add driver=null-co node-name=disk0 size=1G\n"
            "  cairnctl call blockdev-add driver=qcow2 node-name=a file.driver=file file.filename=a.qcow2\n"
            "  cairnctl call blockdev-del '{\"node-name\": \"disk0\"}'\n",
    .run = call_run,
};
