/* job - jobs as clients see them (schema/job.json) */
#ifndef CAIRN_DAEMON_JOB_H
#define CAIRN_DAEMON_JOB_H

#include "blockcore/base/annotations.h"
#include "schema/cairn_types.h"

#include <stddef.h>

struct arena;

/* All jobs, the oldest first; from @arena. */
struct job_info *jobs_describe(struct arena *arena, size_t *count) CONTROL_FN;

#endif
