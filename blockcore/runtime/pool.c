#include "blockcore/runtime/pool.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/pool_private.h"
#include "blockcore/runtime/runtime_private.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define IDLE_SECONDS 5
#define WORKER_STACK_BYTES (1024 * 1024)

struct pool_domain {
    _Atomic unsigned refs; /* its creator's, and one per job */
    char *name;
    unsigned threads_max;
    unsigned running;
    struct list queue; /* jobs beyond the limit, or beyond the threads there are */
    struct list link;  /* in the pool's `runnable` */
};

struct worker {
    struct list link; /* in the pool's `idle` */
    pthread_cond_t wake;
    struct pool_job *job; /* what it shall do next; NULL: nothing */
    bool left;            /* nobody waits for what it runs */
    bool apart;           /* what it runs does not count for its domain any more */
    bool stays;           /* until the pool stops; the others end when they have been idle for a while */
};

/* Everything is read and written with the mutex held, so a worker that goes idle and a job that is submitted come one
 * after the other. Invariant: while a domain is runnable no worker is idle. Whoever puts a job into a queue has found
 * none idle (pool_submit) or sets those to work that are (employ_idle), as does whoever makes room in a domain; a
 * worker goes idle only when nothing is runnable (take_job). And one worker is always there, so what is queued is done
 * even if the system gives no thread.
 */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t thread_ended;
    struct list idle;     /* workers; the last that went idle is the first to work again: its caches are warm */
    struct list runnable; /* domains below their limit that have queued jobs; served in turn */
    unsigned threads;
    unsigned threads_left; /* run what was left behind */
    unsigned calls_left;   /* those, and what is queued */
    bool stopping;
    struct pool_domain *shared;
} pool = { .mutex = PTHREAD_MUTEX_INITIALIZER, .thread_ended = PTHREAD_COND_INITIALIZER };

struct pool_domain *pool_domain_create(const char *name, unsigned threads_max)
{
    struct pool_domain *domain = xmalloc(sizeof(*domain));
    *domain = (struct pool_domain){
        .refs = 1,
        .name = xstrdup(name),
        .threads_max = threads_max ? threads_max : POOL_DOMAIN_THREADS_MAX,
    };
    list_init(&domain->queue);
    list_init(&domain->link);
    return domain;
}

struct pool_domain *pool_domain_ref(struct pool_domain *domain)
{
    atomic_fetch_add_explicit(&domain->refs, 1, memory_order_relaxed);
    return domain;
}

void pool_domain_unref(struct pool_domain *domain)
{
    if (!domain || atomic_fetch_sub_explicit(&domain->refs, 1, memory_order_acq_rel) > 1)
        return;
    free(domain->name);
    free(domain);
}

/* Keeps the domain in `runnable` exactly while it has work that may begin. The mutex is held. */
static void update_runnable(struct pool_domain *domain)
{
    bool runnable = !list_empty(&domain->queue) && domain->running < domain->threads_max;
    list_remove(&domain->link);
    if (runnable)
        list_append(&pool.runnable, &domain->link);
}

/* The mutex is held. */
static struct pool_job *take_job(void)
{
    struct pool_domain *domain = list_first(&pool.runnable, struct pool_domain, link);
    if (!domain)
        return NULL;
    struct pool_job *job = list_entry(list_take_first(&domain->queue), struct pool_job, link);
    domain->running++;
    update_runnable(domain);
    return job;
}

/* Afterwards it has a job, or shall end. The mutex is held, except while it sleeps. */
static void wait_for_work(struct worker *worker)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    list_prepend(&pool.idle, &worker->link);
    int ret = 0;
    while (!worker->job && !pool.stopping && ret != ETIMEDOUT) {
        if (worker->stays)
            pthread_cond_wait(&worker->wake, &pool.mutex);
        else
            ret = pthread_cond_timedwait(&worker->wake, &pool.mutex, &until);
    }
    list_remove(&worker->link);
}

/* To a worker that is idle. The mutex is held. */
static void hand_over(struct worker *worker, struct pool_job *job)
{
    list_remove(&worker->link);
    worker->job = job;
    pthread_cond_signal(&worker->wake);
}

/* The mutex is held. */
static void employ_idle(void)
{
    while (!list_empty(&pool.runnable) && !list_empty(&pool.idle))
        hand_over(list_first(&pool.idle, struct worker, link), take_job());
}

/* The mutex is held. */
static void note_left(struct worker *worker)
{
    worker->left = true;
    pool.threads_left++;
}

static void note_back(struct worker *worker)
{
    worker->left = false;
    pool.threads_left--;
    pool.calls_left--;
}

/* Runs the worker's job. The mutex is held before and after, not meanwhile. */
static void work(struct worker *worker)
{
    struct pool_job *job = worker->job;
    struct pool_domain *domain = job->domain;
    job->worker = worker;
    if (job->left)
        note_left(worker);
    pthread_mutex_unlock(&pool.mutex);
    job->run(job);
    pthread_mutex_lock(&pool.mutex);
    if (worker->left)
        note_back(worker);
    if (!worker->apart) {
        domain->running--;
        update_runnable(domain);
    }
    worker->apart = false;
    pool_domain_unref(domain);
    worker->job = take_job();
}

static void worker_init(struct worker *worker, struct pool_job *job)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    *worker = (struct worker){ .job = job, .stays = !job };
    pthread_cond_init(&worker->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    list_init(&worker->link);
}

/* Without a job it is the one that stays. */
static void *worker_main(void *job)
{
    struct worker worker;
    pthread_setname_np(pthread_self(), "pool");
    worker_init(&worker, job);
    pthread_mutex_lock(&pool.mutex);
    if (!worker.job)
        worker.job = take_job();
    do {
        while (worker.job)
            work(&worker);
        wait_for_work(&worker);
    } while (worker.job);
    pthread_cond_destroy(&worker.wake);
    pool.threads--;
    pthread_cond_signal(&pool.thread_ended);
    pthread_mutex_unlock(&pool.mutex);
    return NULL;
}

static int start_worker(struct pool_job *job)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);

    sigset_t blocked, before;
    signals_of_control_thread(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    pthread_t thread;
    int ret = pthread_create(&thread, &attributes, worker_main, job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return ret;
}

/* The system gives no thread: the job waits for one of those that are there, and some may have gone idle since it was
 * submitted. */
static void queue_without_thread(struct pool_job *job)
{
    struct pool_domain *domain = job->domain;
    pthread_mutex_lock(&pool.mutex);
    pool.threads--;
    domain->running--;
    list_prepend(&domain->queue, &job->link);
    update_runnable(domain);
    employ_idle();
    pthread_mutex_unlock(&pool.mutex);
}

void pool_submit(struct pool_domain *domain, struct pool_job *job)
{
    if (!domain)
        domain = pool.shared;
    job->domain = pool_domain_ref(domain);
    job->worker = NULL;
    job->left = false;
    list_init(&job->link);

    bool need_thread = false;
    pthread_mutex_lock(&pool.mutex);
    struct worker *worker = list_first(&pool.idle, struct worker, link);
    if (domain->running < domain->threads_max && (worker || pool.threads < POOL_THREADS_MAX)) {
        domain->running++;
        if (worker) {
            hand_over(worker, job);
        } else {
            pool.threads++;
            need_thread = true;
        }
    } else {
        list_append(&domain->queue, &job->link);
        update_runnable(domain);
    }
    pthread_mutex_unlock(&pool.mutex);
    if (need_thread && start_worker(job) != 0)
        queue_without_thread(job);
}

struct blocking_call {
    struct pool_job job;
    struct co_event done;
    int (*fn)(void *arg);
    void *arg;
    int result;
};

static void run_call(struct pool_job *job)
{
    struct blocking_call *call = CONTAINER_OF(job, struct blocking_call, job);
    call->result = call->fn(call->arg);
    co_event_set(&call->done);
}

int co_blocking(struct pool_domain *domain, int (*fn)(void *arg), void *arg)
{
    struct blocking_call call = { .job.run = run_call, .fn = fn, .arg = arg };
    co_event_init(&call.done);
    pool_submit(domain, &call.job);
    co_event_wait(&call.done, "a blocking call");
    return call.result;
}

/* Left behind ----------------------------------------------------------------------------------------------------- */

enum call_state {
    CALL_WANTED,
    CALL_LEFT,  /* who runs it frees it */
    CALL_ENDED, /* who waits for it frees it */
};

struct own_call {
    struct pool_job job;
    struct co_event done;
    int (*fn)(void *arg);
    void (*release)(void *arg);
    void *arg;
    int result;
    _Atomic int state;
};

static void run_own_call(struct pool_job *job)
{
    struct own_call *call = CONTAINER_OF(job, struct own_call, job);
    if (atomic_load(&call->state) == CALL_WANTED)
        call->result = call->fn(call->arg);
    int wanted = CALL_WANTED;
    if (atomic_compare_exchange_strong(&call->state, &wanted, CALL_ENDED)) {
        co_event_set(&call->done);
        return;
    }
    call->release(call->arg);
    free(call);
}

/* What was left must not use up the threads of its domain, which others wait for: one more may run. Returns a job that
 * needs a new thread, or NULL. The mutex is held. */
static struct pool_job *set_apart(struct worker *worker, struct pool_domain *domain)
{
    worker->apart = true;
    domain->running--;
    update_runnable(domain);
    employ_idle();
    if (list_empty(&pool.runnable) || pool.threads >= POOL_THREADS_MAX)
        return NULL;
    pool.threads++;
    return take_job();
}

/* False: it has ended meanwhile, or too many were left already. Whoever runs it needs the mutex before it begins and
 * after it has ended, so until it is given back its worker and its domain are there; the call is, until it is left. */
static bool leave_call(struct own_call *call)
{
    int wanted = CALL_WANTED;
    struct pool_job *next = NULL;
    pthread_mutex_lock(&pool.mutex);
    struct worker *worker = call->job.worker;
    struct pool_domain *domain = call->job.domain;
    bool left = pool.calls_left < POOL_LEFT_MAX;
    if (left && !worker)
        call->job.left = true;
    left = left && atomic_compare_exchange_strong(&call->state, &wanted, CALL_LEFT);
    if (left && worker) {
        note_left(worker);
        next = set_apart(worker, domain);
    }
    pool.calls_left += left;
    pthread_mutex_unlock(&pool.mutex);
    if (next && start_worker(next) != 0)
        queue_without_thread(next);
    return left;
}

bool co_blocking_or_leave(struct pool_domain *domain, int (*fn)(void *arg), void (*release)(void *arg), void *arg,
                          int *ret)
{
    static const char what[] = "a blocking call";
    struct own_call *call = xmalloc(sizeof(*call));
    *call = (struct own_call){ .job.run = run_own_call, .fn = fn, .release = release, .arg = arg };
    co_event_init(&call->done);
    pool_submit(domain, &call->job);
    if (!co_event_wait_unless_cancelled(&call->done, what)) {
        if (leave_call(call))
            return false;
        co_event_wait(&call->done, what);
    }
    *ret = call->result;
    free(call);
    return true;
}

unsigned pool_threads_left(void)
{
    pthread_mutex_lock(&pool.mutex);
    unsigned count = pool.threads_left;
    pthread_mutex_unlock(&pool.mutex);
    return count;
}

int pool_start(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    list_init(&pool.idle);
    list_init(&pool.runnable);
    pool.stopping = false;
    pool.shared = pool_domain_create("shared", cores > 1 ? (unsigned)cores : 2);
    pool.threads = 1;
    int ret = start_worker(NULL);
    if (ret != 0)
        pool.threads = 0;
    return -ret;
}

void pool_stop(void)
{
    struct worker *worker;
    pthread_mutex_lock(&pool.mutex);
    pool.stopping = true;
    list_for_each (worker, &pool.idle, link)
        pthread_cond_signal(&worker->wake);
    while (pool.threads > pool.threads_left)
        pthread_cond_wait(&pool.thread_ended, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
    pool_domain_unref(pool.shared);
    pool.shared = NULL;
}
