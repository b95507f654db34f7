#include "blockcore/runtime/buffer.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/loop_private.h"
#include "blockcore/runtime/sanitizer.h"
#include "blockcore/runtime/slab.h"

#include <stdlib.h>
#include <sys/mman.h>

#define SMALLEST_BITS 12

/* After a burst: what is kept for the next one, and how much is given back at a time, so that nobody waits for it. */
#define KEPT_BYTES ((size_t)4 << 20)
#define TRIM_BYTES ((size_t)2 << 20)

/* The link lies in the buffer itself; the rest is poisoned while nobody owns it. */
struct spare_buffer {
    struct spare_buffer *next;
};

/* BUFFER_CLASSES: too large to be kept. */
static unsigned class_of(size_t bytes)
{
    if (bytes > BUFFER_CACHED_MAX)
        return BUFFER_CLASSES;
    if (bytes <= (size_t)1 << SMALLEST_BITS)
        return 0;
    return (unsigned)(64 - __builtin_clzll(bytes - 1) - SMALLEST_BITS);
}

static size_t class_bytes(unsigned class)
{
    return (size_t)1 << (SMALLEST_BITS + class);
}

#ifdef WITH_ASAN
/* It watches the ends of what is on the heap. */
static void *take_memory(unsigned class, size_t bytes)
{
    return try_aligned_alloc(BUFFER_ALIGNMENT, class < BUFFER_CLASSES ? class_bytes(class) : bytes);
}

static void give_memory(void *memory, unsigned class, size_t bytes)
{
    (void)class;
    (void)bytes;
    free(memory);
}
#else
static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void *take_memory(unsigned class, size_t bytes)
{
    if (class < SLAB_CLASSES)
        return slab_take(class);
    return map(class < BUFFER_CLASSES ? class_bytes(class) : bytes);
}

static void give_memory(void *memory, unsigned class, size_t bytes)
{
    if (class < SLAB_CLASSES)
        slab_give(memory, class);
    else
        munmap(memory, class < BUFFER_CLASSES ? class_bytes(class) : bytes);
}
#endif

void *buffer_get(size_t bytes)
{
    unsigned class = class_of(bytes);
    struct loop *loop = current_loop;
    if (!loop || class == BUFFER_CLASSES || !loop->buffers.spare[class])
        return take_memory(class, bytes);
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
    unsigned class = class_of(bytes);
    if (!loop || class == BUFFER_CLASSES || loop->buffers.bytes + class_bytes(class) > BUFFER_CACHE_BYTES) {
        give_memory(p, class, bytes);
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
    give_memory(buffer, class, 0);
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
