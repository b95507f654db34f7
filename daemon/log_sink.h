/* log_sink - where the log goes: standard error, or systemd's journal. Nothing in here waits. */
#ifndef CAIRN_DAEMON_LOG_SINK_H
#define CAIRN_DAEMON_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

/* Is standard error what $JOURNAL_STREAM says that the journal reads? (systemd.exec(5)) */
bool stderr_is_journal(void);

/* False when it is not taken now. What is longer than PIPE_BUF may be cut off where the pipe is full. */
bool stderr_write(const char *text, size_t length);

/* Sends an entry in the journal's native form (systemd.io/JOURNAL_NATIVE_PROTOCOL) to the socket at @path. False when
 * it is not taken now. */
bool journal_send(const char *path, const char *entry, size_t length);

#endif
