#include "blockcore/base/bitset.h"

#include "tests/unit/base/unit.h"

static void a_run_is_found_by_both_of_its_ends(void **state)
{
    (void)state;
    struct bitset bitset;
    assert_true(bitset_init(&bitset, 1000));
    struct range all = range_make(0, 1000);
    assert_int_equal(bitset_next_set(&bitset, all), 1000);
    assert_int_equal(bitset_next_clear(&bitset, all), 0);
    for (uint64_t first = 0; first < 200; first += 7) {
        for (uint64_t count = 1; count < 200; count += 13) {
            bitset_set(&bitset, range_make(first, count));
            assert_int_equal(bitset_next_set(&bitset, all), first);
            assert_int_equal(bitset_next_clear(&bitset, range_between(first, 1000)), first + count);
            assert_true(bitset_has(&bitset, first + count - 1));
            assert_false(bitset_has(&bitset, first + count));
            bitset_clear(&bitset, range_make(first, count));
            assert_int_equal(bitset_next_set(&bitset, all), 1000);
        }
    }
    bitset_fini(&bitset);
}

static void clearing_leaves_both_sides(void **state)
{
    (void)state;
    struct bitset bitset;
    assert_true(bitset_init(&bitset, 192));
    bitset_set(&bitset, range_make(0, 192));
    bitset_clear(&bitset, range_make(60, 70));
    assert_int_equal(bitset_next_clear(&bitset, range_make(0, 192)), 60);
    assert_int_equal(bitset_next_set(&bitset, range_make(60, 132)), 130);
    assert_int_equal(bitset_next_clear(&bitset, range_make(130, 62)), 192);
    bitset_fini(&bitset);
}

static void only_the_range_is_looked_at(void **state)
{
    (void)state;
    struct bitset bitset;
    assert_true(bitset_init(&bitset, 256));
    bitset_set(&bitset, range_make(10, 1));
    bitset_set(&bitset, range_make(200, 1));
    assert_int_equal(bitset_next_set(&bitset, range_make(11, 189)), 200);
    assert_int_equal(bitset_next_set(&bitset, range_make(11, 100)), 111);
    assert_int_equal(bitset_next_set(&bitset, range_make(11, 0)), 11);
    bitset_fini(&bitset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_found_by_both_of_its_ends),
        cmocka_unit_test(clearing_leaves_both_sides),
        cmocka_unit_test(only_the_range_is_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
