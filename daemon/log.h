/* log - what the daemon says to those who look after it
 *
 *     log_about() --level? rate?--> record --> standard error   cairnd: warning: node 'a': ...  [node=a]
 *                                          --> JSON lines there {"time": "...", "level": "warning", "message": ...}
 *                                          --> systemd's journal, with a field for each thing it is about
 *
 * Nobody who logs waits: what a full pipe or a dead journal does not take is lost, and counted. More than
 * LOG_LINES_PER_SECOND for long are left out and counted, but for errors and what was asked for with level "debug".
 * Both are told with the next line that gets through. Secrets never stand in messages.
 *
 * Errors that end the process have no level in front on standard error, as with qemu-storage-daemon. Any thread. */
#ifndef CAIRN_DAEMON_LOG_H
#define CAIRN_DAEMON_LOG_H

#include "blockcore/base/annotations.h"
#include "schema/cairn_types.h"

#include <stdbool.h>

#define LOG_LINES_BURST 1000
#define LOG_LINES_PER_SECOND 100
#define LOG_LINE_BYTES_MAX 8192  /* of a message; what is longer is cut off */
#define LOG_FIELD_BYTES_MAX 1024 /* of what it is about, each; likewise */

/* What a message is about; whatever it is not about is NULL. */
struct log_about {
    const char *node;
    const char *job;
    const char *export_;
    const char *client;     /* its monitor and number, or its address */
    const char *command;    /* of QMP */
    const char *command_id; /* JSON */
    const char *message_id; /* LOG_ID_*: which kind of message, for catalogues and searches of the journal */
};

#define LOG_ID_READY "94bb682d9b364bbaa8ecf4afa6ab10aa"
#define LOG_ID_ENDING "d214c42080514ddab1c5ad68d05e8aea"
#define LOG_ID_JOB_FAILED "fa15abbbebad48f9a307994996260dbe"
#define LOG_ID_DATA_LOST "182d1af9f7834ea7bfb2ce2817e34f41"
#define LOG_ID_IMAGE_CORRUPTED "f2059ec75f504164a36ce50ba5a2aad0"

/* What is less urgent is dropped; at first LOG_LEVEL_WARNING. */
void log_set_level(enum log_level level);

/* Whether a message of this level is written. */
bool log_shows(enum log_level level);

/* "error", "warning", "info" or "debug"; -1 for anything else. */
int log_level_parse(const char *name);

/* What --log says holds from now on. Strings of @options must stay. */
void log_apply(const struct log_options *options);

/* For query-log. */
void log_describe(struct log_info *out);

/* One line. Control characters in what it is made of become spaces. */
void log_about(enum log_level level, const struct log_about *about, const char *format, ...) PRINTF_LIKE(3, 4);
void log_error(const char *format, ...) PRINTF_LIKE(1, 2);
void log_warning(const char *format, ...) PRINTF_LIKE(1, 2);
void log_info(const char *format, ...) PRINTF_LIKE(1, 2);
void log_debug(const char *format, ...) PRINTF_LIKE(1, 2);

/* The socket of the journal, when lines go there; else NULL. For signal handlers too. */
const char *log_journal_socket(void);

/* Writes what others have made to standard error, never in the middle of a line of ours. False when it is not taken
 * now. @length up to PIPE_BUF. */
bool log_write_stderr(const char *text, size_t length);

#endif
