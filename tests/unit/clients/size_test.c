/* Sizes as people write and read them. */
#include "tests/unit/base/unit.h"

#include "clients/cli/size.h"

static void suffixes_are_powers_of_1024(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {
        { "0", 0 },
        { "512", 512 },
        { "0x1000", 4096 },
        { "64k", 64 << 10 },
        { "64K", 64 << 10 },
        { "3M", 3 << 20 },
        { "1T", UINT64_C(1) << 40 },
        { "1.5G", 3 << 29 },
        { "15E", UINT64_C(15) << 60 },
        { "18446744073709551615", UINT64_MAX },
    };

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t bytes;
        assert_true(size_parse(sizes[i].text, &bytes));
        assert_true(bytes == sizes[i].bytes);
    }
}

static void what_is_no_size_or_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "-1", "+1", " 1", "k", "1kk", "1q", "1.5", "16E", "18446744073709551616" };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        uint64_t bytes = 7;
        assert_false(size_parse(texts[i], &bytes));
        assert_int_equal(bytes, 7);
    }
}

static void sizes_are_printed_in_the_largest_unit_that_fits(void **state)
{
    (void)state;
    char buffer[SIZE_TEXT_MAX];

    assert_string_equal(size_format(0, buffer), "0 B");
    assert_string_equal(size_format(1023, buffer), "1023 B");
    assert_string_equal(size_format(1536, buffer), "1.5 KiB");
    assert_string_equal(size_format(64 << 10, buffer), "64 KiB");
    assert_string_equal(size_format(UINT64_MAX, buffer), "16 EiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suffixes_are_powers_of_1024),
        cmocka_unit_test(what_is_no_size_or_does_not_fit_is_refused),
        cmocka_unit_test(sizes_are_printed_in_the_largest_unit_that_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
