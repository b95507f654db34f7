#include "clients/cli/arguments.h"

#include "schema/codec/json_parse.h"
#include "schema/codec/json_tree.h"
#include "schema/codec/keyval.h"
#include "schema/codec/scalar.h"
#include "schema/codec/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Appends @word with its commas doubled. */
static void append_word(struct text *line, const char *word)
{
    for (const char *comma; (comma = strchr(word, ',')); word = comma + 1) {
        text_append(line, word, (size_t)(comma - word));
        text_append(line, ",,", 2);
    }
    text_append_string(line, word);
}

struct error *arguments_parse(size_t count, char *const *words, json_t **tree)
{
    CLEANUP(text_fini) struct text line = { 0 };

    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(words[i], '=');
        if (!equals || equals == words[i])
            return error_new("'%s' is neither JSON nor of the form key=value", words[i]);
        if (i > 0)
            text_append(&line, ",", 1);
        append_word(&line, words[i]);
    }
    text_append(&line, "", 1);
    return keyval_parse(line.data, NULL, tree);
}

/* The interface calls sizes integers too, so these may have a suffix. NULL: not an integer. */
static json_t *to_integer(const char *text)
{
    int64_t number;
    uint64_t size;

    if (scalar_signed(text, &number) == SCALAR_OK)
        return json_integer(number);
    if (scalar_size(text, &size) != SCALAR_OK)
        return NULL;
    if (size <= INT64_MAX)
        return json_integer((json_int_t)size);
    char digits[32];
    snprintf(digits, sizeof(digits), "%" PRIu64, size);
    return json_wide_integer(digits);
}

static json_t *to_number(const char *text)
{
    double value;
    return scalar_number(text, &value) == SCALAR_OK ? json_real(value) : NULL;
}

static json_t *to_boolean(const char *text)
{
    bool value;
    return scalar_bool(text, &value) == SCALAR_OK ? json_boolean(value) : NULL;
}

static json_t *to_json(const char *text)
{
    json_t *value = NULL;
    error_free(json_parse(text, strlen(text), JSON_VALUES_MAX, &value));
    return value;
}

/* One word in the form of a builtin type; NULL when it is none of that type. */
static json_t *to_builtin(const char *json_type, const char *text)
{
    if (strcmp(json_type, "int") == 0)
        return to_integer(text);
    if (strcmp(json_type, "number") == 0)
        return to_number(text);
    if (strcmp(json_type, "boolean") == 0)
        return to_boolean(text);
    if (strcmp(json_type, "null") == 0)
        return strcmp(text, "null") == 0 ? json_null() : NULL;
    if (strcmp(json_type, "value") == 0) {
        json_t *value = to_json(text);
        return value ? value : json_string(text);
    }
    return strcmp(json_type, "string") == 0 ? json_string(text) : NULL;
}

static struct error *convert(const struct introspection *introspection, const json_t *type, json_t *value,
                             json_t **out);

/* Errors grow outwards: a leaf's begins with a colon, each level puts its key in front. */
static struct error *error_below(struct error *err, const char *key)
{
    return error_prepend(err, "%s%s", key, *error_message(err) == ':' ? "" : ".");
}

/* Which alternative does @value look like? Text last, since everything looks like text. */
static const json_t *choose_alternative(const struct introspection *introspection, const json_t *type,
                                        const json_t *value)
{
    const char *text = json_string_value(value);
    const json_t *candidate, *plain_text = NULL;

    for (size_t i = 0; (candidate = type_alternative(introspection, type, i)); i++) {
        const char *meta = type_meta(candidate), *json_type = type_json(candidate);

        if (!text) {
            if (strcmp(meta, json_is_array(value) ? "array" : "object") == 0)
                return candidate;
            continue;
        }
        if (strcmp(meta, "enum") == 0 && type_has_value(candidate, text))
            return candidate;
        if (!json_type)
            continue;
        if (strcmp(json_type, "string") == 0) {
            plain_text = candidate;
            continue;
        }
        CLEANUP(json_decref) json_t *converted = to_builtin(json_type, text);
        if (converted)
            return candidate;
    }
    return plain_text;
}

static struct error *convert_object(const struct introspection *introspection, const json_t *type, json_t *value,
                                    json_t **out)
{
    CLEANUP(json_decref) json_t *result = json_object();
    const char *key;
    json_t *member;

    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        json_t *converted = NULL;
        struct error *err = convert(introspection, type_member(introspection, type, value, key), member, &converted);
        if (err)
            return error_below(err, key);
        json_object_set_new(result, key, converted);
    }
    *out = steal(&result);
    return NULL;
}

static struct error *convert_array(const struct introspection *introspection, const json_t *type, json_t *value,
                                   json_t **out)
{
    const json_t *element = type_element(introspection, type);
    CLEANUP(json_decref) json_t *result = json_array();

    size_t i;
    json_t *item;
    json_array_foreach(value, i, item)
    {
        char key[24];
        snprintf(key, sizeof(key), "%zu", i);
        json_t *converted = NULL;
        struct error *err = convert(introspection, element, item, &converted);
        if (err)
            return error_below(err, key);
        json_array_append_new(result, converted);
    }
    *out = steal(&result);
    return NULL;
}

static const char *what_is_expected(const json_t *type)
{
    if (strcmp(type_meta(type), "array") == 0)
        return "a list";
    if (strcmp(type_meta(type), "object") == 0)
        return "an object";
    return type_json(type) ? type_json(type) : "a word";
}

static struct error *convert_text(const json_t *type, const char *text, json_t **out)
{
    const char *json_type = type_json(type);

    if (strcmp(type_meta(type), "enum") == 0 || (json_type && strcmp(json_type, "string") == 0)) {
        *out = json_string(text);
        return NULL;
    }
    if (*text == '{' || *text == '[') {
        *out = to_json(text);
        return *out ? NULL : error_new(": '%s' is not valid JSON", text);
    }
    if (!json_type)
        return error_new(": expected %s, got '%s'", what_is_expected(type), text);
    *out = to_builtin(json_type, text);
    return *out ? NULL : error_new(": expected %s, got '%s'", json_type, text);
}

static struct error *convert(const struct introspection *introspection, const json_t *type, json_t *value, json_t **out)
{
    const char *text = json_string_value(value);

    if (type && strcmp(type_meta(type), "alternate") == 0 && !(text && (*text == '{' || *text == '[')))
        type = choose_alternative(introspection, type, value);
    if (!type) {
        *out = json_deep_copy(value);
        return NULL;
    }
    if (text)
        return convert_text(type, text, out);
    if (strcmp(type_meta(type), "array") == 0 && json_is_array(value))
        return convert_array(introspection, type, value, out);
    if (strcmp(type_meta(type), "object") == 0 && json_is_object(value))
        return convert_object(introspection, type, value, out);
    return error_new(": expected %s, got %s", what_is_expected(type), json_is_array(value) ? "a list" : "an object");
}

struct error *arguments_convert(const struct introspection *introspection, const json_t *type, json_t *tree,
                                json_t **out)
{
    return convert_object(introspection, type, tree, out);
}
