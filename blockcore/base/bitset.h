/* bitset - many bits, and where the next one is
 *
 * All clear at first; pages of memory that nobody touches cost nothing. No lock inside. */
#ifndef CAIRN_BASE_BITSET_H
#define CAIRN_BASE_BITSET_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/range.h"

#include <stdbool.h>
#include <stdint.h>

struct bitset {
    uint64_t *words;
    uint64_t count; /* of bits */
};

/* False when there is no memory. The bound of @count is the caller's to check. */
bool bitset_init(struct bitset *bitset, uint64_t count) MUST_CHECK;
void bitset_fini(struct bitset *bitset);

/* @bits: number of the first bit, and how many; inside. */
void bitset_set(struct bitset *bitset, struct range bits);
void bitset_clear(struct bitset *bitset, struct range bits);

static inline bool bitset_has(const struct bitset *bitset, uint64_t bit)
{
    return bitset->words[bit / 64] >> (bit % 64) & 1;
}

/* The first bit of @bits that is set (or clear); the end of @bits when there is none. */
uint64_t bitset_next_set(const struct bitset *bitset, struct range bits);
uint64_t bitset_next_clear(const struct bitset *bitset, struct range bits);

#endif
