/* dirty_map - very many bits, where the next set or clear one is, and how many are set
 *
 * Above the bits stand two pyramids. A bit of one says whether a word of the level below has any bit set, a bit of the
 * other whether it has all of them, so both questions are answered in a few steps however long the run is:
 *
 *     any          [.1]                    all          [..]
 *     any      [1.]    [.1]                all      [1.]    [..]
 *     bits  [11][..]  [..][1.]             bits  [11][..]  [..][1.]
 *
 * Many threads may set bits at the same time, and others search and count meanwhile; everything else needs the map for
 * itself. Whoever has set a bit finds it from then on, on any thread that knows of that. A bit that is set already
 * costs a few reads, and no line of memory moves between threads.
 *
 * Pages of memory that nobody touches cost nothing. */
#ifndef CAIRN_BASE_DIRTY_MAP_H
#define CAIRN_BASE_DIRTY_MAP_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/range.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIRTY_MAP_BITS_MAX (UINT64_C(1) << 60)
#define DIRTY_MAP_LEVELS_MAX 10

struct dirty_map {
    uint64_t count; /* of bits */
    unsigned levels;
    uint64_t words[DIRTY_MAP_LEVELS_MAX];        /* of each level */
    _Atomic uint64_t *any[DIRTY_MAP_LEVELS_MAX]; /* any[0] are the bits */
    _Atomic uint64_t *all[DIRTY_MAP_LEVELS_MAX]; /* all[0] too */
    uint64_t capacity;                           /* bits that there is memory for */
    _Atomic uint64_t set;                        /* how many are set */
};

/* All clear. False when there is no memory; then it is as after dirty_map_fini(). */
bool dirty_map_init(struct dirty_map *map, uint64_t count) MUST_CHECK;
void dirty_map_fini(struct dirty_map *map);

/* Several threads at once; ranges are numbers of bits, inside of the map. ------------------------------------- */

void dirty_map_set(struct dirty_map *map, struct range bits);

/* The first bit from @from on that is set (or clear); the count of bits when there is none. */
uint64_t dirty_map_next_set(const struct dirty_map *map, uint64_t from);
uint64_t dirty_map_next_clear(const struct dirty_map *map, uint64_t from);

static inline uint64_t dirty_map_set_count(const struct dirty_map *map)
{
    return atomic_load_explicit(&map->set, memory_order_relaxed);
}

/* Copies bits as bytes, the first bit in bit 0 of the first byte: as bitmaps are stored in qcow2 images, and what QEMU
 * takes the checksum of. @first_byte and @bytes are multiples of 8; what lies behind the last bit is zero. */
void dirty_map_read(const struct dirty_map *map, uint64_t first_byte, void *data, size_t bytes);

/* The reverse of dirty_map_read(): adds the bits that are set in @data. Those behind the last bit are ignored. */
void dirty_map_add(struct dirty_map *map, uint64_t first_byte, const void *data, size_t bytes);

/* With the map to itself. ------------------------------------------------------------------------------------- */

void dirty_map_clear(struct dirty_map *map, struct range bits);

/* Bits that are added are clear. False when there is no memory, and all is as before; never when it becomes shorter. */
bool dirty_map_resize(struct dirty_map *map, uint64_t count) MUST_CHECK;

#endif
