#include "clients/cli/top_sample.h"

#include "blockcore/base/memory.h"
#include "clients/cli/json_get.h"

#include <stdlib.h>
#include <string.h>

#define BINS_MAX 256
#define NS_PER_SECOND 1e9

void top_samples_add(struct top_samples *samples, json_t *answer)
{
    json_decref(samples->before);
    samples->before = samples->now;
    samples->now = answer;
}

void top_samples_fini(struct top_samples *samples)
{
    json_decref(samples->before);
    json_decref(samples->now);
}

double top_seconds(const struct top_samples *samples)
{
    uint64_t begin = get_number(samples->before, "time-ns"), end = get_number(samples->now, "time-ns");
    return samples->before && end > begin ? (double)(end - begin) / NS_PER_SECOND : 0;
}

/* Of a counter that only grows. What is smaller than before has begun anew, and has all of it from now. */
static uint64_t growth(const json_t *now, const json_t *before, const char *member)
{
    uint64_t last = get_number(before, member), this = get_number(now, member);
    return this >= last ? this - last : this;
}

/* Percentiles ----------------------------------------------------------------------------------------------------- */

struct bins {
    uint64_t counts[BINS_MAX];
    uint64_t total;
};

static uint64_t element(const json_t *array, size_t i)
{
    return (uint64_t)json_integer_value(json_array_get(array, i));
}

static void add_bins(struct bins *bins, const json_t *now, const json_t *before)
{
    const json_t *latency = json_object_get(now, "latency"), *last = json_object_get(before, "latency");
    for (size_t i = 0; i < json_array_size(latency) && i < BINS_MAX; i++) {
        uint64_t count = element(latency, i), less = element(last, i);
        bins->counts[i] += count >= less ? count - less : count;
        bins->total += count >= less ? count - less : count;
    }
}

/* The time within which the part @share of all ended; inside a bin they are taken to be spread evenly. */
static double percentile(const struct bins *bins, const json_t *bounds, double share)
{
    double left = share * (double)bins->total;
    size_t count = json_array_size(bounds);
    if (bins->total == 0 || count == 0)
        return -1;
    for (size_t i = 0; i + 1 < count && i + 1 < BINS_MAX; i++) {
        double begin = (double)element(bounds, i), end = (double)element(bounds, i + 1);
        double here = (double)bins->counts[i];
        if (left <= here && here > 0)
            return begin + (end - begin) * left / here;
        left -= here;
    }
    return (double)element(bounds, count - 1);
}

/* Rows ------------------------------------------------------------------------------------------------------------ */

/* Of requests of one kind: *@number of operations and *@bytes, in a second. */
static void fill_kind(const json_t *now, const json_t *before, const char *kind, double seconds, double *number,
                      double *bytes)
{
    const json_t *counters = json_object_get(json_object_get(now, "io"), kind);
    const json_t *last = json_object_get(json_object_get(before, "io"), kind);
    *number += (double)growth(counters, last, "operations") / seconds;
    *bytes += (double)growth(counters, last, "bytes") / seconds;
}

static void fill_io(struct top_row *row, const json_t *before, const json_t *bounds, double seconds)
{
    struct bins bins = { .total = 0 };
    double unused = 0;
    const json_t *io = json_object_get(row->json, "io"), *last = json_object_get(before, "io");
    fill_kind(row->json, before, "read", seconds, &row->reads, &row->read_bytes);
    fill_kind(row->json, before, "write", seconds, &row->writes, &row->write_bytes);
    fill_kind(row->json, before, "flush", seconds, &row->others, &unused);
    fill_kind(row->json, before, "discard", seconds, &row->others, &unused);
    add_bins(&bins, json_object_get(io, "read"), json_object_get(last, "read"));
    add_bins(&bins, json_object_get(io, "write"), json_object_get(last, "write"));
    row->p50_ns = percentile(&bins, bounds, 0.5);
    row->p99_ns = percentile(&bins, bounds, 0.99);
}

static void fill_command(struct top_row *row, const json_t *before, const json_t *bounds, double seconds)
{
    struct bins bins = { .total = 0 };
    row->reads = (double)growth(row->json, before, "calls") / seconds;
    row->writes = (double)growth(row->json, before, "failed") / seconds;
    add_bins(&bins, row->json, before);
    row->p50_ns = percentile(&bins, bounds, 0.5);
    row->p99_ns = percentile(&bins, bounds, 0.99);
}

struct list_kind {
    const char *list;
    const char *name;
    const char *detail;
    void (*fill)(struct top_row *row, const json_t *before, const json_t *bounds, double seconds);
};

static const struct list_kind list_kinds[] = {
    { "nodes", "node-name", "driver", fill_io },
    { "exports", "id", "node-name", fill_io },
    { "commands", "command", "", fill_command },
};

static const struct list_kind *find_kind(const char *list)
{
    const struct list_kind *kind = list_kinds;
    while (strcmp(kind->list, list) != 0)
        kind++;
    return kind;
}

static json_t *by_name(const json_t *list, const char *name)
{
    json_t *index = json_object();
    size_t i;
    json_t *item;

    json_array_foreach(list, i, item) json_object_set(index, get_text(item, name), item);
    return index;
}

/* Sorting --------------------------------------------------------------------------------------------------------- */

struct sorting {
    enum top_order order;
    bool reverse;
};

static const char *const order_names[TOP_ORDERS] = {
    [TOP_BY_REQUESTS] = "iops", [TOP_BY_BYTES] = "bandwidth", [TOP_BY_LATENCY] = "latency",
    [TOP_BY_QUEUE] = "queue",   [TOP_BY_NAME] = "name",
};

const char *top_order_name(enum top_order order)
{
    return order_names[order];
}

static double key_of(const struct top_row *row, enum top_order order)
{
    switch (order) {
    case TOP_BY_REQUESTS:
        return top_row_requests(row);
    case TOP_BY_BYTES:
        return row->read_bytes + row->write_bytes;
    case TOP_BY_LATENCY:
        return row->p99_ns;
    case TOP_BY_QUEUE:
        return (double)row->queue;
    default:
        return 0;
    }
}

static int compare_rows(const void *a, const void *b, void *arg)
{
    const struct sorting *sorting = arg;
    const struct top_row *left = a, *right = b;
    double difference = key_of(right, sorting->order) - key_of(left, sorting->order);
    int result = difference < 0 ? -1 : difference > 0 ? 1 : strcmp(left->name, right->name);
    return sorting->reverse ? -result : result;
}

struct top_row *top_rows(const struct top_samples *samples, const char *list, enum top_order order, bool reverse,
                         size_t *count)
{
    const struct list_kind *kind = find_kind(list);
    const json_t *items = json_object_get(samples->now, list);
    const json_t *bounds = json_object_get(samples->now, "latency-bounds-ns");
    json_t *before = by_name(json_object_get(samples->before, list), kind->name);
    double seconds = top_seconds(samples);
    struct sorting sorting = { order, reverse };

    *count = json_array_size(items);
    struct top_row *rows = xcalloc(*count + 1, sizeof(*rows));
    for (size_t i = 0; i < *count; i++) {
        struct top_row *row = &rows[i];
        *row = (struct top_row){ .json = json_array_get(items, i), .p50_ns = -1, .p99_ns = -1 };
        row->name = get_text(row->json, kind->name);
        row->detail = get_text(row->json, kind->detail);
        row->queue = get_number(row->json, "in-flight") + get_number(row->json, "held");
        if (seconds > 0)
            kind->fill(row, json_object_get(before, row->name), bounds, seconds);
    }
    json_decref(before);
    qsort_r(rows, *count, sizeof(*rows), compare_rows, &sorting);
    return rows;
}

/* The client of that number in an earlier answer; NULL: it has come since. */
static const json_t *same_client(const json_t *clients, const json_t *client)
{
    size_t i;
    const json_t *candidate;

    json_array_foreach(clients, i,
                       candidate) if (get_number(candidate, "number") == get_number(client, "number")) return candidate;
    return NULL;
}

static const json_t *same_export(const json_t *exports, const char *id)
{
    size_t i;
    const json_t *export;

    json_array_foreach(exports, i, export) if (strcmp(get_text(export, "id"), id) == 0) return export;
    return NULL;
}

struct top_row *top_clients(const struct top_samples *samples, const struct top_row *export, size_t *count)
{
    const json_t *clients = json_object_get(export->json, "clients");
    const json_t *earlier = same_export(json_object_get(samples->before, "exports"), export->name);
    double seconds = top_seconds(samples);

    *count = json_array_size(clients);
    struct top_row *rows = xcalloc(*count + 1, sizeof(*rows));
    for (size_t i = 0; i < *count; i++) {
        const json_t *client = json_array_get(clients, i);
        const json_t *before = same_client(json_object_get(earlier, "clients"), client);
        rows[i] = (struct top_row){ .json = client, .name = get_text(client, "address"), .p50_ns = -1, .p99_ns = -1 };
        rows[i].queue = get_number(client, "in-flight");
        if (seconds <= 0)
            continue;
        rows[i].reads = (double)growth(client, before, "requests") / seconds;
        rows[i].read_bytes = (double)growth(client, before, "bytes-read") / seconds;
        rows[i].write_bytes = (double)growth(client, before, "bytes-written") / seconds;
    }
    return rows;
}

double top_cpu(const struct top_samples *samples, const json_t *now, const json_t *before)
{
    double seconds = top_seconds(samples);
    return seconds > 0 ? (double)growth(now, before, "cpu-time-ns") / NS_PER_SECOND / seconds : 0;
}
