#include "schema/codec/suggest.h"

#include "tests/unit/base/unit.h"

static const char *suggest(const char *given)
{
    static const char *const names[] = { "file", "raw", "qcow2", "host_device", "null-co", "filename", "a" };
    struct suggestion suggestion = { 0 };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        suggestion_consider(&suggestion, given, names[i]);
    return suggestion.name ? suggestion.name : "";
}

static void small_mistakes_are_recognised(void **state)
{
    (void)state;
    assert_string_equal(suggest("fil"), "file");
    assert_string_equal(suggest("fiel"), "file");
    assert_string_equal(suggest("qcow"), "qcow2");
    assert_string_equal(suggest("file_name"), "filename");
    assert_string_equal(suggest("host-device"), "host_device");
    assert_string_equal(suggest("nullco"), "null-co");
}

static void nothing_is_suggested_for_something_else(void **state)
{
    (void)state;
    assert_string_equal(suggest("xyzzy"), "");
    assert_string_equal(suggest(""), "");
    assert_string_equal(suggest("b"), "");
}

static void very_long_names_get_none(void **state)
{
    (void)state;
    char name[1000];
    memset(name, 'f', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_string_equal(suggest(name), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_mistakes_are_recognised),
        cmocka_unit_test(nothing_is_suggested_for_something_else),
        cmocka_unit_test(very_long_names_get_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
