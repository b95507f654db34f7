#include "blockcore/jobs/job_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"
#include "blockcore/runtime/coroutine.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

static struct {
    struct hash by_id;
    struct list in_order;
    struct co_queue moved; /* who waits for jobs to go on with their lives */
    unsigned left_behind;
    bool ending; /* job_end_all() waits */
    job_listener *listener;
    void *listener_arg;
} jobs = {
    .in_order = LIST_INIT(jobs.in_order),
    .moved = { .guard = { ATOMIC_FLAG_INIT }, .waiters = LIST_INIT(jobs.moved.waiters) },
};

/* What there is ------------------------------------------------------------------------------------------------- */

void *job_state(struct job *job)
{
    return job->state;
}

const struct job_driver *job_get_driver(const struct job *job)
{
    return job->driver;
}

unsigned job_get_flags(const struct job *job)
{
    return job->flags;
}

const char *job_id(const struct job *job)
{
    return job->id;
}

enum job_type job_get_type(const struct job *job)
{
    return job->driver->type;
}

enum job_status job_get_status(const struct job *job)
{
    return job->status;
}

const struct error *job_error(const struct job *job)
{
    return job->error;
}

struct job *job_find(const char *id)
{
    struct hash_link *link = hash_find_string(&jobs.by_id, id);

    return link ? hash_entry(link, struct job, by_id) : NULL;
}

bool job_is_paused(const struct job *job)
{
    return job->paused;
}

int job_io_error(const struct job *job)
{
    return job->io_error;
}

uint64_t job_speed(const struct job *job)
{
    return job->speed;
}

struct error *job_not_found(void)
{
    return error_new("Job not found");
}

struct job *job_next(const struct job *after)
{
    const struct list *next = after ? after->in_order.next : jobs.in_order.next;

    return next == &jobs.in_order ? NULL : list_entry(next, struct job, in_order);
}

void job_progress_add(struct job *job, uint64_t done)
{
    atomic_fetch_add_explicit(&job->progress_current, done, memory_order_relaxed);
}

void job_progress_add_total(struct job *job, uint64_t more)
{
    atomic_fetch_add_explicit(&job->progress_total, more, memory_order_relaxed);
}

uint64_t job_progress_current(const struct job *job)
{
    return atomic_load_explicit(&job->progress_current, memory_order_relaxed);
}

uint64_t job_progress_total(const struct job *job)
{
    return atomic_load_explicit(&job->progress_total, memory_order_relaxed);
}

void job_set_listener(job_listener *listener, void *arg)
{
    jobs.listener = listener;
    jobs.listener_arg = arg;
}

/* Life ----------------------------------------------------------------------------------------------------------- */

static void tell_event(struct job *job, const struct job_event *event)
{
    if (jobs.listener)
        jobs.listener(job, event, jobs.listener_arg);
}

void job_tell_listener(struct job *job, enum job_event_kind kind)
{
    tell_event(job, &(struct job_event){ .kind = kind, .status = job->status });
}

void job_move_to(struct job *job, enum job_status status)
{
    assert(job_may_move(job->status, status));
    TRACE(job_status, job->id, TRACE_CONSTANT(job_status_name(job->status)), TRACE_CONSTANT(job_status_name(status)));
    job->status = status;
    job_tell_listener(job, JOB_EVENT_STATUS);
    co_queue_wake_all(&jobs.moved);
}

static struct error *check_id(const char *id)
{
    if (job_find(id))
        return error_new("Job ID '%s' already in use", id);
    return NULL;
}

struct error *job_create(const struct job_driver *driver, const char *id, unsigned flags, struct job_txn *txn,
                         struct job **out)
{
    struct error *err = check_id(id);
    if (err)
        return err;
    struct job *job = xcalloc(1, sizeof(*job));
    job->id = xstrdup(id);
    job->driver = driver;
    job->state = xcalloc(1, driver->state_size);
    job->flags = flags;
    job->status = JOB_STATUS_UNDEFINED;
    co_queue_init(&job->told);
    job_txn_join(txn, job);
    list_append(&jobs.in_order, &job->in_order);
    hash_insert_string(&jobs.by_id, &job->by_id, job->id);
    job_move_to(job, JOB_STATUS_CREATED);
    *out = job;
    return NULL;
}

static void forget(struct job *job)
{
    job_move_to(job, JOB_STATUS_NULL);
    hash_remove(&jobs.by_id, &job->by_id);
    list_remove(&job->in_order);
    job_txn_leave(job);
    if (job->driver->fini)
        job->driver->fini(job);
    co_queue_fini(&job->told);
    error_free(job->error);
    free(job->state);
    free(job->id);
    free(job);
}

struct error *job_cancelled_error(void)
{
    return error_new("the job was cancelled");
}

/* Everything is decided. */
static void conclude(struct job *job)
{
    bool started = job->started;
    if (started)
        job_tell_listener(job, job->error && job->cancelled ? JOB_EVENT_CANCELLED : JOB_EVENT_COMPLETED);
    job_move_to(job, JOB_STATUS_CONCLUDED);
    if (!started || !(job->flags & JOB_MANUAL_DISMISS))
        forget(job);
}

static void job_main(void *arg)
{
    struct job *job = arg;

    job_move_to(job, JOB_STATUS_RUNNING);
    struct error *err = job_go_on(job) ? job->driver->run(job) : NULL;
    if (!err)
        err = job->cancelled ? job_cancelled_error() : job_txn_settle(job);
    job->error = err;
    if (err) {
        job_move_to(job, JOB_STATUS_ABORTING);
        job_txn_fail(job);
    }
    if (job->driver->finish)
        job->driver->finish(job, !err);
    conclude(job);
}

void job_start(struct job *job)
{
    assert(job->status == JOB_STATUS_CREATED && !job->started);
    job->started = true;
    job->cancelled |= co_cancelled(); /* whoever asked for it wants it no more: it undoes what was prepared */
    co_start("job", job_main, job);
}

bool job_go_on(struct job *job)
{
    enum job_status working = job->status;

    if (job->paused && !job->cancelled && !job->ends_ready)
        job_move_to(job, working == JOB_STATUS_READY ? JOB_STATUS_STANDBY : JOB_STATUS_PAUSED);
    while (job->paused && !job->cancelled && !job->ends_ready)
        co_queue_wait(&job->told, NULL, "job-resume");
    if (job->status != working)
        job_move_to(job, working);
    return !job->cancelled;
}

bool job_is_cancelled(const struct job *job)
{
    return job->cancelled;
}

void job_become_ready(struct job *job)
{
    job_move_to(job, JOB_STATUS_READY);
    job_tell_listener(job, JOB_EVENT_READY);
}

bool job_shall_complete(const struct job *job)
{
    return job->shall_complete;
}

bool job_shall_end(const struct job *job)
{
    return job->ends_ready;
}

static enum block_error_action action_for(enum blockdev_on_error policy, int errnum)
{
    switch (policy) {
    case BLOCKDEV_ON_ERROR_IGNORE:
        return BLOCK_ERROR_ACTION_IGNORE;
    case BLOCKDEV_ON_ERROR_STOP:
        return BLOCK_ERROR_ACTION_STOP;
    case BLOCKDEV_ON_ERROR_ENOSPC:
    case BLOCKDEV_ON_ERROR_AUTO:
        return errnum == ENOSPC ? BLOCK_ERROR_ACTION_STOP : BLOCK_ERROR_ACTION_REPORT;
    case BLOCKDEV_ON_ERROR_REPORT:
    case BLOCKDEV_ON_ERROR__MAX:
        break;
    }
    return BLOCK_ERROR_ACTION_REPORT;
}

enum block_error_action job_met_error(struct job *job, enum blockdev_on_error policy, bool write, int errnum)
{
    enum block_error_action action = action_for(policy, errnum);

    tell_event(job, &(struct job_event){
                        .kind = JOB_EVENT_IO_ERROR,
                        .status = job->status,
                        .write = write,
                        .action = action,
                    });
    if (action == BLOCK_ERROR_ACTION_STOP) {
        job->io_error = errnum;
        job->paused = true;
        job_tell(job);
    }
    return action;
}

/* Verbs ---------------------------------------------------------------------------------------------------------- */

static struct error *check_verb(const struct job *job, enum job_verb verb)
{
    if (job_accepts(job->status, verb))
        return NULL;
    return error_new("Job '%s' in state '%s' cannot accept command verb '%s'", job->id, job_status_name(job->status),
                     job_verb_name(verb));
}

void job_tell(struct job *job)
{
    co_queue_wake_all(&job->told);
    if (job->driver->wake && job->started)
        job->driver->wake(job);
}

static void cancel_unstarted(struct job *job)
{
    job->cancelled = true;
    job->error = job_cancelled_error();
    job_move_to(job, JOB_STATUS_ABORTING);
    job_txn_fail(job);
    conclude(job);
}

static bool is_ready(const struct job *job)
{
    return job->status == JOB_STATUS_READY || job->status == JOB_STATUS_STANDBY;
}

struct error *job_cancel(struct job *job, bool force)
{
    struct error *err = check_verb(job, JOB_VERB_CANCEL);
    if (err)
        return err;
    if (!job->started) {
        cancel_unstarted(job);
        return NULL;
    }
    if (job->driver->may_end_ready && is_ready(job) && !force)
        job->ends_ready = true;
    else
        job->cancelled = true;
    job_tell(job);
    return NULL;
}

struct error *job_cancel_from_outside(struct job *job, bool force)
{
    if (job->started || !job_accepts(job->status, JOB_VERB_CANCEL))
        return job_cancel(job, force);
    job->cancelled = true;
    return NULL;
}

struct error *job_pause(struct job *job)
{
    struct error *err = check_verb(job, JOB_VERB_PAUSE);

    if (!err && job->paused)
        err = error_new("Job is already paused");
    if (err)
        return err;
    job->paused = true;
    job_tell(job);
    return NULL;
}

struct error *job_resume(struct job *job)
{
    if (!job->paused)
        return error_new("Can't resume a job that was not paused");
    struct error *err = check_verb(job, JOB_VERB_RESUME);
    if (err)
        return err;
    job->paused = false;
    job->io_error = 0;
    job_tell(job);
    return NULL;
}

struct error *job_complete(struct job *job)
{
    struct error *err = check_verb(job, JOB_VERB_COMPLETE);

    if (!err && (job->paused || job->cancelled || job->ends_ready))
        err = error_new("The active block job '%s' cannot be completed", job->id);
    if (err)
        return err;
    job->shall_complete = true;
    job_tell(job);
    return NULL;
}

struct error *job_finalize(struct job *job)
{
    struct error *err = check_verb(job, JOB_VERB_FINALIZE);

    if (err)
        return err;
    job_txn_finalize(job);
    return NULL;
}

struct error *job_set_speed(struct job *job, int64_t bytes_per_second)
{
    struct error *err = check_verb(job, JOB_VERB_SET_SPEED);

    if (!err && bytes_per_second < 0)
        err = error_new("speed: expected a non-negative value, found %" PRId64, bytes_per_second);
    if (err)
        return err;
    job->speed = (uint64_t)bytes_per_second;
    if (job->driver->speed_changed && job->started)
        job->driver->speed_changed(job);
    return NULL;
}

struct error *job_change(struct job *job, const struct block_job_change_options *options)
{
    struct error *err = check_verb(job, JOB_VERB_CHANGE);

    if (!err && !job->driver->change)
        err = error_new("Job type does not support change");
    return err ? err : job->driver->change(job, options);
}

struct error *job_dismiss(struct job *job)
{
    struct error *err = check_verb(job, JOB_VERB_DISMISS);

    if (!err)
        forget(job);
    return err;
}

static struct job *find_job(bool (*wanted)(const struct job *job))
{
    struct job *job = NULL;

    while ((job = job_next(job)) && !wanted(job))
        ;
    return job;
}

static bool is_active(const struct job *job)
{
    return job->status != JOB_STATUS_CONCLUDED;
}

static bool is_to_cancel(const struct job *job)
{
    return !job->cancelled && job_accepts(job->status, JOB_VERB_CANCEL);
}

bool job_all_shall_end(void)
{
    return jobs.ending;
}

void job_end_all(void)
{
    struct job *job;

    jobs.ending = true;
    while (find_job(is_active)) {
        /* Commands that are still running may start some more. */
        while ((job = find_job(is_to_cancel)))
            error_free(job_cancel_from_outside(job, true));
        if (find_job(is_active))
            co_queue_wait(&jobs.moved, NULL, "jobs to end");
    }
    while ((job = job_next(NULL)))
        forget(job);
    while (jobs.left_behind > 0)
        co_queue_wait(&jobs.moved, NULL, "what jobs have left behind");
    jobs.ending = false;
}

void job_leave_behind(void)
{
    jobs.left_behind++;
}

void job_left_behind_ended(void)
{
    jobs.left_behind--;
    co_queue_wake_all(&jobs.moved);
}
