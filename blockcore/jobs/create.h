/* create - blockdev-create as a job */
#ifndef CAIRN_JOBS_CREATE_H
#define CAIRN_JOBS_CREATE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

struct arena;
struct blockdev_create_options;

/* Starts the job @id, which makes the image that @options describe. It is dismissed by the client. @options and all
 * they lead to lie in @arena; on success the job takes over what the arena holds, which is empty then. Errors: the id
 * is taken or malformed, the driver cannot create images. */
struct error *create_job_start(const char *id, const struct blockdev_create_options *options,
                               struct arena *arena) CONTROL_FN MUST_CHECK;

#endif
