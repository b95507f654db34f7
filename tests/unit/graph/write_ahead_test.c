/* Bitmaps whose image is told before: at no moment does the image say less than what was written. */
#include "tests/unit/support/mem_drivers.h"

#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/write_ahead.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GRANULE 65536u
#define GRANULES 512u
#define BYTES ((uint64_t)GRANULE * GRANULES)
#define WRITERS 4
#define WRITES 1500

#define IN_GRAPH(name)                                                                                                 \
    static void name##_body(void *arg);                                                                                \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        with_runtime(2, name##_body, NULL);                                                                            \
    }                                                                                                                  \
    static void name##_body(void *arg __attribute__((unused)))

/* What the image has: a byte for each granule, so that whoever looks at one that is being changed is found out. */
static uint8_t image[GRANULES];
static struct dirty_bitmap *bitmap;
static uint8_t written[GRANULES]; /* there, but not stable */
static unsigned arms;
static unsigned flushes;
static int arm_error;
static int flush_error;
static unsigned stable;
static int stabilise_error;

static struct range granules_of(struct range range)
{
    range = range_intersect(range, range_make(0, BYTES));
    return range_between(range.offset / GRANULE, div_round_up(range_end(range), GRANULE));
}

static int arm(struct node *node, struct range range)
{
    struct range granules = granules_of(range);
    (void)node;
    arms++;
    if (arm_error)
        return arm_error;
    memset(written + granules.offset, 1, granules.bytes);
    return 0;
}

/* What was written becomes stable. */
static int flush(struct node *node)
{
    (void)node;
    flushes++;
    if (flush_error)
        return flush_error;
    co_yield (); /* the image is slow */
    for (uint64_t i = 0; i < GRANULES; i++) {
        if (written[i])
            image[i] = 1;
        written[i] = 0;
    }
    return 0;
}

static void settle(struct node *node, struct range range)
{
    struct range granules = granules_of(range);
    (void)node;
    for (uint64_t i = granules.offset; i < range_end(granules); i++)
        image[i] = dirty_bitmap_next_dirty(bitmap, i * GRANULE) == i * GRANULE;
}

static int stabilise(struct node *node)
{
    (void)node;
    stable++;
    co_yield ();
    return stabilise_error;
}

static struct write_ahead *begin(void)
{
    static const struct write_ahead_ops ops = { .arm = arm, .flush = flush, .stabilise = stabilise, .settle = settle };
    add_mem("disk", 0);
    node_set_length(node_find("disk"), BYTES); /* without the memory */
    expect_success(dirty_bitmap_create(node_find("disk"), "b", GRANULE, &bitmap));
    memset(image, 0, sizeof(image));
    arms = 0;
    arm_error = flush_error = stabilise_error = 0;
    stable = 0;
    flushes = 0;
    memset(written, 0, sizeof(written));
    struct write_ahead *ahead = write_ahead_begin(node_find("disk"), &ops);
    assert_non_null(ahead);
    return ahead;
}

static bool image_has(struct range range)
{
    struct range granules = granules_of(range);
    for (uint64_t i = granules.offset; i < range_end(granules); i++) {
        if (!image[i])
            return false;
    }
    return true;
}

static struct range granule(uint64_t number)
{
    return range_make(number * GRANULE, GRANULE);
}

IN_GRAPH(a_region_is_armed_once)
{
    struct write_ahead *ahead = begin();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(write_ahead_enter(ahead, range_make(5 * GRANULE + 3, 10)), 0);
        assert_true(image_has(granule(5)));
        write_ahead_leave(ahead, range_make(5 * GRANULE + 3, 10));
    }
    assert_int_equal(arms, 1);
    assert_int_equal(write_ahead_enter(ahead, range_make(4 * GRANULE, 3 * GRANULE)), 0);
    write_ahead_leave(ahead, range_make(4 * GRANULE, 3 * GRANULE));
    assert_int_equal(arms, 3); /* before and behind it */
    struct range armed = write_ahead_next_armed(ahead, 0);
    assert_true(armed.offset == 4 * GRANULE && armed.bytes == 3 * GRANULE);
    assert_int_equal(write_ahead_next_armed(ahead, range_end(armed)).bytes, 0);
    write_ahead_end(ahead);
}

IN_GRAPH(nothing_is_written_where_the_image_cannot_be_told)
{
    struct write_ahead *ahead = begin();
    arm_error = -EIO;
    assert_int_equal(write_ahead_enter(ahead, granule(1)), -EIO);
    arm_error = 0;
    flush_error = -ENOSPC;
    assert_int_equal(write_ahead_enter(ahead, granule(1)), -ENOSPC);
    flush_error = 0;
    assert_int_equal(write_ahead_enter(ahead, granule(1)), 0);
    write_ahead_leave(ahead, granule(1));
    assert_int_equal(arms, 3);
    write_ahead_end(ahead);
}

static struct write_ahead *shared;
static _Atomic unsigned writing;

static void write_one(void *arg)
{
    struct range range = granule((uintptr_t)arg);
    if (write_ahead_enter(shared, range) != 0 || !image_has(range))
        abort();
    write_ahead_leave(shared, range);
    writing--;
}

IN_GRAPH(those_who_wait_share_a_flush)
{
    shared = begin();
    writing = 20;
    for (uintptr_t i = 0; i < 20; i++)
        co_start("writer", write_one, (void *)(i * 7));
    while (writing > 0)
        co_yield ();
    assert_int_equal(arms, 20);
    assert_int_equal(flushes, 2); /* of the first, and of all who came while that took its time */
    write_ahead_end(shared);
}

IN_GRAPH(what_cools_down_gets_the_bits_of_memory)
{
    struct write_ahead *ahead = begin();
    assert_int_equal(write_ahead_enter(ahead, granule(1)), 0);
    dirty_bitmap_mark(bitmap, granule(1));
    write_ahead_leave(ahead, granule(1));
    assert_int_equal(write_ahead_enter(ahead, granule(7)), 0);
    dirty_bitmap_clean(bitmap, granule(1));
    node_cool_regions(node_find("disk"), false);
    assert_false(image_has(granule(1)));
    assert_true(image_has(granule(7))); /* somebody is in there */
    write_ahead_leave(ahead, granule(7));
    node_cool_regions(node_find("disk"), false);
    assert_false(image_has(granule(7)));
    assert_int_equal(write_ahead_enter(ahead, granule(7)), 0);
    assert_true(image_has(granule(7)));
    write_ahead_leave(ahead, granule(7));
    write_ahead_end(ahead);
}

IN_GRAPH(the_image_gets_fewer_bits_only_when_what_was_written_is_stable)
{
    struct write_ahead *ahead = begin();
    assert_int_equal(write_ahead_enter(ahead, granule(1)), 0);
    write_ahead_leave(ahead, granule(1));
    stabilise_error = -EIO;
    node_cool_regions(node_find("disk"), false);
    assert_true(image_has(granule(1)));
    stabilise_error = 0;
    node_cool_regions(node_find("disk"), false);
    assert_false(image_has(granule(1)));
    assert_int_equal(stable, 2);
    write_ahead_end(ahead);
}

IN_GRAPH(patience_leaves_alone_what_was_written_just_now)
{
    struct write_ahead *ahead = begin();
    assert_int_equal(write_ahead_enter(ahead, granule(1)), 0);
    write_ahead_leave(ahead, granule(1));
    node_cool_regions(node_find("disk"), true);
    assert_true(image_has(granule(1)));
    node_cool_regions(node_find("disk"), true);
    assert_false(image_has(granule(1)));
    write_ahead_end(ahead);
}

IN_GRAPH(behind_the_end_there_is_room_to_grow)
{
    struct write_ahead *ahead = begin();
    struct range far = range_make(UINT64_C(1) << 60, 4096);
    assert_int_equal(write_ahead_enter(ahead, far), 0);
    write_ahead_leave(ahead, far);
    struct range armed = write_ahead_next_armed(ahead, 0);
    assert_true(armed.offset <= far.offset && range_end(armed) >= range_end(far));
    write_ahead_end(ahead);
}

/* Writers on all loops, and somebody who takes bits away and cools regions all the time. */
static void write_many(void *arg)
{
    uint64_t state = (uintptr_t)arg + 1;
    for (int i = 0; i < WRITES; i++) {
        state = state * UINT64_C(6364136223846793005) + 99;
        uint64_t first = (state >> 30) % GRANULES;
        struct range range = range_make(first * GRANULE, min_u64((state >> 50) % 4 + 1, GRANULES - first) * GRANULE);
        if (write_ahead_enter(shared, range) != 0)
            abort();
        if (!image_has(range))
            abort();
        if (i % 3 == 0)
            co_yield ();
        dirty_bitmap_mark(bitmap, range);
        if (!image_has(range))
            abort();
        write_ahead_leave(shared, range);
        if (i % 16 == 0)
            co_yield ();
    }
    writing--;
}

static void check_image(void)
{
    for (uint64_t i = 0; i < GRANULES; i++) {
        if (dirty_bitmap_next_dirty(bitmap, i * GRANULE) == i * GRANULE && !image[i])
            abort();
    }
}

IN_GRAPH(the_image_never_says_too_little)
{
    uint64_t state = 7;
    shared = begin();
    writing = WRITERS;
    for (uintptr_t i = 0; i < WRITERS; i++)
        co_start_on(loop_io(i % 2), "writer", write_many, (void *)i);
    while (writing > 0) {
        state = state * UINT64_C(6364136223846793005) + 99;
        dirty_bitmap_clean(bitmap, range_make((state >> 30) % (GRANULES / 2) * GRANULE, GRANULES / 2 * GRANULE));
        node_cool_regions(node_find("disk"), state >> 63);
        co_yield ();
    }
    check_image();
    node_cool_regions(node_find("disk"), false);
    for (uint64_t i = 0; i < GRANULES; i++)
        assert_int_equal(image[i], dirty_bitmap_next_dirty(bitmap, i * GRANULE) == i * GRANULE);
    write_ahead_end(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_region_is_armed_once),
        cmocka_unit_test(nothing_is_written_where_the_image_cannot_be_told),
        cmocka_unit_test(those_who_wait_share_a_flush),
        cmocka_unit_test(what_cools_down_gets_the_bits_of_memory),
        cmocka_unit_test(the_image_gets_fewer_bits_only_when_what_was_written_is_stable),
        cmocka_unit_test(patience_leaves_alone_what_was_written_just_now),
        cmocka_unit_test(behind_the_end_there_is_room_to_grow),
        cmocka_unit_test(the_image_never_says_too_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
