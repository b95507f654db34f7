/* audit_sink - where the lines of the audit log go: a file, or the journal. Everything here blocks. */
#ifndef CAIRN_DAEMON_AUDIT_SINK_H
#define CAIRN_DAEMON_AUDIT_SINK_H

#include "blockcore/base/error.h"

#include <stddef.h>

struct audit_options;
struct audit_sink;

/* Errors: the file cannot be opened, or is none; there is no journal. */
struct error *audit_sink_create(const struct audit_options *options, struct audit_sink **out) MUST_CHECK;
/* NULL is allowed. */
void audit_sink_destroy(struct audit_sink *sink);

/* Writes @text, whole lines, from byte *done on. *done: what was written, also on failure, to go on from there. A file
 * that its path does not name any more is left before; a line of which it has a part is then written again. 0 or
 * -errno. */
int audit_sink_write(struct audit_sink *sink, const char *text, size_t bytes, size_t *done);

#endif
