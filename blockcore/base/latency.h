/* latency - how many things took how long
 *
 * A histogram whose bins grow with the times they are for: two for each power of two, so a percentile read from it is
 * off by a fifth at most, whether it is 2 us or 20 s. Counting is one store into memory that one thread writes; others
 * look at it whenever they like, and see each bin as it was at some moment. */
#ifndef CAIRN_BASE_LATENCY_H
#define CAIRN_BASE_LATENCY_H

#include <stdatomic.h>
#include <stdint.h>

#define LATENCY_FIRST_BIT 7 /* the first bin ends at 128 ns */
#define LATENCY_LAST_BIT 37 /* the last one begins at 137 s */
#define LATENCY_BINS (2 * (LATENCY_LAST_BIT - LATENCY_FIRST_BIT) + 2)

struct latency {
    _Atomic uint64_t bins[LATENCY_BINS];
};

static inline unsigned latency_bin(uint64_t ns)
{
    if (ns < (uint64_t)1 << LATENCY_FIRST_BIT)
        return 0;
    unsigned bit = 63 - (unsigned)__builtin_clzll(ns);
    unsigned bin = 1 + 2 * (bit - LATENCY_FIRST_BIT) + (unsigned)(ns >> (bit - 1) & 1);
    return bin < LATENCY_BINS ? bin : LATENCY_BINS - 1;
}

/* Where @bin begins, in ns; it ends where the next one begins, the last one nowhere. */
static inline uint64_t latency_bin_begin(unsigned bin)
{
    return bin == 0 ? 0 : (uint64_t)(2 + (bin - 1) % 2) << (LATENCY_FIRST_BIT + (bin - 1) / 2 - 1);
}

/* By the one thread that counts here. */
static inline void latency_count(struct latency *latency, uint64_t ns)
{
    _Atomic uint64_t *bin = &latency->bins[latency_bin(ns)];
    atomic_store_explicit(bin, atomic_load_explicit(bin, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* Adds what @from has counted so far to the LATENCY_BINS numbers of @sum. Any thread. */
static inline void latency_add_to(struct latency *from, uint64_t *sum)
{
    for (unsigned i = 0; i < LATENCY_BINS; i++)
        sum[i] += atomic_load_explicit(&from->bins[i], memory_order_relaxed);
}

#endif
