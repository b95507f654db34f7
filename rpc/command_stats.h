/* command_stats - how often which command ended, how, and after what time
 *
 * Of all clients together. A command's time begins when it has been read and ends when its handler has: waiting for its
 * turn counts, since that is what its client feels. Control thread. */
#ifndef CAIRN_RPC_COMMAND_STATS_H
#define CAIRN_RPC_COMMAND_STATS_H

#include "blockcore/base/annotations.h"
#include "schema/codec/command.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct command_stats;
struct latency;
struct rpc_server;

struct command_count {
    uint64_t calls;
    uint64_t failed; /* of those */
    uint64_t ns;     /* of all calls together */
    struct latency *latency;
};

struct command_stats *command_stats_create(const struct command_table *table);
void command_stats_destroy(struct command_stats *stats);

/* @command, of the table, ended after @ns. */
void command_stats_count(struct command_stats *stats, const struct command_descriptor *command, bool failed,
                         uint64_t ns) CONTROL_FN;

/* The count of the table's command of that number; NULL: it was never called. */
const struct command_count *command_stats_get(const struct command_stats *stats, size_t index) CONTROL_FN;

/* Those of a server: one for each of rpc_server_commands(). */
const struct command_stats *rpc_server_command_stats(const struct rpc_server *server) CONTROL_FN;

#endif
