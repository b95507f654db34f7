/* top_sample - two answers of query-statistics, and what happened between them
 *
 * Rates and percentiles of the time between the two, in rows. Names are borrowed from the later answer. */
#ifndef CAIRN_CLI_TOP_SAMPLE_H
#define CAIRN_CLI_TOP_SAMPLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct top_samples {
    json_t *before; /* NULL: there is only one yet, and nothing has happened */
    json_t *now;
};

/* Takes over @answer, and drops the oldest one. */
void top_samples_add(struct top_samples *samples, json_t *answer);
void top_samples_fini(struct top_samples *samples);

/* Between the two, by the daemon's clock; 0 while there is only one. */
double top_seconds(const struct top_samples *samples);

/* A node, an export, a client of one, or a command; per second. */
struct top_row {
    const char *name;
    const char *detail; /* driver of a node, node of an export */
    const json_t *json; /* as in the answer */
    uint64_t queue;
    double reads;  /* of a command: calls; of a client: requests of any kind */
    double writes; /* and those that failed */
    double others; /* flushes and discards */
    double read_bytes;
    double write_bytes;
    double p50_ns; /* of reads and writes; negative: there were none, or they are not timed */
    double p99_ns;
};

static inline double top_row_requests(const struct top_row *row)
{
    return row->reads + row->writes + row->others;
}

enum top_order {
    TOP_BY_REQUESTS,
    TOP_BY_BYTES,
    TOP_BY_LATENCY,
    TOP_BY_QUEUE,
    TOP_BY_NAME,
    TOP_ORDERS,
};

/* As on the command line: "iops", "bandwidth", "latency", "queue", "name". */
const char *top_order_name(enum top_order order);

/* The rows of "nodes", "exports" or "commands", sorted, largest first (names: alphabetically); the caller frees them.
 */
struct top_row *top_rows(const struct top_samples *samples, const char *list, enum top_order order, bool reverse,
                         size_t *count);

/* The clients of an export, a row of top_rows(), in the order in which they came; the caller frees them. */
struct top_row *top_clients(const struct top_samples *samples, const struct top_row *export, size_t *count);

/* How much of a second of a processor was used in a second, of "process" or an element of its "loops". */
double top_cpu(const struct top_samples *samples, const json_t *now, const json_t *before);

#endif
