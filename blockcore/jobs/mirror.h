/* mirror - makes a node equal to another while that is written, and then puts it in its place
 *
 *     1. a filter goes in front of the source, a bitmap notes what is written (mirror_filter.h)
 *     2. what the source has is copied, then what was written meanwhile, until nothing is left: "ready"
 *     3. told to complete, writes go to both at once, so that nothing can be left again; then, with requests held back,
 *        the users of the source get the target
 *
 *     export --> filter --> source             export --> target
 *                   '-----> target                        source
 *
 * Told to end without completing, it leaves the target as a copy of the moment. An active commit is a mirror whose
 * target is below its source. */
#ifndef CAIRN_JOBS_MIRROR_H
#define CAIRN_JOBS_MIRROR_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>
#include <stdint.h>

struct job_txn;
struct node;

struct mirror_options {
    const char *id;
    unsigned flags; /* enum job_flags */
    struct node *source;
    struct node *target;
    struct node *replaces; /* whose users get the target; NULL: the source's */
    enum mirror_sync_mode sync;
    enum mirror_copy_mode copy_mode;
    const char *filter_node_name; /* NULL: made up */
    uint64_t speed;
    uint32_t granularity; /* a power of two; 0: chosen */
    uint64_t buf_size;    /* 0: chosen */
    bool keep_zeroes;     /* zeroes are allocated in the target */
    bool target_is_zero;  /* where nothing is written it reads as zero */
    enum blockdev_on_error on_source_error;
    enum blockdev_on_error on_target_error;
    const char *progress; /* name of what is kept of it in the source's image (progress.h); NULL: nothing */
    bool is_commit;
};

/* Starts the job; awaits until the filter is in its place. Takes references of its own. */
struct error *mirror_job_start(const struct mirror_options *options, struct job_txn *txn) CO_FN CONTROL_FN MUST_CHECK;

#endif
