#include "daemon/daemon.h"
#include "daemon/daemonize.h"
#include "daemon/log.h"
#include "daemon/options.h"

#include <signal.h>
#include <stdlib.h>

/* Reports @err, which is freed, if there is one. */
static int status_of(struct error *err)
{
    if (!err)
        return EXIT_SUCCESS;
    log_error("%s", error_message(err));
    error_free(err);
    return EXIT_FAILURE;
}

static int run(const struct options *options)
{
    if (options->check)
        return status_of(options_check(options));
    int status = options->daemonize ? status_of(daemonize_begin()) : EXIT_SUCCESS;
    return status == EXIT_SUCCESS ? daemon_run(options) : status;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    struct options options;
    int status = status_of(options_parse(argc, argv, &options));
    if (status == EXIT_SUCCESS)
        status = run(&options);
    options_fini(&options);
    return status;
}
