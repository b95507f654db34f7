#include "blockcore/jobs/job.h"

#include "blockcore/base/hash.h"
#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/sync.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

struct job {
    char *id;
    const struct job_driver *driver;
    void *state;
    unsigned flags;
    enum job_status status;
    struct error *error;
    bool started;
    bool paused; /* by the client; the status follows at the next job_go_on() */
    bool cancelled;
    bool forced;
    bool shall_complete;
    bool finalized;
    struct co_queue told; /* the coroutine waits here to be told something */
    _Atomic uint64_t progress_current;
    _Atomic uint64_t progress_total;
    struct list in_order;
    struct hash_link by_id;
};

static struct {
    struct hash by_id;
    struct list in_order;
    struct co_queue moved; /* who waits for jobs to go on with their lives */
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

static void move_to(struct job *job, enum job_status status)
{
    assert(job_may_move(job->status, status));
    job->status = status;
    if (jobs.listener)
        jobs.listener(job, status, jobs.listener_arg);
    co_queue_wake_all(&jobs.moved);
}

static struct error *check_id(const char *id)
{
    if (job_find(id))
        return error_new("Job ID '%s' already in use", id);
    return NULL;
}

struct error *job_create(const struct job_driver *driver, const char *id, unsigned flags, struct job **out)
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
    list_append(&jobs.in_order, &job->in_order);
    hash_insert_string(&jobs.by_id, &job->by_id, job->id);
    move_to(job, JOB_STATUS_CREATED);
    *out = job;
    return NULL;
}

static void forget(struct job *job)
{
    move_to(job, JOB_STATUS_NULL);
    hash_remove(&jobs.by_id, &job->by_id);
    list_remove(&job->in_order);
    if (job->driver->fini)
        job->driver->fini(job);
    co_queue_fini(&job->told);
    error_free(job->error);
    free(job->state);
    free(job->id);
    free(job);
}

static struct error *cancelled_error(void)
{
    return error_new("the job was cancelled");
}

/* From the end of the work to the moment from which on nothing can fail. */
static struct error *wait_and_prepare(struct job *job) CO_FN;

static struct error *wait_and_prepare(struct job *job)
{
    move_to(job, JOB_STATUS_WAITING);
    move_to(job, JOB_STATUS_PENDING);
    while ((job->flags & JOB_MANUAL_FINALIZE) && !job->finalized && !job->cancelled)
        co_queue_wait(&job->told, NULL, "job-finalize");
    if (job->cancelled)
        return cancelled_error();
    return job->driver->prepare ? job->driver->prepare(job) : NULL;
}

static void job_main(void *arg)
{
    struct job *job = arg;

    move_to(job, JOB_STATUS_RUNNING);
    struct error *err = job_go_on(job) ? job->driver->run(job) : NULL;
    if (!err)
        err = job->cancelled ? cancelled_error() : wait_and_prepare(job);
    job->error = err;
    if (err)
        move_to(job, JOB_STATUS_ABORTING);
    if (job->driver->finish)
        job->driver->finish(job, !err);
    move_to(job, JOB_STATUS_CONCLUDED);
    if (!(job->flags & JOB_MANUAL_DISMISS))
        forget(job);
}

void job_start(struct job *job)
{
    assert(job->status == JOB_STATUS_CREATED && !job->started);
    job->started = true;
    co_start("job", job_main, job);
}

bool job_go_on(struct job *job)
{
    enum job_status working = job->status;

    if (job->paused && !job->cancelled)
        move_to(job, working == JOB_STATUS_READY ? JOB_STATUS_STANDBY : JOB_STATUS_PAUSED);
    while (job->paused && !job->cancelled)
        co_queue_wait(&job->told, NULL, "job-resume");
    if (job->status != working)
        move_to(job, working);
    return !job->cancelled;
}

bool job_is_cancelled(const struct job *job)
{
    return job->cancelled;
}

bool job_is_forced(const struct job *job)
{
    return job->forced;
}

void job_become_ready(struct job *job)
{
    move_to(job, JOB_STATUS_READY);
}

bool job_shall_complete(const struct job *job)
{
    return job->shall_complete;
}

/* Verbs ---------------------------------------------------------------------------------------------------------- */

static struct error *check_verb(const struct job *job, enum job_verb verb)
{
    if (job_accepts(job->status, verb))
        return NULL;
    return error_new("Job '%s' in state '%s' cannot accept command verb '%s'", job->id, job_status_name(job->status),
                     job_verb_name(verb));
}

static void tell(struct job *job)
{
    co_queue_wake_all(&job->told);
    if (job->driver->wake && job->started)
        job->driver->wake(job);
}

struct error *job_cancel(struct job *job, bool force)
{
    struct error *err = check_verb(job, JOB_VERB_CANCEL);
    if (err)
        return err;
    job->cancelled = true;
    job->forced = job->forced || force;
    if (job->started) {
        tell(job);
        return NULL;
    }
    job->error = cancelled_error();
    move_to(job, JOB_STATUS_ABORTING);
    move_to(job, JOB_STATUS_CONCLUDED);
    forget(job);
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
    tell(job);
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
    tell(job);
    return NULL;
}

struct error *job_complete(struct job *job)
{
    struct error *err = check_verb(job, JOB_VERB_COMPLETE);

    if (!err && (job->paused || job->cancelled))
        err = error_new("The active block job '%s' cannot be completed", job->id);
    if (err)
        return err;
    job->shall_complete = true;
    tell(job);
    return NULL;
}

struct error *job_finalize(struct job *job)
{
    struct error *err = check_verb(job, JOB_VERB_FINALIZE);

    if (err)
        return err;
    job->finalized = true;
    tell(job);
    return NULL;
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

void job_end_all(void)
{
    struct job *job;

    while (find_job(is_active)) {
        /* Commands that are still running may start some more. */
        while ((job = find_job(is_to_cancel)))
            error_free(job_cancel(job, true));
        if (find_job(is_active))
            co_queue_wait(&jobs.moved, NULL, "jobs to end");
    }
    while ((job = job_next(NULL)))
        forget(job);
}
