/* job - long work on nodes, with a life that clients can follow and steer
 *
 *                          .--> paused --.         .--> standby --.
 *     created --> running <--------------'-> ready <--------------'
 *        |           |                         |
 *        |           '-------> waiting <-------'         verbs (job_cancel ...) steer it where the table allows:
 *        |                        |                      job_table.c
 *        |                     pending
 *        |                        |
 *        '----> aborting <--------+--> concluded --> null
 *                   '------------------^
 *
 * A job is a coroutine on the control thread that runs its driver's function; heavy work happens elsewhere while
 * it waits. Its life goes by the table of QMP (qapi/job.json): failing or being cancelled leads through "aborting". A
 * job that is not dismissed on its own stays "concluded", with its error, until a client has read that and dismisses
 * it.
 *
 * Jobs of one transaction (struct job_txn) succeed or fail together: each waits in "waiting" until all have done their
 * work, then all take their last step that can fail, and only when all of these have succeeded do results take
 * effect. When one fails or is cancelled, the others are cancelled.
 *
 * Jobs live on the control thread; only the progress may be told and read anywhere. */
#ifndef CAIRN_JOBS_JOB_H
#define CAIRN_JOBS_JOB_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct job;
struct job_txn;

/* What a client, or the daemon, wants of a job. */
enum job_verb {
    JOB_VERB_CANCEL,
    JOB_VERB_PAUSE,
    JOB_VERB_RESUME,
    JOB_VERB_SET_SPEED,
    JOB_VERB_COMPLETE,
    JOB_VERB_FINALIZE,
    JOB_VERB_DISMISS,
    JOB_VERB_CHANGE,
    JOB_VERB_COUNT,
};

/* What there is to know of a kind of job. Absent functions: nothing to do. */
struct job_driver {
    enum job_type type;
    size_t state_size;
    bool is_block_job;  /* clients know it by query-block-jobs and the events BLOCK_JOB_*, too */
    bool may_end_ready; /* cancelled in "ready" without force, it ends well, without its final step */
    /* The work. Calls job_go_on() now and then. */
    struct error *(*run)(struct job *job)CO_FN;
    /* The job was told something: whatever @run waits for that job_go_on() does not know must let it go. */
    void (*wake)(struct job *job) CONTROL_FN;
    /* job_set_speed() or job_change() was called. */
    void (*speed_changed)(struct job *job) CONTROL_FN;
    struct error *(*change)(struct job *job, const struct block_job_change_options *options)CONTROL_FN;
    /* Adds what it knows to the answer of query-block-jobs. */
    void (*describe)(const struct job *job, struct block_job_info *info) CONTROL_FN;
    /* The last step that can fail, when everything else has succeeded and the job is finalized. */
    struct error *(*prepare)(struct job *job)CO_FN;
    /* The outcome is certain: makes the result take effect, or undoes everything. */
    void (*finish)(struct job *job, bool success) CO_FN;
    /* Frees what the state holds. */
    void (*fini)(struct job *job);
};

enum job_flags {
    JOB_MANUAL_FINALIZE = 0x1, /* waits in "pending" for job_finalize() */
    JOB_MANUAL_DISMISS = 0x2,  /* stays "concluded" until job_dismiss() */
};

/* job_table.c */
bool job_may_move(enum job_status from, enum job_status to);
bool job_accepts(enum job_status status, enum job_verb verb);
/* As on the wire: "set-speed". */
const char *job_verb_name(enum job_verb verb);

/* A job in status "created". @id is copied; an error if it is taken or malformed. @flags: enum job_flags. @txn: NULL,
 * or the jobs that it succeeds or fails with. The caller fills in the state (zeroed) and calls job_start(), or
 * job_cancel(). It stays until then: others may only ask it to end. */
struct error *job_create(const struct job_driver *driver, const char *id, unsigned flags, struct job_txn *txn,
                         struct job **out) CONTROL_FN MUST_CHECK;
void job_start(struct job *job) CONTROL_FN;

/* The jobs of a transaction. The maker's reference goes with job_txn_unref(); the jobs have their own. */
struct job_txn *job_txn_create(void) CONTROL_FN;
void job_txn_unref(struct job_txn *txn) CONTROL_FN;

void *job_state(struct job *job);
const struct job_driver *job_get_driver(const struct job *job);
unsigned job_get_flags(const struct job *job);
const char *job_id(const struct job *job);
enum job_type job_get_type(const struct job *job);
enum job_status job_get_status(const struct job *job);
/* Why it failed; NULL while it has not. */
const struct error *job_error(const struct job *job);
/* By the client or by an error; it may still be on its way there. */
bool job_is_paused(const struct job *job);
/* What the last error was that paused it: 0 or an errno. */
int job_io_error(const struct job *job);
/* Bytes per second; 0: no limit. */
uint64_t job_speed(const struct job *job);

/* NULL when there is none. */
struct job *job_find(const char *id) CONTROL_FN;
/* The error that clients know: "Job not found". */
struct error *job_not_found(void) MUST_CHECK;
/* All jobs, the oldest first: pass NULL first; NULL ends. Without awaits between. */
struct job *job_next(const struct job *after) CONTROL_FN;

/* Progress, in units of the job's own; any thread. The total may grow. */
void job_progress_add(struct job *job, uint64_t done);
void job_progress_add_total(struct job *job, uint64_t more);
uint64_t job_progress_current(const struct job *job);
uint64_t job_progress_total(const struct job *job);

enum job_event_kind {
    JOB_EVENT_STATUS,    /* it has moved to .status; before anything else happens */
    JOB_EVENT_READY,     /* after the status */
    JOB_EVENT_PENDING,   /* it waits for job_finalize() */
    JOB_EVENT_COMPLETED, /* its results have taken effect, or it has failed, see job_error(); before "concluded" */
    JOB_EVENT_CANCELLED, /* the same, after job_cancel() */
    JOB_EVENT_IO_ERROR,
};

struct job_event {
    enum job_event_kind kind;
    enum job_status status; /* STATUS */
    bool write;             /* IO_ERROR: it failed to write, or to read */
    enum block_error_action action;
};

/* Must not call back. NULL: nobody listens. */
typedef void job_listener(const struct job *job, const struct job_event *event, void *arg);
void job_set_listener(job_listener *listener, void *arg) CONTROL_FN;

/* Verbs. Errors: the job's status does not allow the verb. */
/* A job that is ready and may end so does, successfully, unless @force. */
struct error *job_cancel(struct job *job, bool force) CONTROL_FN MUST_CHECK;
/* The same for others than its maker: a job that is still being made ends as soon as it has been started. */
struct error *job_cancel_from_outside(struct job *job, bool force) CONTROL_FN MUST_CHECK;
struct error *job_pause(struct job *job) CONTROL_FN MUST_CHECK;
struct error *job_resume(struct job *job) CONTROL_FN MUST_CHECK;
struct error *job_complete(struct job *job) CONTROL_FN MUST_CHECK;
/* All jobs of its transaction. */
struct error *job_finalize(struct job *job) CONTROL_FN MUST_CHECK;
struct error *job_set_speed(struct job *job, int64_t bytes_per_second) CONTROL_FN MUST_CHECK;
struct error *job_change(struct job *job, const struct block_job_change_options *options) CONTROL_FN MUST_CHECK;
/* Frees the job. */
struct error *job_dismiss(struct job *job) CONTROL_FN MUST_CHECK;

/* For the end of the process: cancels all jobs, waits until they are concluded and forgets them. */
void job_end_all(void) CO_FN CONTROL_FN;

/* Has it begun? What is tried again and again shall not be any more. */
bool job_all_shall_end(void) CONTROL_FN;

/* For a driver's functions ---------------------------------------------------------------------------------- */

/* The place to pause: waits while the job is paused. False when it has been cancelled: return soon, with any result. */
bool job_go_on(struct job *job) CO_FN;
bool job_is_cancelled(const struct job *job);
/* All is done but following changes. */
void job_become_ready(struct job *job);
/* Has the client said job_complete()? */
bool job_shall_complete(const struct job *job);
/* It was cancelled while it was ready, and may end so: return NULL soon, without the final step. */
bool job_shall_end(const struct job *job);

/* Something of a job goes on, perhaps after the job, until job_left_behind_ended(): the end of the process waits. */
void job_leave_behind(void) CONTROL_FN;
void job_left_behind_ended(void) CONTROL_FN;

/* The work met an error of storage, and @policy says what becomes of it. Tells the clients. With
 * BLOCK_ERROR_ACTION_STOP the next job_go_on() waits until a client resumes the job. @errnum is positive. */
enum block_error_action job_met_error(struct job *job, enum blockdev_on_error policy, bool write,
                                      int errnum) CONTROL_FN;

#endif
