#include "schema/sample_descriptors.h"
#include "schema/sample_types.h"

#include "tests/unit/schema/codec.h"

static void members_come_in_the_order_of_the_schema(void **state)
{
    (void)state;
    struct sample_point point = { .x = -3, .has_y = true, .y = 4 };
    assert_string_equal(encoded(&sample_point_descriptor, &point, 0), "{\"x\": -3, \"y\": 4}");
    point.has_y = false;
    assert_string_equal(encoded(&sample_point_descriptor, &point, 0), "{\"x\": -3}");
    assert_string_equal(encoded(NULL, NULL, 0), "{}");
}

static void pretty_is_indented_by_four(void **state)
{
    (void)state;
    struct sample_point points[] = { { .x = 1 }, { .x = 2 } };
    struct sample_arrays arrays = { .has_points = true, .points = points, .points_count = 2, .has_bools = true };
    assert_string_equal(encoded(&sample_arrays_descriptor, &arrays, ENCODE_PRETTY),
                        "{\n    \"bools\": [],\n    \"points\": [\n        {\n            \"x\": 1\n        },\n"
                        "        {\n            \"x\": 2\n        }\n    ]\n}");
}

static void expect_escaped(const char *string, const char *json)
{
    struct sample_scalars scalars = { .s = string };
    const char *text = encoded(&sample_scalars_descriptor, &scalars, 0);
    const char *expected = arena_printf(&codec_arena, "{\"s\": %s}", json);
    assert_string_equal(text, expected);
}

static void strings_are_escaped_and_ascii(void **state)
{
    (void)state;
    expect_escaped("", "\"\"");
    expect_escaped("a \"b\" \\ / \b\f\n\r\t", "\"a \\\"b\\\" \\\\ / \\b\\f\\n\\r\\t\"");
    expect_escaped("\x01\x1f\x7f", "\"\\u0001\\u001F\\u007F\"");
    expect_escaped("\xc3\xa4\xe2\x82\xac", "\"\\u00E4\\u20AC\"");
    expect_escaped("\xf0\x9f\x98\x80", "\"\\uD83D\\uDE00\"");
}

/* A file name need not be UTF-8; the JSON must be. */
static void what_is_not_utf8_is_replaced(void **state)
{
    (void)state;
    expect_escaped("\xff", "\"\\uFFFD\"");
    expect_escaped("a\xc3", "\"a\\uFFFD\"");
    expect_escaped("\xc0\xaf", "\"\\uFFFD\\uFFFD\"");
    expect_escaped("\xed\xa0\x80", "\"\\uFFFD\\uFFFD\\uFFFD\"");
    expect_escaped("\xf4\x90\x80\x80", "\"\\uFFFD\\uFFFD\\uFFFD\\uFFFD\"");
    expect_escaped("\xe2\x82", "\"\\uFFFD\\uFFFD\"");
}

static void extreme_numbers_are_exact(void **state)
{
    (void)state;
    struct sample_scalars scalars = { .has_i = true,
                                      .i = INT64_MIN,
                                      .has_u64 = true,
                                      .u64 = UINT64_MAX,
                                      .has_i8 = true,
                                      .i8 = -128,
                                      .has_n = true,
                                      .n = 0.1 };
    assert_string_equal(encoded(&sample_scalars_descriptor, &scalars, 0),
                        "{\"i\": -9223372036854775808, \"i8\": -128, \"u64\": 18446744073709551615, "
                        "\"n\": 0.10000000000000001}");
}

static void what_was_decoded_encodes_to_the_same(void **state)
{
    (void)state;
    expect_round_trip(&sample_scalars_descriptor,
                      "{\"b\": false, \"i\": 0, \"i8\": 127, \"u32\": 77, \"n\": -1.25, \"s\": \"\\u00E4\\n\","
                      " \"color\": \"x-none\", \"nothing\": null, \"anything\": [{\"a\": \"b\"}, 1.5, true]}");
    expect_round_trip(&sample_arrays_descriptor,
                      "{\"bools\": [true], \"small\": [], \"strings\": [\"x\", \"y\"], \"colors\": [\"3d\"],"
                      " \"points\": [{\"x\": 1}, {\"x\": 2, \"y\": 3}],"
                      " \"choices\": [{\"x\": 1}, 2.5, true, null, [{\"x\": 1}], \"left\"],"
                      " \"anythings\": [null, \"x\", {}]}");
    expect_round_trip(&sample_outer_descriptor, "{\"kind\": \"always\", \"inner\": \"red\", \"x\": 1}");
    expect_round_trip(&sample_outer_descriptor, "{\"kind\": \"always\", \"inner\": \"x-none\"}");
    expect_round_trip(&sample_tree_descriptor,
                      "{\"name\": \"a\", \"below\": [{\"name\": \"b\", \"below\": []}, {\"name\": \"c\"}]}");
    expect_round_trip(&sample_types_arguments_descriptor,
                      "{\"keywords\": {\"class\": \"c\", \"default\": 1, \"unix\": true, \"int\": 2,"
                      " \"under_score-dash\": \"d\"}, \"number\": null, \"chain\": {\"next\": {}}}");
}

static void expect_broken(const struct type_descriptor *type, const void *value, const char *message)
{
    CLEANUP(text_fini) struct text text = { 0 };
    CLEANUP(error_free) struct error *err = encode_value(&text, type, value, 0, 0);
    assert_non_null(err);
    assert_string_equal(error_message(err), message);
}

static void a_value_that_was_built_wrong_is_an_error(void **state)
{
    (void)state;
    struct sample_tree below[] = { { .name = "a" }, { .name = NULL } };
    struct sample_tree tree = { .name = "top", .has_below = true, .below = below, .below_count = 2 };
    struct sample_scalars scalars = { .has_color = true };
    int wrong = 99;
    expect_broken(&sample_tree_descriptor, &tree, ".below[1].name: no value");
    memcpy(&scalars.color, &wrong, sizeof(wrong));
    expect_broken(&sample_scalars_descriptor, &scalars, ".color: 99 is no SampleColor");
}

static void events_carry_time_name_and_data(void **state)
{
    (void)state;
    const struct event_descriptor event = { .name = "SAMPLE_DATA", .data = &sample_point_descriptor };
    const struct event_descriptor empty = { .name = "SAMPLE_EMPTY" };
    struct sample_point point = { .x = 1 };
    CLEANUP(text_fini) struct text text = { 0 };
    assert_null(encode_event(&text, &event, &point, 12, 345, 0));
    text_append(&text, "", 1);
    assert_string_equal(text.data,
                        "{\"timestamp\": {\"seconds\": 12, \"microseconds\": 345}, \"event\": \"SAMPLE_DATA\", "
                        "\"data\": {\"x\": 1}}");
    text.length = 0;
    assert_null(encode_event(&text, &empty, NULL, 1, 2, 0));
    text_append(&text, "", 1);
    assert_string_equal(text.data,
                        "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"SAMPLE_EMPTY\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_in_the_order_of_the_schema),
        cmocka_unit_test(pretty_is_indented_by_four),
        cmocka_unit_test(strings_are_escaped_and_ascii),
        cmocka_unit_test(what_is_not_utf8_is_replaced),
        cmocka_unit_test(extreme_numbers_are_exact),
        cmocka_unit_test(what_was_decoded_encodes_to_the_same),
        cmocka_unit_test(a_value_that_was_built_wrong_is_an_error),
        cmocka_unit_test(events_carry_time_name_and_data),
    };
    return cmocka_run_group_tests(tests, codec_set_up, codec_tear_down);
}
