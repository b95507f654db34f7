#include "schema/codec/json_tree.h"

#include <stdio.h>
#include <string.h>

#define WIDE_MARK '\xff'

enum {
    DIGITS_MAX = 400, /* what a double can hold has fewer */
};

json_t *json_wide_integer(const char *digits)
{
    char text[DIGITS_MAX + 2];
    int length = snprintf(text, sizeof(text), "%c%s", WIDE_MARK, digits);
    return length < (int)sizeof(text) ? json_stringn_nocheck(text, (size_t)length) : NULL;
}

const char *json_wide_digits(const json_t *json)
{
    if (!json_is_string(json) || json_string_value(json)[0] != WIDE_MARK)
        return NULL;
    return json_string_value(json) + 1;
}

void json_wipe_strings(json_t *json)
{
    size_t index;
    const char *key;
    json_t *value;
    if (json_is_string(json))
        explicit_bzero((char *)(uintptr_t)json_string_value(json), json_string_length(json));
    json_array_foreach(json, index, value) json_wipe_strings(value);
    json_object_foreach(json, key, value) json_wipe_strings(value);
}

/* A number with a fraction or an exponent stays one: 1.0 does not become 1. */
static void append_real(struct text *text, double number)
{
    char digits[32];
    snprintf(digits, sizeof(digits), "%.17g", number);
    text_append_string(text, digits);
    if (!strpbrk(digits, ".en"))
        text_append_string(text, ".0");
}

static void append_object(struct text *text, const json_t *json)
{
    /* jansson's iterators take a tree that may be changed, but only read it. */
    json_t *tree = (json_t *)(uintptr_t)json;
    const char *separator = "";
    text_append_string(text, "{");
    for (void *at = json_object_iter(tree); at; at = json_object_iter_next(tree, at)) {
        text_append_string(text, separator);
        text_append_json_bytes(text, json_object_iter_key(at), json_object_iter_key_len(at));
        text_append_string(text, ": ");
        text_append_tree(text, json_object_iter_value(at));
        separator = ", ";
    }
    text_append_string(text, "}");
}

static void append_array(struct text *text, const json_t *json)
{
    text_append_string(text, "[");
    for (size_t i = 0; i < json_array_size(json); i++) {
        text_append_string(text, i ? ", " : "");
        text_append_tree(text, json_array_get(json, i));
    }
    text_append_string(text, "]");
}

void text_append_tree(struct text *text, const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        append_object(text, json);
        break;
    case JSON_ARRAY:
        append_array(text, json);
        break;
    case JSON_STRING:
        if (json_wide_digits(json))
            text_append_string(text, json_wide_digits(json));
        else
            text_append_json_bytes(text, json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER:
        text_append_signed(text, json_integer_value(json));
        break;
    case JSON_REAL:
        append_real(text, json_real_value(json));
        break;
    case JSON_TRUE:
        text_append_string(text, "true");
        break;
    case JSON_FALSE:
        text_append_string(text, "false");
        break;
    case JSON_NULL:
        text_append_string(text, "null");
        break;
    }
}
