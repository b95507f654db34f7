/* amend - x-blockdev-amend as a job */
#ifndef CAIRN_JOBS_AMEND_H
#define CAIRN_JOBS_AMEND_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>

struct arena;
struct blockdev_amend_options;

/* Starts the job @id, which changes the format options of the image of node @node_name while it is in use. @options and
 * all they lead to lie in @arena; on success the job takes over what the arena holds, which is empty then. Errors:
 * there is no such node, its driver is another one or cannot amend images, the id is taken. */
struct error *amend_job_start(const char *id, const char *node_name, const struct blockdev_amend_options *options,
                              bool force, struct arena *arena) CONTROL_FN MUST_CHECK;

#endif
