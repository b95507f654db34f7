#include "schema/compiler/output.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void append(struct output *output, const char *text, size_t length)
{
    while (output->text.count + length > output->text.capacity) {
        size_t larger = output->text.capacity ? output->text.capacity * 2 : 128;
        char *moved = arena_array(output->arena, 1, larger);
        if (output->text.count)
            memcpy(moved, output->text.items, output->text.count);
        output->text.items = moved;
        output->text.capacity = larger;
    }
    if (length)
        memcpy(output->text.items + output->text.count, text, length);
    output->text.count += length;
}

void output_text(struct output *output, const char *text)
{
    append(output, text, strlen(text));
}

void output_printf(struct output *output, const char *format, ...)
{
    char line[512];
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (length >= 0 && (size_t)length < sizeof(line)) {
        append(output, line, (size_t)length);
    } else if (length >= 0) {
        char *text = arena_array(output->arena, 1, (size_t)length + 1);
        vsnprintf(text, (size_t)length + 1, format, again);
        append(output, text, (size_t)length);
    }
    va_end(again);
}

const char *output_string(const struct output *output)
{
    return arena_strndup(output->arena, output->text.count ? output->text.items : "", output->text.count);
}

static void put_expression(struct output *output, const struct condition *condition)
{
    const char *between = condition->kind == CONDITION_ALL ? " && " : " || ";
    if (condition->kind == CONDITION_NAME) {
        output_printf(output, "defined(%s)", condition->name);
        return;
    }
    output_text(output, condition->kind == CONDITION_NOT ? "!" : "(");
    for (size_t i = 0; i < condition->operands.count; i++) {
        output_text(output, i ? between : "");
        put_expression(output, condition->operands.items[i]);
    }
    output_text(output, condition->kind == CONDITION_NOT ? "" : ")");
}

const char *condition_expression(struct arena *arena, const struct condition *condition)
{
    struct output output = { .arena = arena };
    if (!condition)
        return "1";
    put_expression(&output, condition);
    return output_string(&output);
}

void output_if(struct output *output, const struct condition *condition)
{
    if (condition)
        output_printf(output, "#if %s\n", condition_expression(output->arena, condition));
}

void output_endif(struct output *output, const struct condition *condition)
{
    if (condition)
        output_text(output, "#endif\n");
}

void output_header_begin(struct output *output, const char *name, const char *schema)
{
    char *guard = arena_printf(output->arena, "SCHEMA_%s", name);
    for (char *p = guard; *p; p++)
        *p = isalnum((unsigned char)*p) ? (char)toupper((unsigned char)*p) : '_';
    output_printf(output, "/* Written by schemac from %s: change that instead. */\n#ifndef %s\n#define %s\n\n", schema,
                  guard, guard);
}

void output_header_end(struct output *output)
{
    output_text(output, "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
}

static bool has_content(const char *path, const char *content, size_t length)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool same = true;
    char block[8192];
    size_t compared = 0, got;
    while (same && (got = fread(block, 1, sizeof(block), file)) > 0) {
        same = got <= length - compared && memcmp(block, content + compared, got) == 0;
        compared += got;
    }
    same = same && !ferror(file) && compared == length;
    fclose(file);
    return same;
}

static bool write_file(const char *path, const char *content, size_t length)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return false;
    bool written = fwrite(content, 1, length, file) == length;
    return fclose(file) == 0 && written;
}

bool output_write(struct output *output, struct compilation *compilation, const char *directory, const char *name)
{
    const char *path = arena_printf(output->arena, "%s/%s", directory, name);
    if (has_content(path, output->text.items, output->text.count))
        return true;
    /* A reader never sees half a file, and a failure leaves the old one. */
    const char *half = arena_printf(output->arena, "%s.tmp", path);
    if (write_file(half, output->text.items, output->text.count) && rename(half, path) == 0)
        return true;
    int errnum = errno;
    remove(half);
    return compilation_error(compilation, (struct location){ 0 }, "can't write '%s': %s", path, strerror(errnum));
}
