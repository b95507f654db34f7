/* audit - the log of what clients changed (rpc/audit.h says what is in it)
 *
 *     command --line--> [queue, bounded] --a batch at a time, on the pool--> file or journal
 *
 * The control thread never waits for the log. Lines are in the order in which commands ended; one that was not written
 * stays in the queue and is tried again. A file that was renamed (logrotate) is left, and a new one made, before the
 * next line is written: no signal is needed. Written means given to the kernel: a power cut may cost the last seconds.
 */
#ifndef CAIRN_DAEMON_AUDIT_H
#define CAIRN_DAEMON_AUDIT_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>

struct audit_options;
struct text;

#define AUDIT_QUEUE_BYTES (16 * 1024 * 1024) /* of lines that wait */
#define AUDIT_RETRY_MS 1000                  /* after a failure */
#define AUDIT_LATE_MS 1000                   /* with on-failure=refuse: a line that waits for longer is a failure */

/* Is this something that can be meant? */
struct error *audit_check(const struct audit_options *options) MUST_CHECK;

/* Opens the log. Blocks: before the service begins. @options outlive it. */
struct error *audit_begin(const struct audit_options *options) MUST_CHECK;
bool audit_is_on(void);

/* Takes what is in @line, whose memory it may take too. */
void audit_write(const struct text *line) CONTROL_FN;

/* Why no command that changes something may begin now; NULL: it may. */
struct error *audit_refuses(void) CONTROL_FN;

/* What waits is written, unless that fails; then closes. No more lines come. */
void audit_end(void) CO_FN CONTROL_FN;

#endif
