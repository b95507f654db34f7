/* codec - decode and encode in one line, for tests */
#ifndef CAIRN_TESTS_SCHEMA_CODEC_H
#define CAIRN_TESTS_SCHEMA_CODEC_H

#include "schema/codec/decode.h"
#include "schema/codec/encode.h"
#include "schema/codec/json_parse.h"

#include "tests/unit/base/unit.h"

static struct arena codec_arena;

static int codec_set_up(void **state)
{
    (void)state;
    arena_init(&codec_arena, SIZE_MAX);
    return 0;
}

static int codec_tear_down(void **state)
{
    (void)state;
    arena_fini(&codec_arena);
    return 0;
}

static inline json_t *parse_json(const char *text)
{
    json_t *json = NULL;
    CLEANUP(error_free) struct error *err = json_parse(text, strlen(text), JSON_VALUES_MAX, &json);
    if (err)
        fail_msg("%s: %s", text, error_message(err));
    return json;
}

static inline struct error *try_decode(const struct type_descriptor *type, const char *text, enum decode_mode mode,
                                       void **value)
{
    json_t *json = parse_json(text);
    struct error *err = decode_value(type, json, mode, "arguments", &codec_arena, value, NULL);
    json_decref(json);
    return err;
}

/* The value of @text, which must be valid. */
static inline const void *decoded(const struct type_descriptor *type, enum decode_mode mode, const char *text)
{
    void *value = NULL;
    CLEANUP(error_free) struct error *err = try_decode(type, text, mode, &value);
    if (err)
        fail_msg("%s: %s", text, error_message(err));
    return value;
}

static inline void expect_refused(const struct type_descriptor *type, enum decode_mode mode, const char *text,
                                  const char *message)
{
    void *value = NULL;
    CLEANUP(error_free) struct error *err = try_decode(type, text, mode, &value);
    if (!err)
        fail_msg("%s was taken", text);
    assert_string_equal(error_message(err), message);
    assert_null(value);
}

/* The JSON of a value, in codec_arena. */
static inline const char *encoded(const struct type_descriptor *type, const void *value, unsigned flags)
{
    CLEANUP(text_fini) struct text text = { 0 };
    CLEANUP(error_free) struct error *err = encode_value(&text, type, value, flags, 0);
    if (err)
        fail_msg("%s", error_message(err));
    return arena_strndup(&codec_arena, text.data, text.length);
}

/* What is decoded and encoded again is the same value. */
static inline void expect_round_trip(const struct type_descriptor *type, const char *text)
{
    const char *again = encoded(type, decoded(type, DECODE_JSON, text), 0);
    json_t *one = parse_json(text), *other = parse_json(again);
    if (!json_equal(one, other))
        fail_msg("%s became %s", text, again);
    json_decref(one);
    json_decref(other);
}

#endif
