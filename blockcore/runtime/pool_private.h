/* pool_private - jobs that need no coroutine to wait for them */
#ifndef CAIRN_RUNTIME_POOL_PRIVATE_H
#define CAIRN_RUNTIME_POOL_PRIVATE_H

#include "blockcore/base/list.h"
#include "blockcore/runtime/pool.h"

struct worker;

struct pool_job {
    struct list link;
    struct pool_domain *domain;
    struct worker *worker;             /* that runs it; NULL: none yet */
    bool left;                         /* behind, before it ran */
    void (*run)(struct pool_job *job); /* on a thread of the pool; the job may be gone when it returns */
};

/* Any thread. @job->run is set; the job stays where it is until run() is called. @domain NULL: the shared one. */
void pool_submit(struct pool_domain *domain, struct pool_job *job);

struct pool_domain *pool_domain_ref(struct pool_domain *domain);

/* Starts the thread that is always there; -errno when the system gives none. */
int pool_start(void) MUST_CHECK;

/* Ends the threads and waits for them, but for those that run what was left behind. */
void pool_stop(void);

/* Threads that run what was left behind: while there are some, the process must end by _exit(2). */
unsigned pool_threads_left(void);

#endif
