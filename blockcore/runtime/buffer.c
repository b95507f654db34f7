#include "blockcore/runtime/buffer.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/loop_private.h"
#include "blockcore/runtime/sanitizer.h"

#include <stdlib.h>
#include <sys/mman.h>

#define SMALLEST_BITS 12

/* From here on a buffer is a mapping of its own. On the heap, aligned blocks that live for different times leave gaps
 * that none of the next ones fits into: in an hour of requests of all sizes it grew to twice what was in use. */
#define MAPPED_BYTES ((size_t)128 << 10)

/* After a burst: what is kept for the next one, and how much is given back at a time, so that nobody waits for it. */
#define KEPT_BYTES ((size_t)4 << 20)
#define TRIM_BYTES ((size_t)2 << 20)

/* The link lies in the buffer itself; the rest is poisoned while nobody owns it. */
struct spare_buffer {
    struct spare_buffer *next;
};

static unsigned class_of(size_t bytes)
{
    if (bytes <= (size_t)1 << SMALLEST_BITS)
        return 0;
    return (unsigned)(64 - __builtin_clzll(bytes - 1) - SMALLEST_BITS);
}

static size_t class_bytes(unsigned class)
{
    return (size_t)1 << (SMALLEST_BITS + class);
}

/* AddressSanitizer watches the ends of what is on the heap. */
static bool is_mapped(size_t bytes)
{
#ifdef WITH_ASAN
    (void)bytes;
    return false;
#else
    return bytes >= MAPPED_BYTES;
#endif
}

static void *take_memory(size_t bytes)
{
    if (!is_mapped(bytes))
        return try_aligned_alloc(BUFFER_ALIGNMENT, bytes);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void give_memory_back(void *memory, size_t bytes)
{
    if (is_mapped(bytes))
        munmap(memory, bytes);
    else
        free(memory);
}

void *buffer_get(size_t bytes)
{
    if (bytes > BUFFER_CACHED_MAX)
        return take_memory(bytes);
    unsigned class = class_of(bytes);
    struct loop *loop = current_loop;
    if (!loop || !loop->buffers.spare[class])
        return take_memory(class_bytes(class));
    struct buffer_cache *cache = &loop->buffers;
    struct spare_buffer *buffer = cache->spare[class];
    memory_unpoison(buffer, class_bytes(class));
    cache->spare[class] = buffer->next;
    cache->bytes -= class_bytes(class);
    if (cache->bytes < cache->least)
        cache->least = cache->bytes;
    return buffer;
}

void buffer_put(void *p, size_t bytes)
{
    struct loop *loop = current_loop;
    if (!p)
        return;
    unsigned class = bytes <= BUFFER_CACHED_MAX ? class_of(bytes) : BUFFER_CLASSES;
    if (!loop || class == BUFFER_CLASSES || loop->buffers.bytes + class_bytes(class) > BUFFER_CACHE_BYTES) {
        give_memory_back(p, class == BUFFER_CLASSES ? bytes : class_bytes(class));
        return;
    }
    struct spare_buffer *buffer = p;
    buffer->next = loop->buffers.spare[class];
    loop->buffers.spare[class] = buffer;
    loop->buffers.bytes += class_bytes(class);
    memory_poison(buffer + 1, class_bytes(class) - sizeof(*buffer));
    if (loop->buffers.bytes > KEPT_BYTES)
        loop_trim_later(loop);
}

static void free_spare(struct buffer_cache *cache, unsigned class)
{
    struct spare_buffer *buffer = cache->spare[class];
    memory_unpoison(buffer, class_bytes(class));
    cache->spare[class] = buffer->next;
    cache->bytes -= class_bytes(class);
    give_memory_back(buffer, class_bytes(class));
}

bool buffer_cache_trim(struct buffer_cache *cache)
{
    size_t unused = cache->least > KEPT_BYTES ? cache->least - KEPT_BYTES : 0;
    if (unused > TRIM_BYTES)
        unused = TRIM_BYTES;
    for (unsigned class = BUFFER_CLASSES; class -- > 0;) {
        for (; cache->spare[class] && unused >= class_bytes(class); unused -= class_bytes(class))
            free_spare(cache, class);
    }
    cache->least = cache->bytes;
    return cache->bytes > KEPT_BYTES;
}

void buffer_cache_fini(struct buffer_cache *cache)
{
    for (unsigned class = 0; class < BUFFER_CLASSES; class ++) {
        while (cache->spare[class])
            free_spare(cache, class);
    }
}
