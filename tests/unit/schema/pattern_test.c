/* Patterns: what they match, and what is none. */
#include "schema/compiler/pattern.h"

#include "tests/unit/base/unit.h"

static bool matches(const char *pattern_text, const char *text)
{
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    const char *wrong = NULL;
    const struct pattern *pattern = pattern_parse(&arena, pattern_text, &wrong);
    assert_non_null(pattern);
    bool matched = pattern_matches(pattern, text);
    arena_fini(&arena);
    return matched;
}

static bool is_pattern(const char *text)
{
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    const char *wrong = NULL;
    bool parsed = pattern_parse(&arena, text, &wrong) != NULL;
    assert_true(parsed == !wrong);
    arena_fini(&arena);
    return parsed;
}

static void a_pattern_is_about_the_whole_string(void **state)
{
    (void)state;
    assert_true(matches("", ""));
    assert_false(matches("", "a"));
    assert_true(matches("abc", "abc"));
    assert_false(matches("abc", "abcd"));
    assert_false(matches("abc", "ab"));
    assert_true(matches("a.c", "a-c"));
    assert_true(matches("a\\.c", "a.c"));
    assert_false(matches("a\\.c", "a-c"));
}

static void classes_hold_characters_and_ranges(void **state)
{
    (void)state;
    const char *node_name = "[A-Za-z][A-Za-z0-9._-]*";
    assert_true(matches(node_name, "disk0.top-1_x"));
    assert_false(matches(node_name, "0disk"));
    assert_false(matches(node_name, "disk/0"));
    assert_false(matches(node_name, ""));
    assert_true(matches("[^/]+", "a b"));
    assert_false(matches("[^/]+", "a/b"));
    assert_true(matches("[-a]+", "-a-"));
}

static void items_repeat_as_often_as_they_say(void **state)
{
    (void)state;
    assert_true(matches("ab?c", "ac"));
    assert_true(matches("ab?c", "abc"));
    assert_false(matches("ab?c", "abbc"));
    assert_false(matches("ab+c", "ac"));
    assert_true(matches("[0-9]{2,4}", "1234"));
    assert_false(matches("[0-9]{2,4}", "12345"));
    assert_true(matches("[0-9]{3}", "123"));
    assert_false(matches("[0-9]{3}", "12"));
    assert_true(matches("a{2,}b", "aaaab"));
    assert_true(matches("a*a*a*b", "aaaaaaab"));
    assert_true(matches(".*-.*-x", "a-b-c-x"));
}

static void time_does_not_explode(void **state)
{
    (void)state;
    char text[1001];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_false(matches("a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", text));
}

static void what_other_languages_mean_otherwise_is_no_pattern(void **state)
{
    (void)state;
    static const char *const none[] = { "(a)", "a|b",     "^a",       "a$",          "*",      "a**",
                                        "a{",  "a{1",     "a{2,1}",   "a{256}",      "a{,2}",  "[",
                                        "[]",  "[a",      "[b-a]",    "[[:alpha:]]", "[a\\]]", "\\d",
                                        "\\",  "[a-c-e]", "a{1,2,3}", "[a--]",       "]",      "}" };
    for (size_t i = 0; i < ARRAY_SIZE(none); i++)
        if (is_pattern(none[i]))
            fail_msg("'%s' was taken for a pattern", none[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pattern_is_about_the_whole_string),
        cmocka_unit_test(classes_hold_characters_and_ranges),
        cmocka_unit_test(items_repeat_as_often_as_they_say),
        cmocka_unit_test(time_does_not_explode),
        cmocka_unit_test(what_other_languages_mean_otherwise_is_no_pattern),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
