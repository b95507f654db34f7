/* key=value text becomes a tree, or an error that names the parameter. */
#include "schema/codec/keyval.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct error *parse_function(const char *text, const char *implied_key, json_t **out);

static void expect_tree(parse_function *parse, const char *text, const char *implied_key, const char *expected)
{
    json_t *tree = NULL;
    struct error *err = parse(text, implied_key, &tree);
    if (err)
        fail_msg("%s: %s", text, error_message(err));
    char *dump = json_dumps(tree, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(dump, expected);
    free(dump);
    json_decref(tree);
}

static void expect_error(parse_function *parse, const char *text, const char *implied_key, const char *expected)
{
    json_t *tree = NULL;
    struct error *err = parse(text, implied_key, &tree);
    assert_non_null(err);
    assert_null(tree);
    assert_string_equal(error_message(err), expected);
    error_free(err);
}

static void keys_and_values(void **state)
{
    (void)state;
    expect_tree(keyval_parse, "", NULL, "{}");
    expect_tree(keyval_parse, "a=1", NULL, "{\"a\":\"1\"}");
    expect_tree(keyval_parse, "a=1,b=two,", NULL, "{\"a\":\"1\",\"b\":\"two\"}");
    expect_tree(keyval_parse, "a=", NULL, "{\"a\":\"\"}");
    expect_tree(keyval_parse, "a=x=y", NULL, "{\"a\":\"x=y\"}");
    expect_tree(keyval_parse, "read-only=on,x_y=z", NULL, "{\"read-only\":\"on\",\"x_y\":\"z\"}");
}

static void a_doubled_comma_is_a_comma(void **state)
{
    (void)state;
    expect_tree(keyval_parse, "a=x,,y,b=2", NULL, "{\"a\":\"x,y\",\"b\":\"2\"}");
    expect_tree(keyval_parse, "a=,,", NULL, "{\"a\":\",\"}");
}

static void dots_make_objects(void **state)
{
    (void)state;
    expect_tree(keyval_parse, "a.b=1,a.c.d=2", NULL, "{\"a\":{\"b\":\"1\",\"c\":{\"d\":\"2\"}}}");
}

static void numbers_make_arrays(void **state)
{
    (void)state;
    expect_tree(keyval_parse, "l.1=b,l.0=a", NULL, "{\"l\":[\"a\",\"b\"]}");
    expect_tree(keyval_parse, "l.0.x=1,l.1.x=2", NULL, "{\"l\":[{\"x\":\"1\"},{\"x\":\"2\"}]}");
    expect_error(keyval_parse, "l.1=b", NULL, "Parameter 'l.0' missing");
    expect_error(keyval_parse, "l.0=a,l.2=b", NULL, "Parameter 'l.1' missing");
    expect_error(keyval_parse, "l.0=a,l.x=b", NULL, "Parameters 'l.*' used inconsistently");
    expect_error(keyval_parse, "l.99999=a", NULL, "Parameter 'l.99999' is out of range");
}

static void the_last_one_counts(void **state)
{
    (void)state;
    expect_tree(keyval_parse, "a=1,a=2", NULL, "{\"a\":\"2\"}");
}

static void the_first_value_may_lack_its_key(void **state)
{
    (void)state;
    expect_tree(keyval_parse, "qcow2,a=1", "driver", "{\"a\":\"1\",\"driver\":\"qcow2\"}");
    expect_tree(keyval_parse, "a=1", "driver", "{\"a\":\"1\"}");
    expect_error(keyval_parse, "qcow2,raw", "driver", "Expected '=' after parameter 'raw'");
    expect_error(keyval_parse, "qcow2", NULL, "Expected '=' after parameter 'qcow2'");
    expect_error(keyval_parse, ",a=1", "driver", "Expected '=' after parameter ''");
}

static void malformed_keys(void **state)
{
    (void)state;
    expect_error(keyval_parse, "=1", NULL, "Invalid parameter ''");
    expect_error(keyval_parse, "a b=1", NULL, "Invalid parameter 'a b'");
    expect_error(keyval_parse, "a.=1", NULL, "Invalid parameter 'a.'");
    expect_error(keyval_parse, ".a=1", NULL, "Invalid parameter '.a'");
    expect_error(keyval_parse, "a..b=1", NULL, "Invalid parameter 'a..b'");
    expect_error(keyval_parse, "1a=1", NULL, "Invalid parameter '1a'");
    expect_error(keyval_parse, "a=\xff", NULL, "The value of parameter 'a' is not valid UTF-8");
}

static void one_key_is_one_kind_of_thing(void **state)
{
    (void)state;
    expect_error(keyval_parse, "a=1,a.b=2", NULL, "Parameters 'a.*' used inconsistently");
    expect_error(keyval_parse, "a.b=1,a=2", NULL, "Parameters 'a.*' used inconsistently");
}

static void a_key_as_long_as_you_like_is_refused(void **state)
{
    (void)state;
    char text[1024];
    for (size_t i = 0; i < sizeof(text) - 3; i++)
        text[i] = i % 2 ? '.' : 'a';
    text[sizeof(text) - 3] = '=';
    text[sizeof(text) - 2] = '1';
    text[sizeof(text) - 1] = '\0';
    json_t *tree = NULL;
    struct error *err = keyval_parse(text, NULL, &tree);
    assert_non_null(err);
    error_free(err);
}

static void flags_stand_alone(void **state)
{
    (void)state;
    expect_tree(keyval_parse_flags, "socket,id=a,server,nowait", "backend",
                "{\"backend\":\"socket\",\"id\":\"a\",\"server\":\"on\",\"wait\":\"off\"}");
    expect_error(keyval_parse_flags, "socket,se rver", "backend", "Invalid parameter 'se rver'");
    expect_error(keyval_parse_flags, "socket,no", "backend", "Invalid parameter 'no'");
}

static void help_is_wanted(void **state)
{
    (void)state;
    assert_true(keyval_wants_help("help"));
    assert_true(keyval_wants_help("null-co,help"));
    assert_true(keyval_wants_help("?"));
    assert_false(keyval_wants_help("a=help"));
    assert_false(keyval_wants_help(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_and_values),
        cmocka_unit_test(a_doubled_comma_is_a_comma),
        cmocka_unit_test(dots_make_objects),
        cmocka_unit_test(numbers_make_arrays),
        cmocka_unit_test(the_last_one_counts),
        cmocka_unit_test(the_first_value_may_lack_its_key),
        cmocka_unit_test(malformed_keys),
        cmocka_unit_test(one_key_is_one_kind_of_thing),
        cmocka_unit_test(a_key_as_long_as_you_like_is_refused),
        cmocka_unit_test(flags_stand_alone),
        cmocka_unit_test(help_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
