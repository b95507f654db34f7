#include "clients/cli/cli.h"
#include "clients/cli/yaml.h"

#include "blockcore/base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_config(FILE *out, const json_t *info)
{
    const json_t *left_out = json_object_get(info, "left-out");
    const json_t *sentence;
    size_t i;
    yaml_print_comment(out, "yaml-language-server: $schema=" CAIRN_CONFIG_SCHEMA);
    if (json_array_size(left_out) > 0)
        yaml_print_comment(out, "Left out:");
    json_array_foreach(left_out, i, sentence)
    {
        CLEANUP(free) char *line = xasprintf("- %s", json_string_value(sentence));
        yaml_print_comment(out, line);
    }
    yaml_print(out, json_object_get(info, "config"));
}

/* Whoever reads the file meanwhile finds the old one or the new one. */
static int write_file(const char *path, const json_t *info)
{
    CLEANUP(free) char *temporary = NULL;
    if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
        return cli_usage("save: no memory");
    int fd = mkstemp(temporary);
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!out)
        return cli_usage("save: cannot write '%s': %s", temporary, strerror(errno));
    print_config(out, info);
    bool written = fflush(out) == 0 && fsync(fd) == 0;
    written = fclose(out) == 0 && written;
    if (written && rename(temporary, path) == 0)
        return EXIT_OK;
    int error = errno;
    unlink(temporary);
    return cli_usage("save: cannot write '%s': %s", path, strerror(error));
}

static int save_run(struct cli *cli, int argc, char **argv)
{
    CLEANUP(json_decref) json_t *info = NULL;
    if (argc > 2 || (argc == 2 && *argv[1] == '-'))
        return cli_usage("save: at most one file");
    struct error *err = client_call(cli->client, "query-config", NULL, &info);
    if (err)
        return cli_fail(cli, err);
    if (argc == 2)
        return write_file(argv[1], info);
    print_config(stdout, info);
    return EXIT_OK;
}

const struct subcommand save_subcommand = {
    .name = "save",
    .arguments = "[FILE]",
    .summary = "print what runs as a configuration that would make it again",
    .help =
        "In YAML, as 'cairnd --config' reads it. Nodes, exports and so on are as they are now, whatever made them.\n"
        "Secrets are never written; what is left out is said in a comment. A FILE is replaced in one step, and only\n"
        "its owner may read it.\n",
    .run = save_run,
};
