/* Rules of blkdebug in a file. */
#include "blockcore/filters/blkdebug_config.h"

#include "tests/unit/base/unit.h"

#include <errno.h>

static struct blkdebug_config config;

static void parse(const char *text)
{
    struct error *err = blkdebug_config_parse(text, strlen(text), &config);
    if (err)
        fail_msg("%s: %s", text, error_message(err));
}

static void parse_fails(const char *text, const char *message)
{
    struct error *err = blkdebug_config_parse(text, strlen(text), &config);
    if (!err)
        fail_msg("no error: %s", text);
    assert_string_equal(error_message(err), message);
    error_free(err);
    blkdebug_config_fini(&config);
}

static void rules_of_both_kinds(void **state)
{
    (void)state;
    parse("# a comment\n"
          "[set-state]\n"
          "event = \"write_aio\"\n"
          "state = \"1\"\n"
          "new_state = \"2\"\n"
          "\n"
          "[inject-error]\r\n"
          "  event=\"l2_update\" \r\n"
          "state = \"2\"\n"
          "iotype = \"write-zeroes\"\n"
          "errno = \"28\"\n"
          "sector = \"0x10\"\n"
          "once = \"on\"\n"
          "immediately = \"off\"\n"
          "[inject-error \"second\"]\n"
          "event = \"none\"");
    assert_int_equal(config.transitions_count, 1);
    const struct blkdebug_set_state_options *transition = &config.transitions[0];
    assert_int_equal(transition->event, BLKDEBUG_EVENT_WRITE_AIO);
    assert_true(transition->has_state && transition->state == 1 && transition->new_state == 2);

    assert_int_equal(config.injections_count, 2);
    const struct blkdebug_inject_error_options *injection = &config.injections[0];
    assert_int_equal(injection->event, BLKDEBUG_EVENT_L2_UPDATE);
    assert_true(injection->has_state && injection->state == 2);
    assert_true(injection->has_iotype && injection->iotype == BLKDEBUG_IO_TYPE_WRITE_ZEROES);
    assert_true(injection->has_errno && injection->errno_ == ENOSPC);
    assert_true(injection->has_sector && injection->sector == 16);
    assert_true(injection->has_once && injection->once && injection->has_immediately && !injection->immediately);

    injection = &config.injections[1];
    assert_int_equal(injection->event, BLKDEBUG_EVENT_NONE);
    assert_false(injection->has_state || injection->has_iotype || injection->has_errno || injection->has_sector);
    assert_int_equal(injection->errno_, EIO);
    assert_int_equal(injection->sector, -1);
    blkdebug_config_fini(&config);
}

static void nothing_is_no_rule(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "\n\n", "# [\n", "   \t" };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        parse(texts[i]);
        assert_int_equal(config.injections_count + config.transitions_count, 0);
        blkdebug_config_fini(&config);
    }
}

static void mistakes_are_told_with_their_line(void **state)
{
    (void)state;
    parse_fails("event = \"none\"\n", "line 1: event: no group defined");
    parse_fails("[other]\n", "line 1: There is no option group 'other'");
    parse_fails("\n[inject-error\n", "line 2: '[' begins no group");
    parse_fails("[]\n", "line 1: '[' begins no group");
    parse_fails("[inject-error] x\n", "line 1: '[' begins no group");
    parse_fails("[inject-error \"a]\n", "line 1: '[' begins no group");
    parse_fails("[inject-error]\nevent none\n", "line 2: parse error: neither a group nor NAME = \"VALUE\"");
    parse_fails("[inject-error]\nevent = \"none\n", "line 2: parse error: neither a group nor NAME = \"VALUE\"");
    parse_fails("[inject-error]\nevent = none\n", "line 2: parse error: neither a group nor NAME = \"VALUE\"");
    parse_fails("[inject-error]\n= \"none\"\n", "line 2: parse error: neither a group nor NAME = \"VALUE\"");
    parse_fails("[inject-error]\nevent = \"x\"\n", "line 2: event: Invalid event name \"x\"");
    parse_fails("[inject-error]\nerrno = \"x\"\n", "line 2: errno: 'x' is not a number");
    parse_fails("[inject-error]\nerrno = \"\"\n", "line 2: errno: '' is not a number");
    parse_fails("[inject-error]\nerrno = \"-1\"\n", "line 2: errno: -1 is not between 0 and 4095");
    parse_fails("[inject-error]\nsector = \"99999999999999999999\"\n",
                "line 2: sector: '99999999999999999999' is not a number");
    parse_fails("[inject-error]\nonce = \"maybe\"\n", "line 2: once: 'maybe' is not 'on' or 'off'");
    parse_fails("[inject-error]\niotype = \"x\"\n", "line 2: iotype: 'x' is not a kind of request");
    parse_fails("[inject-error]\nnew_state = \"1\"\n", "line 2: new_state: Invalid parameter 'new_state'");
    parse_fails("[set-state]\nerrno = \"1\"\n", "line 2: errno: Invalid parameter 'errno'");
    parse_fails("[inject-error]\n\n[set-state]\n", "line 3: Missing event name for rule");
    parse_fails("[inject-error]\n", "line 1: Missing event name for rule");
    parse_fails("[set-state]\nevent = \"none\"\n", "line 2: the rule lacks 'new_state'");
}

static void its_size_is_limited(void **state)
{
    (void)state;
    static char text[BLKDEBUG_CONFIG_BYTES_MAX + 1];
    memset(text, ' ', sizeof(text));
    struct error *err = blkdebug_config_parse(text, sizeof(text), &config);
    assert_string_equal(error_message(err), "more than 1048576 bytes");
    error_free(err);
    err = blkdebug_config_parse(text, 2000, &config);
    assert_string_equal(error_message(err), "line 1: the line is longer than 1024 bytes");
    error_free(err);
    err = blkdebug_config_parse("a\0b", 3, &config);
    assert_string_equal(error_message(err), "line 1: a zero byte is no text");
    error_free(err);

    static const char rule[] = "[inject-error]\nevent=\"none\"\n";
    size_t bytes = 0;
    for (unsigned i = 0; i <= BLKDEBUG_CONFIG_RULES_MAX; i++, bytes += strlen(rule))
        memcpy(text + bytes, rule, strlen(rule));
    err = blkdebug_config_parse(text, bytes, &config);
    assert_string_equal(error_message(err), "line 8193: more than 4096 rules");
    error_free(err);
    blkdebug_config_fini(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_of_both_kinds),
        cmocka_unit_test(nothing_is_no_rule),
        cmocka_unit_test(mistakes_are_told_with_their_line),
        cmocka_unit_test(its_size_is_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
