#include "blockcore/jobs/chain_copy.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/io/block_status.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>

#define GRACE_MS 1000

/* Making --------------------------------------------------------------------------------------------------------- */

void chain_copy_init(struct chain_copy *copy, const struct chain_copy_ops *ops, struct job *job)
{
    copy->ops = ops;
    copy->job = job;
    copy->owner = xasprintf("block job '%s'", job_id(job));
    copy->refs = 1;
    co_queue_init(&copy->told);
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

struct error *chain_copy_begin(struct chain_copy *copy, unsigned shared, uint64_t bytes, uint64_t granule,
                               uint64_t speed)
{
    static const struct copier_ops ops = { .plan = plan, .copy = copy_piece, .failed = failed };
    /* Who writes does so through the filter, before that minds others who write. */
    struct error *err = filter_insert(copy->nodes.place, copy->nodes.filter, NULL);
    if (err)
        return err;
    copy->in_graph = true;
    err = handle_open_here(copy->nodes.filter, copy->owner, PERM_CONSISTENT_READ, shared, &copy->handle);
    if (err)
        return err;
    const struct copier_options options = {
        .ops = &ops,
        .arg = copy,
        .job = copy->job,
        .handle = copy->handle,
        .bytes = bytes,
        .granule = granule,
        .speed = speed,
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

struct error *chain_copy_run(struct chain_copy *copy)
{
    while (job_go_on(copy->job)) {
        int ret = copier_run(copy->copier);
        if (ret == -EINTR)
            continue;
        ret = ret < 0 ? ret : copy->left_out;
        return ret < 0 ? error_errno(-ret, "copying in the chain of node '%s'", node_name(copy->nodes.place)) : NULL;
    }
    return NULL;
}

void chain_copy_wake(struct chain_copy *copy)
{
    if (!copy->copier)
        return;
    if (job_is_cancelled(copy->job))
        copier_abandon(copy->copier);
    else
        copier_interrupt(copy->copier);
}

/* The end -------------------------------------------------------------------------------------------------------- */

static void unref(struct chain_copy *copy)
{
    if (--copy->refs > 0)
        return;
    co_queue_fini(&copy->told);
    free(copy->owner);
    free(copy);
}

static void close_all(void *arg)
{
    struct chain_copy *copy = arg;
    handle_close(copy->handle);
    chain_nodes_let_go(&copy->nodes);
    copy->closed = true;
    co_queue_wake_all(&copy->told);
    unref(copy);
}

/* No piece is on its way any more. */
static void released(void *arg)
{
    co_start("end of a job", close_all, arg);
}

static void grace_is_over(void *arg)
{
    struct chain_copy *copy = arg;
    copy->hangs = true;
    co_queue_wake_all(&copy->told);
}

struct error *chain_copy_leave(struct chain_copy *copy, struct change *change, struct node *node)
{
    struct error *err = change_replace(change, copy->nodes.filter, node);
    if (!err && copy->handle) /* while it stays on the filter, that minds others */
        err = change_edge(change, handle_edge(copy->handle), node);
    return err;
}

static struct error *remove_filter(struct chain_copy *copy) CO_FN;

static struct error *remove_filter(struct chain_copy *copy)
{
    struct change *change = change_begin();
    struct error *err = chain_copy_leave(copy, change, child_node(node_filtered(copy->nodes.filter)));
    if (!err)
        return change_commit(change);
    change_abort(change);
    return err;
}

void chain_copy_end(struct chain_copy *copy)
{
    copy->job = NULL;
    if (copy->in_graph && !copy->switched)
        error_free(remove_filter(copy));
    copy->refs++;
    struct timer *timer = timer_create_on_loop(grace_is_over, copy);
    timer_start(timer, GRACE_MS);
    copier_destroy(copy->copier, released, copy);
    while (!copy->closed && !copy->hangs)
        co_queue_wait(&copy->told, NULL, "requests of a job");
    timer_destroy(timer);
    unref(copy);
}
