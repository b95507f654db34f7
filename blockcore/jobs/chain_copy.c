#include "blockcore/jobs/chain_copy.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/io/block_status.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>

#define SWITCH_TRIES 50
#define RETRY_MS 20

/* Making --------------------------------------------------------------------------------------------------------- */

struct chain_copy *chain_copy_of(const struct job *job)
{
    return *(struct chain_copy **)job_state((struct job *)(uintptr_t)job);
}

struct error *chain_copy_create(const struct chain_copy_ops *ops, const struct chain_copy_options *options,
                                struct node *place, struct chain_copy **out)
{
    struct job *job;
    struct error *err = job_create(&ops->driver, options->id, options->flags, NULL, &job);
    if (err)
        return err;
    error_free(job_set_speed(job, (int64_t)options->speed));
    struct chain_copy *copy = xcalloc(1, ops->size);
    copy->ops = ops;
    copy->job = job;
    copy->owner = xasprintf("block job '%s'", options->id);
    copy->nodes.place = node_ref(place);
    copy->on_error = options->on_error;
    copy->backing_file = xstrdup_or_null(options->backing_file);
    copy->mask_protocol = options->mask_protocol;
    job_step_init(&copy->step);
    *out = copy;
    return NULL;
}

struct failure {
    struct chain_copy *copy;
    bool write;
    int errnum;
};

static int met_error(void *arg)
{
    const struct failure *failure = arg;
    struct chain_copy *copy = failure->copy;
    if (!copy->job)
        return COPIER_GIVE_UP;
    enum block_error_action action = job_met_error(copy->job, copy->on_error, failure->write, failure->errnum);
    if (action == BLOCK_ERROR_ACTION_REPORT)
        return COPIER_GIVE_UP;
    if (action == BLOCK_ERROR_ACTION_STOP || !copy->ops->leaves_out)
        return COPIER_TRY_AGAIN;
    copy->left_out = copy->left_out ? copy->left_out : -failure->errnum;
    return COPIER_LEAVE_OUT;
}

static enum copier_answer failed(void *arg, const struct copier_piece *piece, int ret)
{
    struct failure failure = { .copy = arg, .write = piece->write_failed, .errnum = -ret };
    return (enum copier_answer)co_call_on(loop_control(), "error of a job", met_error, &failure);
}

static int plan(void *arg, struct range range, struct extents *plan)
{
    struct chain_copy *copy = arg;
    return copy->ops->copier.plan(copy, range, plan);
}

static int copy_piece(void *arg, struct copier_piece *piece)
{
    struct chain_copy *copy = arg;
    return copy->ops->copier.copy(copy, piece);
}

static struct error *open_handles(struct chain_copy *copy, unsigned shared) CO_FN;

static struct error *open_handles(struct chain_copy *copy, unsigned shared)
{
    struct error *err = handle_open(copy->nodes.filter, copy->owner, PERM_CONSISTENT_READ, shared, &copy->guard);
    return err ? err : handle_open_here(copy->nodes.filter, copy->owner, 0, PERM_ALL, &copy->handle);
}

struct error *chain_copy_begin(struct chain_copy *copy, unsigned shared, uint64_t bytes, uint64_t granule)
{
    static const struct copier_ops ops = { .plan = plan, .copy = copy_piece, .failed = failed };
    /* Who writes does so through the filter, before that minds others who write. */
    struct error *err = filter_insert(copy->nodes.place, copy->nodes.filter, NULL);
    if (err)
        return err;
    copy->in_graph = true;
    err = open_handles(copy, shared);
    if (err)
        return err;
    const struct copier_options options = {
        .ops = &ops,
        .arg = copy,
        .job = copy->job,
        .handle = copy->handle,
        .bytes = bytes,
        .granule = granule,
        .speed = job_speed(copy->job),
    };
    err = copier_create(&options, &copy->copier);
    if (err)
        return err;
    if (bytes > 0)
        copier_add(copy->copier, range_make(0, bytes));
    job_progress_add_total(copy->job, bytes);
    return NULL;
}

/* Working -------------------------------------------------------------------------------------------------------- */

bool chain_copy_is_over(const struct chain_copy *copy)
{
    return !copy->job || job_is_cancelled(copy->job);
}

struct error *chain_copy_run(struct job *job)
{
    struct chain_copy *copy = chain_copy_of(job);
    while (job_go_on(job)) {
        int ret = copier_run(copy->copier);
        if (ret == -EINTR)
            continue;
        ret = ret < 0 ? ret : copy->left_out;
        return ret < 0 ? error_errno(-ret, "copying in the chain of node '%s'", node_name(copy->nodes.place)) : NULL;
    }
    return NULL;
}

void chain_copy_wake(struct job *job)
{
    struct chain_copy *copy = chain_copy_of(job);
    if (!copy)
        return;
    if (job_is_cancelled(job))
        copier_abandon(copy->copier);
    else
        copier_interrupt(copy->copier);
    job_step_wake(&copy->step);
}

void chain_copy_speed_changed(struct job *job)
{
    struct chain_copy *copy = chain_copy_of(job);
    if (copy)
        copier_set_speed(copy->copier, job_speed(job));
}

/* The end -------------------------------------------------------------------------------------------------------- */

static struct error *switch_over(void *arg)
{
    struct chain_copy *copy = arg;
    chain_nodes_thaw(&copy->nodes);
    struct error *err = copy->ops->switch_over(copy);
    for (int tries = 1; err && error_errnum(err) == EAGAIN && tries < SWITCH_TRIES; tries++) {
        error_free(err);
        co_sleep_ms(RETRY_MS);
        err = chain_copy_is_over(copy) ? error_new("the job was cancelled") : copy->ops->switch_over(copy);
    }
    return err;
}

struct error *chain_copy_prepare(struct job *job)
{
    struct chain_copy *copy = chain_copy_of(job);
    return job_step_take(&copy->step, job, switch_over, copy);
}

static struct error *still_wanted(void *arg)
{
    struct chain_copy *copy = arg;
    if (chain_copy_is_over(copy))
        return error_new("the job was cancelled");
    return copy->ops->check_chain ? copy->ops->check_chain(copy) : NULL;
}

static void have_switched(void *arg)
{
    struct chain_copy *copy = arg;
    copy->switched = true;
    job_step_settle(&copy->step);
}

struct error *chain_copy_switch(struct chain_copy *copy, struct change *change, struct node *node)
{
    static const struct change_owner owner = { .before = still_wanted, .done = have_switched };
    struct error *err = change_replace(change, copy->nodes.filter, node);
    change_add_owner(change, &owner, copy);
    if (!err)
        return change_commit(change);
    change_abort(change);
    return err;
}

static void copy_free(struct chain_copy *copy)
{
    job_step_fini(&copy->step);
    free(copy->backing_file);
    free(copy->owner);
    free(copy);
}

/* A step that goes on alone may be inside of what stands on the filter, which could not be drained before it ends. */
static void leave(struct leaving *leaving, void *arg) CO_FN;

static void leave(struct leaving *leaving, void *arg)
{
    struct chain_copy *copy = arg;
    job_step_wait(&copy->step);
    leaving_got_on(leaving);
    chain_nodes_thaw(&copy->nodes);
    if (copy->in_graph && !copy->switched) {
        if (copy->ops->let_guests_go)
            copy->ops->let_guests_go(copy);
        leaving_filter(leaving, copy->nodes.filter);
    }
    handle_close(copy->guard);
    leaving_copier(leaving, copy->copier, copy->handle);
    handle_close(copy->handle);
    leaving_got_on(leaving);
    chain_nodes_let_go(&copy->nodes);
    copy_free(copy);
}

static void leave_job(struct chain_copy *copy) CO_FN;

static void leave_job(struct chain_copy *copy)
{
    *(struct chain_copy **)job_state(copy->job) = NULL;
    copy->job = NULL;
    job_leave(leave, copy);
}

void chain_copy_finish(struct job *job, bool success)
{
    (void)success;
    leave_job(chain_copy_of(job));
}

struct error *chain_copy_start(struct chain_copy *copy, struct error *err)
{
    struct job *job = copy->job;
    if (err) {
        leave_job(copy);
        error_free(job_cancel(job, true));
        return err;
    }
    *(struct chain_copy **)job_state(job) = copy;
    copier_set_speed(copy->copier, job_speed(job)); /* it may have been told meanwhile */
    job_start(job);
    return NULL;
}
