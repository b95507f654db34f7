#include "blockcore/base/ticks.h"

#include <pthread.h>

#define SETTLE_NS 100000 /* the clocks are read within some 50 ns of each other */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_once_t settle_once = PTHREAD_ONCE_INIT;
static uint64_t begin_ticks;
static uint64_t begin_ns;
_Atomic uint64_t ticks_rate;

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void begin(void)
{
    begin_ticks = ticks_now();
    begin_ns = clock_ns();
}

void ticks_begin(void)
{
    pthread_once(&once, begin);
}

static void settle(void)
{
    uint64_t ns;
    while ((ns = clock_ns() - begin_ns) < SETTLE_NS) {
    }
    uint64_t ticks = ticks_now() - begin_ticks;
    atomic_store(&ticks_rate, (uint64_t)((double)ns / (double)ticks * 0x1p32));
}

void ticks_settle(void)
{
    ticks_begin();
    pthread_once(&settle_once, settle);
}

uint64_t ticks_to_ns(uint64_t ticks)
{
    uint64_t elapsed = ticks_now() - begin_ticks;
    if (begin_ns == 0 || elapsed == 0)
        return 0;
    return (uint64_t)((double)ticks * (double)(clock_ns() - begin_ns) / (double)elapsed);
}
