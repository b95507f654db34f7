#include "schema/codec/scalar.h"

#include "tests/unit/base/unit.h"

#include <inttypes.h>
#include <math.h>

static void expect_size(const char *text, uint64_t expected)
{
    uint64_t value = 0;
    if (scalar_size(text, &value) != SCALAR_OK || value != expected)
        fail_msg("'%s' became %" PRIu64, text, value);
}

static void sizes_take_suffixes_and_fractions(void **state)
{
    (void)state;
    expect_size("0", 0);
    expect_size("4096", 4096);
    expect_size("12B", 12);
    expect_size("1k", 1024);
    expect_size("64K", 65536);
    expect_size("1.5M", 3 << 19);
    expect_size("1.k", 1024);
    expect_size("3G", (uint64_t)3 << 30);
    expect_size("1T", (uint64_t)1 << 40);
    expect_size("2P", (uint64_t)2 << 50);
    expect_size("15E", (uint64_t)15 << 60);
    expect_size("0x1000", 4096);
    expect_size("010", 10);
    expect_size("18446744073709551615", UINT64_MAX);
}

static void what_is_no_size_is_refused(void **state)
{
    (void)state;
    const char *const malformed[] = { "",     " 1",   "1 ",  "k",  "1kk", "1kB", "0x1k",  "1.5",
                                      "1.5B", "1e3k", ".5k", "+1", "nan", "--1", "1.5.5k" };
    const char *const out_of_range[] = { "-1", "-1k", "16E", "18446744073709551616", "18014398509481984k", "99999.9E" };
    uint64_t value = 77;
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
        if (scalar_size(malformed[i], &value) != SCALAR_MALFORMED)
            fail_msg("'%s' was taken", malformed[i]);
    assert_int_equal(scalar_size("-1", &value), SCALAR_RANGE);
    for (size_t i = 2; i < sizeof(out_of_range) / sizeof(out_of_range[0]); i++)
        if (scalar_size(out_of_range[i], &value) != SCALAR_RANGE)
            fail_msg("'%s' was not out of range", out_of_range[i]);
}

static void integers_are_decimal_hexadecimal_or_octal(void **state)
{
    (void)state;
    int64_t value;
    uint64_t number;
    assert_int_equal(scalar_signed("-5", &value), SCALAR_OK);
    assert_int_equal(value, -5);
    assert_int_equal(scalar_signed("0x10", &value), SCALAR_OK);
    assert_int_equal(value, 16);
    assert_int_equal(scalar_signed("010", &value), SCALAR_OK);
    assert_int_equal(value, 8);
    assert_int_equal(scalar_signed("9223372036854775808", &value), SCALAR_RANGE);
    assert_int_equal(scalar_signed("1M", &value), SCALAR_MALFORMED);
    assert_int_equal(scalar_signed("", &value), SCALAR_MALFORMED);
    assert_int_equal(scalar_signed(" 1", &value), SCALAR_MALFORMED);
    assert_int_equal(scalar_unsigned("18446744073709551615", &number), SCALAR_OK);
    assert_true(number == UINT64_MAX);
    assert_int_equal(scalar_unsigned("-1", &number), SCALAR_RANGE);
    assert_int_equal(scalar_unsigned("-0", &number), SCALAR_OK);
}

static void booleans_have_four_spellings(void **state)
{
    (void)state;
    const char *const yes[] = { "on", "yes", "true", "y" }, *const no[] = { "off", "no", "false", "n" };
    bool value;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(scalar_bool(yes[i], &value), SCALAR_OK);
        assert_true(value);
        assert_int_equal(scalar_bool(no[i], &value), SCALAR_OK);
        assert_false(value);
    }
    assert_int_equal(scalar_bool("On", &value), SCALAR_MALFORMED);
    assert_int_equal(scalar_bool("1", &value), SCALAR_MALFORMED);
    assert_int_equal(scalar_bool("", &value), SCALAR_MALFORMED);
}

static void numbers_are_finite(void **state)
{
    (void)state;
    double value;
    assert_int_equal(scalar_number("1.25", &value), SCALAR_OK);
    assert_true(fabs(value - 1.25) < 1e-9);
    assert_int_equal(scalar_number("1e999", &value), SCALAR_RANGE);
    assert_int_equal(scalar_number("inf", &value), SCALAR_MALFORMED);
    assert_int_equal(scalar_number("nan", &value), SCALAR_MALFORMED);
    assert_int_equal(scalar_number("1x", &value), SCALAR_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_take_suffixes_and_fractions),
        cmocka_unit_test(what_is_no_size_is_refused),
        cmocka_unit_test(integers_are_decimal_hexadecimal_or_octal),
        cmocka_unit_test(booleans_have_four_spellings),
        cmocka_unit_test(numbers_are_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
