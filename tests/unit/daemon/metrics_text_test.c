#include "daemon/metrics_text.h"

#include "schema/cairn_types.h"
#include "schema/codec/text.h"
#include "tests/unit/base/unit.h"

#include <stdlib.h>
#include <string.h>

static char *text_of(const struct daemon_statistics *statistics)
{
    struct text text = { 0 };
    metrics_text_append(&text, statistics, "1 \"x\"");
    text_append(&text, "", 1);
    return text.data;
}

static const struct process_statistics process = { .uptime_ns = 1500000000 };

static bool has_line(const char *text, const char *line)
{
    size_t length = strlen(line);
    for (const char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, line, length) == 0 && at[length] == '\n')
            return true;
    return false;
}

static void names_are_escaped(void **state)
{
    (void)state;
    const struct io_statistics io = { 0 };
    const struct node_statistics nodes[] = {
        { .node_name = "a\"b\\c\nd", .driver = "raw", .io = &io, .in_flight = 7 }
    };
    const struct daemon_statistics statistics = { .process = &process, .nodes = nodes, .nodes_count = 1 };
    char *text = text_of(&statistics);
    assert_true(has_line(text, "cairn_node_in_flight{node=\"a\\\"b\\\\c\\nd\",driver=\"raw\"} 7"));
    assert_true(has_line(text, "cairn_build_info{version=\"1 \\\"x\\\"\"} 1"));
    assert_true(has_line(text, "cairn_uptime_seconds 1.5"));
    free(text);
}

static void every_bin_is_in_a_bucket(void **state)
{
    (void)state;
    /* 5 below 1024 ns, 3 from there on, 2 that took longer than any bound of a bucket. */
    const uint64_t bounds[] = { 0, 128, 1024, 1536, 2048, UINT64_C(1) << 36 };
    const uint64_t bins[] = { 4, 1, 3, 0, 0, 2 };
    const struct io_counters reads = {
        .operations = 10, .total_time_ns = UINT64_C(86400000002500000), .latency = bins, .latency_count = 6
    };
    const struct io_statistics io = { .read = &reads };
    const struct export_statistics exports[] = { { .id = "e", .node_name = "n", .io = &io } };
    const struct daemon_statistics statistics = {
        .process = &process,
        .exports = exports,
        .exports_count = 1,
        .latency_bounds_ns = bounds,
        .latency_bounds_ns_count = 6,
    };
    char *text = text_of(&statistics);
#define BUCKET(le, count)                                                                                              \
    "cairn_export_latency_seconds_bucket{export=\"e\",node=\"n\",operation=\"read\",le=\"" le "\"} " count
    assert_true(has_line(text, BUCKET("1.024e-06", "5")));
    assert_true(has_line(text, BUCKET("2.048e-06", "8")));
    assert_true(has_line(text, BUCKET("17.17986918", "8")));
    assert_true(has_line(text, BUCKET("+Inf", "10")));
    assert_true(
        has_line(text, "cairn_export_latency_seconds_sum{export=\"e\",node=\"n\",operation=\"read\"} 86400000.0025"));
    assert_true(has_line(text, "cairn_export_read_operations_total{export=\"e\",node=\"n\"} 10"));
    free(text);
}

static void it_has_an_end(void **state)
{
    (void)state;
    const struct daemon_statistics statistics = { .process = &process };
    char *text = text_of(&statistics);
    assert_string_equal(text + strlen(text) - 6, "# EOF\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_escaped),
        cmocka_unit_test(every_bin_is_in_a_bucket),
        cmocka_unit_test(it_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
