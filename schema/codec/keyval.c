#include "schema/codec/keyval.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES_MAX 127  /* of one part of a dotted key */
#define INDEX_DIGITS_MAX 4 /* of a list; so a list has at most 10,000 elements */
#define KEY_PARTS_MAX 256  /* as deep as a graph may be, and some */

static struct error *fail_memory(void)
{
    return error_new("out of memory");
}

/* A text without its doubled commas, up to the comma that ends it; *at moves behind that. The caller frees it. NULL:
 * no memory. */
static char *take_value(const char **at)
{
    char *value = malloc(strlen(*at) + 1);
    size_t length = 0;
    if (!value)
        return NULL;
    while (**at && (**at != ',' || (*at)[1] == ',')) {
        if (**at == ',')
            (*at)++;
        value[length++] = *(*at)++;
    }
    if (**at == ',')
        (*at)++;
    value[length] = '\0';
    return value;
}

/* The part up to '.', '=', ',' or the end; 0 when it is no name and no number. */
static size_t part_length(const char *s)
{
    size_t length = 0;
    if (isdigit((unsigned char)*s)) {
        while (isdigit((unsigned char)s[length]))
            length++;
        return length;
    }
    if (!isalpha((unsigned char)*s) && *s != '_')
        return 0;
    while (isalnum((unsigned char)s[length]) || s[length] == '_' || s[length] == '-')
        length++;
    return length;
}

/* The object at @key inside @parent, made if there is none. */
static struct error *child_object(json_t *parent, const char *key, const char *path, int path_length, json_t **out)
{
    json_t *child = json_object_get(parent, key);
    if (!child) {
        child = json_object();
        if (json_object_set_new(parent, key, child) < 0)
            return fail_memory();
    } else if (!json_is_object(child)) {
        return error_new("Parameters '%.*s.*' used inconsistently", path_length, path);
    }
    *out = child;
    return NULL;
}

static struct error *put_value(json_t *parent, const char *key, const char *path, int path_length, const char *value)
{
    if (json_is_object(json_object_get(parent, key)))
        return error_new("Parameters '%.*s.*' used inconsistently", path_length, path);
    json_t *string = json_string(value);
    if (!string)
        return error_new("The value of parameter '%.*s' is not valid UTF-8", path_length, path);
    return json_object_set_new(parent, key, string) < 0 ? fail_memory() : NULL;
}

/* @at stands at a dotted key, which ends at '='; the value is @value. */
static struct error *put(json_t *root, const char *path, const char *path_end, const char *value)
{
    json_t *parent = root;
    const char *at = path;
    for (unsigned parts = 0; parts < KEY_PARTS_MAX; parts++) {
        char key[KEY_BYTES_MAX + 1];
        size_t length = part_length(at);
        bool last = at + length == path_end;
        if (length == 0 || length > KEY_BYTES_MAX || (!last && at[length] != '.'))
            break;
        memcpy(key, at, length);
        key[length] = '\0';
        at += length;
        if (last)
            return put_value(parent, key, path, (int)(at - path), value);
        struct error *err = child_object(parent, key, path, (int)(at - path), &parent);
        if (err)
            return err;
        at++;
    }
    return error_new("Invalid parameter '%.*s'", (int)(path_end - path), path);
}

/* How a part without '=' is read. */
enum bare {
    BARE_IS_ERROR,
    BARE_IS_FLAG,
};

static struct error *put_flag(json_t *root, const char *flag)
{
    bool off = strncmp(flag, "no", 2) == 0;
    const char *key = off ? flag + 2 : flag;
    if (part_length(key) == 0 || part_length(key) != strlen(key))
        return error_new("Invalid parameter '%s'", flag);
    return put_value(root, key, key, (int)strlen(key), off ? "off" : "on");
}

static struct error *take_part(json_t *root, const char **at, const char *implied_key, enum bare bare)
{
    size_t key_length = strcspn(*at, "=,");
    if ((*at)[key_length] == '=') {
        const char *key = *at;
        *at += key_length + 1;
        CLEANUP(free) char *value = take_value(at);
        return value ? put(root, key, key + key_length, value) : fail_memory();
    }
    CLEANUP(free) char *value = take_value(at);
    if (!value)
        return fail_memory();
    if (implied_key && *value)
        return put_value(root, implied_key, implied_key, (int)strlen(implied_key), value);
    if (bare == BARE_IS_FLAG && *value)
        return put_flag(root, value);
    return error_new("Expected '=' after parameter '%s'", value);
}

static bool is_index(const char *key)
{
    return isdigit((unsigned char)*key);
}

/* Turns an object whose keys are all numbers into an array. */
static struct error *make_array(json_t *object, const char *path, json_t **out)
{
    size_t count = json_object_size(object);
    json_t *array = json_array();
    if (!array)
        return fail_memory();
    for (size_t i = 0; i < count; i++) {
        char key[24];
        snprintf(key, sizeof(key), "%zu", i);
        json_t *element = json_object_get(object, key);
        if (!element) {
            json_decref(array);
            return error_new("Parameter '%s%zu' missing", path, i);
        }
        if (json_array_append(array, element) < 0) {
            json_decref(array);
            return fail_memory();
        }
    }
    *out = array;
    return NULL;
}

/* @path: of @object, with a dot at its end, or empty. *out is @object (or an array made of it), a new reference. */
static struct error *with_arrays(json_t *object, const char *path, json_t **out)
{
    const char *key;
    json_t *value;
    void *next;
    size_t indices = 0;
    json_object_foreach_safe(object, next, key, value)
    {
        indices += is_index(key);
        if (is_index(key) && strlen(key) > INDEX_DIGITS_MAX)
            return error_new("Parameter '%s%s' is out of range", path, key);
        if (!json_is_object(value))
            continue;
        CLEANUP(free) char *inner = NULL;
        json_t *replacement = NULL;
        if (asprintf(&inner, "%s%s.", path, key) < 0) {
            inner = NULL;
            return fail_memory();
        }
        struct error *err = with_arrays(value, inner, &replacement);
        if (err)
            return err;
        if (json_object_set_new(object, key, replacement) < 0)
            return fail_memory();
    }
    if (indices == 0) {
        *out = json_incref(object);
        return NULL;
    }
    if (indices < json_object_size(object) || !*path)
        return error_new("Parameters '%s*' used inconsistently", path);
    return make_array(object, path, out);
}

static struct error *parse(const char *text, const char *implied_key, enum bare bare, json_t **out)
{
    json_t *root = json_object();
    struct error *err = root ? NULL : fail_memory();
    for (const char *at = text; *at && !err; implied_key = NULL)
        err = take_part(root, &at, implied_key, bare);
    if (!err)
        err = with_arrays(root, "", out);
    json_decref(root);
    return err;
}

struct error *keyval_parse(const char *text, const char *implied_key, json_t **out)
{
    return parse(text, implied_key, BARE_IS_ERROR, out);
}

struct error *keyval_parse_flags(const char *text, const char *implied_key, json_t **out)
{
    return parse(text, implied_key, BARE_IS_FLAG, out);
}

bool keyval_wants_help(const char *text)
{
    for (const char *at = text; *at;) {
        CLEANUP(free) char *part = take_value(&at);
        if (!part)
            return false;
        if (strcmp(part, "help") == 0 || strcmp(part, "?") == 0)
            return true;
    }
    return false;
}
