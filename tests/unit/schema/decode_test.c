#include "schema/sample_descriptors.h"
#include "schema/sample_types.h"

#include "tests/unit/schema/codec.h"

#include <math.h>

static void scalars_keep_their_values(void **state)
{
    (void)state;
    const struct sample_scalars *s = decoded(
        &sample_scalars_descriptor, DECODE_JSON,
        "{\"b\": true, \"i\": -5, \"i8\": -128, \"i16\": 32767, \"i32\": -2147483648, \"i64\": 9223372036854775807,"
        " \"u8\": 255, \"u16\": 65535, \"u32\": 4294967295, \"u64\": 9223372036854775807, \"bytes\": 0, \"n\": 1.5,"
        " \"s\": \"text\", \"color\": \"dark-blue\", \"nothing\": null, \"anything\": {\"a\": [1, null]}}");
    assert_true(s->has_b && s->b);
    assert_true(s->has_i && s->i == -5);
    assert_true(s->has_i8 && s->i8 == -128);
    assert_true(s->has_i16 && s->i16 == 32767);
    assert_true(s->has_i32 && s->i32 == INT32_MIN);
    assert_true(s->has_i64 && s->i64 == INT64_MAX);
    assert_true(s->has_u8 && s->u8 == 255);
    assert_true(s->has_u16 && s->u16 == 65535);
    assert_true(s->has_u32 && s->u32 == UINT32_MAX);
    assert_true(s->has_u64 && s->u64 == INT64_MAX);
    assert_true(s->has_bytes && s->bytes == 0);
    assert_true(s->has_n && fabs(s->n - 1.5) < 1e-9);
    assert_string_equal(s->s, "text");
    assert_true(s->has_color && s->color == SAMPLE_COLOR_DARK_BLUE);
    assert_true(s->has_nothing);
    assert_string_equal(s->anything.text, "{\"a\": [1, null]}");
    assert_int_equal(s->anything.length, strlen(s->anything.text));
}

static void what_is_left_out_is_absent(void **state)
{
    (void)state;
    const struct sample_scalars *s = decoded(&sample_scalars_descriptor, DECODE_JSON, "{}");
    assert_false(s->has_b || s->has_i || s->has_u8 || s->has_bytes || s->has_n || s->has_color || s->has_nothing);
    assert_null(s->s);
    assert_null(s->anything.text);
    const struct sample_arrays *a = decoded(&sample_arrays_descriptor, DECODE_JSON, "{}");
    assert_false(a->has_points);
}

static void an_integer_is_a_number_too(void **state)
{
    (void)state;
    const struct sample_scalars *s = decoded(&sample_scalars_descriptor, DECODE_JSON, "{\"n\": 3}");
    assert_true(fabs(s->n - 3) < 1e-9);
}

static void elements_of_arrays_lie_side_by_side(void **state)
{
    (void)state;
    const struct sample_arrays *a =
        decoded(&sample_arrays_descriptor, DECODE_JSON,
                "{\"bools\": [true, false], \"small\": [1, 2, 255], \"strings\": [\"a\", \"\"],"
                " \"colors\": [\"red\", \"3d\"], \"points\": [{\"x\": 1}, {\"x\": 2, \"y\": -2}],"
                " \"choices\": [{\"x\": 9}, 1.5, false, null, \"right\", [{\"x\": 3}]], \"anythings\": []}");
    assert_int_equal(a->bools_count, 2);
    assert_true(a->bools[0] && !a->bools[1]);
    assert_int_equal(a->small_count, 3);
    assert_int_equal(a->small[2], 255);
    assert_string_equal(a->strings[0], "a");
    assert_int_equal(a->colors[1], SAMPLE_COLOR_3D);
    assert_int_equal(a->points_count, 2);
    assert_false(a->points[0].has_y);
    assert_int_equal(a->points[1].y, -2);
    assert_int_equal(a->choices_count, 6);
    assert_int_equal(a->choices[0].kind, SAMPLE_CHOICE_KIND_POINT);
    assert_int_equal(a->choices[0].u.point->x, 9);
    assert_int_equal(a->choices[1].kind, SAMPLE_CHOICE_KIND_NUMBER);
    assert_int_equal(a->choices[2].kind, SAMPLE_CHOICE_KIND_FLAG);
    assert_int_equal(a->choices[3].kind, SAMPLE_CHOICE_KIND_NONE);
    assert_int_equal(a->choices[4].kind, SAMPLE_CHOICE_KIND_SIDE);
    assert_int_equal(a->choices[4].u.side, SAMPLE_SIDE_RIGHT);
    assert_int_equal(a->choices[5].u.list.count, 1);
    assert_int_equal(a->choices[5].u.list.items[0].x, 3);
    assert_true(a->has_anythings && a->anythings_count == 0);
}

/* The discriminator may stand anywhere; a branch that is a union itself adds its own. */
static void branches_of_unions_lie_inside(void **state)
{
    (void)state;
    const struct sample_outer *o =
        decoded(&sample_outer_descriptor, DECODE_JSON, "{\"x\": 4, \"inner\": \"red\", \"kind\": \"always\"}");
    assert_int_equal(o->kind, SAMPLE_CONDITIONAL_ALWAYS);
    assert_int_equal(o->u.always.inner, SAMPLE_COLOR_RED);
    assert_int_equal(o->u.always.u.red.x, 4);
    o = decoded(&sample_outer_descriptor, DECODE_JSON, "{\"kind\": \"never\"}");
    assert_int_equal(o->kind, SAMPLE_CONDITIONAL_NEVER);
}

static void wrong_types_name_path_expectation_and_find(void **state)
{
    (void)state;
    const struct type_descriptor *scalars = &sample_scalars_descriptor, *arrays = &sample_arrays_descriptor;
    expect_refused(scalars, DECODE_JSON, "[]", "arguments: expected object, got array");
    expect_refused(scalars, DECODE_JSON, "{\"b\": 1}", "arguments.b: expected boolean, got integer");
    expect_refused(scalars, DECODE_JSON, "{\"b\": \"on\"}", "arguments.b: expected boolean, got string");
    expect_refused(scalars, DECODE_JSON, "{\"i\": 1.0}", "arguments.i: expected integer, got number");
    expect_refused(scalars, DECODE_JSON, "{\"i\": \"1\"}", "arguments.i: expected integer, got string");
    expect_refused(scalars, DECODE_JSON, "{\"n\": null}", "arguments.n: expected number, got null");
    expect_refused(scalars, DECODE_JSON, "{\"s\": 5}", "arguments.s: expected string, got integer");
    expect_refused(scalars, DECODE_JSON, "{\"color\": {}}", "arguments.color: expected string, got object");
    expect_refused(scalars, DECODE_JSON, "{\"nothing\": false}", "arguments.nothing: expected null, got boolean");
    expect_refused(arrays, DECODE_JSON, "{\"points\": {}}", "arguments.points: expected array, got object");
    expect_refused(arrays, DECODE_JSON, "{\"points\": [{\"x\": 1}, {\"x\": []}]}",
                   "arguments.points[1].x: expected integer, got array");
    expect_refused(&sample_types_arguments_descriptor, DECODE_JSON, "{\"number\": \"x\"}",
                   "arguments.number: expected integer or null, got string");
}

static void numbers_have_ranges(void **state)
{
    (void)state;
    const struct type_descriptor *scalars = &sample_scalars_descriptor;
    expect_refused(scalars, DECODE_JSON, "{\"i8\": 128}", "arguments.i8: 128 is out of range (-128 to 127)");
    expect_refused(scalars, DECODE_JSON, "{\"i16\": -32769}",
                   "arguments.i16: -32769 is out of range (-32768 to 32767)");
    expect_refused(scalars, DECODE_JSON, "{\"u8\": 256}", "arguments.u8: 256 is out of range (0 to 255)");
    expect_refused(scalars, DECODE_JSON, "{\"u32\": -1}", "arguments.u32: -1 is out of range (0 to 4294967295)");
    expect_refused(scalars, DECODE_JSON, "{\"u64\": -1}",
                   "arguments.u64: -1 is out of range (0 to 18446744073709551615)");
    expect_refused(scalars, DECODE_JSON, "{\"bytes\": -1}",
                   "arguments.bytes: -1 is out of range (0 to 18446744073709551615)");
}

static void unsigned_integers_have_all_of_64_bits(void **state)
{
    (void)state;
    const struct type_descriptor *scalars = &sample_scalars_descriptor;
    const struct sample_scalars *s =
        decoded(scalars, DECODE_JSON, "{\"u64\": 18446744073709551615, \"bytes\": 9223372036854775808}");
    assert_true(s->u64 == UINT64_MAX && s->bytes == (uint64_t)1 << 63);
    s = decoded(scalars, DECODE_JSON, "{\"n\": 18446744073709551616, \"anything\": [18446744073709551615, 1.0]}");
    assert_true(s->n == 18446744073709551616.0);
    assert_string_equal(s->anything.text, "[18446744073709551615, 1.0]");
    s = decoded(scalars, DECODE_TEXT, "{\"u64\": 18446744073709551615, \"n\": 9223372036854775808}");
    assert_true(s->u64 == UINT64_MAX && s->n == 9223372036854775808.0);

    expect_refused(scalars, DECODE_JSON, "{\"u64\": 18446744073709551616}",
                   "arguments.u64: 18446744073709551616 is out of range (0 to 18446744073709551615)");
    expect_refused(scalars, DECODE_JSON, "{\"bytes\": -9223372036854775809}",
                   "arguments.bytes: -9223372036854775809 is out of range (0 to 18446744073709551615)");
    expect_refused(scalars, DECODE_JSON, "{\"i\": 9223372036854775808}",
                   "arguments.i: 9223372036854775808 is out of range (-9223372036854775808 to 9223372036854775807)");
    expect_refused(scalars, DECODE_JSON, "{\"u8\": 18446744073709551615}",
                   "arguments.u8: 18446744073709551615 is out of range (0 to 255)");
    expect_refused(scalars, DECODE_JSON, "{\"u64\": 1e3}", "arguments.u64: expected integer, got number");
    expect_refused(scalars, DECODE_JSON, "{\"s\": 9223372036854775808}", "arguments.s: expected string, got integer");
    expect_refused(scalars, DECODE_JSON, "{\"color\": 9223372036854775808}",
                   "arguments.color: expected string, got integer");
    expect_refused(scalars, DECODE_TEXT, "{\"b\": 9223372036854775808}", "arguments.b: expected boolean, got integer");
    expect_refused(
        &sample_types_arguments_descriptor, DECODE_JSON, "{\"number\": 9223372036854775808}",
        "arguments.number: 9223372036854775808 is out of range (-9223372036854775808 to 9223372036854775807)");
}

static void unknown_names_get_a_suggestion(void **state)
{
    (void)state;
    expect_refused(&sample_scalars_descriptor, DECODE_JSON, "{\"colour\": \"red\"}",
                   "arguments.colour: unknown member (did you mean 'color'?)");
    expect_refused(&sample_scalars_descriptor, DECODE_JSON, "{\"xyzzy\": 1}", "arguments.xyzzy: unknown member");
    expect_refused(&sample_scalars_descriptor, DECODE_JSON, "{\"color\": \"dark_blue\"}",
                   "arguments.color: 'dark_blue' is not a SampleColor (did you mean 'dark-blue'?)");
    expect_refused(&sample_scalars_descriptor, DECODE_JSON, "{\"color\": \"green\"}",
                   "arguments.color: 'green' is not a SampleColor");
    expect_refused(&sample_outer_descriptor, DECODE_JSON,
                   "{\"kind\": \"always\", \"inner\": \"red\", \"x\": 1, \"z\": 1}", "arguments.z: unknown member");
    expect_refused(&codec_empty, DECODE_JSON, "{\"a\": 1}", "arguments.a: unknown member");
}

static void missing_members_are_named(void **state)
{
    (void)state;
    expect_refused(&sample_point_descriptor, DECODE_JSON, "{}", "arguments.x: missing");
    expect_refused(&sample_outer_descriptor, DECODE_JSON, "{}", "arguments.kind: missing");
    expect_refused(&sample_outer_descriptor, DECODE_JSON, "{\"kind\": \"always\"}", "arguments.inner: missing");
    expect_refused(&sample_outer_descriptor, DECODE_JSON, "{\"kind\": \"always\", \"inner\": \"red\"}",
                   "arguments.x: missing");
}

static void nothing_given_is_an_empty_object(void **state)
{
    (void)state;
    void *value = NULL;
    CLEANUP(error_free)
    struct error *err =
        decode_value(&sample_point_descriptor, NULL, DECODE_JSON, "arguments", &codec_arena, &value, NULL);
    assert_string_equal(error_message(err), "arguments.x: missing");
    assert_null(decode_value(&codec_empty, NULL, DECODE_JSON, "arguments", &codec_arena, &value, NULL));
}

static void zero_bytes_are_refused(void **state)
{
    (void)state;
    void *value = NULL;
    json_t *json = json_loads("{\"s\": \"a\\u0000b\"}", JSON_ALLOW_NUL, NULL);
    CLEANUP(error_free)
    struct error *err =
        decode_value(&sample_scalars_descriptor, json, DECODE_JSON, "arguments", &codec_arena, &value, NULL);
    json_decref(json);
    assert_string_equal(error_message(err), "arguments.s: contains a zero byte");
}

static char *nested(const char *open, const char *close, int levels)
{
    struct text text = { 0 };
    for (int i = 0; i < levels; i++)
        text_append_string(&text, open);
    text_append_string(&text, "{}");
    for (int i = 0; i < levels; i++)
        text_append_string(&text, close);
    text_append(&text, "", 1);
    return text.data;
}

static void depth_has_a_limit(void **state)
{
    (void)state;
    CLEANUP(free) char *fits = nested("{\"next\": ", "}", DECODE_DEPTH_MAX - 1);
    CLEANUP(free) char *too_deep = nested("{\"next\": ", "}", DECODE_DEPTH_MAX);
    decoded(&sample_chain_descriptor, DECODE_JSON, fits);
    void *value = NULL;
    CLEANUP(error_free) struct error *err = try_decode(&sample_chain_descriptor, too_deep, DECODE_JSON, &value);
    assert_non_null(err);
    assert_non_null(strstr(error_message(err), "nested deeper than 256"));
}

static void the_arena_bounds_what_a_client_can_take(void **state)
{
    (void)state;
    struct arena small;
    void *value = NULL;
    arena_init(&small, 1000);
    json_t *json = json_pack("{s:[]}", "strings");
    for (int i = 0; i < 200; i++)
        json_array_append_new(json_object_get(json, "strings"), json_string("0123456789"));
    CLEANUP(error_free)
    struct error *err = decode_value(&sample_arrays_descriptor, json, DECODE_JSON, "arguments", &small, &value, NULL);
    assert_string_equal(error_message(err), "arguments.strings: too large");
    assert_null(value);
    json_decref(json);
    arena_fini(&small);
}

static void the_place_of_a_failure_is_told_apart(void **state)
{
    (void)state;
    struct decode_failure failure = { 0 };
    void *value;
    json_t *json = parse_json("{\"points\": [{\"x\": 1}, {\"x\": 1, \"z\": 2}]}");
    error_free(decode_value(&sample_arrays_descriptor, json, DECODE_JSON, "", &codec_arena, &value, &failure));
    assert_string_equal(failure.path, "points[1].z");
    assert_true(failure.is_key);
    json_decref(json);

    json = parse_json("{\"points\": [{}]}");
    struct error *err = decode_value(&sample_arrays_descriptor, json, DECODE_JSON, "", &codec_arena, &value, &failure);
    assert_string_equal(error_message(err), "points[0].x: missing");
    assert_string_equal(failure.path, "points[0]");
    assert_false(failure.is_key);
    error_free(err);
    json_decref(json);

    json = parse_json("5");
    err = decode_value(&sample_arrays_descriptor, json, DECODE_JSON, "", &codec_arena, &value, &failure);
    assert_string_equal(error_message(err), "expected object, got integer");
    assert_string_equal(failure.path, "");
    error_free(err);
    json_decref(json);
}

static void text_is_converted_to_what_is_expected(void **state)
{
    (void)state;
    const struct sample_scalars *s = decoded(
        &sample_scalars_descriptor, DECODE_TEXT,
        "{\"b\": \"on\", \"i\": \"-0x10\", \"u16\": \"65535\", \"bytes\": \"1.5G\", \"n\": \"2.5\", \"s\": \"5\","
        " \"color\": \"3d\", \"nothing\": \"\", \"u64\": \"18446744073709551615\"}");
    assert_true(s->b);
    assert_int_equal(s->i, -16);
    assert_int_equal(s->u16, 65535);
    assert_true(s->bytes == (uint64_t)3 << 29);
    assert_true(fabs(s->n - 2.5) < 1e-9);
    assert_string_equal(s->s, "5");
    assert_true(s->has_nothing);
    assert_true(s->u64 == UINT64_MAX);
}

static void text_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    const struct type_descriptor *scalars = &sample_scalars_descriptor;
    expect_refused(scalars, DECODE_TEXT, "{\"b\": \"maybe\"}", "arguments.b: 'maybe' is not 'on' or 'off'");
    expect_refused(scalars, DECODE_TEXT, "{\"i\": \"1M\"}", "arguments.i: '1M' is not an integer");
    expect_refused(scalars, DECODE_TEXT, "{\"u8\": \"256\"}", "arguments.u8: 256 is out of range (0 to 255)");
    expect_refused(scalars, DECODE_TEXT, "{\"bytes\": \"-1\"}",
                   "arguments.bytes: -1 is out of range (0 to 18446744073709551615)");
    expect_refused(scalars, DECODE_TEXT, "{\"bytes\": \"1X\"}", "arguments.bytes: '1X' is not a size");
    expect_refused(scalars, DECODE_TEXT, "{\"n\": \"\"}", "arguments.n: '' is not a number");
    expect_refused(&sample_arrays_descriptor, DECODE_TEXT, "{\"small\": [\"1\", \"x\"]}",
                   "arguments.small.1: 'x' is not an integer");
    expect_refused(&sample_arrays_descriptor, DECODE_TEXT, "{\"small\": \"1\"}",
                   "arguments.small: expected array, got string");
}

static void text_finds_the_branch_of_an_alternate(void **state)
{
    (void)state;
    const struct sample_types_arguments *a =
        decoded(&sample_types_arguments_descriptor, DECODE_TEXT, "{\"choice\": \"left\", \"number\": \"12\"}");
    assert_int_equal(a->choice->kind, SAMPLE_CHOICE_KIND_SIDE);
    assert_int_equal(a->number->kind, SAMPLE_NUMBER_OR_NULL_KIND_INT);
    assert_int_equal(a->number->u.int_, 12);
    a = decoded(&sample_types_arguments_descriptor, DECODE_TEXT, "{\"choice\": {\"x\": \"7\"}, \"number\": \"\"}");
    assert_int_equal(a->choice->u.point->x, 7);
    assert_int_equal(a->number->kind, SAMPLE_NUMBER_OR_NULL_KIND_NULL);
    expect_refused(&sample_types_arguments_descriptor, DECODE_TEXT, "{\"number\": \"x\"}",
                   "arguments.number: expected integer or null, got string");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_keep_their_values),
        cmocka_unit_test(what_is_left_out_is_absent),
        cmocka_unit_test(an_integer_is_a_number_too),
        cmocka_unit_test(elements_of_arrays_lie_side_by_side),
        cmocka_unit_test(branches_of_unions_lie_inside),
        cmocka_unit_test(wrong_types_name_path_expectation_and_find),
        cmocka_unit_test(numbers_have_ranges),
        cmocka_unit_test(unsigned_integers_have_all_of_64_bits),
        cmocka_unit_test(unknown_names_get_a_suggestion),
        cmocka_unit_test(missing_members_are_named),
        cmocka_unit_test(nothing_given_is_an_empty_object),
        cmocka_unit_test(zero_bytes_are_refused),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(the_arena_bounds_what_a_client_can_take),
        cmocka_unit_test(the_place_of_a_failure_is_told_apart),
        cmocka_unit_test(text_is_converted_to_what_is_expected),
        cmocka_unit_test(text_that_does_not_fit_is_refused),
        cmocka_unit_test(text_finds_the_branch_of_an_alternate),
    };
    return cmocka_run_group_tests(tests, codec_set_up, codec_tear_down);
}
