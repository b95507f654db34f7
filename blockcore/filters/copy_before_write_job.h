/* copy_before_write_job - a copy-before-write filter whose target becomes a backup
 *
 *     guest --> filter --file----> disk       what is about to be written is copied before, by the write itself;
 *                 ^  '---target---> backup     everything else by the job, cluster by cluster, with cbw_job_keep()
 *     job --------'
 *
 * Both go through the states of copy_before_write_private.h, so no cluster is copied twice, and the target gets what
 * the disk held at the moment when the filter was put in its place. What the disk says of a cluster that is not settled
 * is true of the moment as well: nobody has written it since.
 *
 * A guest's write does not wait for a target that hangs once the job has said cbw_job_end(). */
#ifndef CAIRN_FILTERS_COPY_BEFORE_WRITE_JOB_H
#define CAIRN_FILTERS_COPY_BEFORE_WRITE_JOB_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/range.h"

#include <stdbool.h>
#include <stdint.h>

struct dirty_bitmap;
struct extents;
struct handle;
struct node;

struct cbw_job_options {
    const char *name; /* NULL: made up */
    const char *owner;
    struct node *source;
    struct node *target;       /* as long as the source */
    uint64_t min_cluster_size; /* a power of two; 0: no matter */
    bool break_snapshot;
    bool compress;
    bool use_copy_range; /* storage may copy by itself */
    bool discard_source;
    /* The point in time was lost; on any thread, must not wait. Until cbw_job_end(). */
    void (*broke)(void *arg);
    void *broke_arg;
};

/* A filter that nobody uses yet. */
struct error *cbw_job_create(const struct cbw_job_options *options, struct node **out) CO_FN CONTROL_FN MUST_CHECK;

/* What is wanted; without, all is. While no request runs: only what is dirty in @bitmap. Before the filter has users:
 * only what layers above @base decide; both stay as long as the filter. @asker is a handle on the filter. */
void cbw_job_want_dirty(struct node *filter, struct dirty_bitmap *bitmap) CONTROL_FN;
void cbw_job_want_above(struct node *filter, struct handle *asker, struct node *base) CONTROL_FN;

/* Bytes; the unit of copies. */
uint64_t cbw_job_cluster(struct node *filter);

/* For the copier (jobs/copier.h), inside of a handle on the filter, on any loop. The plan leaves out what is settled,
 * settles what is not wanted or is zero in the target already, and ends at ends of clusters. */
int cbw_job_plan(struct node *filter, struct range range, struct extents *plan) CO_FN;
/* The clusters of @range, of which the plan has said whether they are @zero, are settled afterwards. Fails with the
 * first error when the point in time is lost. */
int cbw_job_keep(struct node *filter, struct range range, bool zero, bool *write_failed) CO_FN;

/* 0, or the -errno that broke the point in time. */
int cbw_job_broken(struct node *filter);
/* The next bytes from @offset on that are not settled; empty when there are none. */
struct range cbw_job_next_original(struct node *filter, uint64_t offset);

/* Nobody needs the point in time any more: writes go on, without copies. */
void cbw_job_end(struct node *filter) CONTROL_FN;

#endif
