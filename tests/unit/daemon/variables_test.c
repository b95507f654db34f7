/* What becomes of dollars in a configuration file. */
#include "daemon/variables.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *look_up(const char *name)
{
    static char images[] = "/srv/images", empty[] = "", tricky[] = "${IMAGES}$$";
    if (strcmp(name, "IMAGES") == 0)
        return images;
    if (strcmp(name, "EMPTY") == 0)
        return empty;
    return strcmp(name, "TRICKY_2") == 0 ? tricky : NULL;
}

static void expect_text(const char *text, const char *expected)
{
    char *out = NULL;
    struct error *err = variables_expand(text, strlen(text), look_up, &out);
    if (err)
        fail_msg("%s", error_message(err));
    assert_string_equal(out ? out : text, expected);
    free(out);
}

static void expect_error(const char *text, const char *expected)
{
    char *out = NULL;
    struct error *err = variables_expand(text, strlen(text), look_up, &out);
    assert_non_null(err);
    assert_null(out);
    assert_string_equal(error_message(err), expected);
    error_free(err);
}

static void variables_are_put_in(void **state)
{
    (void)state;
    expect_text("${IMAGES}/a.raw", "/srv/images/a.raw");
    expect_text("${IMAGES}${IMAGES}", "/srv/images/srv/images");
    expect_text("a${EMPTY}b", "ab");
}

static void a_default_stands_for_what_is_not_set_or_empty(void **state)
{
    (void)state;
    expect_text("${UNSET:-1G}", "1G");
    expect_text("${EMPTY:-x:-$y}z", "x:-$yz");
    expect_text("${IMAGES:-x}", "/srv/images");
    expect_text("${UNSET:-}", "");
}

static void other_dollars_are_dollars(void **state)
{
    (void)state;
    expect_text("no dollar", "no dollar");
    expect_text("$$", "$");
    expect_text("$${IMAGES}", "${IMAGES}");
    expect_text("$IMAGES $ 5$", "$IMAGES $ 5$");
}

static void what_is_put_in_is_not_looked_at_again(void **state)
{
    (void)state;
    expect_text("${TRICKY_2}", "${IMAGES}$$");
}

static void mistakes_are_named(void **state)
{
    (void)state;
    expect_error("${UNSET}", "the variable 'UNSET' is not set (with a default: ${UNSET:-...})");
    expect_error("a${IMAGES", "'${' without '}' (a dollar is '$$')");
    expect_error("${}", "'${}' is neither ${NAME} nor ${NAME:-default} (a dollar is '$$')");
    expect_error("${1A}", "'${1A}' is neither ${NAME} nor ${NAME:-default} (a dollar is '$$')");
    expect_error("${A B}", "'${A B}' is neither ${NAME} nor ${NAME:-default} (a dollar is '$$')");
    expect_error("${IMAGES:x}", "'${IMAGES:x}' is neither ${NAME} nor ${NAME:-default} (a dollar is '$$')");
    expect_error("${IMAGES-x}", "'${IMAGES-x}' is neither ${NAME} nor ${NAME:-default} (a dollar is '$$')");
}

static char *look_up_much(const char *name)
{
    (void)name;
    static char value[64 * 1024 + 1];
    memset(value, 'x', sizeof(value) - 1);
    return value;
}

static void what_comes_out_is_bounded(void **state)
{
    (void)state;
    char text[17 * 4 + 1] = "";
    for (int i = 0; i < 16; i++)
        strcat(text, "${A}");
    char *out = NULL;
    assert_null(variables_expand(text, strlen(text), look_up_much, &out));
    assert_int_equal(strlen(out), VARIABLES_TEXT_MAX);
    free(out);
    strcat(text, "${A}");
    struct error *err = variables_expand(text, strlen(text), look_up_much, &out);
    assert_string_equal(error_message(err), "with its variables the text is longer than 1048576 bytes");
    error_free(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variables_are_put_in),      cmocka_unit_test(a_default_stands_for_what_is_not_set_or_empty),
        cmocka_unit_test(other_dollars_are_dollars), cmocka_unit_test(what_is_put_in_is_not_looked_at_again),
        cmocka_unit_test(mistakes_are_named),        cmocka_unit_test(what_comes_out_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
