/* Values without parts: numbers, strings, enums. */
#include "schema/codec/decode_private.h"

#include "schema/codec/json_tree.h"
#include "schema/codec/limits.h"
#include "schema/codec/scalar.h"
#include "schema/codec/suggest.h"
#include "schema/codec/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *name_of_kind(const json_t *json)
{
    if (json_wide_digits(json))
        return "integer";
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

enum {
    KEY_SHOWN_MAX = 64, /* bytes of a key in a path */
};

/* The text of one step, without what separates it from the one above: "file", "[3]" or, in text, "3". */
static size_t show_step(const struct decoder *decoder, const struct step *step, char *shown)
{
    int length;
    if (step->key)
        length = snprintf(shown, KEY_SHOWN_MAX + 1, "%s", step->key);
    else
        length = snprintf(shown, KEY_SHOWN_MAX + 1, decoder->mode == DECODE_TEXT ? "%zu" : "[%zu]", step->index);
    return length > KEY_SHOWN_MAX ? KEY_SHOWN_MAX : (size_t)length;
}

const char *decode_path(const struct decoder *decoder, const struct step *step)
{
    char shown[KEY_SHOWN_MAX + 1];
    size_t total = 1;
    for (const struct step *s = step; s; s = s->up)
        total += show_step(decoder, s, shown) + 1;
    char *path = arena_try_alloc(decoder->arena, total);
    if (!path)
        return NULL;
    char *at = path + total - 1;
    for (const struct step *s = step; s; s = s->up) {
        size_t length = show_step(decoder, s, shown);
        at -= length;
        memcpy(at, shown, length);
        if (s->up && shown[0] != '[')
            *--at = '.';
    }
    return at;
}

bool decode_fail(struct decoder *decoder, const struct step *step, bool is_key, struct error *err)
{
    const char *path = decode_path(decoder, step);
    if (decoder->failure)
        *decoder->failure = (struct decode_failure){ .path = path, .is_key = is_key };
    if (!path)
        path = "";
    const char *dot = *decoder->root && *path && *path != '[' ? "." : "";
    decoder->error = *decoder->root || *path ? error_wrap(err, "%s%s%s", decoder->root, dot, path) : err;
    return false;
}

bool decode_fail_type(struct decoder *decoder, const struct step *step, const char *expected, const json_t *json)
{
    return decode_fail(decoder, step, false, error_new("expected %s, got %s", expected, name_of_kind(json)));
}

bool decode_fail_memory(struct decoder *decoder, const struct step *step)
{
    return decode_fail(decoder, step, false, error_new("too large"));
}

/* The text of a string; NULL after an error. */
static const char *text_of(struct decoder *decoder, const struct step *step, const char *expected, const json_t *json)
{
    if (!json_is_string(json) || json_wide_digits(json)) {
        decode_fail_type(decoder, step, expected, json);
        return NULL;
    }
    const char *text = json_string_value(json);
    if (memchr(text, 0, json_string_length(json))) {
        decode_fail(decoder, step, false, error_new("contains a zero byte"));
        return NULL;
    }
    return text;
}

/* How errors name what was given. */
struct quoted {
    char text[72];
};

static struct quoted quote(const struct decoder *decoder, const char *text)
{
    struct quoted quoted = { "the value" };
    if (!decoder->secret)
        snprintf(quoted.text, sizeof(quoted.text), "'%.64s'", text);
    return quoted;
}

static bool fail_text(struct decoder *decoder, const struct step *step, const char *text, const char *what)
{
    return decode_fail(decoder, step, false, error_new("%s is not %s", quote(decoder, text).text, what));
}

static bool decode_bool(struct decoder *decoder, const struct step *step, const json_t *json, void *place)
{
    bool value;
    if (is_text(decoder, json)) {
        const char *text = text_of(decoder, step, "boolean", json);
        if (!text)
            return false;
        if (scalar_bool(text, &value) != SCALAR_OK)
            return fail_text(decoder, step, text, "'on' or 'off'");
    } else if (json_is_boolean(json)) {
        value = json_is_true(json);
    } else {
        return decode_fail_type(decoder, step, "boolean", json);
    }
    memcpy(place, &value, sizeof(value));
    return true;
}

/* A number as errors show it: as it was written, if it was text. */
static struct quoted show_number(const struct decoder *decoder, const char *text, int64_t value)
{
    struct quoted shown = { "the value" };
    if (!decoder->secret && text)
        snprintf(shown.text, sizeof(shown.text), "%.64s", text);
    else if (!decoder->secret)
        snprintf(shown.text, sizeof(shown.text), "%" PRId64, value);
    return shown;
}

static bool decode_signed(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                          const json_t *json, void *place)
{
    int64_t max = (int64_t)(UINT64_MAX >> (65 - 8 * type->size)), min = -max - 1, value = 0;
    enum scalar_result result = SCALAR_OK;
    const char *text = NULL;

    if (is_text(decoder, json)) {
        text = text_of(decoder, step, type->name, json);
        if (!text)
            return false;
        result = scalar_signed(text, &value);
    } else if ((text = json_wide_digits(json))) {
        result = SCALAR_RANGE;
    } else if (json_is_integer(json)) {
        value = json_integer_value(json);
    } else {
        return decode_fail_type(decoder, step, type->name, json);
    }
    if (result == SCALAR_MALFORMED)
        return fail_text(decoder, step, text, "an integer");
    if (result == SCALAR_RANGE || value < min || value > max) {
        struct quoted shown = show_number(decoder, text, value);
        return decode_fail(decoder, step, false,
                           error_new("%s is out of range (%" PRId64 " to %" PRId64 ")", shown.text, min, max));
    }
    memcpy(place, (char *)&value + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? sizeof(value) - type->size : 0),
           type->size);
    return true;
}

static bool decode_unsigned(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                            const json_t *json, void *place)
{
    uint64_t max = UINT64_MAX >> (64 - 8 * type->size), value = 0;
    enum scalar_result result = SCALAR_OK;
    const char *text = NULL;

    if (is_text(decoder, json)) {
        text = text_of(decoder, step, type->name, json);
        if (!text)
            return false;
        result = type->kind == VALUE_SIZE ? scalar_size(text, &value) : scalar_unsigned(text, &value);
    } else if ((text = json_wide_digits(json))) {
        result = scalar_unsigned(text, &value);
    } else if (json_is_integer(json)) {
        value = (uint64_t)json_integer_value(json);
        result = json_integer_value(json) < 0 ? SCALAR_RANGE : SCALAR_OK;
    } else {
        return decode_fail_type(decoder, step, type->name, json);
    }
    if (result == SCALAR_MALFORMED)
        return fail_text(decoder, step, text, type->kind == VALUE_SIZE ? "a size" : "an integer");
    if (result == SCALAR_RANGE || value > max) {
        struct quoted shown = show_number(decoder, text, (int64_t)value);
        return decode_fail(decoder, step, false, error_new("%s is out of range (0 to %" PRIu64 ")", shown.text, max));
    }
    memcpy(place, (char *)&value + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? sizeof(value) - type->size : 0),
           type->size);
    return true;
}

static bool decode_number(struct decoder *decoder, const struct step *step, const json_t *json, void *place)
{
    double value;
    if (is_text(decoder, json)) {
        const char *text = text_of(decoder, step, "number", json);
        if (!text)
            return false;
        if (scalar_number(text, &value) != SCALAR_OK)
            return fail_text(decoder, step, text, "a number");
    } else if (json_wide_digits(json)) {
        if (scalar_number(json_wide_digits(json), &value) != SCALAR_OK)
            return decode_fail_type(decoder, step, "number", json);
    } else if (json_is_number(json)) {
        value = json_number_value(json);
    } else {
        return decode_fail_type(decoder, step, "number", json);
    }
    memcpy(place, &value, sizeof(value));
    return true;
}

static bool decode_string(struct decoder *decoder, const struct step *step, const json_t *json, void *place)
{
    const char *text = text_of(decoder, step, "string", json);
    if (!text)
        return false;
    const char *copy = arena_try_strndup(decoder->arena, text, json_string_length(json));
    if (!copy)
        return decode_fail_memory(decoder, step);
    memcpy(place, &copy, sizeof(copy));
    return true;
}

static bool fail_enum(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                      const char *text)
{
    struct suggestion suggestion = { 0 };
    for (uint32_t i = 0; i < type->enumeration.count; i++)
        suggestion_consider(&suggestion, text, type->enumeration.names[i]);
    struct quoted quoted = quote(decoder, text);
    struct error *err = suggestion.name && !decoder->secret
                            ? error_new("%s is not a %s (did you mean '%s'?)", quoted.text, type->name, suggestion.name)
                            : error_new("%s is not a %s", quoted.text, type->name);
    return decode_fail(decoder, step, false, err);
}

static bool decode_enum(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                        const json_t *json, void *place)
{
    const char *text = text_of(decoder, step, "string", json);
    if (!text)
        return false;
    for (uint32_t i = 0; i < type->enumeration.count; i++) {
        const char *name = type->enumeration.names[i];
        if (*name == *text && strcmp(name, text) == 0) {
            int value = (int)i;
            memcpy(place, &value, sizeof(value));
            return true;
        }
    }
    return fail_enum(decoder, step, type, text);
}

static bool decode_null(struct decoder *decoder, const struct step *step, const json_t *json, void *place)
{
    if (!json_is_null(json) && !(is_text(decoder, json) && json_string_length(json) == 0))
        return decode_fail_type(decoder, step, "null", json);
    memset(place, 0, 1);
    return true;
}

static bool decode_any(struct decoder *decoder, const struct step *step, const json_t *json, void *place)
{
    CLEANUP(text_fini) struct text text = { .may_fail = true };
    text_append_tree(&text, json);
    const char *copy = text.failed ? NULL : arena_try_strndup(decoder->arena, text.data, text.length);
    if (!copy)
        return decode_fail_memory(decoder, step);
    struct any_value any = { .text = copy, .length = text.length };
    memcpy(place, &any, sizeof(any));
    return true;
}

bool decode_limited(struct decoder *decoder, const struct step *step, const struct value_limits *limits,
                    const struct type_descriptor *type, const void *place)
{
    struct error *err = limits_check(limits, type, place, decoder->secret);
    return !err || decode_fail(decoder, step, false, err);
}

static bool decode_unlimited(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                             const json_t *json, void *place)
{
    switch (type->kind) {
    case VALUE_BOOL:
        return decode_bool(decoder, step, json, place);
    case VALUE_SIGNED:
        return decode_signed(decoder, step, type, json, place);
    case VALUE_UNSIGNED:
    case VALUE_SIZE:
        return decode_unsigned(decoder, step, type, json, place);
    case VALUE_NUMBER:
        return decode_number(decoder, step, json, place);
    case VALUE_STRING:
        return decode_string(decoder, step, json, place);
    case VALUE_ENUM:
        return decode_enum(decoder, step, type, json, place);
    case VALUE_NULL:
        return decode_null(decoder, step, json, place);
    default:
        return decode_any(decoder, step, json, place);
    }
}

bool decode_scalar(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                   const json_t *json, void *place)
{
    return decode_unlimited(decoder, step, type, json, place) &&
           (!type->limits || decode_limited(decoder, step, type->limits, type, place));
}
