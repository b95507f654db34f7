/* query-statistics (schema/io-statistics.json). */
#include "daemon/statistics.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/latency.h"
#include "blockcore/export/export.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/stats.h"
#include "blockcore/jobs/job.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "daemon/daemon.h"
#include "daemon/job.h"
#include "rpc/command_stats.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 64 /* nodes or exports, before others get a turn */
#define NS_PER_SECOND UINT64_C(1000000000)

/* Requests ---------------------------------------------------------------------------------------------------- */

/* Of a node or of a handle. */
typedef void latency_of(const void *what, enum stats_kind kind, uint64_t *bins);

static void latency_of_node(const void *node, enum stats_kind kind, uint64_t *bins)
{
    node_latency(node, kind, bins);
}

static void latency_of_handle(const void *handle, enum stats_kind kind, uint64_t *bins)
{
    handle_latency(handle, kind, bins);
}

/* @bins without the empty ones at the end. */
static const uint64_t *keep_bins(struct arena *arena, const uint64_t *bins, size_t *count)
{
    *count = LATENCY_BINS;
    while (*count > 0 && bins[*count - 1] == 0)
        --*count;
    uint64_t *kept = arena_array(arena, *count, sizeof(*kept));
    if (*count > 0)
        memcpy(kept, bins, *count * sizeof(*kept));
    return kept;
}

static const struct io_counters *counters(struct arena *arena, const struct node_stats *stats, enum stats_kind kind,
                                          latency_of *latency, const void *what)
{
    if (stats->done[kind] + stats->failed[kind] + stats->invalid[kind] == 0)
        return NULL;
    uint64_t bins[LATENCY_BINS] = { 0 };
    struct io_counters *out = arena_alloc(arena, sizeof(*out));
    *out = (struct io_counters){
        .operations = stats->done[kind],
        .bytes = stats->bytes[kind],
        .failed = stats->failed[kind],
        .refused = stats->invalid[kind],
        .total_time_ns = stats->ns[kind],
    };
    latency(what, kind, bins);
    out->latency = keep_bins(arena, bins, &out->latency_count);
    return out;
}

static const struct io_statistics *requests(struct arena *arena, const struct node_stats *stats, latency_of *latency,
                                            const void *what)
{
    struct io_statistics *io = arena_alloc(arena, sizeof(*io));
    *io = (struct io_statistics){
        .read = counters(arena, stats, STATS_READ, latency, what),
        .write = counters(arena, stats, STATS_WRITE, latency, what),
        .flush = counters(arena, stats, STATS_FLUSH, latency, what),
        .discard = counters(arena, stats, STATS_UNMAP, latency, what),
    };
    return io;
}

/* Nodes, exports ---------------------------------------------------------------------------------------------- */

static void describe_node(struct arena *arena, const struct node *node, struct node_statistics *out)
{
    struct node_stats stats;
    node_stats(node, &stats);
    *out = (struct node_statistics){
        .node_name = arena_strdup(arena, node_name(node)),
        .driver = node_driver(node)->name,
        .in_flight = stats.in_flight,
        .io = requests(arena, &stats, latency_of_node, node),
    };
}

static void describe_export(struct arena *arena, const struct export *export, struct export_statistics *out)
{
    const struct handle *handle = export_handle(export);
    struct node_stats stats = { 0 };
    if (handle)
        handle_stats(handle, &stats);
    *out = (struct export_statistics){
        .id = arena_strdup(arena, export_id(export)),
        .type = export_type(export),
        .node_name = arena_strdup(arena, export_node_name(export)),
        .shutting_down = export_is_shutting_down(export),
        .in_flight = handle ? handle_in_flight(handle) : 0,
        .held = handle ? handle_waiting(handle) : 0,
        .io = requests(arena, &stats, latency_of_handle, handle),
    };
    export_describe_clients(export, arena, &out->clients, &out->clients_count);
}

/* Names first: what vanishes while others have their turn is left out. */
struct names {
    const char **items;
    size_t count;
};

static struct names names_of_nodes(struct arena *arena)
{
    struct names names = { 0 };
    size_t count = 0;
    for (struct node *node = node_next(NULL); node; node = node_next(node))
        count++;
    names.items = arena_array(arena, count, sizeof(*names.items));
    for (struct node *node = node_next(NULL); node; node = node_next(node))
        names.items[names.count++] = arena_strdup(arena, node_name(node));
    return names;
}

static struct names names_of_exports(struct arena *arena)
{
    struct names names = { 0 };
    size_t count = 0;
    for (struct export *export = export_next(NULL); export; export = export_next(export))
        count++;
    names.items = arena_array(arena, count, sizeof(*names.items));
    for (struct export *export = export_next(NULL); export; export = export_next(export))
        names.items[names.count++] = arena_strdup(arena, export_id(export));
    return names;
}

static void let_others_run(size_t done)
{
    if (done % AT_ONCE == AT_ONCE - 1)
        co_yield ();
}

static void CO_FN collect_nodes(struct arena *arena, struct daemon_statistics *out)
{
    struct names names = names_of_nodes(arena);
    struct node_statistics *items = arena_array(arena, names.count, sizeof(*items));
    for (size_t i = 0; i < names.count; i++) {
        let_others_run(i);
        const struct node *node = node_find(names.items[i]);
        if (node)
            describe_node(arena, node, &items[out->nodes_count++]);
    }
    out->nodes = items;
}

static void CO_FN collect_exports(struct arena *arena, struct daemon_statistics *out)
{
    struct names names = names_of_exports(arena);
    struct export_statistics *items = arena_array(arena, names.count, sizeof(*items));
    for (size_t i = 0; i < names.count; i++) {
        let_others_run(i);
        const struct export *export = export_find(names.items[i]);
        if (export)
            describe_export(arena, export, &items[out->exports_count++]);
    }
    out->exports = items;
}

/* The rest ---------------------------------------------------------------------------------------------------- */

static void collect_commands(struct arena *arena, struct daemon_statistics *out)
{
    const struct rpc_server *server = daemon_rpc_server();
    const struct command_stats *stats = rpc_server_command_stats(server);
    const struct command_table *table = rpc_server_commands(server);
    struct command_statistics *items = arena_array(arena, table->count, sizeof(*items));
    for (size_t i = 0; i < table->count; i++) {
        const struct command_count *count = command_stats_get(stats, i);
        if (!count)
            continue;
        uint64_t bins[LATENCY_BINS] = { 0 };
        struct command_statistics *item = &items[out->commands_count++];
        *item = (struct command_statistics){
            .command = table->commands[i].name,
            .calls = count->calls,
            .failed = count->failed,
            .total_time_ns = count->ns,
        };
        latency_add_to(count->latency, bins);
        item->latency = keep_bins(arena, bins, &item->latency_count);
    }
    out->commands = items;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now = { 0 };
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* 0 where there is no /proc. */
static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;
    if (!file)
        return 0;
    if (fscanf(file, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static const struct process_statistics *describe_process(struct arena *arena)
{
    struct process_statistics *process = arena_alloc(arena, sizeof(*process));
    struct loop_statistics *loops = arena_array(arena, loop_io_count() + 1, sizeof(*loops));
    for (unsigned i = 0; i <= loop_io_count(); i++) {
        struct loop *loop = i < loop_io_count() ? loop_io(i) : loop_control();
        loops[i] = (struct loop_statistics){
            .name = i < loop_io_count() ? arena_printf(arena, "io-%u", i) : "control",
            .cpu_time_ns = loop_cpu_ns(loop),
            .coroutines = loop_coroutines_alive(loop),
        };
    }
    *process = (struct process_statistics){
        .uptime_ns = loop_now_ns() - daemon_begin_ns(),
        .resident_bytes = resident_bytes(),
        .cpu_time_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID),
        .qmp_clients = (uint32_t)rpc_server_clients(daemon_rpc_server()),
        .loops = loops,
        .loops_count = loop_io_count() + 1,
    };
    return process;
}

static const uint64_t *bounds(struct arena *arena)
{
    uint64_t *begins = arena_array(arena, LATENCY_BINS, sizeof(*begins));
    for (unsigned i = 0; i < LATENCY_BINS; i++)
        begins[i] = latency_bin_begin(i);
    return begins;
}

void statistics_collect(struct arena *arena, struct daemon_statistics *out)
{
    *out = (struct daemon_statistics){
        .time_ns = clock_ns(CLOCK_MONOTONIC),
        .latency_bounds_ns = bounds(arena),
        .latency_bounds_ns_count = LATENCY_BINS,
    };
    collect_nodes(arena, out);
    collect_exports(arena, out);
    out->jobs = jobs_describe(arena, &out->jobs_count);
    collect_commands(arena, out);
    out->process = describe_process(arena);
}

struct error *handle_query_statistics(struct command_context *context, struct daemon_statistics *result)
{
    statistics_collect(command_arena(context), result);
    if (result->nodes_count + result->exports_count > AT_ONCE)
        command_expect_large_reply(context);
    return NULL;
}
