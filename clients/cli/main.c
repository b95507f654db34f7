/* cairnctl - talk to a storage daemon: cairnd, or whatever speaks QMP on a Unix socket */
#include "clients/cli/cli.h"

#include "clients/cli/size.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_TIMEOUT_MS 60000

static const struct subcommand *const subcommands[] = {
    &apply_subcommand, &call_subcommand, &shell_subcommand,    &map_subcommand,   &graph_subcommand,
    &top_subcommand,   &jobs_subcommand, &wait_job_subcommand, &check_subcommand, &events_subcommand,
    &trace_subcommand, &save_subcommand, &complete_subcommand,
};

static void print_overview(FILE *out)
{
    fprintf(out, "usage: cairnctl [-s SOCKET] [-t SECONDS] SUBCOMMAND [ARGUMENT...]\n"
                 "\n"
                 "Talks QMP to a storage daemon over its Unix socket.\n"
                 "\n"
                 "  -s, --socket SOCKET    the daemon's socket (default: $CAIRN_SOCKET)\n"
                 "  -t, --timeout SECONDS  how long to wait for a reply, 0 for ever (default: 60)\n"
                 "  -h, --help             this text; 'cairnctl SUBCOMMAND --help' tells more of each subcommand\n"
                 "  -V, --version          print the version\n"
                 "\n"
                 "Subcommands:\n");
    for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
        fprintf(out, "  %-10s %s\n", subcommands[i]->name, subcommands[i]->summary);
    fprintf(out, "\n"
                 "Exit status: 0 if all went well, 1 if the daemon refused or a job failed, 2 if the command line is\n"
                 "wrong or the daemon cannot be reached.\n");
}

static void print_help(const struct subcommand *subcommand)
{
    printf("usage: cairnctl [-s SOCKET] %s %s\n\n%s\n\n%s", subcommand->name, subcommand->arguments,
           subcommand->summary, subcommand->help);
}

static const struct subcommand *find_subcommand(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
        if (strcmp(subcommands[i]->name, name) == 0)
            return subcommands[i];
    return NULL;
}

static bool asks_for_help(int argc, char **argv)
{
    return argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
}

static int run_subcommand(const struct subcommand *subcommand, const char *socket, uint64_t timeout_ms, int argc,
                          char **argv)
{
    if (asks_for_help(argc, argv)) {
        print_help(subcommand);
        return EXIT_OK;
    }
    if (!socket || !*socket)
        return cli_usage("no socket: use -s SOCKET or set CAIRN_SOCKET");

    struct cli cli = { .socket = socket };
    struct error *err = client_connect(socket, timeout_ms, &cli.client);
    if (err) {
        fprintf(stderr, "cairnctl: %s\n", error_message(err));
        error_free(err);
        return EXIT_USAGE;
    }
    int status = subcommand->run(&cli, argc, argv);
    client_close(cli.client);
    if (fflush(stdout) != 0 && status == EXIT_OK)
        return cli_usage("cannot write the output");
    return status;
}

/* The options before the subcommand. Returns false when *status is the end of it. */
static bool parse_options(int argc, char **argv, const char **socket, uint64_t *timeout_ms, int *status)
{
    static const struct option options[] = {
        { "socket", required_argument, NULL, 's' },
        { "timeout", required_argument, NULL, 't' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { 0 },
    };
    uint64_t seconds;

    for (int option; (option = getopt_long(argc, argv, "+s:t:hV", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            *socket = optarg;
            break;
        case 't':
            if (!size_parse(optarg, &seconds) || seconds > UINT32_MAX) {
                *status = cli_usage("'%s' is no number of seconds", optarg);
                return false;
            }
            *timeout_ms = seconds * 1000;
            break;
        case 'h':
            print_overview(stdout);
            *status = EXIT_OK;
            return false;
        case 'V':
            printf("cairnctl %s\n", CAIRN_VERSION);
            *status = EXIT_OK;
            return false;
        default:
            print_overview(stderr);
            *status = EXIT_USAGE;
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    const char *socket = getenv("CAIRN_SOCKET");
    uint64_t timeout_ms = DEFAULT_TIMEOUT_MS;
    int status;

    signal(SIGPIPE, SIG_IGN);
    if (!parse_options(argc, argv, &socket, &timeout_ms, &status))
        return status;
    argc -= optind;
    argv += optind;
    if (argc == 0) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    const struct subcommand *subcommand = find_subcommand(argv[0]);
    if (!subcommand)
        return cli_usage("'%s' is no subcommand; 'cairnctl --help' lists them", argv[0]);
    optind = 0; /* the subcommand parses options of its own */
    return run_subcommand(subcommand, socket, timeout_ms, argc, argv);
}
