/* memory - allocation that cannot fail, and allocation that can
 *
 * Small, fixed-size bookkeeping uses the x-functions: when the machine has no memory for a list node, ending the
 * process with a message is the only honest answer. Every size that comes from outside (an image, a client) goes
 * through the try-functions after its bound was checked, and running out is an error of that one request. */
#ifndef CAIRN_BASE_MEMORY_H
#define CAIRN_BASE_MEMORY_H

#include "blockcore/base/annotations.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* Ends the process. */
void out_of_memory(size_t bytes) NORETURN;

void *xmalloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t bytes) __attribute__((malloc, returns_nonnull));
void *xrealloc_array(void *p, size_t count, size_t bytes) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
/* NULL stays NULL. */
char *xstrdup_or_null(const char *s);
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *format, ...) PRINTF_LIKE(1, 2) __attribute__((malloc, returns_nonnull));

char *xvasprintf(const char *format, va_list args) PRINTF_LIKE(1, 0) __attribute__((malloc, returns_nonnull));

/* NULL when there is no memory. Zeroed. @count * @bytes may overflow: that is NULL too. */
void *try_calloc(size_t count, size_t bytes) __attribute__((malloc));

/* Aligned to @alignment (a power of two, at least sizeof(void *)); not zeroed; NULL when there is no memory. free(). */
void *try_aligned_alloc(size_t alignment, size_t bytes) __attribute__((malloc));

#endif
