/* mirror_filter - what stands on the source of a mirror
 *
 *     export --> mirror filter --file-----> source   (a bitmap notes what is written to it)
 *                         '-----target---> target
 *
 * In the background mode, requests pass to the source and the bitmap notes them. In the active mode, a write goes to
 * the source and then to the target, and the bitmap leaves it out; only what the target did not take is noted.
 *
 * Why no write is lost, however many threads write:
 *
 *  1. A write that is noted has ended on the source before its bits are set, and is answered after. Pieces are read
 * after their bits were taken. So what a piece does not see sets bits again later.
 *  2. An active write and a piece that overlap wait for each other (tracking.h). So a piece never brings older bytes
 * over those of an active write.
 *  3. A write that began in the background mode notes itself, whatever the mode is when it ends. If it overlaps with an
 *     active write, the bytes of the source are copied once more.
 *  4. Others who write the source beside the filter are noted as well. */
#ifndef CAIRN_JOBS_MIRROR_FILTER_H
#define CAIRN_JOBS_MIRROR_FILTER_H

#include "blockcore/graph/node.h"
#include "blockcore/io/copy.h"
#include "blockcore/runtime/tracking.h"

#include <stdatomic.h>

struct chain_copy_nodes;
struct dirty_bitmap;

enum mirror_mode {
    MIRROR_BACKGROUND,
    MIRROR_ACTIVE,
    MIRROR_OVER, /* the job has gone: requests pass to the source, whoever waits for the target is let go */
};

/* The filter's state. */
struct mirror_filter {
    struct child *file;
    struct child *target;
    struct copy_ends ends;
    bool is_commit;    /* the target is below the source, which goes on being used through it */
    bool target_alone; /* it does not stand on the source */
    bool holds_target; /* also without users: copies that hang may still write it, and nobody else may */
    struct dirty_bitmap *bitmap;
    _Atomic unsigned mode; /* enum mirror_mode */
    struct tracker tracker;
    struct spinlock lock;
    struct list waiting GUARDED_BY(lock);  /* active writes, for their target */
    unsigned left_behind GUARDED_BY(lock); /* writes to the target that nobody waits for any more */
    struct co_queue changed;
    _Atomic int flush_error; /* of the target, in the active mode: what guests believe to be stable may not be */
    /* Something was noted, or the mode has changed; on any thread, must not wait. */
    void (*noted)(void *arg);
    void *noted_arg;
};

extern const struct driver mirror_filter_driver;

/* The filter of @owner ("block job 'x'") for @source and @target, which nobody uses yet. @chain: the layers between
 * them if the target is below the source; NULL: it is not. */
struct error *mirror_filter_create(const char *name, const char *owner, struct node *source, struct node *target,
                                   const struct chain_copy_nodes *chain, struct node **out) CO_FN CONTROL_FN MUST_CHECK;

struct mirror_filter *mirror_filter_of(struct node *node);
/* MIRROR_OVER is for good. */
void mirror_filter_set_mode(struct mirror_filter *filter, enum mirror_mode mode) CONTROL_FN;

/* Writes that were on their way to the target, or noted, when it was called have ended. */
void mirror_filter_wait_active(struct mirror_filter *filter) CO_FN;

/* Copies a piece; inside of a handle on the filter, on any loop. */
int mirror_filter_copy(struct mirror_filter *filter, struct range range, bool zero, bool *write_failed) CO_FN;

#endif
