#include "blockcore/base/bitset.h"

#include "blockcore/base/memory.h"

#include <stdlib.h>

bool bitset_init(struct bitset *bitset, uint64_t count)
{
    bitset->count = count;
    bitset->words = try_calloc(count / 64 + 1, sizeof(uint64_t));
    return bitset->words;
}

void bitset_fini(struct bitset *bitset)
{
    free(bitset->words);
    *bitset = (struct bitset){ 0 };
}

/* The bits of word @word that @bits covers. */
static uint64_t mask_of(uint64_t word, struct range bits)
{
    uint64_t first = max_u64(bits.offset, word * 64) - word * 64;
    uint64_t last = min_u64(range_end(bits), word * 64 + 64) - word * 64; /* behind it */
    return (UINT64_MAX << first) & (UINT64_MAX >> (64 - last));
}

void bitset_set(struct bitset *bitset, struct range bits)
{
    for (uint64_t word = bits.offset / 64; word * 64 < range_end(bits); word++)
        bitset->words[word] |= mask_of(word, bits);
}

void bitset_clear(struct bitset *bitset, struct range bits)
{
    for (uint64_t word = bits.offset / 64; word * 64 < range_end(bits); word++)
        bitset->words[word] &= ~mask_of(word, bits);
}

/* The first bit that is set after all have been turned where @flip says so. */
static uint64_t next(const struct bitset *bitset, struct range bits, uint64_t flip)
{
    for (uint64_t word = bits.offset / 64; word * 64 < range_end(bits); word++) {
        uint64_t found = (bitset->words[word] ^ flip) & mask_of(word, bits);
        if (found)
            return word * 64 + (uint64_t)__builtin_ctzll(found);
    }
    return range_end(bits);
}

uint64_t bitset_next_set(const struct bitset *bitset, struct range bits)
{
    return next(bitset, bits, 0);
}

uint64_t bitset_next_clear(const struct bitset *bitset, struct range bits)
{
    return next(bitset, bits, UINT64_MAX);
}
