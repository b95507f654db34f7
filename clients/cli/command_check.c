#include "clients/cli/cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is to be done, as on the command line. */
struct check_arguments {
    const char *format;
    const char *repair;
    bool json;
    const char *image;
};

/* A path is a file, everything else the name of a node. The daemon may run in another directory. */
static json_t *image_of(const struct check_arguments *arguments)
{
    if (!strchr(arguments->image, '/'))
        return json_string(arguments->image);
    char *path = realpath(arguments->image, NULL);
    json_t *image = json_pack("{s:s, s:{s:s, s:s}}", "driver", arguments->format, "file", "driver", "file", "filename",
                              path ? path : arguments->image);
    free(path);
    return image;
}

static uint64_t number(const json_t *found, const char *member)
{
    return (uint64_t)json_integer_value(json_object_get(found, member));
}

static void print_text(const json_t *found)
{
    static const struct {
        const char *member;
        const char *text;
    } lines[] = {
        { "corruptions-fixed", "corruptions were repaired" },
        { "leaks-fixed", "lost clusters were given back" },
        { "corruptions", "corruptions are left: data may be lost when the image is written" },
        { "leaks", "clusters are lost: they take space and do no other harm" },
        { "check-errors", "places could not be looked at" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        if (number(found, lines[i].member))
            printf("%" PRIu64 " %s\n", number(found, lines[i].member), lines[i].text);
    printf("%" PRIu64 " of %" PRIu64 " clusters allocated, %" PRIu64 " of them fragmented, %" PRIu64 " compressed\n",
           number(found, "allocated-clusters"), number(found, "total-clusters"), number(found, "fragmented-clusters"),
           number(found, "compressed-clusters"));
    printf("the image ends at offset %" PRIu64 "\n", number(found, "image-end-offset"));
}

static void print_json(const json_t *found)
{
    json_dumpf(found, stdout, JSON_INDENT(4) | JSON_PRESERVE_ORDER);
    putchar('\n');
}

static bool is_clean(const json_t *found)
{
    return !number(found, "corruptions") && !number(found, "leaks") && !number(found, "check-errors");
}

static int check(struct cli *cli, const struct check_arguments *arguments)
{
    CLEANUP(json_decref) json_t *found = NULL;
    json_t *call = json_pack("{s:o, s:s}", "image", image_of(arguments), "repair", arguments->repair);
    struct error *err = client_call(cli->client, "blockdev-check", call, &found);
    if (err)
        return cli_fail(cli, err);
    if (arguments->json)
        print_json(found);
    else
        print_text(found);
    return is_clean(found) ? EXIT_OK : EXIT_REFUSED;
}

static int check_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = { { "format", required_argument, NULL, 'f' },
                                             { "repair", required_argument, NULL, 'r' },
                                             { "output", required_argument, NULL, 'o' },
                                             { 0 } };
    struct check_arguments arguments = { .format = "qcow2", .repair = "none" };

    for (int option; (option = getopt_long(argc, argv, "f:r:", options, NULL)) != -1;) {
        if (option == '?')
            return EXIT_USAGE;
        if (option == 'f')
            arguments.format = optarg;
        else if (option == 'r')
            arguments.repair = optarg;
        else if (strcmp(optarg, "json") == 0 || strcmp(optarg, "human") == 0)
            arguments.json = *optarg == 'j';
        else
            return cli_usage("check: --output is 'human' or 'json', not '%s'", optarg);
    }
    if (argc - optind != 1)
        return cli_usage("check: which file or node?");
    arguments.image = argv[optind];
    return check(cli, &arguments);
}

const struct subcommand check_subcommand = {
    .name = "check",
    .arguments = "[-f FORMAT] [-r leaks|all] [--output=human|json] FILE|NODE",
    .summary = "look for lost space and corruption in an image, and repair it",
    .help = "An argument with a slash is a file, which the daemon opens for the check; others are names of nodes.\n"
            "Exit status 1 if anything is wrong afterwards. Large images take longer than the usual time for a\n"
            "reply: see 'cairnctl -t'.\n"
            "\n"
            "  -f, --format FORMAT   of a file (default: qcow2)\n"
            "  -r, --repair WHAT     'leaks': give lost clusters back; 'all': repair corruptions as well\n"
            "      --output=json     in the form of 'qemu-img check --output=json'\n",
    .run = check_run,
};
