/* ticks - a clock that costs a few nanoseconds to read, for measuring every request
 *
 * The processor's own counter where there is one that runs evenly (x86-64, aarch64), else the monotonic clock. Only
 * differences mean something; ticks_to_ns() finds out the rate by comparing with the monotonic clock since the first
 * call of ticks_begin(), so it is as good as that time is long. */
#ifndef CAIRN_BASE_TICKS_H
#define CAIRN_BASE_TICKS_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t ticks_now(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t now;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(now));
    return now;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

/* Any thread; only the first call counts. */
void ticks_begin(void);
/* 0 before ticks_begin(). */
uint64_t ticks_to_ns(uint64_t ticks);

/* Nanoseconds of a tick, times 2^32: as known when ticks_settle() was first called, and the same ever after. */
extern _Atomic uint64_t ticks_rate;

/* Any thread; only the first call counts. Finds the rate to a thousandth; right after ticks_begin() it takes 0.1 ms. */
void ticks_settle(void);

/* The same as ticks_to_ns() for a few nanoseconds, after ticks_settle(). */
static inline uint64_t ticks_ns(uint64_t ticks)
{
    uint64_t rate = atomic_load_explicit(&ticks_rate, memory_order_relaxed);
    __extension__ unsigned __int128 product = (unsigned __int128)ticks * rate;
    return (uint64_t)(product >> 32);
}

#endif
