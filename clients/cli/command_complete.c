#include "clients/cli/cli.h"
#include "clients/cli/completion.h"

#include <stdio.h>

static int complete_run(struct cli *cli, int argc, char **argv)
{
    CLEANUP(introspection_free) struct introspection *introspection = NULL;
    size_t i;
    const json_t *candidate;
    if (argc != 2)
        return cli_usage("complete: expected one line");
    struct error *err = introspection_load(cli->client, &introspection);
    if (err)
        return cli_fail(cli, err);
    CLEANUP(json_decref) json_t *candidates = completion_candidates(introspection, argv[1]);
    json_array_foreach(candidates, i, candidate) puts(json_string_value(candidate));
    return EXIT_OK;
}

const struct subcommand complete_subcommand = {
    .name = "complete",
    .arguments = "LINE",
    .summary = "print what the last word of a command may become, for completion in shells",
    .help = "LINE is a command with its arguments, as after 'cairnctl call'. Words that want a value end in '=', those "
            "that\n"
            "lead on in '.'.\n"
            "\n"
            "Example:\n"
            "  cairnctl complete 'blockdev-add driver=fi'\n",
    .run = complete_run,
};
