#include "clients/cli/cli.h"
#include "clients/cli/terminal.h"

#include "blockcore/base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (64 * 1024 * 1024)

/* The bytes of a file as a string; NULL and a message when it cannot be read. */
static json_t *read_text(const char *path)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    CLEANUP(free) char *text = NULL;
    size_t length = 0;
    size_t room = 0;
    while (file && length <= FILE_BYTES_MAX) {
        if (room - length < 2)
            text = xrealloc_array(text, room = 2 * room + 65536, 1);
        size_t count = fread(text + length, 1, room - length, file);
        if (count == 0)
            break;
        length += count;
    }
    bool bad = !file || ferror(file);
    int error = errno;
    if (file && file != stdin)
        fclose(file);
    json_t *string = bad || length > FILE_BYTES_MAX ? NULL : json_stringn(text, length);
    if (!string)
        cli_usage("apply: cannot read '%s': %s", path, bad ? strerror(error) : "too large, or no UTF-8");
    return string;
}

static bool add_file(json_t *files, const char *path)
{
    json_t *text = read_text(path);
    if (!text)
        return false;
    const char *name = strcmp(path, "-") == 0 ? "<stdin>" : path;
    json_array_append_new(files, json_pack("{s:s, s:o}", "name", name, "text", text));
    return true;
}

static int is_yaml(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return *entry->d_name != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".yaml") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* As cairnd does with --config. */
static bool add_directory(json_t *files, const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, is_yaml, by_bytes);
    bool good = count >= 0;
    if (!good)
        cli_usage("apply: cannot read the directory '%s': %s", path, strerror(errno));
    for (int i = 0; i < count; i++) {
        CLEANUP(free) char *file = xasprintf("%s/%s", path, entries[i]->d_name);
        good = good && add_file(files, file);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return good;
}

static bool add_path(json_t *files, const char *path)
{
    struct stat st;
    bool is_directory = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    return is_directory ? add_directory(files, path) : add_file(files, path);
}

static void print_plan(const json_t *plan)
{
    const json_t *steps = json_object_get(plan, "steps");
    const json_t *step;
    size_t i;
    json_array_foreach(steps, i, step)
    {
        terminal_print(stdout, json_string_value(json_object_get(step, "text")));
        putchar('\n');
    }
    if (json_array_size(steps) == 0)
        puts("nothing to do");
}

static int apply_files(struct cli *cli, char **paths, int count, bool dry_run, bool prune)
{
    CLEANUP(json_decref) json_t *files = json_array();
    CLEANUP(json_decref) json_t *plan = NULL;
    for (int i = 0; i < count; i++) {
        if (!add_path(files, paths[i]))
            return EXIT_USAGE;
    }
    json_t *arguments = json_pack("{s:O, s:b, s:b}", "files", files, "dry-run", dry_run, "prune", prune);
    struct error *err = client_call(cli->client, "config-apply", arguments, &plan);
    if (err)
        return cli_fail(cli, err);
    print_plan(plan);
    return EXIT_OK;
}

static int apply_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = { { "dry-run", no_argument, NULL, 'n' },
                                             { "prune", no_argument, NULL, 'p' },
                                             { 0 } };
    bool dry_run = false;
    bool prune = false;
    for (int option; (option = getopt_long(argc, argv, "n", options, NULL)) != -1;) {
        if (option == '?')
            return EXIT_USAGE;
        dry_run = dry_run || option == 'n';
        prune = prune || option == 'p';
    }
    if (argc == optind)
        return cli_usage("apply: which file or directory?");
    return apply_files(cli, argv + optind, argc - optind, dry_run, prune);
}

const struct subcommand apply_subcommand = {
    .name = "apply",
    .arguments = "[-n] [--prune] FILE|DIRECTORY...",
    .summary = "make what runs what a configuration describes, or change nothing",
    .help =
        "The files are read here and sent to the daemon, which compares them with what runs, prints what it does and\n"
        "does it under running requests. If a step fails, those before it are undone. Of a directory the files\n"
        "*.yaml are taken in the order of their names; '-' is standard input. Variables are those of the daemon.\n"
        "\n"
        "  -n, --dry-run   only print what would be done\n"
        "      --prune     also remove nodes, NBD servers, exports and objects that no configuration described\n",
    .run = apply_run,
};
