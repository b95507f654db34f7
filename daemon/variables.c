#include "daemon/variables.h"

#include "blockcore/base/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789"
#define DIGITS "0123456789"
#define NAME_SHOWN 64 /* characters of it in messages */

struct expansion {
    char *text;
    size_t length;
    size_t room;
    variable_look_up *look_up;
};

static struct error *append(struct expansion *out, const char *bytes, size_t length)
{
    if (length > VARIABLES_TEXT_MAX - out->length)
        return error_new("with its variables the text is longer than %d bytes", VARIABLES_TEXT_MAX);
    if (out->length + length + 1 > out->room) {
        out->room = 2 * (out->length + length) + 64;
        out->text = xrealloc_array(out->text, out->room, 1);
    }
    memcpy(out->text + out->length, bytes, length);
    out->length += length;
    out->text[out->length] = '\0';
    return NULL;
}

/* @name: of @length bytes, followed by ":-" and a default, or by nothing up to @end. */
static struct error *append_value(struct expansion *out, const char *name, size_t length, const char *end)
{
    CLEANUP(free) char *key = xstrndup(name, length);
    const char *fallback = name + length < end ? name + length + 2 : NULL;
    const char *value = out->look_up(key);
    if (fallback && !(value && *value))
        return append(out, fallback, (size_t)(end - fallback));
    if (!value)
        return error_new("the variable '%.*s' is not set (with a default: ${%.*s:-...})", NAME_SHOWN, key, NAME_SHOWN,
                         key);
    return append(out, value, strlen(value));
}

/* @at stands behind "${"; afterwards behind "}". */
static struct error *append_variable(struct expansion *out, const char **at)
{
    const char *name = *at;
    const char *end = strchr(name, '}');
    if (!end)
        return error_new("'${' without '}' (a dollar is '$$')");
    size_t length = strspn(name, NAME_CHARACTERS);
    bool is_name = length > 0 && !strchr(DIGITS, *name);
    bool ends = name + length == end || (name[length] == ':' && name[length + 1] == '-');
    if (!is_name || !ends)
        return error_new("'${%.*s}' is neither ${NAME} nor ${NAME:-default} (a dollar is '$$')",
                         (int)(end - name > NAME_SHOWN ? NAME_SHOWN : end - name), name);
    *at = end + 1;
    return append_value(out, name, length, end);
}

static struct error *expand(struct expansion *out, const char *text)
{
    struct error *err = NULL;
    while (*text && !err) {
        size_t plain = strcspn(text, "$");
        err = append(out, text, plain);
        text += plain;
        if (err || !*text)
            break;
        text++;
        if (*text == '{') {
            text++;
            err = append_variable(out, &text);
        } else {
            text += *text == '$';
            err = append(out, "$", 1);
        }
    }
    return err;
}

struct error *variables_expand(const char *text, size_t length, variable_look_up *look_up, char **out)
{
    struct expansion expansion = { .look_up = look_up };
    *out = NULL;
    if (!memchr(text, '$', length))
        return NULL;
    struct error *err = expand(&expansion, text);
    if (err)
        free(expansion.text);
    else
        *out = expansion.text;
    return err;
}
