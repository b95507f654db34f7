/* buffer_private - the buffers that a loop keeps */
#ifndef CAIRN_RUNTIME_BUFFER_PRIVATE_H
#define CAIRN_RUNTIME_BUFFER_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>

#define BUFFER_CLASSES 10 /* 4 KiB << 0 to 4 KiB << 9 */

struct spare_buffer;

struct buffer_cache {
    struct spare_buffer *spare[BUFFER_CLASSES];
    size_t bytes;
    size_t least; /* bytes that nobody needed since the last look */
};

/* Frees some of what nobody needed since the last call. True: there is more than is worth keeping. */
bool buffer_cache_trim(struct buffer_cache *cache);

void buffer_cache_fini(struct buffer_cache *cache);

#endif
