/* mirror_private - what the parts of a mirror share
 *
 * mirror.c begins and ends it, mirror_copy.c copies and follows the writes of guests. */
#ifndef CAIRN_JOBS_MIRROR_PRIVATE_H
#define CAIRN_JOBS_MIRROR_PRIVATE_H

#include "blockcore/jobs/leave.h"
#include "blockcore/jobs/mirror.h"
#include "blockcore/runtime/loop.h"

#include <stdatomic.h>

struct chain_copy_nodes;
struct copier;
struct dirty_bitmap;
struct handle;
struct job;
struct progress;

/* Outlives the job where requests hang. */
struct mirror {
    struct job *job;               /* NULL: it has ended */
    struct mirror_options options; /* without what its pointers led to */
    char *owner;                   /* in messages */
    struct node *source;
    struct node *target;
    struct node *replaces;
    struct node *base;              /* from there down nothing is copied; NULL: all is */
    struct chain_copy_nodes *chain; /* of a commit: the layers, and what it makes writable */
    struct node *filter_node;
    struct mirror_filter *filter;
    struct handle *handle; /* the copies'; it stays on the filter, so that nobody waits for copies that hang */
    struct handle *guard;  /* keeps the filter in use, and leaves it with its users */
    struct dirty_bitmap *bitmap;
    struct copier *copier;
    struct progress *progress; /* NULL: none is kept */
    uint64_t counted;          /* bytes in the job's total */

    struct co_queue told;
    _Atomic bool idle; /* waits for something to be noted */
    struct loop_task woken;
    struct job_step step;
    bool inserted; /* the filter is in the graph */
    bool switched;
};

/* NULL once it ends. */
struct mirror *mirror_of(struct job *job) CONTROL_FN;

/* mirror_copy.c: makes the copier of a mirror whose handle is open; what wakes it when something is noted. */
struct error *mirror_make_copier(struct mirror *mirror, uint32_t granularity) CONTROL_FN MUST_CHECK;
void mirror_note_to(struct mirror *mirror) CONTROL_FN;
/* Bytes that differ, as far as is known. */
uint64_t mirror_bytes_left(struct mirror *mirror) CONTROL_FN;
/* Copies until nothing is left, for the moment. False: interrupted, or *@err is set. */
bool mirror_copy_all(struct mirror *mirror, struct error **err) CO_FN CONTROL_FN;
/* @arg: the mirror; a step. */
struct error *mirror_flush_target(void *arg) CO_FN CONTROL_FN;
/* It is time for a checkpoint. @arg: the mirror. */
void mirror_checkpoint_due(void *arg) CONTROL_FN;
/* The work of its job. */
struct error *mirror_run(struct job *job) CO_FN CONTROL_FN;

#endif
