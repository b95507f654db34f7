/* stream - copies what an overlay has from below into it, while it is used, and then lets go of what is below
 *
 *     users --> filter --> top --> mid --> base          users --> top --> base
 *
 * The filter is a copy-on-read one (filters/copy_on_read.h): what guests read on the way is copied too. */
#ifndef CAIRN_JOBS_STREAM_H
#define CAIRN_JOBS_STREAM_H

#include "blockcore/jobs/chain_copy.h"

struct stream_options {
    struct chain_copy_options copy;
    struct node *device; /* the overlay, or a filter on it */
    struct node *bottom; /* the deepest layer that is copied; NULL: the last one */
};

/* Starts the job; awaits until the filter is in its place. */
struct error *stream_job_start(const struct stream_options *options) CO_FN CONTROL_FN MUST_CHECK;

#endif
