#include "blockcore/jobs/leave.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/notice.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/jobs/copier.h"
#include "blockcore/jobs/job.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

/* A second, counted in turns of the loop: where the machine has no time for the loop, it is longer. */
#define TICK_MS 100
#define TICKS 10
#define REMOVE_AGAIN_MS 100

/* Steps ---------------------------------------------------------------------------------------------------------- */

void job_step_init(struct job_step *step)
{
    *step = (struct job_step){ .running = false };
    co_queue_init(&step->told);
}

void job_step_fini(struct job_step *step)
{
    co_queue_fini(&step->told);
    error_free(steal(&step->err));
}

struct step_work {
    struct job_step *step;
    struct error *(*work)(void *arg)CO_FN;
    void *arg;
};

static void step_entry(void *arg)
{
    struct step_work work = *(struct step_work *)arg;
    work.step->err = work.work(work.arg);
    work.step->running = false;
    co_queue_wake_all(&work.step->told);
}

struct error *job_step_take(struct job_step *step, struct job *job, struct error *(*work)(void *arg)CO_FN, void *arg)
{
    struct step_work step_work = { .step = step, .work = work, .arg = arg };
    error_free(steal(&step->err)); /* of an earlier one, which nobody waited for to its end */
    step->running = true;
    co_start("step of a job", step_entry, &step_work);
    while (step->running && !step->settled && !job_is_cancelled(job))
        co_queue_wait(&step->told, NULL, "a step of a job");
    if (step->running)
        return step->settled ? NULL : error_new("the job was cancelled");
    return steal(&step->err);
}

void job_step_settle(struct job_step *step)
{
    step->settled = true;
    co_queue_wake_all(&step->told);
}

void job_step_wake(struct job_step *step)
{
    co_queue_wake_all(&step->told);
}

void job_step_wait(struct job_step *step)
{
    while (step->running)
        co_queue_wait(&step->told, NULL, "a step of a job");
}

/* Leaving -------------------------------------------------------------------------------------------------------- */

struct leaving {
    void (*work)(struct leaving *leaving, void *arg) CO_FN;
    void *arg;
    struct co_queue told;
    struct timer *timer;
    unsigned ticks;        /* since it has got on */
    struct handle *handle; /* whose requests are waited for; NULL: something else is */
    unsigned in_flight;    /* of them, a tick ago */
    bool released;         /* the copier has gone */
    bool ended;
    bool hangs;
    bool left_behind;
};

static void leaving_free(struct leaving *leaving)
{
    co_queue_fini(&leaving->told);
    free(leaving);
}

static void leaving_entry(void *arg)
{
    struct leaving *leaving = arg;
    leaving->work(leaving, leaving->arg);
    leaving->ended = true;
    if (leaving->left_behind)
        leaving_free(leaving);
    else
        co_queue_wake_all(&leaving->told);
    job_left_behind_ended();
}

static void tick(void *arg)
{
    struct leaving *leaving = arg;
    unsigned in_flight = leaving->handle ? handle_in_flight(leaving->handle) : 0;
    if (in_flight != leaving->in_flight)
        leaving_got_on(leaving);
    leaving->in_flight = in_flight;
    if (++leaving->ticks < TICKS) {
        timer_start(leaving->timer, TICK_MS);
        return;
    }
    leaving->hangs = true;
    co_queue_wake_all(&leaving->told);
}

void job_leave(void (*work)(struct leaving *leaving, void *arg) CO_FN, void *arg)
{
    struct leaving *leaving = xcalloc(1, sizeof(*leaving));
    *leaving = (struct leaving){ .work = work, .arg = arg };
    co_queue_init(&leaving->told);
    job_leave_behind();
    co_start("end of a job", leaving_entry, leaving);
    leaving->timer = timer_create_on_loop(tick, leaving);
    timer_start(leaving->timer, TICK_MS);
    while (!leaving->ended && !leaving->hangs)
        co_queue_wait(&leaving->told, NULL, "requests of a job");
    timer_destroy(leaving->timer);
    leaving->left_behind = true;
    if (leaving->ended)
        leaving_free(leaving);
}

void leaving_got_on(struct leaving *leaving)
{
    leaving->ticks = 0;
}

/* No piece is on its way any more. */
static void released(void *arg)
{
    struct leaving *leaving = arg;
    leaving->released = true;
    co_queue_wake_all(&leaving->told);
}

void leaving_copier(struct leaving *leaving, struct copier *copier, struct handle *handle)
{
    leaving->handle = handle;
    copier_destroy(copier, released, leaving);
    while (!leaving->released)
        co_queue_wait(&leaving->told, NULL, "pieces of a job");
    leaving->handle = NULL;
    leaving_got_on(leaving);
}

static void give_notice(const struct node *filter, const char *text)
{
    notice_give(&(struct notice){ .kind = NOTICE_LEFT_OVER, .node_name = node_name(filter), .message = text });
}

void leaving_filter(struct leaving *leaving, struct node *filter)
{
    struct error *err;
    bool told = false;
    while ((err = filter_remove(filter, NULL)) && !job_all_shall_end()) {
        CLEANUP(free)
        char *text = xasprintf("the job has ended, but its filter cannot leave the graph yet: %s", error_message(err));
        if (!told)
            give_notice(filter, text);
        told = true;
        error_free(err);
        co_sleep_ms(REMOVE_AGAIN_MS);
    }
    if (told && !err)
        give_notice(filter, "the filter has left the graph");
    error_free(err);
    leaving_got_on(leaving);
}
