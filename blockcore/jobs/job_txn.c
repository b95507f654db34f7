/* Jobs that succeed or fail together.
 *
 *     run ----> waiting --(all are here)--> pending --(finalized)--> prepare --(all have)--> take effect
 *      '-----------'-------------------------'-----------------------'--> one fails: all are cancelled */
#include "blockcore/base/memory.h"
#include "blockcore/jobs/job_private.h"

#include <assert.h>

struct job_txn {
    unsigned refs;
    struct list jobs;
    unsigned members;
    unsigned arrived;  /* have done their work */
    unsigned prepared; /* have taken their last step that can fail */
    bool finalized;
    bool failed;
};

struct job_txn *job_txn_create(void)
{
    struct job_txn *txn = xcalloc(1, sizeof(*txn));
    txn->refs = 1;
    list_init(&txn->jobs);
    return txn;
}

void job_txn_unref(struct job_txn *txn)
{
    if (txn && --txn->refs == 0)
        free(txn);
}

void job_txn_join(struct job_txn *txn, struct job *job)
{
    job->txn = txn ? txn : job_txn_create();
    job->txn->refs += txn ? 1 : 0;
    job->txn->members++;
    list_append(&job->txn->jobs, &job->in_txn);
}

void job_txn_leave(struct job *job)
{
    list_remove(&job->in_txn);
    job_txn_unref(steal(&job->txn));
}

static void tell_all(struct job_txn *txn)
{
    struct job *job;
    list_for_each (job, &txn->jobs, in_txn)
        job_tell(job);
}

/* None of them waits for a client. */
static bool finalizes_itself(const struct job_txn *txn)
{
    const struct job *job;
    list_for_each (job, &txn->jobs, in_txn) {
        if (job->flags & JOB_MANUAL_FINALIZE)
            return false;
    }
    return true;
}

static bool arrived(const struct job *job)
{
    return job->txn->arrived == job->txn->members;
}

static bool finalized(const struct job *job)
{
    return job->txn->finalized;
}

bool job_txn_has_succeeded(const struct job *job)
{
    return job->txn->prepared == job->txn->members;
}

/* False when it is cancelled before. */
static bool wait_until(struct job *job, bool (*reached)(const struct job *job), const char *what) CO_FN;

static bool wait_until(struct job *job, bool (*reached)(const struct job *job), const char *what)
{
    while (!reached(job) && !job->cancelled)
        co_queue_wait(&job->told, NULL, what);
    return reached(job);
}

struct error *job_txn_settle(struct job *job)
{
    struct job_txn *txn = job->txn;

    job_move_to(job, JOB_STATUS_WAITING);
    if (++txn->arrived == txn->members) {
        txn->finalized = finalizes_itself(txn);
        tell_all(txn);
    }
    if (!wait_until(job, arrived, "the other jobs of a transaction") || job->cancelled)
        return job_cancelled_error();
    job_move_to(job, JOB_STATUS_PENDING);
    if (job->flags & JOB_MANUAL_FINALIZE)
        job_tell_listener(job, JOB_EVENT_PENDING);
    if (!wait_until(job, finalized, "job-finalize") || job->cancelled)
        return job_cancelled_error();
    struct error *err = job->driver->prepare ? job->driver->prepare(job) : NULL;
    /* Done is done: who cancels it now, or did while it took this step, comes too late. */
    if (err)
        return err;
    txn->prepared++;
    tell_all(txn);
    while (!job_txn_has_succeeded(job) && !txn->failed)
        co_queue_wait(&job->told, NULL, "the other jobs of a transaction");
    return txn->failed ? job_cancelled_error() : NULL;
}

void job_txn_fail(struct job *job)
{
    struct job_txn *txn = job->txn;
    if (txn->failed)
        return;
    txn->failed = true;
    struct job *other;
    list_for_each (other, &txn->jobs, in_txn) {
        if (other != job)
            other->cancelled = true;
    }
    tell_all(txn);
}

void job_txn_finalize(struct job *job)
{
    job->txn->finalized = true;
    tell_all(job->txn);
}
