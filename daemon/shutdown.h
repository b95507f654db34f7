/* shutdown - the end of the daemon, in bounded time
 *
 * Nothing that a client does or leaves undone holds it up: exports are cut off, jobs cancelled, gates opened. What is
 * waited for is storage, so that what was written is stable. When that does not come to an end within
 * SHUTDOWN_SECONDS, the process names what hangs and exits with an error, since a flush could not be done. */
#ifndef CAIRN_DAEMON_SHUTDOWN_H
#define CAIRN_DAEMON_SHUTDOWN_H

#include "blockcore/base/annotations.h"

#define SHUTDOWN_SECONDS 10

struct pidfile;
struct rpc_server;

/* From now on the time runs: whatever hangs, the process ends. */
void shutdown_start_clock(struct rpc_server *server, struct pidfile *const *pidfile) CONTROL_FN;
void shutdown_stop_clock(void) CONTROL_FN;

/* Ends all activity, closes all nodes, says goodbye to clients; frees @server. */
void shutdown_run(struct rpc_server *server) CO_FN CONTROL_FN;

#endif
