/* Layers laid over one another, compared with a plain array that says of each byte which layer decides it. */
#include "blockcore/io/extents_private.h"
#include "blockcore/io/sweep.h"
#include "tests/unit/base/unit.h"

#define BYTES 300
#define ROUNDS 2000

static unsigned random_below(unsigned limit)
{
    static uint64_t state = 1;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(state >> 33) % limit;
}

static struct extent extent_at(uint64_t begin, uint64_t end, uint32_t depth)
{
    struct extent extent = extent_make(range_between(begin, end), EXTENT_ALLOCATED | EXTENT_MAPPED);
    extent.depth = depth;
    extent.file_offset = depth * 1000 + begin;
    return extent;
}

/* Extents with gaps; what they cover is theirs where no layer before them has it. */
static void add_random_layer(struct sweep *sweep, uint32_t depth, uint32_t *decides)
{
    struct extents layer;
    extents_init(&layer, BYTES);
    for (unsigned at = random_below(40); at < BYTES;) {
        unsigned end = at + 1 + random_below(30);
        end = end < BYTES ? end : BYTES;
        struct extent extent = extent_at(at, end, depth);
        extents_append(&layer, &extent);
        for (; at < end; at++)
            decides[at] = decides[at] ? decides[at] : depth;
        at += random_below(60);
    }
    sweep_add(sweep, &layer);
    extents_fini(&layer);
}

static void expect_decided(const struct extents *out, const uint32_t *decides)
{
    uint64_t at = 0;
    for (size_t i = 0; i < out->count; i++) {
        const struct extent *extent = &out->items[i];
        assert_int_equal(extent->offset, at);
        assert_int_equal(extent->file_offset, extent->depth * 1000 + at);
        for (; at < extent->offset + extent->bytes; at++)
            assert_int_equal(decides[at], extent->depth);
    }
}

static void the_uppermost_layer_that_has_a_byte_decides_it(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct sweep sweep;
        uint32_t decides[BYTES] = { 0 };
        uint32_t depth = 1;
        sweep_init(&sweep, range_make(0, BYTES));
        for (unsigned layers = random_below(9); layers > 0; layers--)
            add_random_layer(&sweep, depth++, decides);
        struct extent bottom = extent_at(0, BYTES, depth);
        sweep_add_one(&sweep, &bottom);
        for (unsigned at = 0; at < BYTES; at++)
            decides[at] = decides[at] ? decides[at] : depth;
        uint64_t end = 1 + random_below(BYTES);
        size_t max = 1 + random_below(40);
        sweep_shorten(&sweep, end);

        struct extents out;
        extents_init(&out, max);
        sweep_finish(&sweep, max, &out);
        expect_decided(&out, decides);
        const struct extent *last = &out.items[out.count - 1];
        assert_true(last->offset + last->bytes == end || out.count == max + 1);
        extents_fini(&out);
        sweep_fini(&sweep);
    }
}

/* A window with more than memory shall hold becomes shorter, and what is left of it is right. */
static void too_many_extents_make_the_window_shorter(void **state)
{
    (void)state;
    struct sweep sweep;
    sweep_init(&sweep, range_make(0, 2 * SWEEP_MAX));
    for (uint32_t depth = 1; depth <= 4; depth++) {
        struct extents layer;
        extents_init(&layer, SWEEP_MAX);
        for (uint64_t at = depth; at < range_end(sweep.window); at += 5) {
            struct extent extent = extent_at(at, at + 1, depth);
            extents_append(&layer, &extent);
        }
        sweep_add(&sweep, &layer);
        assert_true(sweep.count <= SWEEP_MAX);
    }
    struct extent bottom = extent_at(0, range_end(sweep.window), 5);
    sweep_add_one(&sweep, &bottom);
    struct extents out;
    extents_init(&out, SIZE_MAX - 1);
    sweep_finish(&sweep, SIZE_MAX - 1, &out);
    assert_true(range_end(sweep.window) >= SWEEP_MAX / 4 && range_end(sweep.window) < 2 * SWEEP_MAX);
    assert_int_equal(out.count, range_end(sweep.window));
    for (uint64_t at = 0; at < out.count; at++)
        assert_int_equal(out.items[at].depth, at % 5 ? at % 5 : 5);
    extents_fini(&out);
    sweep_fini(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_uppermost_layer_that_has_a_byte_decides_it),
        cmocka_unit_test(too_many_extents_make_the_window_shorter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
