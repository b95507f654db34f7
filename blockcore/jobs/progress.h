/* progress - what a copy has still to do, kept in the image of its source
 *
 *     source (qcow2)  bitmap "NAME@TARGET": what the target may not hold, on stable storage, as the source does
 *
 * A job that is told to keep its progress makes this bitmap, all dirty, in a source that has its bitmaps right at every
 * moment (graph/write_ahead.h), and takes bits away as it gets on. Writes set bits, whether the job runs or not. So
 * after the daemon has died, the same command finds the bitmap and copies what it says, and the result is as if all had
 * been copied: a mirror becomes equal to its source, a backup is what the source held when the second command came.
 *
 * Bits are taken away at checkpoints. Let S be what was written since, L what is left to be copied, both noted before
 * the target is flushed:
 *
 *     since begins --> left is noted --> flush of the target --> bits that are neither in S nor in L are taken away
 *
 * Why what stays is enough, at every moment:
 *
 *  1. What is in neither was copied, and that copy had ended, before the flush began: it is on stable storage.
 *  2. A write sets the bits of the bitmap, of S, and of what the job follows writes with, in one step (one node, one
 *     lock). So when bits are taken away, a write that is not in S has ended before S began: then its bytes are in L,
 * or were copied; or it has not set its bits yet, and will.
 *  3. A bit that is taken away in memory reaches the image later, never earlier. One that is set is in the image before
 *     the write begins.
 *  4. After a flush that failed nobody knows what is stable: no bit is taken away any more.
 *
 * TARGET is a number made of what identifies the target, so that another one is not taken for it; and some of what
 * the bitmap says is equal is compared before the job goes on. */
#ifndef CAIRN_JOBS_PROGRESS_H
#define CAIRN_JOBS_PROGRESS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/range.h"

#include <stdbool.h>
#include <stdint.h>

struct dirty_bitmap;
struct node;
struct progress;

struct progress_options {
    const char *name;
    const char *owner; /* "block job 'x'" */
    struct node *source;
    struct node *target;
    uint32_t granularity; /* of a bitmap that is made */
};

/* Finds the bitmap or makes it. It records, and stays busy until the end. Errors: the source cannot keep one, or there
 * is one that does not fit. */
struct error *progress_open(const struct progress_options *options, struct progress **out) CO_FN CONTROL_FN MUST_CHECK;
/* What has to be copied: all, or less. */
struct dirty_bitmap *progress_bitmap(const struct progress *progress);
/* @done: it has served, and is removed. NULL: nothing to do. */
void progress_close(struct progress *progress, bool done) CO_FN CONTROL_FN;

/* From now on @due(@arg) is called when it is time for a checkpoint, once until the next has been made. */
void progress_start_clock(struct progress *progress, void (*due)(void *arg), void *arg) CONTROL_FN;
bool progress_is_due(const struct progress *progress) CONTROL_FN;

/* The job copies what the source holds now, not later: what is written from now on is in S at every checkpoint. While
 * no request runs. */
struct error *progress_begin_moment(struct progress *progress) CONTROL_FN MUST_CHECK;

/* A flush of the target failed, whoever asked for it. NULL: nothing to do. */
void progress_distrust(struct progress *progress) CONTROL_FN;

/* A checkpoint, step by step. False: not this time. */
bool progress_begin_checkpoint(struct progress *progress) CONTROL_FN;
void progress_note_left(struct progress *progress, struct range range) CONTROL_FN;
/* @flushed: the target was, successfully, after all that. */
void progress_end_checkpoint(struct progress *progress, bool flushed) CO_FN CONTROL_FN;

#endif
