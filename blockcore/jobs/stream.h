/* stream - copies what an overlay has from below into it, while it is used, and then lets go of what is below
 *
 *     users --> filter --> top --> mid --> base          users --> top --> base
 *
 * The filter is a copy-on-read one (filters/copy_on_read.h): what guests read on the way is copied too. */
#ifndef CAIRN_JOBS_STREAM_H
#define CAIRN_JOBS_STREAM_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>
#include <stdint.h>

struct node;

struct stream_options {
    const char *id;
    unsigned flags;           /* enum job_flags */
    struct node *device;      /* the overlay, or a filter on it */
    struct node *bottom;      /* the deepest layer that is copied; NULL: the last one */
    const char *backing_file; /* what the header will call what is below @bottom; NULL: its filename */
    bool mask_protocol;
    const char *filter_node_name; /* NULL: made up */
    uint64_t speed;
    enum blockdev_on_error on_error;
};

/* Starts the job; awaits until the filter is in its place. */
struct error *stream_job_start(const struct stream_options *options) CO_FN CONTROL_FN MUST_CHECK;

#endif
