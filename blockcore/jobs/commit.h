/* commit - brings what layers of a chain have into the layer below them, and then does without them
 *
 *     overlay --> filter --> top --> mid --> base          overlay --> base
 *
 * This is for layers that nobody writes. What a guest writes meanwhile has to be followed: then a commit is a mirror
 * whose target is below its source (mirror.h). */
#ifndef CAIRN_JOBS_COMMIT_H
#define CAIRN_JOBS_COMMIT_H

#include "blockcore/jobs/chain_copy.h"

struct commit_options {
    struct chain_copy_options copy;
    struct node *top;
    struct node *base; /* below it */
};

/* Starts the job; awaits until the filter is in its place. */
struct error *commit_job_start(const struct commit_options *options) CO_FN CONTROL_FN MUST_CHECK;

#endif
