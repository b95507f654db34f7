/* cli - what the subcommands of cairnctl share
 *
 * One file per subcommand (command_*.c), one table in main.c. A subcommand gets its own arguments and an open session;
 * what it returns is the exit status. */
#ifndef CAIRN_CLI_H
#define CAIRN_CLI_H

#include "clients/c/client.h"

enum exit_status {
    EXIT_OK = 0,
    EXIT_REFUSED = 1, /* the daemon said no, or a job failed */
    EXIT_USAGE = 2,   /* the command line is wrong, or there is no daemon to talk to */
};

struct cli {
    const char *socket;
    struct client *client; /* connected before run() is called */
};

struct subcommand {
    const char *name;
    const char *arguments; /* for the usage line */
    const char *summary;   /* one line, for the overview */
    const char *help;      /* the rest of the manual page */
    /* argv[0] is the subcommand's name. Returns an enum exit_status. */
    int (*run)(struct cli *cli, int argc, char **argv);
};

extern const struct subcommand apply_subcommand;
extern const struct subcommand call_subcommand;
extern const struct subcommand shell_subcommand;
extern const struct subcommand map_subcommand;
extern const struct subcommand graph_subcommand;
extern const struct subcommand jobs_subcommand;
extern const struct subcommand top_subcommand;
extern const struct subcommand wait_job_subcommand;
extern const struct subcommand check_subcommand;
extern const struct subcommand events_subcommand;
extern const struct subcommand trace_subcommand;
extern const struct subcommand complete_subcommand;
extern const struct subcommand save_subcommand;

/* Prints and consumes @err; returns the exit status that fits: a lost session is not a refusal. */
int cli_fail(const struct cli *cli, struct error *err);

/* "cairnctl: <formatted>" on stderr; returns EXIT_USAGE. */
int cli_usage(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
