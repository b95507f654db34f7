/* buffer - memory for the data of requests, kept ready by each loop
 *
 * Mapping and unmapping a buffer per request costs more than copying its bytes: the kernel clears every page again. So
 * each loop keeps what was put back, up to a bound, in classes of powers of two from 4 KiB to 2 MiB. */
#ifndef CAIRN_RUNTIME_BUFFER_H
#define CAIRN_RUNTIME_BUFFER_H

#include <stddef.h>

#define BUFFER_ALIGNMENT 4096                  /* of every buffer: enough for O_DIRECT on any disk in use */
#define BUFFER_CACHED_MAX (2u * 1024 * 1024)   /* larger ones are not kept */
#define BUFFER_CACHE_BYTES (32u * 1024 * 1024) /* kept by one loop at most */

/* At least @bytes bytes, with any content. NULL when there is no memory. The bound of @bytes is the caller's to check.
 * Any thread; without a loop nothing is kept. */
void *buffer_get(size_t bytes);

/* @bytes as given to buffer_get(). Any thread. @p may be NULL. */
void buffer_put(void *p, size_t bytes);

#endif
