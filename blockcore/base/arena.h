/* arena - memory that is taken piece by piece and given back at once
 *
 * A request decodes into one arena and its reply is built in the same one; whatever goes wrong on the way, one call
 * frees everything, so no error path can leak. Pieces are zeroed, aligned for any type, and never freed alone.
 *
 * Two ways to take memory: what a client can make large goes through arena_try_*, which counts against the arena's
 * limit and answers NULL; bookkeeping whose size our own code decides goes through the others, which never answer NULL.
 *
 * An arena belongs to one user at a time; it has no lock. */
#ifndef CAIRN_BASE_ARENA_H
#define CAIRN_BASE_ARENA_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>
#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* newest first; pieces come from the newest that is not a piece of its own */
    char *next;
    char *end;
    size_t chunk_bytes; /* size of the next chunk */
    size_t taken;       /* bytes handed out by arena_try_* */
    size_t limit;       /* bound of taken */
    bool secret;        /* overwritten before it is freed */
};

/* An empty arena; takes no memory yet. @limit bounds, in bytes, what arena_try_* hand out; SIZE_MAX for no bound. */
void arena_init(struct arena *arena, size_t limit);

/* The same for one that holds little and of which there are many. */
void arena_init_small(struct arena *arena, size_t limit);

/* Frees everything; the arena is empty afterwards and can be used again. */
void arena_fini(struct arena *arena);

/* There is something in it, or will be, that nobody shall find in freed memory. Until arena_fini(). */
void arena_keep_secret(struct arena *arena);

/* Zeroed memory, or NULL when the limit is reached, @count * @bytes overflows or there is no memory. */
void *arena_try_alloc(struct arena *arena, size_t bytes) MUST_CHECK;
void *arena_try_array(struct arena *arena, size_t count, size_t bytes) MUST_CHECK;
/* A copy of @length bytes with a zero byte behind them, or NULL. */
char *arena_try_strndup(struct arena *arena, const char *text, size_t length) MUST_CHECK;

/* Zeroed memory; never NULL: ends the process when there is no memory. Not counted. */
void *arena_alloc(struct arena *arena, size_t bytes) __attribute__((returns_nonnull));
void *arena_array(struct arena *arena, size_t count, size_t bytes) __attribute__((returns_nonnull));
char *arena_strdup(struct arena *arena, const char *text) __attribute__((returns_nonnull));
char *arena_strndup(struct arena *arena, const char *text, size_t length) __attribute__((returns_nonnull));
char *arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3) __attribute__((returns_nonnull));

#endif
