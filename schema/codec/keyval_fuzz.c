/* Any text as key=value: it is refused with a message, or the tree decodes, or that is refused with a message. */
#include "schema/cairn_descriptors.h"
#include "schema/codec/decode.h"
#include "schema/codec/keyval.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum {
    ARENA_BYTES_MAX = 1 << 20,
};

static void decode_as(const struct type_descriptor *type, const json_t *tree)
{
    struct arena arena;
    void *value;
    arena_init(&arena, ARENA_BYTES_MAX);
    CLEANUP(error_free) struct error *err = decode_value(type, tree, DECODE_TEXT, "", &arena, &value, NULL);
    if (err && !*error_message(err))
        abort();
    arena_fini(&arena);
}

static void try_text(struct error *(*parse)(const char *text, const char *implied_key, json_t **out), const char *text,
                     const char *implied_key)
{
    json_t *tree = NULL;
    CLEANUP(error_free) struct error *err = parse(text, implied_key, &tree);
    if ((err == NULL) != json_is_object(tree))
        abort();
    if (err)
        return;
    decode_as(&blockdev_options_descriptor, tree);
    decode_as(&block_export_options_descriptor, tree);
    decode_as(&chardev_options_descriptor, tree);
    json_decref(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1);
    if (!text)
        return 0;
    if (bytes)
        memcpy(text, data, bytes);
    text[bytes] = '\0';
    try_text(keyval_parse, text, NULL);
    try_text(keyval_parse, text, "driver");
    try_text(keyval_parse_flags, text, "backend");
    keyval_wants_help(text);
    free(text);
    return 0;
}
