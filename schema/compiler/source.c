#include "schema/compiler/source.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

static PRINTF_LIKE(4, 0) void say(struct compilation *compilation, struct location at, const char *kind,
                                  const char *format, va_list args)
{
    if (at.source && at.line)
        fprintf(compilation->messages, "%s:%u:%u: ", at.source->path, at.line, at.column);
    fprintf(compilation->messages, "%s: ", kind);
    vfprintf(compilation->messages, format, args);
    fputc('\n', compilation->messages);
}

bool compilation_error(struct compilation *compilation, struct location at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(compilation, at, "error", format, args);
    va_end(args);
    compilation->failed = true;

    const struct source *source = at.source;
    while (source && source->includer) {
        compilation_note(compilation, source->included_at, "included from here");
        source = source->includer;
    }
    return false;
}

void compilation_note(struct compilation *compilation, struct location at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(compilation, at, "note", format, args);
    va_end(args);
}

struct source *source_from_text(struct arena *arena, const char *path, const char *text, size_t length)
{
    struct source *source = arena_alloc(arena, sizeof(*source));
    source->path = arena_strdup(arena, path);
    source->text = arena_strndup(arena, text, length);
    source->length = length;
    return source;
}

static struct source *read_all(struct arena *arena, FILE *file, const char *path, int *errnum)
{
    struct stat st;
    if (fstat(fileno(file), &st) < 0 || S_ISDIR(st.st_mode)) {
        *errnum = S_ISDIR(st.st_mode) ? EISDIR : errno;
        return NULL;
    }
    if (st.st_size > SOURCE_BYTES_MAX) {
        *errnum = EFBIG;
        return NULL;
    }
    size_t room = (size_t)st.st_size;
    char *text = arena_array(arena, 1, room + 1);
    struct source *source = arena_alloc(arena, sizeof(*source));
    source->path = arena_strdup(arena, path);
    source->length = fread(text, 1, room, file);
    source->text = text;
    if (ferror(file)) {
        *errnum = errno;
        return NULL;
    }
    return source;
}

struct source *source_read(struct arena *arena, const char *path, int *errnum)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        *errnum = errno;
        return NULL;
    }
    struct source *source = read_all(arena, file, path, errnum);
    fclose(file);
    return source;
}

bool source_same_file(const char *path, const char *other_path)
{
    struct stat one, other;
    if (stat(path, &one) < 0 || stat(other_path, &other) < 0)
        return strcmp(path, other_path) == 0;
    return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}
