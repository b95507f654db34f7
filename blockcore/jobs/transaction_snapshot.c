/* Internal snapshots as actions of a transaction.
 *
 * They are taken, and undone, while all nodes are held still, and their storage may hang. After a while the transaction
 * fails then and the guests of the other nodes go on. This node stays still, since half of a snapshot is in its tables:
 * it is left to a coroutine of its own, which undoes what was done when storage answers, and opens the doors. */
#include "blockcore/base/memory.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/drain.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/notice.h"
#include "blockcore/io/snapshot.h"
#include "blockcore/jobs/job.h"
#include "blockcore/jobs/transaction_private.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"

/* What it works on may outlive the action. */
struct work {
    struct snapshot_session *session;
    char *name;
    bool undoes; /* it is to be undone, or is to be taken */
    bool taken;
    bool ended;       /* the step that was begun last */
    bool impatient;   /* nobody waits for it any longer */
    bool left_behind; /* the action is gone */
    struct error *err;
    struct co_queue told;
    struct drain *drain; /* the node's own, while a step is under way */
};

struct internal_action {
    struct action action;
    struct work *work; /* NULL: it could not be begun, or is left behind */
};

static struct work *work_of(struct action *action)
{
    return CONTAINER_OF(action, struct internal_action, action)->work;
}

static void work_free(struct work *work) CO_FN;

static void work_free(struct work *work)
{
    snapshot_session_end(work->session);
    co_queue_fini(&work->told);
    error_free(work->err);
    free(work->name);
    free(work);
}

static void take_step(struct work *work) CO_FN;

static void take_step(struct work *work)
{
    work->err = work->undoes ? snapshot_session_undo(work->session, work->name)
                             : snapshot_session_create(work->session, work->name);
    if (!work->err)
        work->taken = !work->undoes;
}

/* Storage answers again, and nobody waits any more. */
static void end_alone(struct work *work) CO_FN;

static void end_alone(struct work *work)
{
    struct node *node = snapshot_session_node(work->session);
    if (work->taken && !work->undoes) {
        work->undoes = true;
        take_step(work);
    }
    if (work->taken) {
        CLEANUP(free)
        char *text = xasprintf("the transaction has failed, but its internal snapshot '%s' stays: %s", work->name,
                               error_message(work->err));
        notice_give(&(struct notice){ .kind = NOTICE_LEFT_OVER, .node_name = node_name(node), .message = text });
    }
    node_background_end(node);
    drain_end(work->drain);
    work_free(work);
    job_left_behind_ended();
}

static void step_entry(void *arg)
{
    struct work *work = arg;
    take_step(work);
    work->ended = true;
    if (work->left_behind)
        end_alone(work);
    else
        co_queue_wake_all(&work->told);
}

static void patience_is_over(void *arg)
{
    struct work *work = arg;
    work->impatient = true;
    co_queue_wake_all(&work->told);
}

/* Until the step has ended, or nobody wants to wait any longer. */
static void wait_for_step(struct work *work, unsigned patience_ms) CO_FN;

static void wait_for_step(struct work *work, unsigned patience_ms)
{
    struct timer *timer = patience_ms ? timer_create_on_loop(patience_is_over, work) : NULL;
    if (timer)
        timer_start(timer, patience_ms);
    while (!work->ended && !work->impatient)
        co_queue_wait(&work->told, NULL, "an internal snapshot");
    timer_destroy(timer);
}

static struct error *leave_behind(struct action *action, unsigned patience_ms)
{
    struct work *work = steal(&CONTAINER_OF(action, struct internal_action, action)->work);
    struct node *node = snapshot_session_node(work->session);
    work->left_behind = true;
    node_background_begin(node);
    job_leave_behind();
    return error_new("the storage of node '%s' has not answered for %u seconds; requests to it wait until it does",
                     node_name(node), patience_ms / 1000);
}

static struct error *run_step(struct action *action, bool undoes) CO_FN;

static struct error *run_step(struct action *action, bool undoes)
{
    struct work *work = work_of(action);
    unsigned patience_ms = transaction_patience_ms(action->transaction);
    work->undoes = undoes;
    work->ended = work->impatient = false;
    work->drain = drain_outlast(snapshot_session_node(work->session));
    co_start("internal snapshot", step_entry, work);
    wait_for_step(work, patience_ms);
    if (!work->ended)
        return leave_behind(action, patience_ms);
    drain_end(steal(&work->drain));
    return steal(&work->err);
}

static struct error *describe(struct action *action, struct change *change)
{
    change_hold(change, snapshot_session_node(work_of(action)->session), true);
    return NULL;
}

static struct error *take(struct action *action)
{
    return run_step(action, false);
}

static struct error *undo(struct action *action)
{
    return work_of(action) && work_of(action)->taken ? run_step(action, true) : NULL;
}

static void fini(struct action *action)
{
    if (work_of(action))
        work_free(work_of(action));
}

static const struct action_ops internal_ops = {
    .describe = describe,
    .moment = take,
    .undo_moment = undo,
    .fini = fini,
};

struct error *transaction_snapshot_internal(struct transaction *transaction, struct node *node, const char *name)
{
    struct snapshot_session *session;
    struct action *action = action_add(transaction, &internal_ops, sizeof(struct internal_action));
    struct error *err = snapshot_session_begin(node, &session);
    if (err)
        return err;
    struct work *work = xcalloc(1, sizeof(*work));
    work->session = session;
    work->name = xstrdup(name);
    co_queue_init(&work->told);
    CONTAINER_OF(action, struct internal_action, action)->work = work;
    return NULL;
}
