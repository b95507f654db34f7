#include "rpc/command_stats.h"

#include "blockcore/base/latency.h"
#include "blockcore/base/memory.h"

#include <stdlib.h>

struct command_stats {
    const struct command_table *table;
    struct command_count counts[]; /* one for each command; without latency: never called */
};

struct command_stats *command_stats_create(const struct command_table *table)
{
    struct command_stats *stats = xcalloc(1, sizeof(*stats) + table->count * sizeof(stats->counts[0]));
    stats->table = table;
    return stats;
}

void command_stats_destroy(struct command_stats *stats)
{
    for (size_t i = 0; i < stats->table->count; i++)
        free(stats->counts[i].latency);
    free(stats);
}

void command_stats_count(struct command_stats *stats, const struct command_descriptor *command, bool failed,
                         uint64_t ns)
{
    struct command_count *count = &stats->counts[command - stats->table->commands];
    if (!count->latency)
        count->latency = xcalloc(1, sizeof(*count->latency));
    count->calls++;
    count->failed += failed;
    count->ns += ns;
    latency_count(count->latency, ns);
}

const struct command_count *command_stats_get(const struct command_stats *stats, size_t index)
{
    const struct command_count *count = &stats->counts[index];
    return count->calls > 0 ? count : NULL;
}
