#include "clients/cli/print.h"

#include "clients/c/client.h"
#include "schema/codec/json_tree.h"

#include <stdint.h>
#include <stdio.h>

static void print_tree(const json_t *json, enum print_format format, int depth);

/* Before an item, and before the bracket that closes. */
static void print_break(enum print_format format, int depth)
{
    if (format == PRINT_INDENTED)
        printf("\n%*s", 2 * depth, "");
}

static void print_object(const json_t *json, enum print_format format, int depth)
{
    /* jansson's iterators take a tree that may be changed, but only read it. */
    json_t *tree = (json_t *)(uintptr_t)json;
    const char *separator = "";

    putchar('{');
    for (void *at = json_object_iter(tree); at; at = json_object_iter_next(tree, at)) {
        CLEANUP(json_decref) json_t *key = json_stringn(json_object_iter_key(at), json_object_iter_key_len(at));
        fputs(separator, stdout);
        print_break(format, depth + 1);
        json_dumpf(key, stdout, JSON_ENCODE_ANY);
        fputs(format == PRINT_INDENTED ? ": " : ":", stdout);
        print_tree(json_object_iter_value(at), format, depth + 1);
        separator = ",";
    }
    if (*separator)
        print_break(format, depth);
    putchar('}');
}

static void print_array(const json_t *json, enum print_format format, int depth)
{
    size_t count = json_array_size(json);

    putchar('[');
    for (size_t i = 0; i < count; i++) {
        fputs(i ? "," : "", stdout);
        print_break(format, depth + 1);
        print_tree(json_array_get(json, i), format, depth + 1);
    }
    if (count)
        print_break(format, depth);
    putchar(']');
}

static void print_tree(const json_t *json, enum print_format format, int depth)
{
    if (json_is_object(json))
        print_object(json, format, depth);
    else if (json_is_array(json))
        print_array(json, format, depth);
    else if (json_wide_digits(json))
        fputs(json_wide_digits(json), stdout);
    else
        json_dumpf(json, stdout, JSON_ENCODE_ANY);
}

void print_json(const json_t *json, enum print_format format)
{
    print_tree(json, format, 0);
}
