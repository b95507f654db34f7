/* commit - brings what layers of a chain have into the layer below them, and then does without them
 *
 *     overlay --> filter --> top --> mid --> base          overlay --> base
 *
 * This is for layers that nobody writes. What a guest writes meanwhile has to be followed: then a commit is a mirror
 * whose target is below its source (mirror.h). */
#ifndef CAIRN_JOBS_COMMIT_H
#define CAIRN_JOBS_COMMIT_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>
#include <stdint.h>

struct node;

struct commit_options {
    const char *id;
    unsigned flags; /* enum job_flags */
    struct node *top;
    struct node *base;        /* below it */
    const char *backing_file; /* what the overlay's header will call base; NULL: its filename */
    bool mask_protocol;
    const char *filter_node_name; /* NULL: made up */
    uint64_t speed;
    enum blockdev_on_error on_error;
};

/* Starts the job; awaits until the filter is in its place. */
struct error *commit_job_start(const struct commit_options *options) CO_FN CONTROL_FN MUST_CHECK;

#endif
