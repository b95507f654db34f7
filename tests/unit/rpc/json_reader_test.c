/* The reader turns a stream of bytes into messages and errors, the same however the stream is cut. */
#include "rpc/json_reader.h"
#include "schema/codec/json_parse.h"
#include "schema/codec/json_tree.h"

#include "blockcore/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* What came out of the reader, in one line: messages as compact JSON, errors as "!text", separated by blanks. */
struct outcome {
    char *text;
    size_t length;
};

static void note(struct outcome *outcome, const char *prefix, const char *text)
{
    char *longer =
        xasprintf("%s%s%s%s", outcome->length ? outcome->text : "", outcome->length ? " " : "", prefix, text);
    free(outcome->text);
    outcome->text = longer;
    outcome->length = strlen(longer);
}

static void read_piece(struct json_reader *reader, struct outcome *outcome, const char *at, const char *end)
{
    for (;;) {
        struct json_message message;
        struct error *err;
        switch (json_reader_next(reader, &at, end, &message, &err)) {
        case JSON_READ_MORE:
            assert_ptr_equal(at, end);
            return;
        case JSON_READ_MESSAGE: {
            char *dump = json_dumps(message.value, JSON_COMPACT | JSON_ENSURE_ASCII);
            note(outcome, "", dump);
            free(dump);
            json_message_fini(&message, NULL);
            break;
        }
        case JSON_READ_ERROR:
            note(outcome, "!", error_message(err));
            error_free(err);
        }
    }
}

/* Reads @length bytes, of which the first @cut come alone. */
static char *read_cut(const char *bytes, size_t length, size_t cut)
{
    struct outcome outcome = { 0 };
    struct json_reader *reader = json_reader_create(NULL);
    read_piece(reader, &outcome, bytes, bytes + cut);
    read_piece(reader, &outcome, bytes + cut, bytes + length);
    json_reader_destroy(reader);
    return outcome.text ? outcome.text : xstrdup("");
}

static char *read_bytewise(const char *bytes, size_t length)
{
    struct outcome outcome = { 0 };
    struct json_reader *reader = json_reader_create(NULL);
    for (size_t i = 0; i < length; i++)
        read_piece(reader, &outcome, bytes + i, bytes + i + 1);
    json_reader_destroy(reader);
    return outcome.text ? outcome.text : xstrdup("");
}

static void expect_bytes(const char *bytes, size_t length, const char *expected)
{
    for (size_t cut = 0; cut <= length; cut++) {
        char *text = read_cut(bytes, length, cut);
        assert_string_equal(text, expected);
        free(text);
    }
    char *text = read_bytewise(bytes, length);
    assert_string_equal(text, expected);
    free(text);
}

static void expect(const char *input, const char *expected)
{
    expect_bytes(input, strlen(input), expected);
}

static void messages_need_nothing_between_them(void **state)
{
    (void)state;
    expect("{\"execute\":\"a\"}{\"execute\":\"b\"}\r\n{}", "{\"execute\":\"a\"} {\"execute\":\"b\"} {}");
}

static void every_kind_of_value(void **state)
{
    (void)state;
    expect("{\"a\":[1,-2,1.5,true,false,null,\"s\",{},[]],\"b\":{\"c\":{}}}",
           "{\"a\":[1,-2,1.5,true,false,null,\"s\",{},[]],\"b\":{\"c\":{}}}");
}

static void single_quotes_are_strings_too(void **state)
{
    (void)state;
    expect("{'execute':'it\\'s \"quoted\"'}", "{\"execute\":\"it's \\\"quoted\\\"\"}");
    expect("{\"a\":\"it's\"}", "{\"a\":\"it's\"}");
}

static void escapes_and_characters(void **state)
{
    (void)state;
    expect("{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\"}",
           "{\"a\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u00E9\\uD83D\\uDE00\"}");
    expect("{\"a\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"}", "{\"a\":\"\\u00E9\\u20AC\\uD83D\\uDE00\"}");
}

static void bad_text_is_one_error_and_the_message_is_passed_over(void **state)
{
    (void)state;
    static const struct {
        const char *input;
        const char *error;
    } cases[] = {
        { "\"\\x\"", "invalid escape sequence in string" },
        { "\"\\u12g4\"", "invalid escape sequence in string" },
        { "\"\\u0000\"", "\\u0000 is not allowed in a string" },
        { "\"\\ud800\"", "\\ud800 is not a valid Unicode character" },
        { "\"\\ud800x\"", "\\ud800 is not a valid Unicode character" },
        { "\"\\ud800\\ud800\\udc00\"", "\\ud800 is not a valid Unicode character" },
        { "\"\\udc00\"", "\\udc00 is not a valid Unicode character" },
        { "\"\xc3\"", "invalid UTF-8 sequence in string" },
        { "\"\xc3(\"", "invalid UTF-8 sequence in string" },
        { "\"\xc0\xaf\"", "invalid UTF-8 sequence in string" },
        { "\"\xe0\x80\xaf\"", "invalid UTF-8 sequence in string" },
        { "\"\xed\xa0\x80\"", "invalid UTF-8 sequence in string" },
        { "\"\xf4\x90\x80\x80\"", "invalid UTF-8 sequence in string" },
        { "\"\x80\"", "invalid UTF-8 sequence in string" },
        { "NaN", "invalid keyword 'NaN'" },
        { "Infinity", "invalid keyword 'Infinity'" },
        { "nul", "invalid keyword 'nul'" },
        { "01", "invalid number '01'" },
        { "1.", "invalid number '1.'" },
        { ".5", "invalid keyword '.5'" },
        { "-", "invalid number '-'" },
        { "1e", "invalid number '1e'" },
        { "0x10", "invalid number '0x10'" },
        { "1e999", "number '1e999' is out of range" },
        { "", "expecting value" },
        { "[1,]", "expecting value" },
        { "[1 2]", "expected separator in array" },
        { "1 \"b\":2", "expected separator in object" },
        { "1,", "key is not a string in object" },
        { "1,3:4", "key is not a string in object" },
        { "1,\"b\"}", "missing ':' after key 'b'" },
        { "{\"a\":1,\"a\":2}", "duplicate key 'a'" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *input = xasprintf("{\"a\":%s} {\"next\":1}", cases[i].input);
        char *expected = xasprintf("!JSON parse error, %s {\"next\":1}", cases[i].error);
        if (strstr(cases[i].input, "\"b\"}")) { /* closed the message itself, so that a bracket is left over */
            free(expected);
            expected =
                xasprintf("!JSON parse error, %s !JSON parse error, expecting value {\"next\":1}", cases[i].error);
        }
        expect(input, expected);
        free(input);
        free(expected);
    }
}

static void several_bad_messages_are_told_one_by_one(void **state)
{
    (void)state;
    expect("{\"execute\": }{\"execute\": }{\"a\":1}",
           "!JSON parse error, expecting value !JSON parse error, expecting value {\"a\":1}");
}

static void numbers_keep_their_value(void **state)
{
    (void)state;
    expect("{\"a\":[9223372036854775807,-9223372036854775808,-0,1e2]}",
           "{\"a\":[9223372036854775807,-9223372036854775808,0,100.0]}");
}

static void an_id_too_large_for_an_integer_is_kept_as_written(void **state)
{
    (void)state;
    const char *input = "{\"id\":18446744073709551615}";
    const char *at = input;
    struct json_reader *reader = json_reader_create(NULL);
    struct json_message message;
    struct error *err;
    assert_int_equal(json_reader_next(reader, &at, input + strlen(input), &message, &err), JSON_READ_MESSAGE);
    assert_string_equal(message.id_number, "18446744073709551615");
    assert_string_equal(json_wide_digits(json_object_get(message.value, "id")), "18446744073709551615");
    json_message_fini(&message, NULL);
    json_reader_destroy(reader);
}

static void garbage_gets_one_error_then_silence(void **state)
{
    (void)state;
    expect("foo bar baz 1 2 3 \"x\" {\"a\":1}", "!JSON parse error, invalid keyword 'foo' {\"a\":1}");
    expect("GET / HTTP/1.1\r\nHost: x\r\n\r\n{\"a\":1} {\"b\":}",
           "!JSON parse error, invalid keyword 'GET' {\"a\":1} !JSON parse error, expecting value");
    expect("}}}}]] {\"a\":1}", "!JSON parse error, expecting value {\"a\":1}");
    expect("%$# {bad \x01 {\"a\":1}", "!JSON parse error, stray '%' {\"a\":1}");
}

static void what_is_complete_after_garbage_makes_sense_again(void **state)
{
    (void)state;
    expect("% {\"a\":} {\"b\":}",
           "!JSON parse error, stray '%' !JSON parse error, expecting value !JSON parse error, expecting value");
    expect("% {\"a\":1", "!JSON parse error, stray '%'");
}

static void what_has_no_member_is_garbage_among_garbage(void **state)
{
    (void)state;
    expect("% [1] {} {[1]} {x:{}} {{{ {\"b\":1}", "!JSON parse error, stray '%' {\"b\":1}");
}

static void only_objects_are_messages(void **state)
{
    (void)state;
    expect("[] {\"a\":1}", "!QMP input must be a JSON object {\"a\":1}");
    expect("42 {\"a\":1}", "!QMP input must be a JSON object {\"a\":1}");
    expect("\"s\" {\"a\":1}", "!QMP input must be a JSON object {\"a\":1}");
}

static void control_characters_begin_anew(void **state)
{
    (void)state;
    expect("{\"execute\":\"que\xff{\"a\":1}", "!JSON parse error, stray byte 0xff in a string {\"a\":1}");
    expect("{\"x\":[[[\x01{\"a\":1}", "!JSON parse error, stray byte 0x01 {\"a\":1}");
    expect("\xff{\"a\":1}", "!JSON parse error, stray byte 0xff {\"a\":1}");
    expect("{\"x\":\"a\n{\"a\":1}", "!JSON parse error, stray byte 0x0a in a string {\"a\":1}");
    expect_bytes("{\"x\":\"a\0b\"}{\"a\":1}", 18, "!JSON parse error, stray byte 0x00 in a string");
    expect_bytes("{\"x\":\"a\0{\"a\":1}", 15, "!JSON parse error, stray byte 0x00 in a string {\"a\":1}");
}

static void a_line_that_begins_with_a_brace_ends_skipping(void **state)
{
    (void)state;
    expect("{[[[{{\n{\"a\":1}", "!JSON parse error, key is not a string in object {\"a\":1}");
    expect("{[[[{{ {\"a\":1}", "!JSON parse error, key is not a string in object");
}

/* Brackets around @depth levels, the object itself included. */
static char *nested(int depth)
{
    char *open = xcalloc(1, (size_t)depth);
    char *close = xcalloc(1, (size_t)depth);
    memset(open, '[', (size_t)depth - 1);
    memset(close, ']', (size_t)depth - 1);
    char *text = xasprintf("{\"a\":%s%s}{\"b\":1}", open, close);
    free(open);
    free(close);
    return text;
}

static void depth_is_limited(void **state)
{
    (void)state;
    char *input = nested(1024);
    char *text = read_cut(input, strlen(input), 100);
    assert_non_null(strstr(text, "]]} {\"b\":1}"));
    free(text);
    free(input);

    input = nested(1025);
    text = read_cut(input, strlen(input), 1500);
    assert_string_equal(text, "!JSON nesting depth limit exceeded: a message may be 1024 levels deep {\"b\":1}");
    free(text);
    free(input);

    input = nested(1000000);
    text = read_cut(input, strlen(input), 500000);
    assert_string_equal(text, "!JSON nesting depth limit exceeded: a message may be 1024 levels deep {\"b\":1}");
    free(text);
    free(input);
}

static void the_number_of_values_is_limited(void **state)
{
    (void)state;
    size_t count = 300000;
    char *input = xmalloc(count * 2 + 32);
    char *at = input + sprintf(input, "{\"a\":[0");
    for (size_t i = 1; i < count; i++)
        at += sprintf(at, ",0");
    sprintf(at, "]} {\"b\":1}");
    char *text = read_cut(input, strlen(input), 1000);
    assert_string_equal(text, "!JSON value count limit exceeded: a message may have 262144 values {\"b\":1}");
    free(text);
    free(input);
}

static void a_long_message_is_refused_before_it_is_whole(void **state)
{
    (void)state;
    struct json_reader *reader = json_reader_create(NULL);
    struct outcome outcome = { 0 };
    char *piece = xmalloc(1 << 20);
    memset(piece, 'x', 1 << 20);
    read_piece(reader, &outcome, "{\"a\":\"", strchr("{\"a\":\"", '\0'));
    for (int i = 0; i < 63; i++)
        read_piece(reader, &outcome, piece, piece + (1 << 20));
    assert_null(outcome.text);
    read_piece(reader, &outcome, piece, piece + (1 << 20));
    assert_string_equal(
        outcome.text,
        "!JSON message size limit exceeded: a message may have 67108864 bytes ('message-bytes' of the limits)");
    static const char end[] = "\"} {\"b\":1}";
    read_piece(reader, &outcome, end, end + sizeof(end) - 1);
    assert_non_null(strstr(outcome.text, "limits) {\"b\":1}"));
    free(outcome.text);
    free(piece);
    json_reader_destroy(reader);
}

static void a_long_number_is_refused(void **state)
{
    (void)state;
    char digits[1001];
    memset(digits, '7', 1000);
    digits[1000] = '\0';
    char *input = xasprintf("{\"a\":%s}{\"b\":1}", digits);
    expect(input, "!JSON parse error, a number or keyword is longer than 256 characters {\"b\":1}");
    free(input);
}

static void readers_share_a_budget(void **state)
{
    (void)state;
    struct json_budget budget = { .max = 500 };
    struct json_reader *one = json_reader_create(&budget);
    struct json_reader *two = json_reader_create(&budget);
    struct json_message message;
    struct error *err;
    const char *half = "{\"a\":\"0123456789012345678901234567890123456789012345678901234567890123456789";
    const char *at = half;
    assert_int_equal(json_reader_next(one, &at, half + strlen(half), &message, &err), JSON_READ_MORE);
    at = half;
    assert_int_equal(json_reader_next(two, &at, half + strlen(half), &message, &err), JSON_READ_ERROR);
    error_free(err);

    const char *end = "\"}";
    at = end;
    assert_int_equal(json_reader_next(one, &at, end + 2, &message, &err), JSON_READ_MESSAGE);
    assert_int_equal(budget.used, strlen(half) + 2 + 3 * 128);
    json_message_fini(&message, &budget);
    json_reader_destroy(one);
    json_reader_destroy(two);
    assert_int_equal(budget.used, 0);
}

/* Who holds half of something large takes nothing from those who send little. */
static void small_messages_need_no_budget(void **state)
{
    (void)state;
    struct json_budget budget = { .max = 1000, .own = 600 };
    struct json_reader *one = json_reader_create(&budget);
    struct json_reader *two = json_reader_create(&budget);
    struct json_message message;
    struct error *err;
    const char *half = "{\"a\":[1,2,";
    const char *small = "{\"a\":[1]}", *large = "{\"a\":[1,2,3,4]}";
    const char *at = half;
    assert_int_equal(json_reader_next(one, &at, half + strlen(half), &message, &err), JSON_READ_MORE);
    at = small;
    assert_int_equal(json_reader_next(two, &at, small + strlen(small), &message, &err), JSON_READ_MESSAGE);
    json_message_fini(&message, &budget);
    at = large;
    assert_int_equal(json_reader_next(two, &at, large + strlen(large), &message, &err), JSON_READ_ERROR);
    error_free(err);
    json_reader_destroy(one);
    json_reader_destroy(two);
    assert_int_equal(budget.used, 0);
}

static uint64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Time for a message of @bytes that comes in pieces of @piece bytes. */
static uint64_t time_message(size_t bytes, size_t piece)
{
    static const char begin_text[] = { '{', '"', 'a', '"', ':', '"' };
    char *input = xmalloc(sizeof(begin_text) + bytes + 2);
    memcpy(input, begin_text, sizeof(begin_text));
    memset(input + sizeof(begin_text), 'x', bytes);
    memcpy(input + sizeof(begin_text) + bytes, "\"}", 2);
    size_t length = sizeof(begin_text) + bytes + 2;

    struct json_reader *reader = json_reader_create(NULL);
    uint64_t begin = cpu_ns();
    unsigned messages = 0;
    for (size_t at = 0; at < length; at += piece) {
        const char *from = input + at;
        struct json_message message;
        struct error *err;
        size_t count = length - at < piece ? length - at : piece;
        if (json_reader_next(reader, &from, input + at + count, &message, &err) == JSON_READ_MESSAGE) {
            messages++;
            json_message_fini(&message, NULL);
        }
    }
    uint64_t ns = cpu_ns() - begin;
    assert_int_equal(messages, 1);
    json_reader_destroy(reader);
    free(input);
    return ns;
}

/* No rescans: pieces of 16 bytes cost a bit more per byte, not 65536 times as much. */
static void time_is_linear_in_the_input(void **state)
{
    (void)state;
    uint64_t whole = time_message(1 << 20, 1 << 20);
    uint64_t pieces = time_message(1 << 20, 16);
    print_message("1 MiB: %.2f ms at once, %.2f ms in pieces of 16 bytes\n", (double)whole / 1e6, (double)pieces / 1e6);
    assert_true(pieces < 500 * 1000 * 1000);
}

static void one_value_fills_the_text(void **state)
{
    (void)state;
    static const char *const good[] = { "1", " {\"a\": [] } ", "null", "'s'", "-1.5" };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        json_t *value = NULL;
        assert_null(json_parse(good[i], strlen(good[i]), JSON_VALUES_MAX, &value));
        json_decref(value);
    }
    static const char *const bad[] = { "", " ", "{", "1 2", "{} x", "\"a", "[1", "%", "{\"a\":1" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        json_t *value = NULL;
        struct error *err = json_parse(bad[i], strlen(bad[i]), JSON_VALUES_MAX, &value);
        assert_non_null(err);
        assert_null(value);
        error_free(err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_need_nothing_between_them),
        cmocka_unit_test(every_kind_of_value),
        cmocka_unit_test(single_quotes_are_strings_too),
        cmocka_unit_test(escapes_and_characters),
        cmocka_unit_test(bad_text_is_one_error_and_the_message_is_passed_over),
        cmocka_unit_test(several_bad_messages_are_told_one_by_one),
        cmocka_unit_test(numbers_keep_their_value),
        cmocka_unit_test(an_id_too_large_for_an_integer_is_kept_as_written),
        cmocka_unit_test(garbage_gets_one_error_then_silence),
        cmocka_unit_test(what_is_complete_after_garbage_makes_sense_again),
        cmocka_unit_test(what_has_no_member_is_garbage_among_garbage),
        cmocka_unit_test(only_objects_are_messages),
        cmocka_unit_test(control_characters_begin_anew),
        cmocka_unit_test(a_line_that_begins_with_a_brace_ends_skipping),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(the_number_of_values_is_limited),
        cmocka_unit_test(a_long_message_is_refused_before_it_is_whole),
        cmocka_unit_test(a_long_number_is_refused),
        cmocka_unit_test(readers_share_a_budget),
        cmocka_unit_test(small_messages_need_no_budget),
        cmocka_unit_test(time_is_linear_in_the_input),
        cmocka_unit_test(one_value_fills_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
