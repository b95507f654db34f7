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

/* The next character of @text, which is valid UTF-8; *@bytes: how long it is. */
static unsigned character_at(const char *text, size_t *bytes)
{
    unsigned char first = (unsigned char)*text;
    *bytes = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    unsigned code = *bytes == 1 ? first : first & (0xffu >> (*bytes + 1));
    for (size_t i = 1; i < *bytes; i++)
        code = code << 6 | ((unsigned char)text[i] & 0x3fu);
    return code;
}

/* What may stand in a file at all (YAML 1.2.2, section 5.1), and is neither a line break to some reader (YAML 1.1) nor
 * a mark of the byte order. */
static bool is_printable(unsigned code)
{
    static const unsigned others[] = { 0x2028, 0x2029, 0xfeff, 0xfffe, 0xffff };
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        if (code == others[i])
            return false;
    }
    return code >= ' ' && (code < 0x7f || code >= 0xa0);
}

static bool is_all_printable(const char *text)
{
    for (size_t bytes; *text; text += bytes) {
        if (!is_printable(character_at(text, &bytes)))
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

/* With escapes for what cannot be printed; @quoted: and for what has a meaning in double quotes. */
static void print_escaped(FILE *out, const char *text, bool quoted)
{
    for (size_t bytes; *text; text += bytes) {
        unsigned code = character_at(text, &bytes);
        if (quoted && (code == '"' || code == '\\'))
            fputc('\\', out);
        if (quoted && code == '$')
            fputc('$', out);
        if (is_printable(code))
            fprintf(out, "%.*s", (int)bytes, text);
        else
            fprintf(out, code > 0xff ? "\\u%04x" : "\\x%02x", code);
    }
}

static void print_double_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    print_escaped(out, text, true);
    fputc('"', out);
}

void yaml_print_comment(FILE *out, const char *text)
{
    fputs("# ", out);
    print_escaped(out, text, false);
    fputc('\n', out);
}

static void print_text(FILE *out, const char *text)
{
    if (is_plain(text))
        fputs(text, out);
    else if (is_all_printable(text))
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
