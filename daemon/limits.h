/* limits - how much clients may take, as the operator said */
#ifndef CAIRN_DAEMON_LIMITS_H
#define CAIRN_DAEMON_LIMITS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "rpc/server.h"

#include <stddef.h>

struct limits_options;

#define CLIENTS_PER_MONITOR_MAX 2048
#define LIMITS_MEMORY_MS 100 /* how old the knowledge of the memory of the process may be */

/* NULL: the defaults. @options outlive the service. */
void limits_begin(const struct limits_options *options);

struct rpc_limits limits_of_rpc(void);
size_t limits_clients_per_monitor(void);

/* An error when the process has as much memory as it may have, or more. */
struct error *limits_memory(void) CONTROL_FN;

#endif
