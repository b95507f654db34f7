/* backup - copies what a node held at one moment, while it goes on being written
 *
 *     export --> filter --file----> source       the moment is when the filter comes; what is overwritten is copied
 *                   '---target---> target        before (filters/copy_before_write_job.h), the rest one after the other
 *
 * With a bitmap, its bits are put aside at the moment, and it goes on recording from empty: so afterwards it says what
 * was written since. If the backup fails, what was put aside, or what of that was not copied, is put back. */
#ifndef CAIRN_JOBS_BACKUP_H
#define CAIRN_JOBS_BACKUP_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>
#include <stdint.h>

struct dirty_bitmap;
struct job_txn;
struct node;

struct backup_options {
    const char *id;
    unsigned flags; /* enum job_flags */
    struct node *source;
    struct node *target;
    enum mirror_sync_mode sync;  /* "incremental" is "bitmap" with "on-success" */
    struct dirty_bitmap *bitmap; /* of the source; NULL: none */
    bool bitmap_is_ours;         /* the caller has set it busy for himself */
    enum bitmap_sync_mode bitmap_mode;
    bool compress;
    bool discard_source;
    const char *filter_node_name; /* NULL: made up */
    uint64_t speed;
    unsigned workers_max; /* 0: chosen */
    uint64_t chunk_max;   /* 0: chosen */
    bool use_copy_range;
    uint64_t min_cluster_size; /* 0: chosen */
    enum blockdev_on_error on_source_error;
    enum blockdev_on_error on_target_error;
    enum on_cbw_error on_cbw_error;
    const char *progress; /* name of what is kept of it in the source's image (progress.h); NULL: nothing */
};

struct backup;
struct change;

/* The job in steps, for transactions (transaction.h). */
/* All that takes long or may fail, but for the change of the graph. The job is there, and waits. Takes references of
 * its own. */
struct error *backup_job_prepare(const struct backup_options *options, struct job_txn *txn, struct backup **out)
    CO_FN CONTROL_FN MUST_CHECK;
/* What the graph shall be. */
struct error *backup_job_describe(struct backup *backup, struct change *change) CONTROL_FN MUST_CHECK;
/* That change has failed; there may be another one. */
void backup_job_undescribe(struct backup *backup) CO_FN CONTROL_FN;
/* No request runs, and the graph is as it was. Undo: likewise, after it or not. */
struct error *backup_job_moment(struct backup *backup) CONTROL_FN MUST_CHECK;
void backup_job_undo_moment(struct backup *backup) CONTROL_FN;
/* The change has been made: it begins. @backup belongs to the job. */
void backup_job_go(struct backup *backup) CO_FN CONTROL_FN;
/* It has not: nothing is left of the job. */
void backup_job_give_up(struct backup *backup) CO_FN CONTROL_FN;

#endif
