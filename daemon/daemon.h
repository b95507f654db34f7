/* daemon - the process: what it is made of, from the first option to the last byte flushed
 *
 *     main: options, configuration --> daemonize --> runtime --> the daemon's coroutine:
 *         each item in order --> pid file --> ready --> (service) --quit, signal--> shut down --> exit status
 *
 * Items are decoded before anything is made, so a mistake in the last one leaves nothing behind. */
#ifndef CAIRN_DAEMON_DAEMON_H
#define CAIRN_DAEMON_DAEMON_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>

struct options;
struct rpc_server;

/* What query-version and the greeting say. */
extern const struct version_info daemon_version;

/* Runs the daemon until it has ended; the process's exit status. The calling thread becomes the control thread. */
int daemon_run(const struct options *options);

/* The daemon shall end: no further command begins. Returns at once. */
void daemon_quit(void) CONTROL_FN;

struct rpc_server *daemon_rpc_server(void) CONTROL_FN;

/* When it began to run, by loop_now_ns(). */
uint64_t daemon_begin_ns(void) CONTROL_FN;

/* Shall each command and its reply be a line of the log from now on? */
void daemon_trace_commands(bool trace) CONTROL_FN;

#endif
