/* monitor - character devices (chardev.h) through which QMP clients come in, any number of them */
#ifndef CAIRN_DAEMON_MONITOR_H
#define CAIRN_DAEMON_MONITOR_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

struct command_context;
struct monitor;

/* Is this something that can be made? */
struct error *monitor_check(const struct monitor_options *options) MUST_CHECK;

/* Lets clients of a character device in. Errors: there is none of that id, or it has a monitor already. */
struct error *monitor_add(const struct monitor_options *options) CO_FN CONTROL_FN MUST_CHECK;

/* A socket that listens, and its monitor, for a configuration file. */
struct error *monitor_add_config(const struct monitor_config *config) CO_FN CONTROL_FN MUST_CHECK;

/* Lets nobody in any more and cuts the clients off; that of @asker (may be NULL) after its reply. The character device
 * stays. Errors: there is none of that id, or it has no monitor. */
struct error *monitor_remove(const char *id, struct command_context *asker) CO_FN CONTROL_FN MUST_CHECK;

/* In the order of their making: pass NULL first; NULL ends. Without awaits between. */
struct monitor *monitor_next(const struct monitor *after) CONTROL_FN;
/* "monitor '/run/x.sock'" */
const char *monitor_name(const struct monitor *monitor) CONTROL_FN;
/* What monitor_add_config() was given; NULL for others. */
const struct monitor_config *monitor_config_of(const struct monitor *monitor) CONTROL_FN;

/* Removes what monitor_add_config() made, with its character device. */
struct error *monitor_remove_config(const char *path, struct command_context *asker) CO_FN CONTROL_FN MUST_CHECK;

/* Did the client of @context (may be NULL) come in by the monitor that monitor_add_config() made at @path? */
bool monitor_brought(const char *path, const struct command_context *context) CONTROL_FN;

/* Removes all, with the character devices. Their clients are gone. */
void monitors_remove(void) CO_FN CONTROL_FN;

#endif
