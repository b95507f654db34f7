/* Asks the codec what it thinks of values: for each line "TYPE json|text VALUE" on standard input one line, "ok" or the
 * error. check_json_schema.py compares the answers with those of a JSON Schema. */
#include "schema/cairn_descriptors.h"
#include "schema/codec/decode.h"
#include "schema/codec/json_parse.h"
#include "schema/sample_descriptors.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    const struct type_descriptor *type;
} types[] = {
    { "BlockExportOptions", &block_export_options_descriptor },
    { "BlockdevCreateOptions", &blockdev_create_options_descriptor },
    { "BlockdevOptions", &blockdev_options_descriptor },
    { "CairnConfig", &cairn_config_descriptor },
    { "SocketAddressLegacy", &socket_address_legacy_descriptor },
    { "SampleArrays", &sample_arrays_descriptor },
    { "SampleOuter", &sample_outer_descriptor },
    { "SampleScalars", &sample_scalars_descriptor },
};

static const struct type_descriptor *find(const char *name)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(types[i].name, name) == 0)
            return types[i].type;
    fprintf(stderr, "no type '%s'\n", name);
    exit(2);
}

static void answer(const char *type, const char *mode, const char *text)
{
    json_t *json = NULL;
    struct error *err = json_parse(text, strlen(text), JSON_VALUES_MAX, &json);
    if (err) {
        puts("not JSON");
        error_free(err);
        return;
    }
    struct arena arena;
    void *value;
    arena_init(&arena, SIZE_MAX);
    err =
        decode_value(find(type), json, strcmp(mode, "text") == 0 ? DECODE_TEXT : DECODE_JSON, "", &arena, &value, NULL);
    puts(err ? error_message(err) : "ok");
    error_free(err);
    arena_fini(&arena);
    json_decref(json);
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, stdin)) > 0) {
        line[length - 1] = '\0';
        char *rest = line;
        const char *type = strsep(&rest, " ");
        const char *mode = strsep(&rest, " ");
        if (!rest)
            return 2;
        answer(type, mode, rest);
    }
    free(line);
    return 0;
}
