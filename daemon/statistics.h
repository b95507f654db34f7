/* statistics - all that is counted, as one value: for query-statistics, and for the metrics (metrics.h) */
#ifndef CAIRN_DAEMON_STATISTICS_H
#define CAIRN_DAEMON_STATISTICS_H

#include "blockcore/base/annotations.h"
#include "schema/cairn_types.h"

struct arena;

/* Of now; all of it from @arena. Waits for nothing but its turn: others get theirs after some nodes. */
void statistics_collect(struct arena *arena, struct daemon_statistics *out) CO_FN CONTROL_FN;

#endif
