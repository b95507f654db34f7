#include "blockcore/base/dirty_map.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"

#include <stdlib.h>
#include <string.h>

#define WORD_BITS 64
#define NOTHING UINT64_MAX

static uint64_t words_for(uint64_t bits)
{
    return max_u64(div_round_up(bits, WORD_BITS), 1);
}

/* Making ------------------------------------------------------------------------------------------------------ */

static bool allocate(struct dirty_map *map)
{
    for (uint64_t words = words_for(map->capacity);; words = words_for(words)) {
        unsigned level = map->levels++;
        map->words[level] = words;
        map->any[level] = try_calloc(words, sizeof(uint64_t));
        map->all[level] = level == 0 ? map->any[0] : try_calloc(words, sizeof(uint64_t));
        if (!map->any[level] || !map->all[level])
            return false;
        if (words == 1)
            return true;
    }
}

static bool init_with_capacity(struct dirty_map *map, uint64_t count, uint64_t capacity)
{
    *map = (struct dirty_map){ .count = count, .capacity = capacity };
    if (capacity <= DIRTY_MAP_BITS_MAX && allocate(map))
        return true;
    dirty_map_fini(map);
    return false;
}

bool dirty_map_init(struct dirty_map *map, uint64_t count)
{
    return init_with_capacity(map, count, count);
}

void dirty_map_fini(struct dirty_map *map)
{
    for (unsigned level = 0; level < map->levels; level++) {
        if (level > 0)
            free(map->all[level]);
        free(map->any[level]);
    }
    *map = (struct dirty_map){ 0 };
}

/* Setting ----------------------------------------------------------------------------------------------------- */

static uint64_t load(const _Atomic uint64_t *words, uint64_t word)
{
    return atomic_load_explicit(&words[word], memory_order_acquire);
}

/* The bits of a word that lie between @first and @last, both included and numbered from the begin of the level. */
static uint64_t mask_in_word(uint64_t word, uint64_t first, uint64_t last)
{
    uint64_t mask = NOTHING;
    if (first / WORD_BITS == word)
        mask &= NOTHING << first % WORD_BITS;
    if (last / WORD_BITS == word)
        mask &= NOTHING >> (WORD_BITS - 1 - last % WORD_BITS);
    return mask;
}

/* How many were clear before. */
static uint64_t set_level(_Atomic uint64_t *words, uint64_t first, uint64_t last)
{
    uint64_t added = 0;
    for (uint64_t word = first / WORD_BITS; word <= last / WORD_BITS; word++) {
        uint64_t mask = mask_in_word(word, first, last);
        if ((load(words, word) & mask) == mask)
            continue;
        uint64_t old = atomic_fetch_or(&words[word], mask);
        added += (uint64_t)__builtin_popcountll(mask & ~old);
    }
    return added;
}

/* Bits of @level are set. Each setter looks at every level above, though it finds its bits set: whoever set them may
 * not have come up there yet. */
static void set_any(struct dirty_map *map, unsigned level, uint64_t first, uint64_t last)
{
    while (++level < map->levels) {
        first /= WORD_BITS;
        last /= WORD_BITS;
        set_level(map->any[level], first, last);
    }
}

/* Words in the middle of a range that was set are full; the outer two may be. */
static void set_all(struct dirty_map *map, unsigned level, uint64_t first, uint64_t last)
{
    for (; level + 1 < map->levels; level++) {
        uint64_t begin = first / WORD_BITS;
        uint64_t end = last / WORD_BITS + 1;
        if (load(map->all[level], begin) != NOTHING)
            begin++;
        if (begin < end && load(map->all[level], end - 1) != NOTHING)
            end--;
        if (begin >= end)
            return;
        first = begin;
        last = end - 1;
        set_level(map->all[level + 1], first, last);
    }
}

void dirty_map_set(struct dirty_map *map, struct range bits)
{
    if (bits.bytes == 0)
        return;
    uint64_t last = range_end(bits) - 1;
    uint64_t added = set_level(map->any[0], bits.offset, last);
    if (added)
        atomic_fetch_add_explicit(&map->set, added, memory_order_relaxed);
    set_any(map, 0, bits.offset, last);
    set_all(map, 0, bits.offset, last);
}

/* Searching --------------------------------------------------------------------------------------------------- */

/* In @pyramid, of the words of a level: the first bit from @from on that is set, or is clear when @inverted turns them
 * over. The level above skips words without any. */
static uint64_t find(const struct dirty_map *map, _Atomic uint64_t *const *pyramid, uint64_t inverted, unsigned level,
                     uint64_t from)
{
    uint64_t mask = NOTHING << from % WORD_BITS;
    for (uint64_t word = from / WORD_BITS; word < map->words[level];) {
        uint64_t value = (load(pyramid[level], word) ^ inverted) & mask;
        if (value)
            return word * WORD_BITS + (uint64_t)__builtin_ctzll(value);
        mask = NOTHING;
        word = level + 1 < map->levels ? find(map, pyramid, inverted, level + 1, word + 1) : word + 1;
    }
    return NOTHING;
}

uint64_t dirty_map_next_set(const struct dirty_map *map, uint64_t from)
{
    return from < map->count ? min_u64(find(map, map->any, 0, 0, from), map->count) : map->count;
}

uint64_t dirty_map_next_clear(const struct dirty_map *map, uint64_t from)
{
    return from < map->count ? min_u64(find(map, map->all, NOTHING, 0, from), map->count) : map->count;
}

/* Clearing ---------------------------------------------------------------------------------------------------- */

static void clear_bits(_Atomic uint64_t *words, uint64_t word, uint64_t mask)
{
    atomic_store_explicit(&words[word], load(words, word) & ~mask, memory_order_relaxed);
}

/* The word of the lowest level has lost bits. */
static void clear_above(struct dirty_map *map, uint64_t word)
{
    bool empty = load(map->any[0], word) == 0;
    for (unsigned level = 1; level < map->levels; level++, word /= WORD_BITS) {
        uint64_t bit = UINT64_C(1) << word % WORD_BITS;
        clear_bits(map->all[level], word / WORD_BITS, bit);
        if (empty)
            clear_bits(map->any[level], word / WORD_BITS, bit);
        empty = empty && load(map->any[level], word / WORD_BITS) == 0;
    }
}

void dirty_map_clear(struct dirty_map *map, struct range bits)
{
    uint64_t end = range_end(bits);
    uint64_t cleared = 0;
    for (uint64_t bit = dirty_map_next_set(map, bits.offset); bit < end;) {
        uint64_t word = bit / WORD_BITS;
        uint64_t mask = mask_in_word(word, bits.offset, end - 1);
        cleared += (uint64_t)__builtin_popcountll(load(map->any[0], word) & mask);
        clear_bits(map->any[0], word, mask);
        clear_above(map, word);
        bit = dirty_map_next_set(map, (word + 1) * WORD_BITS);
    }
    atomic_fetch_sub_explicit(&map->set, cleared, memory_order_relaxed);
}

/* As bytes ---------------------------------------------------------------------------------------------------- */

/* Words from @word on that one word of the level above speaks of, at most @max. */
static size_t words_of_group(uint64_t word, uint64_t max)
{
    return (size_t)min_u64(WORD_BITS - word % WORD_BITS, max);
}

static void read_group(const struct dirty_map *map, uint64_t word, uint8_t *out, size_t count)
{
    /* Memory of what is clear is not touched: it may never have been. */
    if (map->levels > 1 && load(map->any[1], word / WORD_BITS) == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        uint64_t value = htole64(load(map->any[0], word + i));
        memcpy(out + i * sizeof(value), &value, sizeof(value));
    }
}

void dirty_map_read(const struct dirty_map *map, uint64_t first_byte, void *data, size_t bytes)
{
    uint64_t word = first_byte / sizeof(uint64_t);
    uint64_t end = min_u64(words_for(map->count), word + bytes / sizeof(uint64_t));
    uint8_t *out = data;
    memset(data, 0, bytes);
    while (word < end) {
        size_t count = words_of_group(word, end - word);
        read_group(map, word, out, count);
        word += count;
        out += count * sizeof(uint64_t);
    }
}

static bool is_clear(const uint8_t *data, size_t words)
{
    uint64_t any = 0;
    for (size_t i = 0; i < words; i++) {
        uint64_t value;
        memcpy(&value, data + i * sizeof(value), sizeof(value));
        any |= value;
    }
    return !any;
}

/* The levels above are told once for all words. */
static void add_group(struct dirty_map *map, uint64_t word, const uint8_t *in, size_t count)
{
    uint64_t added = 0;
    uint64_t any = 0;  /* words of the group that have a bit */
    uint64_t full = 0; /* words that have all */
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        memcpy(&value, in + i * sizeof(value), sizeof(value));
        uint64_t first = (word + i) * WORD_BITS;
        value = le64toh(value) & mask_in_word(word + i, first, map->count - 1);
        if (!value)
            continue;
        uint64_t old = atomic_fetch_or(&map->any[0][word + i], value);
        added += (uint64_t)__builtin_popcountll(value & ~old);
        any |= UINT64_C(1) << (word + i) % WORD_BITS;
        if ((old | value) == NOTHING)
            full |= UINT64_C(1) << (word + i) % WORD_BITS;
    }
    if (added)
        atomic_fetch_add_explicit(&map->set, added, memory_order_relaxed);
    if (!any || map->levels == 1)
        return;
    atomic_fetch_or(&map->any[1][word / WORD_BITS], any);
    set_any(map, 1, word, word);
    if (full)
        atomic_fetch_or(&map->all[1][word / WORD_BITS], full);
    set_all(map, 1, word, word);
}

void dirty_map_add(struct dirty_map *map, uint64_t first_byte, const void *data, size_t bytes)
{
    uint64_t word = first_byte / sizeof(uint64_t);
    uint64_t end = min_u64(div_round_up(map->count, WORD_BITS), word + bytes / sizeof(uint64_t));
    const uint8_t *in = data;
    while (word < end) {
        size_t count = words_of_group(word, end - word);
        if (!is_clear(in, count))
            add_group(map, word, in, count);
        word += count;
        in += count * sizeof(uint64_t);
    }
}

/* Resizing ---------------------------------------------------------------------------------------------------- */

/* Only what is set, so that pages without any stay untouched. */
static void copy_runs(struct dirty_map *to, const struct dirty_map *from)
{
    for (uint64_t bit = 0; (bit = dirty_map_next_set(from, bit)) < from->count;) {
        uint64_t end = dirty_map_next_clear(from, bit);
        dirty_map_set(to, range_between(bit, end));
        bit = end;
    }
}

bool dirty_map_resize(struct dirty_map *map, uint64_t count)
{
    if (count <= map->count) {
        dirty_map_clear(map, range_between(count, map->count));
        map->count = count;
        return true;
    }
    if (count <= map->capacity) {
        map->count = count;
        return true;
    }
    /* A file that grows with each write is not copied each time. */
    struct dirty_map larger;
    if (!init_with_capacity(&larger, count, max_u64(count, min_u64(2 * map->capacity, DIRTY_MAP_BITS_MAX))))
        return false;
    copy_runs(&larger, map);
    dirty_map_fini(map);
    *map = larger;
    return true;
}
