/* Any JSON as arguments: it is refused with a message, or what it became encodes to JSON that becomes an equal value
 * again, and its copy is equal too. */
#include "schema/cairn_descriptors.h"
#include "schema/codec/compare.h"
#include "schema/codec/copy.h"
#include "schema/codec/decode.h"
#include "schema/codec/encode.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum {
    ARENA_BYTES_MAX = 1 << 20,
};

static void encode_and_decode_again(const struct type_descriptor *type, const void *value, struct arena *arena)
{
    CLEANUP(text_fini) struct text text = { 0 }, again = { 0 };
    void *other;
    if (encode_value(&text, type, value, 0, 0))
        abort();
    json_t *json = json_loadb(text.data, text.length, JSON_DECODE_ANY, NULL);
    /* Numbers beyond what the reader of JSON takes are the only loss. */
    CLEANUP(error_free)
    struct error *err = json ? decode_value(type, json, DECODE_JSON, "", arena, &other, NULL) : error_new("not read");
    json_decref(json);
    if (err)
        return;
    if (!value_equal(type, value, other))
        abort();
    if (encode_value(&again, type, other, ENCODE_PRETTY | ENCODE_REDACT, 0))
        abort();
}

static void copy_and_compare(const struct type_descriptor *type, const void *value, struct arena *arena)
{
    struct value_changes changes;
    const void *copy = value_copy(type, value, arena);
    if (copy && !value_equal(type, value, copy))
        abort();
    CLEANUP(error_free) struct error *err = copy ? value_diff(type, value, copy, arena, &changes) : NULL;
    if (copy && !err && changes.count)
        abort();
}

static void try_type(const struct type_descriptor *type, const json_t *json, enum decode_mode mode)
{
    struct arena arena;
    struct decode_failure failure = { 0 };
    void *value = NULL;
    arena_init(&arena, ARENA_BYTES_MAX);
    CLEANUP(error_free) struct error *err = decode_value(type, json, mode, "arguments", &arena, &value, &failure);
    if (!err) {
        encode_and_decode_again(type, value, &arena);
        copy_and_compare(type, value, &arena);
    }
    if (err && !failure.path && !strstr(error_message(err), "too large"))
        abort();
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const struct type_descriptor *const types[] = {
        &blockdev_options_descriptor,
        &cairn_config_descriptor,
        &query_block_status_arguments_descriptor,
        &block_export_options_descriptor,
        &nbd_server_start_arguments_descriptor,
        &schema_info_descriptor,
        &blockdev_create_arguments_descriptor,
        &chardev_options_descriptor,
    };
    json_t *json = json_loadb((const char *)data, bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!json)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        try_type(types[i], json, DECODE_JSON);
        try_type(types[i], json, DECODE_TEXT);
        try_type(types[i], json, DECODE_REPLY);
    }
    json_decref(json);
    return 0;
}
