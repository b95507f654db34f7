#include "clients/cli/job_rate.h"
#include "clients/cli/job_table.h"
#include "clients/cli/top_sample.h"

#include "tests/unit/base/unit.h"

#include <stdlib.h>

/* Bins begin at 0, 100, 200, 300 ns. */
static json_t *answer(double seconds, json_t *nodes)
{
    return json_pack("{s:I, s:[i,i,i,i], s:o}", "time-ns", (json_int_t)(seconds * 1e9), "latency-bounds-ns", 0, 100,
                     200, 300, "nodes", nodes);
}

static json_t *node(const char *name, int reads, const char *bins)
{
    return json_pack("{s:s, s:s, s:i, s:{s:{s:i, s:i, s:o}}}", "node-name", name, "driver", "raw", "in-flight", 2, "io",
                     "read", "operations", reads, "bytes", reads * 10, "latency", json_loads(bins, 0, NULL));
}

static bool near(double a, double b)
{
    return a - b < 0.001 && b - a < 0.001;
}

static void rates_are_of_the_time_between(void **state)
{
    (void)state;
    struct top_samples samples = { 0 };
    size_t count;
    top_samples_add(&samples, answer(10, json_pack("[o]", node("a", 1000, "[500, 500]"))));
    struct top_row *rows = top_rows(&samples, "nodes", TOP_BY_NAME, false, &count);
    assert_int_equal(count, 1);
    assert_true(near(rows[0].reads, 0) && rows[0].p50_ns < 0);
    free(rows);

    top_samples_add(&samples, answer(12, json_pack("[o]", node("a", 1100, "[500, 550, 50]"))));
    rows = top_rows(&samples, "nodes", TOP_BY_NAME, false, &count);
    assert_true(near(rows[0].reads, 50) && near(rows[0].read_bytes, 500) && near(rows[0].writes, 0));
    assert_true(near(rows[0].p50_ns, 200) && near(rows[0].p99_ns, 298));
    assert_int_equal(rows[0].queue, 2);
    free(rows);
    top_samples_fini(&samples);
}

static void what_began_anew_counts_from_zero(void **state)
{
    (void)state;
    struct top_samples samples = { 0 };
    size_t count;
    top_samples_add(&samples, answer(1, json_pack("[o]", node("a", 1000, "[1000]"))));
    top_samples_add(&samples, answer(2, json_pack("[o,o]", node("a", 10, "[0, 0, 0, 10]"), node("b", 7, "[7]"))));
    struct top_row *rows = top_rows(&samples, "nodes", TOP_BY_REQUESTS, false, &count);
    assert_int_equal(count, 2);
    assert_string_equal(rows[0].name, "a");
    assert_true(near(rows[0].reads, 10) && near(rows[0].p99_ns, 300)); /* the last bin has no end */
    assert_true(near(rows[1].reads, 7));
    free(rows);
    rows = top_rows(&samples, "nodes", TOP_BY_REQUESTS, true, &count);
    assert_string_equal(rows[0].name, "b");
    free(rows);
    top_samples_fini(&samples);
}

static void an_answer_of_something_else_is_an_empty_one(void **state)
{
    (void)state;
    struct top_samples samples = { 0 };
    size_t count;
    top_samples_add(&samples, json_pack("{s:[{s:s}]}", "nodes", "node-name", "a"));
    top_samples_add(&samples, json_pack("{s:[{s:i}, i], s:s, s:i}", "nodes", "node-name", 5, 7, "latency-bounds-ns",
                                        "x", "time-ns", 5));
    free(top_rows(&samples, "nodes", TOP_BY_LATENCY, false, &count));
    assert_int_equal(count, 2);
    free(top_rows(&samples, "exports", TOP_BY_NAME, false, &count));
    assert_int_equal(count, 0);
    top_samples_fini(&samples);
}

static json_t *export_of(json_t *clients)
{
    return json_pack("{s:I, s:[{s:s, s:o}]}", "time-ns", (json_int_t)2e9, "exports", "id", "e", "clients", clients);
}

static void clients_are_known_by_their_numbers(void **state)
{
    (void)state;
    struct top_samples samples = { 0 };
    size_t count;
    json_t *before = json_pack("[{s:i,s:s,s:i}, {s:i,s:s,s:i}]", "number", 1, "address", "x", "requests", 100, "number",
                               2, "address", "x", "requests", 1000);
    json_t *now = json_pack("[{s:i,s:s,s:i}, {s:i,s:s,s:i}]", "number", 2, "address", "x", "requests", 1010, "number",
                            3, "address", "x", "requests", 7);
    top_samples_add(&samples, export_of(before));
    json_object_set_new(samples.now, "time-ns", json_integer(1000000000));
    top_samples_add(&samples, export_of(now));
    struct top_row *exports = top_rows(&samples, "exports", TOP_BY_NAME, false, &count);
    struct top_row *clients = top_clients(&samples, &exports[0], &count);
    assert_int_equal(count, 2);
    assert_true(near(clients[0].reads, 10) && near(clients[1].reads, 7));
    free(clients);
    free(exports);
    top_samples_fini(&samples);
}

static json_t *jobs(int progress)
{
    return json_pack("[{s:s, s:i, s:i}]", "id", "j", "current-progress", progress, "total-progress", 1000);
}

static void the_rate_of_a_job_settles(void **state)
{
    (void)state;
    struct job_rates rates = { 0 };
    json_t *seen = jobs(0);
    job_rates_add(&rates, seen, 0);
    assert_true(job_rate(&rates, "j") < 0 && job_remaining(&rates, json_array_get(seen, 0)) < 0);
    for (int second = 1; second <= 5; second++) {
        json_decref(seen);
        seen = jobs(second * 100);
        job_rates_add(&rates, seen, second);
        assert_true(near(job_rate(&rates, "j"), 100));
    }
    assert_true(near(job_remaining(&rates, json_array_get(seen, 0)), 5));
    job_rates_add(&rates, seen, 6); /* it stands still: slower, but not stopped */
    assert_true(job_rate(&rates, "j") < 100 && job_rate(&rates, "j") > 50);
    json_decref(seen);
    seen = jobs(3); /* another one of the same name */
    job_rates_add(&rates, seen, 7);
    assert_true(job_rate(&rates, "j") < 0);
    json_decref(seen);
    job_rates_fini(&rates);
}

static void durations_are_for_people(void **state)
{
    (void)state;
    char text[JOB_DURATION_MAX];
    assert_string_equal(job_duration(0.4, text), "0:00");
    assert_string_equal(job_duration(61, text), "1:01");
    assert_string_equal(job_duration(3600 * 27 + 62, text), "27:01:02");
    assert_string_equal(job_duration(-1, text), "-");
    assert_string_equal(job_duration(1e18, text), "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_of_the_time_between),
        cmocka_unit_test(what_began_anew_counts_from_zero),
        cmocka_unit_test(clients_are_known_by_their_numbers),
        cmocka_unit_test(an_answer_of_something_else_is_an_empty_one),
        cmocka_unit_test(the_rate_of_a_job_settles),
        cmocka_unit_test(durations_are_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
