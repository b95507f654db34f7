/* service_manager - systemd, or whatever speaks as it does: what it is told, and what it brings
 *
 *     $NOTIFY_SOCKET   <-- READY=1 when everything has been made, RELOADING=1, STOPPING=1, STATUS=...
 *     $WATCHDOG_USEC   <-- WATCHDOG=1 as long as the control loop and all I/O loops turn
 *     $LISTEN_FDS      --> sockets that listen already, each under its name in $LISTEN_FDNAMES (of several with one
 *                          name the second is NAME.2): an address { type: fd, str: NAME } uses it, and so does whoever
 *                          listens at the path that it is bound to
 *
 * The protocols are those of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3). Without these variables nothing
 * happens, and nothing is made. */
#ifndef CAIRN_DAEMON_SERVICE_MANAGER_H
#define CAIRN_DAEMON_SERVICE_MANAGER_H

#include "blockcore/base/annotations.h"

/* Takes the variables, so that nobody takes them for his own. Before there are threads, after daemonize_begin(): what
 * is meant for another process is left. */
void service_begin(void);

/* Begins to tell that loops turn; once the runtime runs. */
void service_watch_loops(void) CONTROL_FN;

/* Everything has been made, or made anew. Tells, as a warning, which sockets were brought and are not used. */
void service_ready(void) CO_FN CONTROL_FN;

/* The configuration is about to be read again; service_ready() ends that. */
void service_reloading(void) CO_FN CONTROL_FN;

/* The end has begun. */
void service_stopping(void) CONTROL_FN;

/* The runtime is about to end. */
void service_end(void) CONTROL_FN;

#endif
