#include "clients/cli/yaml.h"

#include "blockcore/base/memory.h"
#include "schema/codec/json_tree.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define INDENT 2

/* What stands for itself without quotes: words and full paths, but nothing that some reader takes for a number, a
 * boolean or nothing. */
static bool is_plain(const char *text)
{
    static const char *const words[] = { "null", "true", "false", "yes", "no", "on", "off", "y", "n" };
    static const char begins[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/";
    static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+";
    if (!*text || !strchr(begins, *text) || strspn(text, characters) != strlen(text))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcasecmp(text, words[i]) == 0)
            return false;
    }
    return true;
}

static bool is_printable(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return false;
    }
    return true;
}

/* In single quotes nothing is put in and nothing has a meaning, but lines cannot be broken. */
static void print_single_quoted(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text; text++)
        fputs(*text == '\'' ? "''" : (char[]){ *text, '\0' }, out);
    fputc('\'', out);
}

/* With escapes for what has no line of its own. */
static void print_double_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        if (!is_printable((char[]){ *text, '\0' }))
            fprintf(out, "\\x%02x", (unsigned char)*text);
        else
            fprintf(out, "%s%c", *text == '$' ? "$" : *text == '"' || *text == '\\' ? "\\" : "", *text);
    }
    fputc('"', out);
}

static void print_text(FILE *out, const char *text)
{
    if (is_plain(text))
        fputs(text, out);
    else if (is_printable(text))
        print_single_quoted(out, text);
    else
        print_double_quoted(out, text);
}

static void print_scalar(FILE *out, const json_t *scalar)
{
    const char *digits = json_wide_digits(scalar);
    if (digits) {
        fputs(digits, out);
        return;
    }
    if (json_is_string(scalar)) {
        print_text(out, json_string_value(scalar));
        return;
    }
    CLEANUP(free) char *text = json_dumps(scalar, JSON_ENCODE_ANY);
    fputs(text ? text : "null", out);
}

static bool is_container(const json_t *value)
{
    return (json_is_object(value) && json_object_size(value) > 0) ||
           (json_is_array(value) && json_array_size(value) > 0);
}

static void print_block(FILE *out, const json_t *tree, int indent, bool begun);

/* Behind "key:" or "-". */
static void print_value(FILE *out, const json_t *value, int indent)
{
    if (is_container(value)) {
        fputc('\n', out);
        print_block(out, value, indent, false);
        return;
    }
    fputc(' ', out);
    if (json_is_object(value) || json_is_array(value))
        fputs(json_is_object(value) ? "{}" : "[]", out);
    else
        print_scalar(out, value);
    fputc('\n', out);
}

/* Lists stand as far to the left as their keys. @begun: the first line has its indentation. */
static void print_block(FILE *out, const json_t *tree, int indent, bool begun)
{
    const char *key;
    const json_t *value;
    size_t i;
    json_array_foreach(tree, i, value)
    {
        fprintf(out, "%*s-", begun && i == 0 ? 0 : indent, "");
        if (json_is_object(value) && json_object_size(value) > 0) {
            fputc(' ', out);
            print_block(out, value, indent + INDENT, true);
        } else {
            print_value(out, value, indent + INDENT);
        }
    }
    json_t *object = json_is_object(tree) ? (json_t *)(uintptr_t)tree : NULL;
    json_object_foreach(object, key, value)
    {
        fprintf(out, "%*s", begun ? 0 : indent, "");
        begun = false;
        print_text(out, key);
        fputc(':', out);
        print_value(out, value, json_is_array(value) ? indent : indent + INDENT);
    }
}

void yaml_print(FILE *out, const json_t *tree)
{
    if (is_container(tree))
        print_block(out, tree, 0, false);
    else
        fputs("{}\n", out);
}
