/* Where one message ends and the next begins. */
#include "tests/unit/base/unit.h"

#include "clients/c/frame.h"

static void put(struct frame *frame, const char *text, size_t bytes)
{
    size_t room;
    char *into = frame_reserve(frame, 1 << 20, &room);

    assert_non_null(into);
    assert_true(room >= bytes);
    memcpy(into, text, bytes);
    frame_received(frame, bytes);
}

static size_t complete(struct frame *frame)
{
    size_t bytes;
    struct error *err = frame_complete(frame, &bytes);

    assert_null(err);
    return bytes;
}

static void messages_are_cut_where_their_brackets_close(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": [1, {\"b\": 2}]}\r\n{}  \n\n{\"c\": \"}\"}";
    struct frame frame;

    frame_init(&frame);
    put(&frame, text, strlen(text));
    assert_int_equal(complete(&frame), 20);
    frame_take(&frame, 20);
    assert_int_equal(complete(&frame), 4);
    frame_take(&frame, 4);
    assert_int_equal(complete(&frame), strlen("  \n\n{\"c\": \"}\"}"));
    frame_fini(&frame);
}

static void strings_hide_brackets_and_escaped_quotes(void **state)
{
    (void)state;
    static const char text[] = "{\"a\\\"}\": \"{{{\\\\\"}";
    struct frame frame;

    frame_init(&frame);
    put(&frame, text, strlen(text));
    assert_int_equal(complete(&frame), strlen(text));
    frame_fini(&frame);
}

static void the_answer_does_not_depend_on_how_bytes_come(void **state)
{
    (void)state;
    static const char text[] = " {\"a\": \"\\\\\", \"b\": [\"]\", {}]}";
    struct frame frame;

    frame_init(&frame);
    for (size_t i = 0; i < strlen(text); i++) {
        assert_int_equal(complete(&frame), 0);
        put(&frame, text + i, 1);
    }
    assert_int_equal(complete(&frame), strlen(text));
    frame_fini(&frame);
}

static void what_is_no_object_is_an_error(void **state)
{
    (void)state;
    static const char *const texts[] = { "SSH-2.0-x", "}", "[1]", "\"text\"", "  5" };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct frame frame;
        size_t bytes;
        frame_init(&frame);
        put(&frame, texts[i], strlen(texts[i]));
        CLEANUP(error_free) struct error *err = frame_complete(&frame, &bytes);
        assert_non_null(err);
        frame_fini(&frame);
    }
}

static void a_message_without_an_end_is_bounded(void **state)
{
    (void)state;
    struct frame frame;
    size_t room;

    frame_init(&frame);
    while (frame_reserve(&frame, 1 << 20, &room)) {
        memset(frame.data + frame.used, '{', room);
        frame_received(&frame, room);
        assert_true(frame.capacity < 4 << 20);
    }
    frame_fini(&frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_cut_where_their_brackets_close),
        cmocka_unit_test(strings_hide_brackets_and_escaped_quotes),
        cmocka_unit_test(the_answer_does_not_depend_on_how_bytes_come),
        cmocka_unit_test(what_is_no_object_is_an_error),
        cmocka_unit_test(a_message_without_an_end_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
