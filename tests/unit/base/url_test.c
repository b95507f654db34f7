#include "blockcore/base/url.h"

#include "tests/unit/base/unit.h"

static void expect_shown(const char *url, const char *expected)
{
    char *shown = url_without_user(url);
    assert_string_equal(shown, expected);
    free(shown);
}

static void what_stands_before_the_host_is_left_out(void **state)
{
    (void)state;
    expect_shown("http://me:word@host/a", "http://host/a");
    expect_shown("http://me@host:80", "http://host:80");
    expect_shown("http://me:w@rd@host/a@b", "http://host/a@b");
    expect_shown("http:/me:word@host", "http:/host");
    expect_shown("http:///me:word@host?x", "http:///host?x");
    expect_shown("https://me:word@[::1]#x", "https://[::1]#x");
}

static void anything_else_stays(void **state)
{
    (void)state;
    expect_shown("http://host/a@b", "http://host/a@b");
    expect_shown("http://host?a@b", "http://host?a@b");
    expect_shown("nbd:unix:/a@b", "nbd:unix:/a@b");
    expect_shown("/a@b", "/a@b");
    expect_shown("a@b", "a@b");
    expect_shown("a:", "a:");
    expect_shown("", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stands_before_the_host_is_left_out),
        cmocka_unit_test(anything_else_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
