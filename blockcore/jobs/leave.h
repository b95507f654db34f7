/* leave - no job waits for ever for storage that hangs
 *
 *     step      what may hang and cannot be interrupted (a flush, a header, the switch of the graph) runs beside the
 * job, so that a job that is cancelled goes on without it leaving   the end: whatever the job has begun ends, and its
 * nodes are free for others. The job waits for that as long as it gets on, and a second more. What hangs then is left
 * behind and frees the nodes when it has ended; the end of the process waits for it
 *
 * So what a job owns lives as long as its leaving, which may be longer than the job. */
#ifndef CAIRN_JOBS_LEAVE_H
#define CAIRN_JOBS_LEAVE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/runtime/sync.h"

#include <stdbool.h>

struct copier;
struct handle;
struct job;
struct leaving;
struct node;

/* One at a time; a member of what the job owns. */
struct job_step {
    struct co_queue told;
    bool running;
    bool settled;
    struct error *err;
};

void job_step_init(struct job_step *step);
void job_step_fini(struct job_step *step);

/* Runs @work(@arg) until it has ended, is settled, or the job is cancelled: then the error says so, and @work goes on
 * alone. */
struct error *job_step_take(struct job_step *step, struct job *job, struct error *(*work)(void *arg)CO_FN, void *arg)
    CO_FN CONTROL_FN MUST_CHECK;
/* For @work: what it does cannot be taken back. The job neither waits for the rest nor can it be cancelled. */
void job_step_settle(struct job_step *step) CONTROL_FN;
/* The job was told something. */
void job_step_wake(struct job_step *step) CONTROL_FN;
/* Until none is running. */
void job_step_wait(struct job_step *step) CO_FN CONTROL_FN;

/* Runs @work(..., @arg), which ends everything and frees it; returns when it has ended, or when it hangs. */
void job_leave(void (*work)(struct leaving *leaving, void *arg) CO_FN, void *arg) CO_FN CONTROL_FN;
/* For @work: it does not hang. */
void leaving_got_on(struct leaving *leaving) CONTROL_FN;
/* For @work: takes the filter of the job out of the graph. Where something is in the way, a change of others that hangs
 * perhaps, it gives notice and tries again until it succeeds or the process ends. */
void leaving_filter(struct leaving *leaving, struct node *filter) CO_FN CONTROL_FN;
/* For @work: destroys the copier, and returns when its last piece has ended. @handle is the one that pieces enter. Both
 * may be NULL. */
void leaving_copier(struct leaving *leaving, struct copier *copier, struct handle *handle) CO_FN CONTROL_FN;

#endif
