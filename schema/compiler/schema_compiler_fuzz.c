/* Any text as a schema: it is refused with a message, or everything is written from it. */
#include "schema/compiler/backend.h"
#include "schema/compiler/check.h"

#include <errno.h>
#include <stdint.h>

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
        write_types_header,      write_types_source,      write_descriptors_header, write_descriptors_source,
        write_commands_header,   write_commands_source,   write_events_header,      write_events_source,
        write_introspect_header, write_introspect_source, write_introspect_json,
    };
    const struct backend_options options = { .prefix = "fuzz_", .schema = "fuzz.json" };
    for (size_t i = 0; i < ARRAY_SIZE(writers); i++) {
        struct output output = { .arena = arena };
        writers[i](&output, model, &options);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static FILE *nowhere;
    if (!nowhere)
        nowhere = fopen("/dev/null", "we");
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    struct compilation compilation = { .arena = &arena, .messages = nowhere, .read = read_nothing };
    struct program program = { 0 };
    struct model model;
    struct source *source = source_from_text(&arena, "fuzz.json", (const char *)data, bytes);
    if (nowhere && program_parse_source(&program, &compilation, source) && program_check(&program, &compilation) &&
        model_build(&model, &compilation, &program))
        write_all(&arena, &model);
    arena_fini(&arena);
    return 0;
}
