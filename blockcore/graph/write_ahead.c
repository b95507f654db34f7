#include "blockcore/graph/write_ahead.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/layout.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>

#define REGIONS (UINT32_C(1) << 20) /* memory that is not touched costs nothing */
#define REGION_BYTES_MIN (UINT64_C(64) << 10)
#define REGION_BYTES_MAX (UINT64_C(16) << 20) /* of a node that the table is long enough for */
#define REGIONS_WANTED 1024                   /* of a small node */
#define COOL_NS (UINT64_C(5) * 1000 * 1000 * 1000)

/* A region's state: who is in it, and these. */
#define ARMED (UINT32_C(1) << 31)
#define TOUCHED (UINT32_C(1) << 30) /* since it was last asked whether it may cool down */

struct write_ahead {
    struct node *node;
    const struct write_ahead_ops *ops;
    unsigned region_bits;
    _Atomic uint32_t *states;
    struct spinlock lock;
    struct list wishes GUARDED_BY(lock);
    struct co_mutex mutex;
    uint64_t cooled_ns; /* under the mutex: when regions were last asked */
};

/* Numbers of the regions that a range touches. */
static struct range regions_of(const struct write_ahead *ahead, struct range range)
{
    if (range.bytes == 0)
        return range_make(0, 0);
    uint64_t first = min_u64(range.offset >> ahead->region_bits, REGIONS - 1);
    uint64_t last = min_u64((range_end(range) - 1) >> ahead->region_bits, REGIONS - 1);
    return range_between(first, last + 1);
}

/* The last one has no end. */
static struct range bytes_of(const struct write_ahead *ahead, struct range regions)
{
    uint64_t end = range_end(regions) == REGIONS ? INT64_MAX : range_end(regions) << ahead->region_bits;
    return range_between(regions.offset << ahead->region_bits, end);
}

/* Making ------------------------------------------------------------------------------------------------------- */

static unsigned choose_region_bits(uint64_t length)
{
    uint64_t bytes = REGION_BYTES_MIN;
    while (bytes < REGION_BYTES_MAX && bytes * REGIONS_WANTED < length)
        bytes *= 2;
    while (bytes * (REGIONS / 2) < length)
        bytes *= 2;
    return (unsigned)__builtin_ctzll(bytes);
}

struct write_ahead *write_ahead_begin(struct node *node, const struct write_ahead_ops *ops)
{
    struct write_ahead *ahead = xcalloc(1, sizeof(*ahead));
    ahead->states = try_calloc(REGIONS, sizeof(*ahead->states));
    if (!ahead->states) {
        free(ahead);
        return NULL;
    }
    ahead->node = node;
    ahead->ops = ops;
    ahead->region_bits = choose_region_bits(node_length(node));
    ahead->cooled_ns = loop_now_ns();
    spinlock_init(&ahead->lock);
    list_init(&ahead->wishes);
    co_mutex_init(&ahead->mutex);
    atomic_store(&node->ahead, ahead);
    return ahead;
}

void write_ahead_end(struct write_ahead *ahead)
{
    atomic_store(&ahead->node->ahead, NULL);
    co_mutex_fini(&ahead->mutex);
    free((void *)(uintptr_t)ahead->states);
    free(ahead);
}

struct co_mutex *write_ahead_mutex(struct write_ahead *ahead)
{
    return &ahead->mutex;
}

/* The run of regions from @first on, inside of @regions, that are alike. */
static struct range alike(const struct write_ahead *ahead, struct range regions, bool *armed)
{
    uint64_t end = regions.offset;
    *armed = atomic_load(&ahead->states[end]) & ARMED;
    while (end < range_end(regions) && !(atomic_load(&ahead->states[end]) & ARMED) == !*armed)
        end++;
    return range_between(regions.offset, end);
}

struct range write_ahead_next_armed(const struct write_ahead *ahead, uint64_t offset)
{
    struct range left = range_between(min_u64(offset >> ahead->region_bits, REGIONS), REGIONS);
    while (left.bytes > 0) {
        bool armed;
        struct range run = alike(ahead, left, &armed);
        if (armed)
            return bytes_of(ahead, run);
        left = range_between(range_end(run), REGIONS);
    }
    return range_make(INT64_MAX, 0);
}

/* Cooling ------------------------------------------------------------------------------------------------------ */

/* It is not armed any more, unless somebody is in there. @patient: what was written just now waits until it is asked
 * again. */
static void cool_down(struct write_ahead *ahead, uint64_t region, bool patient)
{
    uint32_t state = atomic_load(&ahead->states[region]);
    uint32_t nobody = ARMED | (state & TOUCHED);
    if ((state & ARMED) && (state & TOUCHED) && patient)
        atomic_fetch_and(&ahead->states[region], ~TOUCHED);
    else if (state & ARMED)
        atomic_compare_exchange_strong(&ahead->states[region], &nobody, 0);
}

static void cool(struct write_ahead *ahead, bool patient) CO_FN CONTROL_FN;

static void cool(struct write_ahead *ahead, bool patient)
{
    struct range left = regions_of(ahead, range_make(0, node_length(ahead->node)));
    for (uint64_t region = left.offset; region < range_end(left); region++)
        cool_down(ahead, region, patient);
    if (ahead->ops->stabilise(ahead->node) < 0)
        left.bytes = 0;
    while (left.bytes > 0) {
        bool armed;
        struct range run = alike(ahead, left, &armed);
        if (!armed)
            ahead->ops->settle(ahead->node, bytes_of(ahead, run));
        left = range_between(range_end(run), range_end(left));
    }
    ahead->cooled_ns = loop_now_ns();
}

static int cool_call(void *arg)
{
    cool(arg, true);
    return 0;
}

void node_cool_regions(struct node *node, bool patient)
{
    struct write_ahead *ahead = atomic_load(&node->ahead);
    if (!ahead)
        return;
    co_mutex_lock(&ahead->mutex);
    cool(ahead, patient);
    co_mutex_unlock(&ahead->mutex);
}

/* Requests ----------------------------------------------------------------------------------------------------- */

/* A write that waits until its regions are armed. */
struct wish {
    struct list link;
    struct range regions;
    bool answered; /* under the mutex, as is ret */
    int ret;
};

static int tell_image(struct write_ahead *ahead, struct range regions) CO_FN;

static int tell_image(struct write_ahead *ahead, struct range regions)
{
    int ret = 0;
    while (regions.bytes > 0 && ret == 0) {
        bool armed;
        struct range run = alike(ahead, regions, &armed);
        if (!armed)
            ret = ahead->ops->arm(ahead->node, bytes_of(ahead, run));
        regions = range_between(range_end(run), range_end(regions));
    }
    return ret;
}

static void answer(struct write_ahead *ahead, struct wish *wish, int ret)
{
    for (uint64_t i = wish->regions.offset; i < range_end(wish->regions) && ret == 0; i++)
        atomic_fetch_or(&ahead->states[i], ARMED);
    wish->answered = true;
    wish->ret = ret;
}

/* All wishes that there are, with one flush. Under the mutex. */
static void fulfil(struct write_ahead *ahead) CO_FN;

static void fulfil(struct write_ahead *ahead)
{
    struct list wishes;
    struct list *link;
    struct wish *wish;
    list_init(&wishes);
    spinlock_lock(&ahead->lock);
    while ((link = list_take_first(&ahead->wishes)))
        list_append(&wishes, link);
    spinlock_unlock(&ahead->lock);
    list_for_each (wish, &wishes, link)
        wish->ret = tell_image(ahead, wish->regions);
    int flushed = ahead->ops->flush(ahead->node);
    while ((link = list_take_first(&wishes))) {
        wish = list_entry(link, struct wish, link);
        answer(ahead, wish, wish->ret < 0 ? wish->ret : flushed);
    }
}

void write_ahead_leave(struct write_ahead *ahead, struct range range)
{
    struct range regions = regions_of(ahead, range);
    for (uint64_t i = regions.offset; i < range_end(regions); i++)
        atomic_fetch_sub(&ahead->states[i], 1);
}

static int arm_and_cool(struct write_ahead *ahead, struct range regions) CO_FN;

static int arm_and_cool(struct write_ahead *ahead, struct range regions)
{
    struct wish wish = { .regions = regions };
    spinlock_lock(&ahead->lock);
    list_append(&ahead->wishes, &wish.link);
    spinlock_unlock(&ahead->lock);
    co_mutex_lock(&ahead->mutex);
    if (!wish.answered)
        fulfil(ahead);
    if (loop_now_ns() - ahead->cooled_ns >= COOL_NS)
        co_call_on(loop_control(), "write-ahead bitmaps", cool_call, ahead);
    co_mutex_unlock(&ahead->mutex);
    return wish.ret;
}

int write_ahead_enter(struct write_ahead *ahead, struct range range)
{
    struct range regions = regions_of(ahead, range);
    bool armed = true;
    for (uint64_t i = regions.offset; i < range_end(regions); i++) {
        uint32_t state = atomic_fetch_add(&ahead->states[i], 1);
        armed = armed && (state & ARMED);
        if (!(state & TOUCHED))
            atomic_fetch_or(&ahead->states[i], TOUCHED);
    }
    int ret = armed ? 0 : arm_and_cool(ahead, regions);
    if (ret < 0)
        write_ahead_leave(ahead, range);
    return ret;
}
