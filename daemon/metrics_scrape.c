#include "daemon/metrics_scrape.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "daemon/daemon.h"
#include "daemon/metrics_text.h"
#include "daemon/statistics.h"
#include "schema/codec/text.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct scrape {
    struct loop_task task;
    struct arena arena;
    struct daemon_statistics statistics;
    pthread_mutex_t mutex;
    pthread_cond_t collected;
    bool done;
    _Atomic unsigned refs; /* of the one who asks, and of the control thread */
};

static _Atomic unsigned unfinished; /* the control thread has to do with so many */

static void scrape_unref(struct scrape *scrape)
{
    if (atomic_fetch_sub(&scrape->refs, 1) != 1)
        return;
    pthread_cond_destroy(&scrape->collected);
    pthread_mutex_destroy(&scrape->mutex);
    arena_fini(&scrape->arena);
    free(scrape);
}

static void collect(void *arg)
{
    struct scrape *scrape = arg;
    statistics_collect(&scrape->arena, &scrape->statistics);
    pthread_mutex_lock(&scrape->mutex);
    scrape->done = true;
    pthread_cond_signal(&scrape->collected);
    pthread_mutex_unlock(&scrape->mutex);
    scrape_unref(scrape);
    atomic_fetch_sub(&unfinished, 1);
}

static void start(struct loop_task *task)
{
    co_start("metrics", collect, CONTAINER_OF(task, struct scrape, task));
}

static struct scrape *scrape_create(void)
{
    struct scrape *scrape = xcalloc(1, sizeof(*scrape));
    pthread_condattr_t attributes;
    arena_init(&scrape->arena, SIZE_MAX);
    pthread_mutex_init(&scrape->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&scrape->collected, &attributes);
    pthread_condattr_destroy(&attributes);
    scrape->task.run = start;
    scrape->refs = 2;
    return scrape;
}

static bool wait_collected(struct scrape *scrape)
{
    struct timespec end;
    int ret = 0;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += METRICS_SCRAPE_SECONDS;
    pthread_mutex_lock(&scrape->mutex);
    while (!scrape->done && ret != ETIMEDOUT)
        ret = pthread_cond_timedwait(&scrape->collected, &scrape->mutex, &end);
    bool done = scrape->done;
    pthread_mutex_unlock(&scrape->mutex);
    return done;
}

bool metrics_scrape(struct text *text)
{
    struct scrape *scrape = scrape_create();
    atomic_fetch_add(&unfinished, 1);
    loop_post(loop_control(), &scrape->task);
    bool done = wait_collected(scrape);
    if (done)
        metrics_text_append(text, &scrape->statistics, CAIRN_VERSION);
    scrape_unref(scrape);
    return done;
}

void metrics_scrape_wait_end(void)
{
    while (atomic_load(&unfinished) > 0)
        co_yield ();
}
