/* What language 1 of the schema means when values are decoded: defaults, limits, secrets, roles. */
#include "schema/limited_commands.h"
#include "schema/limited_descriptors.h"
#include "schema/limited_events.h"

#include "schema/codec/compare.h"
#include "schema/codec/limits.h"
#include "schema/codec/random.h"
#include "tests/unit/schema/codec.h"

#include <math.h>

struct error *handle_limited_set(struct command_context *context, const struct limited_union *arguments)
{
    (void)context;
    (void)arguments;
    return NULL;
}

struct error *handle_limited_count(struct command_context *context, const struct limited_count_arguments *arguments,
                                   uint16_t *result)
{
    (void)context;
    *result = (uint16_t)arguments->names_count;
    return NULL;
}

struct error *handle_limited_stop(struct command_context *context)
{
    (void)context;
    return NULL;
}

struct error *handle_limited_all(struct command_context *context, const struct limited_all_arguments *arguments)
{
    (void)context;
    (void)arguments;
    return NULL;
}

void event_sink_emit(struct event_sink *sink, const struct event_descriptor *event, const void *data)
{
    (void)sink;
    (void)event;
    (void)data;
}

static void absent_members_have_their_defaults(void **state)
{
    (void)state;
    const struct limited_numbers *n = decoded(&limited_numbers_descriptor, DECODE_JSON, "{}");
    assert_false(n->has_bytes || n->has_lowest || n->has_ratio || n->has_u32 || n->has_degree);
    assert_int_equal(n->bytes, 65536);
    assert_true(n->lowest == INT64_MIN);
    assert_true(fabs(n->ratio - 0.25) < 1e-9);
    assert_int_equal(n->u32, 7);
    const struct limited_texts *t = decoded(&limited_texts_descriptor, DECODE_JSON, "{}");
    assert_string_equal(t->name, "disk");
    assert_string_equal(t->quoted, "say \"a\\b\"?\?/");
    assert_true(!t->has_enabled && t->enabled);
    assert_int_equal(t->mode, LIMITED_MODE_FAST);
    assert_null(t->maybe);
}

static void what_is_given_counts_more_than_a_default(void **state)
{
    (void)state;
    const struct limited_texts *t =
        decoded(&limited_texts_descriptor, DECODE_JSON, "{\"name\": \"a\", \"enabled\": false, \"mode\": \"slow\"}");
    assert_string_equal(t->name, "a");
    assert_true(t->has_enabled && !t->enabled);
    assert_int_equal(t->mode, LIMITED_MODE_SLOW);
}

/* A default is not sent on: who reads it knows it. Saying it or leaving it out is the same. */
static void defaults_are_left_out_and_equal_to_what_is_given(void **state)
{
    (void)state;
    const struct type_descriptor *numbers = &limited_numbers_descriptor;
    const void *without = decoded(numbers, DECODE_JSON, "{}");
    const void *with = decoded(numbers, DECODE_JSON, "{\"bytes\": 65536, \"u32\": 7}");
    struct limited_numbers by_hand = { 0 };
    assert_string_equal(encoded(numbers, without, 0), "{}");
    assert_true(value_equal(numbers, without, with));
    assert_true(value_equal(numbers, &by_hand, with));
    assert_false(value_equal(numbers, without, decoded(numbers, DECODE_JSON, "{\"u32\": 8}")));
}

static void a_discriminator_with_a_default_may_be_absent(void **state)
{
    (void)state;
    const struct limited_union *u = decoded(&limited_union_descriptor, DECODE_JSON, "{\"speed\": 5}");
    assert_int_equal(u->mode, LIMITED_MODE_FAST);
    assert_int_equal(u->u.fast.speed, 5);
    u = decoded(&limited_union_descriptor, DECODE_JSON, "{}");
    assert_int_equal(u->u.fast.speed, 100);
    expect_refused(&limited_union_descriptor, DECODE_JSON, "{\"mode\": \"slow\", \"speed\": 5}",
                   "arguments.speed: unknown member");
    /* Built by hand, without saying the mode: what is encoded is what was meant. */
    struct limited_union by_hand = { .u.fast = { .has_speed = true, .speed = 3 } };
    assert_string_equal(encoded(&limited_union_descriptor, &by_hand, 0), "{\"speed\": 3}");
}

static void numbers_have_limits(void **state)
{
    (void)state;
    const struct type_descriptor *numbers = &limited_numbers_descriptor;
    expect_refused(numbers, DECODE_JSON, "{\"bytes\": 100}", "arguments.bytes: 100 is below the minimum 65536");
    expect_refused(numbers, DECODE_TEXT, "{\"bytes\": \"1k\"}", "arguments.bytes: 1024 is below the minimum 65536");
    expect_refused(numbers, DECODE_JSON, "{\"bytes\": 65537}", "arguments.bytes: 65537 is not a multiple of 512");
    expect_refused(numbers, DECODE_JSON, "{\"degree\": -100}", "arguments.degree: -100 is below the minimum -90");
    expect_refused(numbers, DECODE_JSON, "{\"degree\": 91}", "arguments.degree: 91 is above the maximum 90");
    expect_refused(numbers, DECODE_JSON, "{\"degree\": -15}", "arguments.degree: -15 is not a multiple of 10");
    expect_refused(numbers, DECODE_JSON, "{\"ratio\": 1.5}", "arguments.ratio: 1.5 is above the maximum 1");
    expect_refused(numbers, DECODE_JSON, "{\"ratio\": -1}", "arguments.ratio: -1 is below the minimum -0.5");
    expect_refused(numbers, DECODE_JSON, "{\"port\": 80}", "arguments.port: 80 is below the minimum 1024");
    expect_refused(numbers, DECODE_JSON, "{\"port\": 65536}", "arguments.port: 65536 is out of range (0 to 65535)");
    expect_refused(numbers, DECODE_JSON, "{\"ports\": [1024, 2049]}",
                   "arguments.ports[1]: 2049 is above the maximum 2048");
    expect_refused(numbers, DECODE_JSON, "{\"port\": \"x\"}", "arguments.port: expected integer, got string");
    decoded(numbers, DECODE_JSON, "{\"bytes\": 66048, \"degree\": -90, \"ratio\": 1, \"ports\": [1024, 2048]}");
}

static void texts_have_limits(void **state)
{
    (void)state;
    const struct type_descriptor *texts = &limited_texts_descriptor;
    expect_refused(texts, DECODE_JSON, "{\"name\": \"\"}", "arguments.name: '' is shorter than 1 byte");
    expect_refused(texts, DECODE_JSON, "{\"name\": \"abcdefghi\"}",
                   "arguments.name: 'abcdefghi' is longer than 8 bytes");
    expect_refused(texts, DECODE_JSON, "{\"name\": \"a b\"}",
                   "arguments.name: 'a b' does not match the pattern '[a-z][a-z0-9-]*'");
    expect_refused(texts, DECODE_JSON, "{\"code\": \"A.1\"}",
                   "arguments.code: 'A.1' does not match the pattern '[A-F]{2,3}\\.[0-9]+x?'");
    expect_refused(texts, DECODE_JSON, "{\"maybe\": \"A\"}",
                   "arguments.maybe: 'A' does not match the pattern '[a-z][a-z0-9-]*'");
    expect_refused(texts, DECODE_JSON, "{\"maybe\": 5}", "arguments.maybe: expected string or null, got integer");
    const struct limited_texts *t = decoded(texts, DECODE_JSON, "{\"maybe\": null, \"code\": \"ABC.12x\"}");
    assert_non_null(t->maybe);
    decoded(texts, DECODE_JSON, "{\"code\": \"AB.1\"}");
}

static bool matches(const struct value_pattern *pattern, const char *text)
{
    return pattern_matches(pattern, text, strlen(text));
}

/* A pattern is matched as a whole, whichever way its parts share the text. */
static void patterns_share_the_text(void **state)
{
    (void)state;
    const struct value_pattern_item any = { .set = { 0, 0, 0, 1u << ('a' - 96) | 1u << ('b' - 96) },
                                            .maximum = PATTERN_UNBOUNDED };
    const struct value_pattern_item one_b = { .set = { 0, 0, 0, 1u << ('b' - 96) }, .minimum = 1, .maximum = 1 };
    const struct value_pattern_item two_a = { .set = { 0, 0, 0, 1u << ('a' - 96) }, .minimum = 2, .maximum = 3 };
    const struct value_pattern_item items[] = { any, one_b, any, two_a };
    const struct value_pattern pattern = { .items = items, .count = ARRAY_SIZE(items) };
    assert_true(matches(&pattern, "baa"));
    assert_true(matches(&pattern, "abababaaaaaa"));
    assert_false(matches(&pattern, "aaaa"));
    assert_false(matches(&pattern, "bab"));
    assert_false(matches(&pattern, "ba"));
    assert_false(matches(&pattern, ""));
    /* Linear, not a power of the length. */
    char *text = test_malloc(PATTERN_TEXT_MAX + 2);
    memset(text, 'b', PATTERN_TEXT_MAX + 1);
    text[PATTERN_TEXT_MAX + 1] = '\0';
    assert_false(pattern_matches(&pattern, text, PATTERN_TEXT_MAX));
    memset(text + PATTERN_TEXT_MAX - 2, 'a', 2);
    assert_true(pattern_matches(&pattern, text, PATTERN_TEXT_MAX));
    assert_false(pattern_matches(&pattern, text, PATTERN_TEXT_MAX + 1));
    test_free(text);
}

static void secrets_are_neither_quoted_nor_logged(void **state)
{
    (void)state;
    const struct type_descriptor *texts = &limited_texts_descriptor;
    expect_refused(texts, DECODE_JSON, "{\"password\": \"hunter2\"}",
                   "arguments.password: the value is shorter than 8 bytes");
    expect_refused(texts, DECODE_JSON, "{\"pin\": 10000}", "arguments.pin: the value is above the maximum 9999");
    expect_refused(texts, DECODE_JSON, "{\"pin\": 123456}", "arguments.pin: the value is out of range (0 to 65535)");
    expect_refused(texts, DECODE_TEXT, "{\"pin\": \"12e4\"}", "arguments.pin: the value is not an integer");
    const void *value = decoded(texts, DECODE_JSON, "{\"password\": \"correct horse\", \"pin\": 1, \"name\": \"a\"}");
    assert_string_equal(encoded(texts, value, ENCODE_REDACT),
                        "{\"name\": \"a\", \"password\": \"(secret)\", \"pin\": \"(secret)\"}");
    assert_non_null(strstr(encoded(texts, value, 0), "correct horse"));
}

static void replies_of_newer_servers_are_read(void **state)
{
    (void)state;
    const struct limited_numbers *n =
        decoded(&limited_numbers_descriptor, DECODE_REPLY, "{\"news\": {\"a\": 1}, \"degree\": 10}");
    assert_int_equal(n->degree, 10);
    expect_refused(&limited_numbers_descriptor, DECODE_REPLY, "{\"degree\": \"10\"}",
                   "arguments.degree: expected integer, got string");
}

static void random_values_keep_to_limits(void **state)
{
    (void)state;
    for (size_t i = 0; i < limited_descriptors.count; i++) {
        const struct type_descriptor *type = limited_descriptors.types[i];
        for (uint64_t seed = 0; seed < 300; seed++) {
            uint64_t state_of_seed = seed;
            const void *value = value_random(type, &state_of_seed, &codec_arena);
            if (!value)
                fail_msg("no value of %s with seed %d", type->name, (int)seed);
            const char *text = encoded(type, value, 0);
            if (type->kind == VALUE_OBJECT)
                assert_true(value_equal(type, value, decoded(type, DECODE_JSON, text)));
        }
    }
}

static void the_table_says_how_commands_run_and_who_may(void **state)
{
    (void)state;
    const struct command_descriptor *set = command_find(&limited_commands, "limited-set");
    const struct command_descriptor *count = command_find(&limited_commands, "limited-count");
    const struct command_descriptor *stop = command_find(&limited_commands, "limited-stop");
    assert_int_equal(command_kind(set), COMMAND_COROUTINE);
    assert_int_equal(command_kind(count), COMMAND_SYNC);
    assert_int_equal(command_kind(stop), COMMAND_OOB);
    assert_int_equal(command_role(set), COMMAND_OPERATE);
    assert_int_equal(command_role(count), COMMAND_READ);
    assert_int_equal(command_role(stop), COMMAND_ADMIN);
    assert_int_equal(set->flags & COMMAND_ERRORS_DECLARED, COMMAND_ERRORS_DECLARED);
    assert_true(set->flags & COMMAND_ERROR(ERROR_DEVICE_NOT_FOUND));
    assert_false(set->flags & COMMAND_ERROR(ERROR_GENERIC));
    assert_false(stop->flags & COMMAND_ERRORS_DECLARED);
}

static void results_may_be_scalars(void **state)
{
    (void)state;
    const struct command_descriptor *count = command_find(&limited_commands, "limited-count");
    uint16_t result = 0;
    const void *arguments = decoded(count->arguments, DECODE_JSON, "{\"names\": [\"a\", \"b\"]}");
    assert_null(count->invoke(NULL, arguments, &result));
    assert_string_equal(encoded(count->returns, &result, 0), "2");
}

static void the_table_of_events_has_rate_limits(void **state)
{
    (void)state;
    assert_int_equal(limited_events.count, 1);
    assert_int_equal(limited_events.events[0].rate_limit_ms, 1000);
    assert_int_equal(limited_events.events[0].rate_key_count, 1);
    assert_int_equal(limited_events.events[0].rate_keys[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_members_have_their_defaults),
        cmocka_unit_test(what_is_given_counts_more_than_a_default),
        cmocka_unit_test(defaults_are_left_out_and_equal_to_what_is_given),
        cmocka_unit_test(a_discriminator_with_a_default_may_be_absent),
        cmocka_unit_test(numbers_have_limits),
        cmocka_unit_test(texts_have_limits),
        cmocka_unit_test(patterns_share_the_text),
        cmocka_unit_test(secrets_are_neither_quoted_nor_logged),
        cmocka_unit_test(replies_of_newer_servers_are_read),
        cmocka_unit_test(random_values_keep_to_limits),
        cmocka_unit_test(the_table_says_how_commands_run_and_who_may),
        cmocka_unit_test(results_may_be_scalars),
        cmocka_unit_test(the_table_of_events_has_rate_limits),
    };
    return cmocka_run_group_tests(tests, codec_set_up, codec_tear_down);
}
