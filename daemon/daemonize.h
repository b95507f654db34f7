/* daemonize - a parent that ends when the daemon is ready
 *
 *     parent: daemonize_begin() ---waits---------------------------------------> exits with 0, or with 1
 *                  '--- child: goes on, says errors on the terminal, daemonize_ready() --> detached
 *
 * Before any thread is made, since threads do not survive a fork. */
#ifndef CAIRN_DAEMON_DAEMONIZE_H
#define CAIRN_DAEMON_DAEMONIZE_H

#include "blockcore/base/error.h"

/* Returns in the child only, which leads a session of its own without a terminal. The parent exits with status 0 once
 * the child is ready, and with 1 when it ended before that. */
struct error *daemonize_begin(void) MUST_CHECK;

/* Lets the parent go: standard streams lead to /dev/null and the directory is / from now on. Without
 * daemonize_begin() nothing happens. */
struct error *daemonize_ready(void) MUST_CHECK;

#endif
