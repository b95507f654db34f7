#include "clients/cli/arguments.h"

#include "blockcore/base/memory.h"
#include "clients/cli/size.h"

#include <stdio.h>
#include <string.h>

#define NESTING_MAX 64

struct error *arguments_set(json_t *tree, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        return error_new("'%s' is neither JSON nor of the form key=value", assignment);

    CLEANUP(free) char *path = xstrndup(assignment, (size_t)(equals - assignment));
    unsigned depth = 0;
    char *rest = path, *key = strsep(&rest, ".");
    for (; rest; key = strsep(&rest, ".")) {
        json_t *below = json_object_get(tree, key);
        if (!below) {
            below = json_object();
            json_object_set_new(tree, key, below);
        }
        if (!json_is_object(below))
            return error_new("'%.*s': '%s' has a value already", (int)(equals - assignment), assignment, key);
        if (++depth > NESTING_MAX)
            return error_new("'%.*s' is nested too deep", (int)(equals - assignment), assignment);
        tree = below;
    }
    if (*key == '\0')
        return error_new("'%.*s' ends in a dot", (int)(equals - assignment), assignment);
    if (json_object_get(tree, key))
        return error_new("'%.*s' is given twice", (int)(equals - assignment), assignment);
    json_t *value = json_string(equals + 1);
    if (!value)
        return error_new("the value of '%.*s' is not UTF-8", (int)(equals - assignment), assignment);
    json_object_set_new(tree, key, value);
    return NULL;
}

/* NULL: not an integer. */
static json_t *to_integer(const char *text)
{
    bool negative = *text == '-';
    uint64_t magnitude;

    if (!size_parse(text + negative, &magnitude) || magnitude > INT64_MAX)
        return NULL;
    return json_integer(negative ? -(json_int_t)magnitude : (json_int_t)magnitude);
}

static json_t *to_number(const char *text)
{
    char *end;
    double value = strtod(text, &end);

    return end == text || *end ? NULL : json_real(value);
}

static json_t *to_boolean(const char *text)
{
    static const char *const yes[] = { "on", "true", "yes" };
    static const char *const no[] = { "off", "false", "no" };

    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        if (strcmp(text, yes[i]) == 0)
            return json_true();
        if (strcmp(text, no[i]) == 0)
            return json_false();
    }
    return NULL;
}

static json_t *to_json(const char *text)
{
    return json_loads(text, JSON_DECODE_ANY, NULL);
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
            if (strcmp(meta, "object") == 0 || strcmp(meta, "array") == 0)
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

    for (size_t i = 0; i < json_object_size(value); i++) {
        char key[24];
        snprintf(key, sizeof(key), "%zu", i);
        json_t *item = json_object_get(value, key);
        if (!item)
            return error_new("%s: missing, though the list has %zu elements", key, json_object_size(value));
        json_t *converted = NULL;
        struct error *err = convert(introspection, element, item, &converted);
        if (err)
            return error_below(err, key);
        json_array_append_new(result, converted);
    }
    *out = steal(&result);
    return NULL;
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
        return error_new(": expected %s, got '%s'", strcmp(type_meta(type), "array") ? "an object" : "a list", text);
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
    if (strcmp(type_meta(type), "array") == 0)
        return convert_array(introspection, type, value, out);
    if (strcmp(type_meta(type), "object") == 0)
        return convert_object(introspection, type, value, out);
    return error_new(": expected %s, got an object", type_json(type) ? type_json(type) : "a word");
}

struct error *arguments_convert(const struct introspection *introspection, const json_t *type, json_t *tree,
                                json_t **out)
{
    return convert_object(introspection, type, tree, out);
}
