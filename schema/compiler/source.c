#include "schema/compiler/source.h"

#include "schema/codec/suggest.h"

#include <errno.h>
#include <stdint.h>
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

bool compilation_verror(struct compilation *compilation, struct location at, const char *format, va_list args)
{
    say(compilation, at, "error", format, args);
    compilation->failed = true;

    const struct source *source = at.source;
    while (source && source->includer) {
        compilation_note(compilation, source->included_at, "included from here");
        source = source->includer;
    }
    return false;
}

bool compilation_error(struct compilation *compilation, struct location at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    compilation_verror(compilation, at, format, args);
    va_end(args);
    return false;
}

void compilation_suggest(struct compilation *compilation, struct location at, const struct suggestion *suggestion)
{
    if (suggestion->name)
        compilation_note(compilation, at, "did you mean '%s'?", suggestion->name);
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

/* "\r\n" and "\r" end a line like "\n". */
static void unify_line_ends(char *text, size_t *length)
{
    if (!memchr(text, '\r', *length))
        return;
    size_t kept = 0;
    for (size_t i = 0; i < *length; i++) {
        if (text[i] == '\r' && i + 1 < *length && text[i + 1] == '\n')
            continue;
        text[kept++] = text[i] == '\r' ? '\n' : text[i];
    }
    text[kept] = '\0';
    *length = kept;
}

/* All that @file has, up to one byte more than there may be; room for a zero byte is behind it. @guess: its size, as
 * far as it is known; that of a pipe is not. */
static char *read_bytes(struct arena *arena, FILE *file, size_t guess, size_t *length)
{
    size_t room = guess + 1, got;
    char *text = arena_array(arena, 1, room + 1);
    *length = 0;
    while (*length <= SOURCE_BYTES_MAX && (got = fread(text + *length, 1, room - *length, file)) > 0) {
        *length += got;
        if (*length < room)
            continue;
        char *moved = arena_array(arena, 2, room + 1);
        memcpy(moved, text, *length);
        text = moved;
        room *= 2;
    }
    text[*length] = '\0';
    return text;
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
    struct source *source = arena_alloc(arena, sizeof(*source));
    char *text = read_bytes(arena, file, (size_t)st.st_size, &source->length);
    source->path = arena_strdup(arena, path);
    source->text = text;
    source->device = st.st_dev;
    source->inode = st.st_ino;
    if (ferror(file) || source->length > SOURCE_BYTES_MAX) {
        *errnum = ferror(file) ? errno : EFBIG;
        return NULL;
    }
    unify_line_ends(text, &source->length);
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

struct source_identity source_identify(const char *path)
{
    struct source_identity identity = { .path = path };
    struct stat st;
    if (stat(path, &st) == 0) {
        identity.device = st.st_dev;
        identity.inode = st.st_ino;
    }
    return identity;
}

bool source_is(const struct source *source, const struct source_identity *identity)
{
    if (source->inode && identity->inode)
        return source->device == identity->device && source->inode == identity->inode;
    return strcmp(source->path, identity->path) == 0;
}

/* Bytes of the character at @p; 0 if it is none. RFC 3629: no overlong forms, no surrogates, nothing past U+10FFFF. */
static size_t character_length(const unsigned char *p, size_t room)
{
    if (p[0] < 0x80)
        return 1;
    size_t length = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || length > room)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool outside = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return overlong || outside ? 0 : length;
}

static size_t ascii_length(const unsigned char *text, size_t length)
{
    size_t i = 0;
    for (uint64_t word; i + sizeof(word) <= length; i += sizeof(word)) {
        memcpy(&word, text + i, sizeof(word));
        if (word & 0x8080808080808080u)
            break;
    }
    return i;
}

struct location source_find_bad_byte(const struct source *source)
{
    const unsigned char *text = (const unsigned char *)source->text;
    size_t bad = 0;
    for (size_t length; bad < source->length; bad += length) {
        length = ascii_length(text + bad, source->length - bad);
        if (length == 0)
            length = character_length(text + bad, source->length - bad);
        if (length == 0)
            break;
    }
    if (bad == source->length)
        return (struct location){ 0 };
    struct location at = { .source = source, .line = 1, .column = 1 };
    for (size_t i = 0; i < bad; i++) {
        at.column = text[i] == '\n' ? 1 : at.column + 1;
        at.line += text[i] == '\n';
    }
    return at;
}
