#include "blockcore/runtime/slab.h"

#include "blockcore/base/list.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLAB_BYTES ((size_t)1 << 20)
#define BLOCK_BYTES_MIN ((size_t)4096)
#define WORD_BITS 64
#define WORDS (SLAB_BYTES / BLOCK_BYTES_MIN / WORD_BITS)

/* In the first block, so that an address tells its slab. */
struct slab {
    struct list link; /* of those that have a free block */
    unsigned free_count;
    unsigned blocks;
    uint64_t free[WORDS]; /* a bit for each block; that of the first is never set */
};

static struct {
    pthread_mutex_t lock;
    struct list with_room[SLAB_CLASSES];
    bool ready;
} slabs = { .lock = PTHREAD_MUTEX_INITIALIZER };

static size_t block_bytes(unsigned class)
{
    return BLOCK_BYTES_MIN << class;
}

/* Twice as much is mapped, and what stands out on both sides given back. */
static void *map_aligned(void)
{
    char *memory = mmap(NULL, 2 * SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)memory % SLAB_BYTES;
    if (before > 0)
        munmap(memory, before);
    munmap(memory + before + SLAB_BYTES, SLAB_BYTES - before);
    return memory + before;
}

static struct slab *slab_create(unsigned class)
{
    struct slab *slab = map_aligned();
    if (!slab)
        return NULL;
    slab->blocks = (unsigned)(SLAB_BYTES / block_bytes(class)) - 1;
    slab->free_count = slab->blocks;
    for (unsigned i = 1; i <= slab->blocks; i++)
        slab->free[i / WORD_BITS] |= UINT64_C(1) << i % WORD_BITS;
    list_init(&slab->link);
    list_append(&slabs.with_room[class], &slab->link);
    return slab;
}

static struct slab *find_room(unsigned class)
{
    if (!slabs.ready) {
        for (unsigned i = 0; i < SLAB_CLASSES; i++)
            list_init(&slabs.with_room[i]);
        slabs.ready = true;
    }
    struct slab *slab = list_first(&slabs.with_room[class], struct slab, link);
    return slab ? slab : slab_create(class);
}

static unsigned take_first_free(struct slab *slab)
{
    unsigned word = 0;
    while (slab->free[word] == 0)
        word++;
    unsigned bit = (unsigned)__builtin_ctzll(slab->free[word]);
    slab->free[word] &= ~(UINT64_C(1) << bit);
    if (--slab->free_count == 0)
        list_remove(&slab->link);
    return word * WORD_BITS + bit;
}

void *slab_take(unsigned class)
{
    pthread_mutex_lock(&slabs.lock);
    struct slab *slab = find_room(class);
    char *block = slab ? (char *)slab + take_first_free(slab) * block_bytes(class) : NULL;
    pthread_mutex_unlock(&slabs.lock);
    return block;
}

/* While it is nobody else's. Where pages are larger than blocks, neighbours would go with it. */
static void give_pages_back(void *block, size_t bytes)
{
    if (bytes % (size_t)sysconf(_SC_PAGESIZE) == 0)
        (void)madvise(block, bytes, MADV_DONTNEED);
}

/* True: nobody has any of its blocks, and others of its class have room. */
static bool is_superfluous(const struct slab *slab, unsigned class)
{
    return slab->free_count == slab->blocks && slabs.with_room[class].next != slabs.with_room[class].prev;
}

void slab_give(void *block, unsigned class)
{
    size_t at = (uintptr_t)block % SLAB_BYTES;
    struct slab *slab = (struct slab *)(void *)((char *)block - at);
    size_t number = at / block_bytes(class);
    give_pages_back(block, block_bytes(class));
    pthread_mutex_lock(&slabs.lock);
    slab->free[number / WORD_BITS] |= UINT64_C(1) << number % WORD_BITS;
    if (slab->free_count++ == 0)
        list_prepend(&slabs.with_room[class], &slab->link);
    bool superfluous = is_superfluous(slab, class);
    if (superfluous)
        list_remove(&slab->link);
    pthread_mutex_unlock(&slabs.lock);
    if (superfluous)
        munmap(slab, SLAB_BYTES);
}
