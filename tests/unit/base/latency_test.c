#include "blockcore/base/latency.h"

#include "tests/unit/base/unit.h"

static void bins_follow_each_other_without_gaps(void **state)
{
    (void)state;
    assert_int_equal(latency_bin_begin(0), 0);
    for (unsigned bin = 1; bin < LATENCY_BINS; bin++) {
        uint64_t begin = latency_bin_begin(bin);
        assert_true(begin > latency_bin_begin(bin - 1));
        assert_int_equal(latency_bin(begin), bin);
        assert_int_equal(latency_bin(begin - 1), bin - 1);
        if (bin > 1)
            assert_true(begin <= latency_bin_begin(bin - 1) * 3 / 2);
    }
}

static void what_is_out_of_range_is_counted_at_the_ends(void **state)
{
    (void)state;
    assert_int_equal(latency_bin(0), 0);
    assert_int_equal(latency_bin(127), 0);
    assert_int_equal(latency_bin_begin(1), 128);
    assert_int_equal(latency_bin(UINT64_MAX), LATENCY_BINS - 1);
    assert_int_equal(latency_bin_begin(LATENCY_BINS - 1), UINT64_C(1) << LATENCY_LAST_BIT);
}

static void sums_of_several_are_the_sum(void **state)
{
    (void)state;
    static struct latency one, two;
    uint64_t sum[LATENCY_BINS] = { 0 };
    latency_count(&one, 1000);
    latency_count(&one, 1000);
    latency_count(&two, 1000);
    latency_count(&two, 5);
    latency_add_to(&one, sum);
    latency_add_to(&two, sum);
    assert_int_equal(sum[latency_bin(1000)], 3);
    assert_int_equal(sum[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bins_follow_each_other_without_gaps),
        cmocka_unit_test(what_is_out_of_range_is_counted_at_the_ends),
        cmocka_unit_test(sums_of_several_are_the_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
