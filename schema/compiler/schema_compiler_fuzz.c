/* Any text as a schema: it is refused with a message, or everything is written from it, and what is written as plain
 * QAPI is itself a schema. */
#include "schema/compiler/backend.h"
#include "schema/compiler/check.h"
#include "schema/compiler/printers.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* No file but the one that is fuzzed. */
static struct source *read_nothing(struct arena *arena, const char *path, int *errnum)
{
    (void)arena;
    (void)path;
    *errnum = ENOENT;
    return NULL;
}

static void write_all(struct arena *arena, const struct model *model)
{
    static void (*const writers[])(struct output *, const struct model *, const struct backend_options *) = {
        write_types_header,       write_types_source,    write_descriptors_header,
        write_descriptors_source, write_commands_header, write_commands_source,
        write_events_header,      write_events_source,   write_introspect_header,
        write_introspect_source,  write_introspect_json, write_client_header,
        write_client_source,      write_model_json,      write_docs_md,
        write_docs_html,          write_docs_man,        write_python,
    };
    const struct backend_options options = { .prefix = "fuzz_", .schema = "fuzz.json" };
    for (size_t i = 0; i < ARRAY_SIZE(writers); i++) {
        struct output output = { .arena = arena };
        writers[i](&output, model, &options);
    }
    for (size_t i = 0; i < model->types.count && i < 20; i++) {
        struct output output = { .arena = arena };
        write_json_schema(&output, model, &options, model->types.items[i]->name, i % 2);
    }
}

static bool build(struct model *model, struct compilation *compilation, const char *text, size_t bytes)
{
    struct program *program = arena_alloc(compilation->arena, sizeof(*program));
    struct source *source = source_from_text(compilation->arena, "fuzz.json", text, bytes);
    return program_parse_source(program, compilation, source) && program_check(program, compilation) &&
           model_build(model, compilation, program);
}

static void read_plain_form(struct arena *arena, const struct model *model)
{
    const struct backend_options options = { .prefix = "", .schema = "fuzz.json" };
    struct output output = { .arena = arena };
    struct compilation compilation = { .arena = arena, .messages = stderr, .read = read_nothing };
    struct model again;
    write_qapi(&output, model, &options);
    if (!build(&again, &compilation, output.text.items, output.text.count)) {
        fwrite(output.text.items, 1, output.text.count, stderr);
        abort();
    }
    /* It also says how the two differ for clients. */
    write_diff(&output, model, &again);
    write_diff(&output, &again, model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static FILE *nowhere;
    if (!nowhere)
        nowhere = fopen("/dev/null", "we");
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    struct compilation compilation = { .arena = &arena, .messages = nowhere, .read = read_nothing };
    struct model model;
    if (nowhere && build(&model, &compilation, (const char *)data, bytes)) {
        write_all(&arena, &model);
        read_plain_form(&arena, &model);
    }
    arena_fini(&arena);
    return 0;
}
