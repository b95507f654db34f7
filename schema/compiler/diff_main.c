#include "schema/compiler/diff_main.h"

#include "schema/compiler/check.h"
#include "schema/compiler/printers.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    STATUS_COMPATIBLE = 0,
    STATUS_BREAKS = 1, /* or one of the two is not valid */
    STATUS_USAGE = 2,
};

static bool load(struct compilation *compilation, const char *path, struct model *model)
{
    struct program *program = arena_alloc(compilation->arena, sizeof(*program));
    return program_parse(program, compilation, path) && program_check(program, compilation) &&
           model_build(model, compilation, program);
}

static int compare(struct arena *arena, const char *old_path, const char *new_path)
{
    struct compilation compilation = { .arena = arena, .messages = stderr };
    struct model old_model, new_model;
    if (!load(&compilation, old_path, &old_model) || !load(&compilation, new_path, &new_model))
        return STATUS_BREAKS;
    struct output output = { .arena = arena };
    size_t breaks = write_diff(&output, &old_model, &new_model);
    if (output.text.count > 0)
        fwrite(output.text.items, 1, output.text.count, stdout);
    return breaks || fflush(stdout) != 0 ? STATUS_BREAKS : STATUS_COMPATIBLE;
}

int diff_main(int argc, char **argv)
{
    if (argc != 3 || argv[1][0] == '-') {
        bool asked = argc == 2 && strcmp(argv[1], "--help") == 0;
        fputs("usage: schemac diff OLD.json NEW.json\n"
              "\n"
              "Prints what breaks clients of OLD when the server speaks NEW, one line for each change.\n"
              "\n"
              "Exit status: 0 nothing, 1 something, or a schema is not valid, 2 wrong usage.\n",
              asked ? stdout : stderr);
        return asked ? STATUS_COMPATIBLE : STATUS_USAGE;
    }
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    int status = compare(&arena, argv[1], argv[2]);
    arena_fini(&arena);
    return status;
}
