#include "blockcore/base/range.h"

#include "tests/unit/base/unit.h"

static void expect_range(struct range range, uint64_t offset, uint64_t bytes)
{
    assert_int_equal(range.offset, offset);
    assert_int_equal(range.bytes, bytes);
}

static void between_is_empty_when_the_end_comes_first(void **state)
{
    (void)state;
    expect_range(range_between(10, 30), 10, 20);
    expect_range(range_between(10, 10), 10, 0);
    expect_range(range_between(10, 5), 10, 0);
    assert_int_equal(range_end(range_make(10, 20)), 30);
}

/* Sums that would wrap around are outside, not inside by accident. */
static void inside_does_not_wrap(void **state)
{
    (void)state;
    assert_true(range_inside(range_make(0, 100), 100));
    assert_true(range_inside(range_make(100, 0), 100));
    assert_false(range_inside(range_make(101, 0), 100));
    assert_false(range_inside(range_make(1, 100), 100));
    assert_false(range_inside(range_make(UINT64_MAX, 2), 100));
    assert_false(range_inside(range_make(2, UINT64_MAX), 100));
    assert_false(range_inside(range_make(UINT64_MAX - 1, 2), UINT64_MAX - 1));
    assert_true(range_inside(range_make(UINT64_MAX - 1, 1), UINT64_MAX));
}

static void neighbours_do_not_overlap(void **state)
{
    (void)state;
    assert_false(range_overlaps(range_make(0, 10), range_make(10, 10)));
    assert_false(range_overlaps(range_make(10, 10), range_make(0, 10)));
    assert_true(range_overlaps(range_make(0, 11), range_make(10, 10)));
    assert_true(range_overlaps(range_make(0, 100), range_make(10, 1)));
    assert_false(range_overlaps(range_make(10, 0), range_make(10, 10)));
}

static void contains_counts_the_edges(void **state)
{
    (void)state;
    assert_true(range_contains(range_make(10, 10), range_make(10, 10)));
    assert_true(range_contains(range_make(10, 10), range_make(20, 0)));
    assert_false(range_contains(range_make(10, 10), range_make(9, 2)));
    assert_false(range_contains(range_make(10, 10), range_make(19, 2)));
}

static void intersection_is_what_both_have(void **state)
{
    (void)state;
    expect_range(range_intersect(range_make(0, 10), range_make(5, 10)), 5, 5);
    expect_range(range_intersect(range_make(5, 10), range_make(0, 100)), 5, 10);
    assert_int_equal(range_intersect(range_make(0, 10), range_make(10, 10)).bytes, 0);
    assert_int_equal(range_intersect(range_make(0, 10), range_make(50, 10)).bytes, 0);
}

static void alignment(void **state)
{
    (void)state;
    assert_int_equal(align_down(4095, 4096), 0);
    assert_int_equal(align_down(4096, 4096), 4096);
    assert_int_equal(align_up(4097, 4096), 8192);
    assert_int_equal(align_up(4096, 4096), 4096);
    assert_int_equal(align_up(0, 4096), 0);
    assert_int_equal(align_down(UINT64_MAX, 512), UINT64_MAX - 511);
    assert_true(is_aligned(8192, 4096));
    assert_false(is_aligned(8193, 2));
    assert_true(is_aligned(5, 1));
    expect_range(range_align_out(range_make(100, 5000), 4096), 0, 8192);
    expect_range(range_align_out(range_make(4096, 4096), 4096), 4096, 4096);
}

static void powers_of_two(void **state)
{
    (void)state;
    assert_false(is_power_of_two(0));
    assert_true(is_power_of_two(1));
    assert_false(is_power_of_two(3));
    assert_true(is_power_of_two((uint64_t)1 << 63));
}

static void rounding_division_does_not_wrap(void **state)
{
    (void)state;
    assert_int_equal(div_round_up(0, 10), 0);
    assert_int_equal(div_round_up(1, 10), 1);
    assert_int_equal(div_round_up(10, 10), 1);
    assert_int_equal(div_round_up(UINT64_MAX, 2), (uint64_t)1 << 63);
    assert_int_equal(min_u64(1, 2), 1);
    assert_int_equal(max_u64(1, 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(between_is_empty_when_the_end_comes_first),
        cmocka_unit_test(inside_does_not_wrap),
        cmocka_unit_test(neighbours_do_not_overlap),
        cmocka_unit_test(contains_counts_the_edges),
        cmocka_unit_test(intersection_is_what_both_have),
        cmocka_unit_test(alignment),
        cmocka_unit_test(powers_of_two),
        cmocka_unit_test(rounding_division_does_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
