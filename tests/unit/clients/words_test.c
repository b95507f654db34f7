/* A line of the shell, cut into words. */
#include "tests/unit/base/unit.h"

#include "clients/cli/words.h"

static void expect_words(const char *line, const char *const *expected, size_t count)
{
    CLEANUP(words_fini) struct words words;
    struct error *err = words_split(line, &words);

    assert_null(err);
    assert_int_equal(words.count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(words.items[i], expected[i]);
}

static void white_space_separates(void **state)
{
    (void)state;
    expect_words("", NULL, 0);
    expect_words(" \t ", NULL, 0);
    expect_words("  add  a=1\tb=2 ", (const char *const[]){ "add", "a=1", "b=2" }, 3);
}

static void quotes_hold_together(void **state)
{
    (void)state;
    expect_words("add name='a b' \"x \"y 'say \"hi\"'", (const char *const[]){ "add", "name=a b", "x y", "say \"hi\"" },
                 4);
    expect_words("add ''", (const char *const[]){ "add", "" }, 2);
}

static void json_takes_the_rest_of_the_line(void **state)
{
    (void)state;
    expect_words("add {\"a\": 'b' }", (const char *const[]){ "add", "{\"a\": 'b' }" }, 2);
}

static void a_quote_without_end_is_an_error(void **state)
{
    (void)state;
    CLEANUP(words_fini) struct words words;
    CLEANUP(error_free) struct error *err = words_split("add 'x", &words);

    assert_non_null(err);
}

static void too_many_words_are_an_error(void **state)
{
    (void)state;
    char line[2 * WORDS_MAX + 3];

    for (size_t i = 0; i < sizeof(line) - 1; i++)
        line[i] = i % 2 ? ' ' : 'x';
    line[sizeof(line) - 1] = '\0';
    CLEANUP(words_fini) struct words words;
    CLEANUP(error_free) struct error *err = words_split(line, &words);
    assert_non_null(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(white_space_separates),           cmocka_unit_test(quotes_hold_together),
        cmocka_unit_test(json_takes_the_rest_of_the_line), cmocka_unit_test(a_quote_without_end_is_an_error),
        cmocka_unit_test(too_many_words_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
