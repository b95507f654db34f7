/* trace_writer - the thread that writes records of trace points as lines: see trace.h */
#ifndef CAIRN_DAEMON_TRACE_WRITER_H
#define CAIRN_DAEMON_TRACE_WRITER_H

#include "blockcore/base/error.h"
#include "blockcore/base/trace.h"

#include <time.h>

/* Writes to @fd from now on, which stays the caller's. Again: there is something to write again. */
struct error *trace_writer_start(int fd) MUST_CHECK;

/* Writes what has been recorded up to now, unless that takes longer than a second. */
void trace_writer_stop(void);

/* When a record was made, by the clock on the wall. */
struct timespec trace_time(const struct trace_record *record);

#endif
