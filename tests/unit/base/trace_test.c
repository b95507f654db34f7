#include "blockcore/base/trace.h"

#include "tests/unit/base/unit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct trace_record records[2 * TRACE_RECORDS];

static void format_is(const struct trace_record *record, const char *expected)
{
    char line[TRACE_LINE_BYTES];
    assert_int_equal(trace_format(record, line), strlen(expected));
    assert_string_equal(line, expected);
}

static void records_read_as_their_formats_say(void **state)
{
    (void)state;
    struct trace_cursor cursor;
    uint64_t lost = 0;
    trace_cursor_to_end(&cursor);
    TRACE(drain_begin, "disk0");
    TRACE(job_status, "job0", TRACE_CONSTANT("running"), TRACE_CONSTANT("paused"));
    TRACE(request_failed, "disk0", TRACE_CONSTANT("read"), -5);
    TRACE(nbd_connected, "a\nname", 7);
    TRACE(node_write, "disk0", 0, 512, 0x7f);
    TRACE(change_commit, NULL, 3, UINT64_MAX);
    assert_int_equal(trace_read(&cursor, records, ARRAY_SIZE(records), &lost), 5);
    assert_int_equal(lost, 0);
    format_is(&records[0], "drain_begin node disk0");
    format_is(&records[1], "job_status job job0 from running to paused");
    format_is(&records[2], "request_failed node disk0 kind read ret -5");
    format_is(&records[3], "nbd_connected client a?name socket 7");
    format_is(&records[4], "change_commit edges 3 nodes 18446744073709551615");
    assert_int_equal(trace_read(&cursor, records, ARRAY_SIZE(records), &lost), 0);
}

static void long_texts_are_cut_off(void **state)
{
    (void)state;
    TRACE(drain_begin, "abcdefghijklmnopqrstuvwxyz");
    assert_int_equal(trace_last(records, 1), 1);
    format_is(&records[0], "drain_begin node abcdefghijklmnopqrstuvw");
}

static void points_on_demand_are_recorded_while_they_are_shown(void **state)
{
    (void)state;
    struct trace_cursor cursor;
    uint64_t lost = 0;
    trace_cursor_to_end(&cursor);
    TRACE(node_read, "disk0", 0, 512);
    assert_false(trace_is_any_shown());
    trace_show(TRACE_node_read, true);
    assert_true(trace_is_any_shown());
    TRACE(node_read, "disk0", 4096, 512);
    TRACE(drain_begin, "disk0");
    trace_show(TRACE_node_read, false);
    TRACE(node_read, "disk0", 8192, 512);
    assert_int_equal(trace_read(&cursor, records, ARRAY_SIZE(records), &lost), 2);
    format_is(&records[0], "node_read node disk0 offset 4096 bytes 512");
    assert_int_equal(records[0].mode, TRACE_SHOWN);
    assert_int_equal(records[1].mode, TRACE_ALWAYS);
}

static void arguments_are_evaluated_only_when_they_are_wanted(void **state)
{
    (void)state;
    int evaluated = 0;
    TRACE(node_read, "disk0", evaluated++);
    assert_int_equal(evaluated, 0);
    TRACE(drain_end, "disk0", evaluated++);
    assert_int_equal(evaluated, 1);
}

static void the_oldest_are_overwritten_and_counted(void **state)
{
    (void)state;
    struct trace_cursor cursor;
    uint64_t lost = 0;
    trace_cursor_to_end(&cursor);
    for (unsigned i = 0; i < TRACE_RECORDS + 10; i++)
        TRACE(drain_end, "disk0", i);
    assert_int_equal(trace_read(&cursor, records, 100, &lost), 100);
    assert_int_equal(lost, 10);
    assert_int_equal(records[0].numbers[0], 10);
    assert_int_equal(trace_read(&cursor, records, ARRAY_SIZE(records), &lost), TRACE_RECORDS - 100);
    assert_int_equal(records[0].numbers[0], 110);
    assert_int_equal(trace_last(records, 3), 3);
    assert_int_equal(records[0].numbers[0], TRACE_RECORDS + 7);
    assert_int_equal(records[2].numbers[0], TRACE_RECORDS + 9);
}

static void *say_one(void *arg)
{
    TRACE(drain_begin, arg);
    return NULL;
}

static void say_in_a_thread(char *text)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, say_one, text), 0);
    pthread_join(thread, NULL);
}

static void the_last_of_all_threads_come_in_their_order(void **state)
{
    (void)state;
    char first[] = "first";
    char third[] = "third";
    say_in_a_thread(first);
    TRACE(drain_begin, "second");
    say_in_a_thread(third); /* in the ring of the first, which has ended */
    TRACE(drain_begin, "fourth");
    assert_int_equal(trace_last(records, 4), 4);
    assert_string_equal(records[0].text, "first");
    assert_string_equal(records[1].text, "second");
    assert_string_equal(records[2].text, "third");
    assert_string_equal(records[3].text, "fourth");
    assert_int_not_equal(records[0].thread, records[1].thread);
}

static _Atomic bool stop;

static void *write_on_and_on(void *arg)
{
    (void)arg;
    for (uint64_t i = 0; !atomic_load(&stop); i++) {
        char text[2] = { (char)('a' + i % 26), 0 };
        TRACE(job_status, text, i, i * 3);
    }
    return NULL;
}

/* With more threads than one, and a reader that is slower than they are. */
static void no_record_is_read_half_written(void **state)
{
    (void)state;
    struct trace_cursor cursor;
    uint64_t lost = 0;
    pthread_t threads[2];
    size_t total = 0;
    trace_cursor_to_end(&cursor);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_on_and_on, NULL), 0);
    while (total < 100000) {
        size_t count = trace_read(&cursor, records, ARRAY_SIZE(records), &lost);
        for (size_t i = 0; i < count; i++) {
            uint64_t number = records[i].numbers[0];
            assert_int_equal(records[i].point, TRACE_job_status);
            assert_int_equal(records[i].numbers[1], number * 3);
            assert_int_equal(records[i].text[0], (char)('a' + number % 26));
        }
        total += count;
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
}

static pthread_barrier_t all_have_spoken;

static void *say_one_and_wait(void *arg)
{
    TRACE(drain_begin, arg);
    pthread_barrier_wait(&all_have_spoken);
    return NULL;
}

static void threads_beyond_the_limit_are_counted(void **state)
{
    (void)state;
    pthread_t threads[TRACE_RINGS_MAX];
    char text[] = "many";
    uint64_t before = trace_lost();
    pthread_barrier_init(&all_have_spoken, NULL, ARRAY_SIZE(threads) + 1);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, say_one_and_wait, text), 0);
    pthread_barrier_wait(&all_have_spoken);
    assert_int_equal(trace_lost() - before, 1); /* this thread has a ring too */
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&all_have_spoken);
    say_in_a_thread(text);
    assert_int_equal(trace_lost() - before, 1);
}

static void patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool matches;
    } cases[] = {
        { "drain_begin", "drain_begin", true },
        { "drain", "drain_begin", false },
        { "drain_*", "drain_begin", true },
        { "*", "", true },
        { "*_begin", "drain_begin", true },
        { "*a*i*", "drain_begin", true },
        { "d*n", "drain_begin", true },
        { "d*x", "drain_begin", false },
        { "?rain*", "drain", true },
        { "drain?", "drain", false },
        { "*ab", "aab", true },
        { "", "x", false },
        { "", "", true },
        { "a**b", "ab", true },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(trace_matches(cases[i].pattern, cases[i].name), cases[i].matches);
    assert_int_equal(trace_point_find("drain_begin"), TRACE_drain_begin);
    assert_int_equal(trace_point_find("drain"), -1);
    assert_string_equal(trace_point_name(TRACE_job_status), "job_status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_read_as_their_formats_say),
        cmocka_unit_test(long_texts_are_cut_off),
        cmocka_unit_test(points_on_demand_are_recorded_while_they_are_shown),
        cmocka_unit_test(arguments_are_evaluated_only_when_they_are_wanted),
        cmocka_unit_test(the_oldest_are_overwritten_and_counted),
        cmocka_unit_test(the_last_of_all_threads_come_in_their_order),
        cmocka_unit_test(threads_beyond_the_limit_are_counted),
        cmocka_unit_test(patterns),
        cmocka_unit_test(no_record_is_read_half_written), /* last: the constants it records are none */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
