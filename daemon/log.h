/* log - what the daemon says on standard error
 *
 *     cairnd: warning: monitor '/run/cairn.sock' client 7: closed, it does not read its events
 *
 * Errors that end the process have no level in front, as with qemu-storage-daemon. Any thread. */
#ifndef CAIRN_DAEMON_LOG_H
#define CAIRN_DAEMON_LOG_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
};

/* What is less urgent is dropped; at first LOG_LEVEL_WARNING. */
void log_set_level(enum log_level level);

/* Whether a message of this level is written. */
bool log_shows(enum log_level level);

/* "error", "warning", "info" or "debug"; -1 for anything else. */
int log_level_parse(const char *name);

/* One line; no line feed in @format. */
void log_error(const char *format, ...) PRINTF_LIKE(1, 2);
void log_warning(const char *format, ...) PRINTF_LIKE(1, 2);
void log_info(const char *format, ...) PRINTF_LIKE(1, 2);
void log_debug(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
