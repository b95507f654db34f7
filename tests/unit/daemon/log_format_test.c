#include "daemon/log_format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct log_about about = { .node = "disk0", .client = "monitor 'm' client 7", .command_id = "\"a=b\"" };

static const struct log_record record = {
    .level = LOG_LEVEL_WARNING,
    .about = &about,
    .message = "it is \"late\"",
    .time = { .tv_sec = 1700000000, .tv_nsec = 1234567 },
};

static void text_is(struct text *text, const char *expected)
{
    assert_int_equal(text->length, strlen(expected));
    assert_memory_equal(text->data, expected, text->length);
    text_fini(text);
    *text = (struct text){ 0 };
}

static void lines_for_people(void **state)
{
    (void)state;
    struct text text = { 0 };
    struct log_record error = record;
    error.level = LOG_LEVEL_ERROR;
    log_format_plain(&text, &record, false);
    text_is(&text, "cairnd: warning: it is \"late\"\n");
    log_format_plain(&text, &error, false);
    text_is(&text, "cairnd: it is \"late\"\n");
    log_format_plain(&text, &record, true);
    text_is(&text, "cairnd: warning: it is \"late\" node=disk0 client=\"monitor 'm' client 7\" "
                   "command-id=\"\\\"a=b\\\"\"\n");
}

static void values_of_strangers_stay_in_their_field(void **state)
{
    (void)state;
    struct text text = { 0 };
    char id[3 * LOG_FIELD_BYTES_MAX];
    memset(id, 'i', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    const struct log_about strange = { .node = "a\nb\x7f", .command_id = id };
    const struct log_record one = { .level = LOG_LEVEL_ERROR, .about = &strange, .message = "x" };
    log_format_plain(&text, &one, true);
    static const char expected[] = "cairnd: x node=\"a\\nb\\u007F\" command-id=";
    assert_memory_equal(text.data, expected, sizeof(expected) - 1);
    assert_int_equal(text.length, sizeof(expected) - 1 + LOG_FIELD_BYTES_MAX + 1);
    text.length = 0;
    log_format_json(&text, &one);
    assert_true(text.length < 2 * LOG_FIELD_BYTES_MAX);
    text.length = 0;
    log_format_journal(&text, &one);
    assert_true(text.length < 2 * LOG_FIELD_BYTES_MAX);
    text_fini(&text);
}

static void lines_of_json(void **state)
{
    (void)state;
    struct text text = { 0 };
    log_format_json(&text, &record);
    text_is(&text,
            "{\"time\": \"2023-11-14T22:13:20.001234Z\", \"level\": \"warning\", \"message\": \"it is \\\"late\\\"\", "
            "\"node\": \"disk0\", \"client\": \"monitor 'm' client 7\", \"command-id\": \"\\\"a=b\\\"\"}\n");
}

static void entries_of_the_journal(void **state)
{
    (void)state;
    static const char expected[] = "PRIORITY=4\nSYSLOG_IDENTIFIER=cairnd\nSYSLOG_FACILITY=3\nMESSAGE=x\n"
                                   "CAIRN_NODE\n\x03\0\0\0\0\0\0\0a\nb\n";
    struct text text = { 0 };
    const struct log_about with_line_feed = { .node = "a\nb" };
    const struct log_record one = { .level = LOG_LEVEL_WARNING, .about = &with_line_feed, .message = "x" };
    log_format_journal(&text, &one);
    assert_int_equal(text.length, sizeof(expected) - 1);
    assert_memory_equal(text.data, expected, sizeof(expected) - 1);
    text_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_for_people),
        cmocka_unit_test(values_of_strangers_stay_in_their_field),
        cmocka_unit_test(lines_of_json),
        cmocka_unit_test(entries_of_the_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
