/* schemac - from one description of an interface to all that is written from it */
#include "schema/compiler/backend.h"
#include "schema/compiler/check.h"
#include "schema/compiler/diff_main.h"
#include "schema/compiler/model.h"
#include "schema/compiler/modes.h"

#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    OPTION_MODE = 256, /* the first of the modes' options */
    OPTIONS_MAX = 32,
};

enum {
    EXIT_INVALID = 1, /* the schema has an error, or a file cannot be written */
    EXIT_USAGE = 2,
};

struct arguments {
    const char *output_directory;
    const char *depfile;
    const char *depfile_target; /* NULL: the first file that is written */
    const char *schema;
    bool check;
    int mode_count;            /* how often one was asked for */
    const struct mode *mode;   /* NULL: none */
    const char *mode_argument; /* of the mode's option */
    struct backend_options backend;
    VECTOR(const char *) defined;
};

struct file_backend {
    const char *name; /* behind the prefix */
    void (*write)(struct output *output, const struct model *model, const struct backend_options *options);
};

static const struct file_backend files[] = {
    { "types.h", write_types_header },
    { "types.c", write_types_source },
    { "descriptors.h", write_descriptors_header },
    { "descriptors.c", write_descriptors_source },
    { "commands.h", write_commands_header },
    { "commands.c", write_commands_source },
    { "events.h", write_events_header },
    { "events.c", write_events_source },
    { "introspect.h", write_introspect_header },
    { "introspect.c", write_introspect_source },
    { "client.h", write_client_header },
    { "client.c", write_client_source },
};

static void print_usage(FILE *file)
{
    fputs("usage: schemac --check FILE.json\n"
          "       schemac --output-dir DIR [--prefix PREFIX] [--depfile FILE [--depfile-target T]] FILE.json\n"
          "       schemac MODE [-D NAME]... FILE.json\n"
          "       schemac diff OLD.json NEW.json\n"
          "\n"
          "Reads an interface in the QAPI schema language.\n"
          "\n"
          "  --check            say whether it is valid, write nothing\n"
          "  --output-dir DIR   write C to DIR; files that would stay the same are left alone\n"
          "  --prefix PREFIX    begin the names of files and tables with PREFIX\n"
          "  --depfile FILE     write which files were read, for make and ninja\n"
          "  --depfile-target T name T as what depends on them, instead of the first file written\n"
          "  -D NAME            take the condition NAME as true when printing\n"
          "\n"
          "What is printed, by MODE:\n",
          file);
    for (size_t i = 0; i < mode_count; i++) {
        const char *argument = modes[i].argument ? modes[i].argument : "";
        int width = 16 - (int)strlen(modes[i].option);
        fprintf(file, "  --%s %-*s %s\n", modes[i].option, width > 0 ? width : 0, argument, modes[i].help);
    }
    fputs("\nExit status: 0 valid, 1 not valid or not written, 2 wrong usage.\n", file);
}

static bool parse_option(struct arguments *arguments, struct arena *arena, int option)
{
    if (option >= OPTION_MODE) {
        arguments->mode_count++;
        arguments->mode = &modes[option - OPTION_MODE];
        arguments->mode_argument = optarg;
        return true;
    }
    switch (option) {
    case 'c':
        arguments->check = true;
        return true;
    case 'o':
        arguments->output_directory = optarg;
        return true;
    case 'p':
        arguments->backend.prefix = optarg;
        return true;
    case 'd':
        arguments->depfile = optarg;
        return true;
    case 't':
        arguments->depfile_target = optarg;
        return true;
    case 'D':
        VECTOR_PUSH(arena, &arguments->defined, optarg);
        return true;
    default:
        return false;
    }
}

static int argument_of(const struct mode *mode)
{
    if (!mode->argument)
        return no_argument;
    return mode->argument[0] == '[' ? optional_argument : required_argument;
}

/* The options of all modes behind those that are always there. */
static void list_options(struct option *options)
{
    static const struct option always[] = {
        { "check", no_argument, NULL, 'c' },
        { "output-dir", required_argument, NULL, 'o' },
        { "prefix", required_argument, NULL, 'p' },
        { "depfile", required_argument, NULL, 'd' },
        { "depfile-target", required_argument, NULL, 't' },
        { "help", no_argument, NULL, 'h' },
    };
    memcpy(options, always, sizeof(always));
    for (size_t i = 0; i < mode_count && ARRAY_SIZE(always) + i + 1 < OPTIONS_MAX; i++)
        options[ARRAY_SIZE(always) + i] =
            (struct option){ modes[i].option, argument_of(&modes[i]), NULL, OPTION_MODE + (int)i };
}

static bool parse_arguments(struct arguments *arguments, struct arena *arena, int argc, char **argv)
{
    struct option options[OPTIONS_MAX] = { 0 };
    list_options(options);
    int option;
    while ((option = getopt_long(argc, argv, "o:p:D:h", options, NULL)) != -1) {
        if (option == 'h') {
            print_usage(stdout);
            exit(EXIT_SUCCESS);
        }
        if (!parse_option(arguments, arena, option))
            return false;
    }
    if (arguments->check + arguments->mode_count + (arguments->output_directory != NULL) != 1 || argc - optind != 1)
        return false;
    arguments->schema = argv[optind];
    const char *slash = strrchr(arguments->schema, '/');
    arguments->backend.schema = slash ? slash + 1 : arguments->schema;
    arguments->backend.defined = arguments->defined.items;
    arguments->backend.defined_count = arguments->defined.count;
    return true;
}

/* A path as make reads it. */
static void write_path(FILE *file, const char *path)
{
    for (; *path; path++)
        fprintf(file, *path == ' ' || *path == '#' ? "\\%c" : *path == '$' ? "$%c" : "%c", *path);
}

static bool write_depfile(struct compilation *compilation, const struct program *program,
                          const struct arguments *arguments)
{
    FILE *file = fopen(arguments->depfile, "we");
    if (!file)
        return compilation_error(compilation, (struct location){ 0 }, "can't write '%s': %s", arguments->depfile,
                                 strerror(errno));
    const char *target = arguments->depfile_target;
    if (!target)
        target = arena_printf(compilation->arena, "%s/%s%s", arguments->output_directory, arguments->backend.prefix,
                              files[0].name);
    write_path(file, target);
    fputs(":", file);
    for (size_t i = 0; i < program->sources.count; i++) {
        fputs(" \\\n ", file);
        write_path(file, program->sources.items[i]->path);
    }
    fputc('\n', file);
    if (fclose(file) == 0)
        return true;
    return compilation_error(compilation, (struct location){ 0 }, "can't write '%s': %s", arguments->depfile,
                             strerror(errno));
}

static bool write_files(struct compilation *compilation, const struct model *model, const struct arguments *arguments)
{
    if (mkdir(arguments->output_directory, 0777) < 0 && errno != EEXIST)
        return compilation_error(compilation, (struct location){ 0 }, "can't make '%s': %s",
                                 arguments->output_directory, strerror(errno));
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        struct output output = { .arena = compilation->arena };
        files[i].write(&output, model, &arguments->backend);
        const char *name = arena_printf(compilation->arena, "%s%s", arguments->backend.prefix, files[i].name);
        if (!output_write(&output, compilation, arguments->output_directory, name))
            return false;
    }
    return true;
}

/* The exit status. */
static int print_mode(struct compilation *compilation, const struct model *model, const struct arguments *arguments)
{
    struct output output = { .arena = compilation->arena };
    if (!arguments->mode->write(&output, model, &arguments->backend, arguments->mode_argument)) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (fwrite(output.text.items, 1, output.text.count, stdout) == output.text.count && fflush(stdout) == 0)
        return EXIT_SUCCESS;
    compilation_error(compilation, (struct location){ 0 }, "can't write: %s", strerror(errno));
    return EXIT_INVALID;
}

/* The exit status. */
static int compile(struct compilation *compilation, const struct arguments *arguments)
{
    struct program program = { 0 };
    struct model model;
    if (!program_parse(&program, compilation, arguments->schema) || !program_check(&program, compilation) ||
        !model_build(&model, compilation, &program))
        return EXIT_INVALID;
    if (arguments->mode)
        return print_mode(compilation, &model, arguments);
    if (arguments->check)
        return EXIT_SUCCESS;
    if (!write_files(compilation, &model, arguments) ||
        (arguments->depfile && !write_depfile(compilation, &program, arguments)))
        return EXIT_INVALID;
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "diff") == 0)
        return diff_main(argc - 1, argv + 1);
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    struct arguments arguments = { .backend = { .prefix = "" } };
    int status = EXIT_USAGE;
    if (parse_arguments(&arguments, &arena, argc, argv)) {
        struct compilation compilation = { .arena = &arena, .messages = stderr };
        status = compile(&compilation, &arguments);
    } else {
        print_usage(stderr);
    }
    arena_fini(&arena);
    return status;
}
