#include "blockcore/drivers/curl/content_range.h"

#include "blockcore/base/annotations.h"
#include "tests/unit/base/unit.h"

static struct content_range read_line(const char *line)
{
    struct content_range told = { 0 };
    content_range_read_line(&told, line, strlen(line));
    return told;
}

static void expect_told(const char *line, uint64_t offset, uint64_t bytes, bool total_is_known, uint64_t total)
{
    struct content_range told = read_line(line);
    assert_int_equal(told.state, CONTENT_RANGE_TOLD);
    assert_int_equal(told.range.offset, offset);
    assert_int_equal(told.range.bytes, bytes);
    assert_int_equal(told.total_is_known, total_is_known);
    assert_int_equal(told.total, total);
}

static void a_range_has_a_first_and_a_last_byte(void **state)
{
    (void)state;
    expect_told("Content-Range: bytes 0-0/1\r\n", 0, 1, true, 1);
    expect_told("content-range:bytes 512-1023/4096", 512, 512, true, 4096);
    expect_told("CONTENT-RANGE: \tBYTES  1-2/3 \t\n", 1, 2, true, 3);
    expect_told("Content-Range: bytes 0-9223372036854775806/9223372036854775807", 0, INT64_MAX, true, INT64_MAX);
}

static void what_is_not_known_is_a_star(void **state)
{
    (void)state;
    expect_told("Content-Range: bytes 0-9/*", 0, 10, false, 0);
    expect_told("Content-Range: bytes */77", 0, 0, true, 77);
    expect_told("Content-Range: bytes */0", 0, 0, true, 0);
}

static void other_lines_say_nothing(void **state)
{
    static const char *const lines[] = { "", "\r\n", "Content-Length: 5", "Content-Range",
                                         "X-Content-Range: bytes 0-0/1" };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        assert_int_equal(read_line(lines[i]).state, CONTENT_RANGE_ABSENT);
}

static void nonsense_is_no_range(void **state)
{
    static const char *const values[] = {
        "",
        "bytes",
        "bytes 0",
        "bytes 0-",
        "bytes 0-1",
        "bytes 0-1/",
        "bytes -1/5",
        "bytes 2-1/5",
        "bytes 0-5/5",
        "bytes 0-0/0",
        "bytes 0-1/5 x",
        "bytes 0x0-1/5",
        "lines 0-1/5",
        "bytes 0-9223372036854775807/*",
        "bytes 0-1/9223372036854775808",
        "bytes 18446744073709551615-18446744073709551616/*",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        char line[128];
        snprintf(line, sizeof(line), "Content-Range: %s\r\n", values[i]);
        struct content_range told = read_line(line);
        if (told.state != CONTENT_RANGE_MALFORMED)
            fail_msg("'%s' was taken", values[i]);
        assert_int_equal(told.range.bytes, 0);
    }
}

static void two_lines_contradict_each_other(void **state)
{
    static const char line[] = "Content-Range: bytes 0-0/1\r\n";
    struct content_range told = { 0 };
    (void)state;
    content_range_read_line(&told, line, strlen(line));
    content_range_read_line(&told, line, strlen(line));
    assert_int_equal(told.state, CONTENT_RANGE_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_has_a_first_and_a_last_byte),
        cmocka_unit_test(what_is_not_known_is_a_star),
        cmocka_unit_test(other_lines_say_nothing),
        cmocka_unit_test(nonsense_is_no_range),
        cmocka_unit_test(two_lines_contradict_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
