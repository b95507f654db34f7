/* monitor - sockets where QMP clients connect
 *
 * A character device is a socket that listens (--chardev); a monitor lets its clients in (--monitor). Until then they
 * wait in the kernel's queue. */
#ifndef CAIRN_DAEMON_MONITOR_H
#define CAIRN_DAEMON_MONITOR_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

/* Is this something that can be made? */
struct error *chardev_check(const struct chardev_options *chardev) MUST_CHECK;
struct error *monitor_check(const struct monitor_options *options) MUST_CHECK;

/* Begins to listen. Errors: the id is taken, the kind is not supported, somebody listens there. */
struct error *chardev_add(const struct chardev_options *options) CO_FN CONTROL_FN MUST_CHECK;

/* Lets clients of a character device in. Errors: there is none of that id, or it has a monitor already. */
struct error *monitor_add(const struct monitor_options *options) CO_FN CONTROL_FN MUST_CHECK;

/* Both at once, for a configuration file. */
struct error *monitor_add_config(const struct monitor_config *config) CO_FN CONTROL_FN MUST_CHECK;

/* Nobody is let in any more. The sockets stay until monitors_remove(), so that nobody else takes their places while
 * this process still holds the images. */
void monitors_stop(void) CO_FN CONTROL_FN;

/* Unlinks the sockets at once, without waiting for anything: the process is about to end. */
void monitors_forget(void) CONTROL_FN;

/* Removes the sockets. */
void monitors_remove(void) CO_FN CONTROL_FN;

#endif
