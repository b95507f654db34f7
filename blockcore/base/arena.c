#include "blockcore/base/arena.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_CHUNK_BYTES = 4096,
    SMALL_CHUNK_BYTES = 128,
    LARGEST_CHUNK_BYTES = 1 << 20,
};

struct arena_chunk {
    struct arena_chunk *older;
    size_t room; /* of bytes */
    _Alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *arena, size_t limit)
{
    *arena = (struct arena){ .chunk_bytes = FIRST_CHUNK_BYTES, .limit = limit };
}

void arena_init_small(struct arena *arena, size_t limit)
{
    *arena = (struct arena){ .chunk_bytes = SMALL_CHUNK_BYTES, .limit = limit };
}

void arena_fini(struct arena *arena)
{
    while (arena->chunks) {
        struct arena_chunk *older = arena->chunks->older;
        if (arena->secret)
            explicit_bzero(arena->chunks->bytes, arena->chunks->room);
        free(arena->chunks);
        arena->chunks = older;
    }
    arena_init(arena, arena->limit);
}

void arena_keep_secret(struct arena *arena)
{
    arena->secret = true;
}

static size_t round_up(size_t bytes)
{
    size_t alignment = _Alignof(max_align_t);
    return (bytes + alignment - 1) & ~(alignment - 1);
}

/* A piece that would waste a good part of a chunk gets one of its own, behind the one in use. */
static void *piece_of_its_own(struct arena *arena, size_t bytes)
{
    struct arena_chunk *chunk = calloc(1, sizeof(*chunk) + bytes);
    if (!chunk)
        return NULL;
    chunk->room = bytes;
    if (arena->chunks) {
        chunk->older = arena->chunks->older;
        arena->chunks->older = chunk;
    } else {
        arena->chunks = chunk;
    }
    return chunk->bytes;
}

static bool new_chunk(struct arena *arena)
{
    size_t room = arena->chunk_bytes - sizeof(struct arena_chunk);
    struct arena_chunk *chunk = malloc(arena->chunk_bytes);
    if (!chunk)
        return false;
    chunk->older = arena->chunks;
    chunk->room = room;
    arena->chunks = chunk;
    arena->next = chunk->bytes;
    arena->end = chunk->bytes + room;
    if (arena->chunk_bytes < LARGEST_CHUNK_BYTES)
        arena->chunk_bytes *= 2;
    return true;
}

static void *take(struct arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    bytes = round_up(bytes ? bytes : 1);
    if (bytes > (size_t)(arena->end - arena->next)) {
        if (bytes > arena->chunk_bytes / 4)
            return piece_of_its_own(arena, bytes);
        if (!new_chunk(arena))
            return NULL;
    }
    void *piece = arena->next;
    arena->next += bytes;
    return memset(piece, 0, bytes);
}

void *arena_try_alloc(struct arena *arena, size_t bytes)
{
    if (bytes > arena->limit - arena->taken)
        return NULL;
    void *piece = take(arena, bytes);
    if (piece)
        arena->taken += bytes;
    return piece;
}

void *arena_try_array(struct arena *arena, size_t count, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total))
        return NULL;
    return arena_try_alloc(arena, total);
}

char *arena_try_strndup(struct arena *arena, const char *text, size_t length)
{
    if (length == SIZE_MAX)
        return NULL;
    char *copy = arena_try_alloc(arena, length + 1);
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    return arena_array(arena, 1, bytes);
}

void *arena_array(struct arena *arena, size_t count, size_t bytes)
{
    size_t total;
    void *piece = __builtin_mul_overflow(count, bytes, &total) ? NULL : take(arena, total);
    if (!piece) {
        fprintf(stderr, "cairn: out of memory (%zu times %zu bytes)\n", count, bytes);
        abort();
    }
    return piece;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return arena_strndup(arena, text, strlen(text));
}

char *arena_strndup(struct arena *arena, const char *text, size_t length)
{
    char *copy = arena_array(arena, 1, length + 1);
    memcpy(copy, text, length);
    return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = arena_array(arena, 1, length < 0 ? 1 : (size_t)length + 1);
    if (length >= 0)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}
