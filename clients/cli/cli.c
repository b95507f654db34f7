#include "clients/cli/cli.h"

#include "clients/cli/terminal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int cli_fail(const struct cli *cli, struct error *err)
{
    bool unreachable = client_is_broken(cli->client) || error_errnum(err) == ETIMEDOUT;

    fputs("cairnctl: ", stderr);
    terminal_print(stderr, error_message(err));
    fputc('\n', stderr);
    error_free(err);
    return unreachable ? EXIT_USAGE : EXIT_REFUSED;
}

int cli_usage(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("cairnctl: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_USAGE;
}
