/* job_private - what a job is made of, for job.c and job_txn.c */
#ifndef CAIRN_JOBS_JOB_PRIVATE_H
#define CAIRN_JOBS_JOB_PRIVATE_H

#include "blockcore/base/hash.h"
#include "blockcore/base/list.h"
#include "blockcore/jobs/job.h"
#include "blockcore/runtime/sync.h"

#include <stdatomic.h>

struct job {
    char *id;
    const struct job_driver *driver;
    void *state;
    unsigned flags;
    enum job_status status;
    struct error *error;
    bool started;
    bool paused; /* by the client or an error; the status follows at the next job_go_on() */
    bool cancelled;
    bool ends_ready; /* cancelled in "ready", without force */
    bool shall_complete;
    int io_error;
    uint64_t speed;
    struct co_queue told; /* the coroutine waits here to be told something */
    _Atomic uint64_t progress_current;
    _Atomic uint64_t progress_total;
    struct list in_order;
    struct hash_link by_id;
    struct job_txn *txn;
    struct list in_txn;
};

/* For job_txn.c ------------------------------------------------------------------------------------------------ */

void job_move_to(struct job *job, enum job_status status);
void job_tell_listener(struct job *job, enum job_event_kind kind);
/* Wakes whatever the job waits for. */
void job_tell(struct job *job);
struct error *job_cancelled_error(void) MUST_CHECK;

/* For job.c ---------------------------------------------------------------------------------------------------- */

/* A transaction of its own with @txn NULL. */
void job_txn_join(struct job_txn *txn, struct job *job);
void job_txn_leave(struct job *job);

/* The job has done its work: waits for the others, and takes the last step that can fail together with them.
 * Afterwards nothing can fail any more. */
struct error *job_txn_settle(struct job *job) CO_FN MUST_CHECK;

/* The job has failed: the others are cancelled. */
void job_txn_fail(struct job *job);

void job_txn_finalize(struct job *job);

/* Is it too late for anything to go wrong? */
bool job_txn_has_succeeded(const struct job *job);

#endif
