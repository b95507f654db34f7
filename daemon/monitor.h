/* monitor - character devices (chardev.h) through which QMP clients come in, any number of them */
#ifndef CAIRN_DAEMON_MONITOR_H
#define CAIRN_DAEMON_MONITOR_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

struct command_context;

/* Is this something that can be made? */
struct error *monitor_check(const struct monitor_options *options) MUST_CHECK;

/* Lets clients of a character device in. Errors: there is none of that id, or it has a monitor already. */
struct error *monitor_add(const struct monitor_options *options) CO_FN CONTROL_FN MUST_CHECK;

/* A socket that listens, and its monitor, for a configuration file. */
struct error *monitor_add_config(const struct monitor_config *config) CO_FN CONTROL_FN MUST_CHECK;

/* Lets nobody in any more and cuts the clients off; that of @asker (may be NULL) after its reply. The character device
 * stays. Errors: there is none of that id, or it has no monitor. */
struct error *monitor_remove(const char *id, struct command_context *asker) CO_FN CONTROL_FN MUST_CHECK;

/* Removes all, with the character devices. Their clients are gone. */
void monitors_remove(void) CO_FN CONTROL_FN;

#endif
