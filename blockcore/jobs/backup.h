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

/* Starts the job; awaits until the moment has come. Takes references of its own. */
struct error *backup_job_start(const struct backup_options *options, struct job_txn *txn) CO_FN CONTROL_FN MUST_CHECK;

#endif
