/* trace - trace points: which are shown, and where
 *
 *     rings of the threads (blockcore/base/trace.h) --every 20 ms--> writer's thread --> standard error, or a file
 *
 *     4711@1764000000.123456:drain_begin node disk0         the thread, the time, the point: as with QEMU's log
 *
 * Whoever passes a point does not wait for the one who writes: when that is too slow, records are lost, and it says how
 * many. The thread exists while something has been shown. */
#ifndef CAIRN_DAEMON_TRACE_H
#define CAIRN_DAEMON_TRACE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

/* Prints all names, one on each line. */
void trace_print_names(void);

/* What --trace says holds from now on. Unknown names are told as a warning. Reads files: before the service begins.
 * Strings of @options must stay. */
struct error *trace_apply(const struct trace_options *options) MUST_CHECK;

/* The file is opened, and what shall be shown is. Once, after daemonize_begin(). */
struct error *trace_begin(void) MUST_CHECK;

/* The file that trace points are written to; NULL: none. */
const char *trace_path(void);

/* Writes what is left, for a second at most. */
void trace_end(void);

#endif
