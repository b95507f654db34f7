/* metrics_scrape - the control thread's statistics, as text, for another thread
 *
 *     HTTP's thread --posts--> control thread: collects, a part in each turn --> HTTP's thread: makes text of it
 *
 * Nodes belong to the control thread, which never blocks, so the answer takes a moment whatever storage does. Text,
 * which takes longer than the rest, is made by the one who asks. */
#ifndef CAIRN_DAEMON_METRICS_SCRAPE_H
#define CAIRN_DAEMON_METRICS_SCRAPE_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>

struct text;

#define METRICS_SCRAPE_SECONDS 5 /* then the one who asks is told that it was too long */

/* Appends to @text; false when it took too long. Blocks: not on a loop's thread. */
bool metrics_scrape(struct text *text);

/* Returns when none is left that was given up. Nobody asks any more. */
void metrics_scrape_wait_end(void) CO_FN CONTROL_FN;

#endif
