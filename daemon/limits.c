#include "daemon/limits.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/runtime/loop.h"
#include "schema/cairn_types.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define NS_PER_MS 1000000u

static const struct limits_options defaults;
static const struct limits_options *limits = &defaults;

void limits_begin(const struct limits_options *options)
{
    if (options)
        limits = options;
}

struct rpc_limits limits_of_rpc(void)
{
    return (struct rpc_limits){
        .clients = limits->clients,
        .queue = limits->queued_commands,
        .output_pending = limits->unread_reply_bytes,
        .events_pending = limits->unread_event_bytes,
        .input = limits->waiting_input_bytes,
        .message = limits->message_bytes,
        .nesting = limits->nesting,
        .in_flight = limits->commands_in_flight,
    };
}

size_t limits_clients_per_monitor(void)
{
    return limits->has_clients_per_monitor ? limits->clients_per_monitor : CLIENTS_PER_MONITOR_MAX;
}

/* Of the process, resident; the file lies in memory. 0: unknown. */
static uint64_t memory_now(void)
{
    char text[128];
    uint64_t pages = 0;
    CLEANUP(close_fd) int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t bytes = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (bytes <= 0)
        return 0;
    text[bytes] = '\0';
    if (sscanf(text, "%*u %" SCNu64, &pages) != 1)
        return 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

struct error *limits_memory(void)
{
    static uint64_t known;
    static uint64_t known_ns;
    if (!limits->has_memory)
        return NULL;
    if (known_ns == 0 || loop_now_ns() - known_ns > LIMITS_MEMORY_MS * NS_PER_MS) {
        known = memory_now();
        known_ns = loop_now_ns();
    }
    if (known < limits->memory)
        return NULL;
    return error_new("the process has %" PRIu64 " MiB of memory, and may have %" PRIu64 " ('memory' of the limits)",
                     known >> 20, limits->memory >> 20);
}
