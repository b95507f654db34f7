/* How often events are sent: by a period of a few milliseconds, and by one that never ends. */
#include "tests/unit/runtime/co_test.h"

#include "blockcore/base/memory.h"
#include "rpc/event_limit.h"
#include "schema/codec/encode.h"

#include <stddef.h>
#include <string.h>

#define SHORT_MS 20
#define LONG_MS (3600 * 1000)

struct thing {
    const char *id;
    const char *text;
};

static const struct member_descriptor thing_members[] = {
    { .name = "id",
      .type = &codec_str,
      .name_length = 2,
      .offset = offsetof(struct thing, id),
      .has_offset = DESCRIPTOR_NO_OFFSET,
      .count_offset = DESCRIPTOR_NO_OFFSET },
    { .name = "text",
      .type = &codec_str,
      .name_length = 4,
      .offset = offsetof(struct thing, text),
      .has_offset = DESCRIPTOR_NO_OFFSET,
      .count_offset = DESCRIPTOR_NO_OFFSET },
};

static const struct type_descriptor thing_descriptor = {
    .name = "Thing",
    .kind = VALUE_OBJECT,
    .size = sizeof(struct thing),
    .object = { .members = thing_members, .count = 2 },
};

static const uint16_t by_id[] = { 0 };
static const struct event_descriptor free_event = { .name = "FREE", .data = &thing_descriptor };
static const struct event_descriptor short_event = {
    .name = "SHORT", .data = &thing_descriptor, .rate_limit_ms = SHORT_MS, .rate_key_count = 1, .rate_keys = by_id
};
static const struct event_descriptor long_event = { .name = "LONG",
                                                    .data = &thing_descriptor,
                                                    .rate_limit_ms = LONG_MS };
static const struct event_descriptor long_by_id = {
    .name = "LONG_BY_ID", .data = &thing_descriptor, .rate_limit_ms = LONG_MS, .rate_key_count = 1, .rate_keys = by_id
};

static struct event_limits limits;
static struct text sent; /* texts, each with a blank behind it */
static struct co_event something_sent;

static void take(void *arg, const struct event_text *text)
{
    (void)arg;
    text_append(&sent, text->forms[false].data, text->forms[false].length);
    text_append(&sent, " ", 1);
    co_event_set(&something_sent);
}

static void begin(void)
{
    sent = (struct text){ 0 };
    co_event_init(&something_sent);
    event_limits_init(&limits, take, NULL);
}

static void finish(void)
{
    event_limits_fini(&limits);
    text_fini(&sent);
}

/* The event happens; "text" stands for all of it. */
static void happens(const struct event_descriptor *event, const char *id, const char *text)
{
    struct thing thing = { .id = id, .text = text };
    struct event_text forms = { 0 };
    struct event_limit *limit = NULL;
    text_append_string(&forms.forms[false], text);
    if (event_limits_judge(&limits, event, &thing, &limit) == EVENT_GOES)
        take(NULL, &forms);
    else
        event_limit_hold(limit, &forms);
    event_text_fini(&forms);
}

static bool has_sent(const char *expected)
{
    return sent.length == strlen(expected) && memcmp(sent.data, expected, sent.length) == 0;
}

static void wait_until_sent(const char *expected)
{
    while (!has_sent(expected)) {
        co_event_init(&something_sent);
        co_event_wait(&something_sent, "an event that is held");
    }
}

CO_TEST(without_a_limit_all_go)
{
    begin();
    happens(&free_event, "a", "1");
    happens(&free_event, "a", "2");
    expect(has_sent("1 2 "));
    expect(limits.running.count == 0);
    finish();
}

CO_TEST(the_first_goes_at_once_and_the_last_when_the_time_is_over)
{
    begin();
    happens(&short_event, "a", "1");
    happens(&short_event, "a", "2");
    happens(&short_event, "a", "3");
    expect(has_sent("1 "));
    wait_until_sent("1 3 ");
    finish();
}

CO_TEST(sending_what_was_held_begins_a_new_time)
{
    begin();
    happens(&short_event, "a", "1");
    happens(&short_event, "a", "2");
    wait_until_sent("1 2 ");
    happens(&short_event, "a", "3");
    expect(has_sent("1 2 "));
    wait_until_sent("1 2 3 ");
    finish();
}

/* The times of b begin after those of a: when b's second one has ended, a's has ended with nothing held. */
CO_TEST(after_a_quiet_time_an_event_goes_at_once)
{
    begin();
    happens(&short_event, "a", "a1");
    happens(&short_event, "b", "b1");
    happens(&short_event, "b", "b2");
    wait_until_sent("a1 b1 b2 ");
    happens(&short_event, "a", "a2");
    expect(has_sent("a1 b1 b2 a2 "));
    finish();
}

CO_TEST(events_that_differ_in_the_members_named_do_not_count_together)
{
    begin();
    happens(&long_by_id, "a", "a1");
    happens(&long_by_id, "b", "b1");
    happens(&long_by_id, "a", "a2");
    happens(&long_event, "a", "1");
    happens(&long_event, "b", "2");
    expect(has_sent("a1 b1 1 "));
    expect(limits.running.count == 3);
    finish();
}

CO_TEST(at_the_end_nothing_is_lost)
{
    begin();
    happens(&long_event, "a", "1");
    happens(&long_event, "a", "2");
    happens(&long_event, "a", "3");
    expect(has_sent("1 "));
    event_limits_fini(&limits);
    expect(has_sent("1 3 "));
    text_fini(&sent);
}

CO_TEST(there_is_a_limit_to_what_is_remembered)
{
    begin();
    for (int i = 0; i <= EVENT_LIMITS_MAX; i++) {
        CLEANUP(free) char *id = xasprintf("%d", i);
        happens(&long_by_id, id, "");
    }
    expect(limits.running.count == EVENT_LIMITS_MAX);
    sent.length = 0;
    happens(&long_by_id, "0", "held");
    happens(&long_by_id, "one more", "goes");
    expect(has_sent("goes "));
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_limit_all_go),
        cmocka_unit_test(the_first_goes_at_once_and_the_last_when_the_time_is_over),
        cmocka_unit_test(sending_what_was_held_begins_a_new_time),
        cmocka_unit_test(after_a_quiet_time_an_event_goes_at_once),
        cmocka_unit_test(events_that_differ_in_the_members_named_do_not_count_together),
        cmocka_unit_test(at_the_end_nothing_is_lost),
        cmocka_unit_test(there_is_a_limit_to_what_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
