#include "blockcore/jobs/transaction_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/jobs/backup.h"
#include "blockcore/jobs/job.h"
#include "blockcore/runtime/coroutine.h"

#include <errno.h>
#include <stdint.h>

#define TRIES 50
#define RETRY_MS 20
#define PATIENCE_MS 10000 /* guests of Linux give a request of their disk 30 seconds */

/* A bitmap that is busy with the transaction. */
struct taken_bitmap {
    struct list link;
    struct dirty_bitmap *bitmap;
    struct node *node; /* keeps it */
    enum bits_before bits;
};

struct transaction {
    struct list actions;
    size_t actions_count;
    struct job_txn *jobs; /* NULL: each is on its own */
    struct list bitmaps;
    struct action *reached; /* the last one whose moment has begun */
    struct error *undo_error;
    size_t failed;
};

struct transaction *transaction_begin(bool grouped)
{
    struct transaction *transaction = xcalloc(1, sizeof(*transaction));
    list_init(&transaction->actions);
    list_init(&transaction->bitmaps);
    transaction->jobs = grouped ? job_txn_create() : NULL;
    transaction->failed = SIZE_MAX;
    return transaction;
}

struct action *action_add(struct transaction *transaction, const struct action_ops *ops, size_t size)
{
    struct action *action = xcalloc(1, size);
    action->ops = ops;
    action->transaction = transaction;
    action->number = transaction->actions_count++;
    list_append(&transaction->actions, &action->link);
    return action;
}

/* One alone stops nobody but the users of what it waits for. */
unsigned transaction_patience_ms(const struct transaction *transaction)
{
    return transaction->actions_count > 1 ? PATIENCE_MS : 0;
}

/* Bitmaps -------------------------------------------------------------------------------------------------------- */

static struct taken_bitmap *find_taken(struct transaction *transaction, const struct dirty_bitmap *bitmap)
{
    struct taken_bitmap *taken;
    list_for_each (taken, &transaction->bitmaps, link) {
        if (taken->bitmap == bitmap)
            return taken;
    }
    return NULL;
}

struct error *transaction_take_bitmap(struct transaction *transaction, struct dirty_bitmap *bitmap, unsigned states)
{
    bool ours = find_taken(transaction, bitmap);
    struct error *err = ours ? dirty_bitmap_check_ours(bitmap, states) : dirty_bitmap_check(bitmap, states);
    if (err || ours)
        return err;
    struct taken_bitmap *taken = xcalloc(1, sizeof(*taken));
    taken->bitmap = bitmap;
    taken->node = node_ref(dirty_bitmap_node(bitmap));
    dirty_bitmap_set_busy(bitmap, true);
    list_append(&transaction->bitmaps, &taken->link);
    return NULL;
}

void transaction_set_bits(struct transaction *transaction, struct dirty_bitmap *bitmap, enum bits_before bits)
{
    find_taken(transaction, bitmap)->bits = bits;
}

enum bits_before transaction_bits(struct transaction *transaction, const struct dirty_bitmap *bitmap)
{
    const struct taken_bitmap *taken = find_taken(transaction, bitmap);
    return taken ? taken->bits : BITS_AS_THEY_ARE;
}

void transaction_forget_bitmap(struct transaction *transaction, struct dirty_bitmap *bitmap)
{
    find_taken(transaction, bitmap)->bitmap = NULL;
}

/* Others may use them. */
static void release_bitmaps(struct transaction *transaction)
{
    struct taken_bitmap *taken;
    list_for_each (taken, &transaction->bitmaps, link) {
        if (taken->bitmap)
            dirty_bitmap_set_busy(steal(&taken->bitmap), false);
    }
}

static void free_bitmaps(struct transaction *transaction) CO_FN;

static void free_bitmaps(struct transaction *transaction)
{
    struct list *link;
    while ((link = list_take_first(&transaction->bitmaps))) {
        struct taken_bitmap *taken = list_entry(link, struct taken_bitmap, link);
        node_unref(taken->node);
        free(taken);
    }
}

/* Backups -------------------------------------------------------------------------------------------------------- */

struct backup_action {
    struct action action;
    struct backup *backup; /* NULL: it could not be prepared */
};

static struct backup *backup_of(struct action *action)
{
    return CONTAINER_OF(action, struct backup_action, action)->backup;
}

static struct error *describe_backup(struct action *action, struct change *change)
{
    return backup_job_describe(backup_of(action), change);
}

static void undescribe_backup(struct action *action)
{
    backup_job_undescribe(backup_of(action));
}

static struct error *moment_of_backup(struct action *action)
{
    return backup_job_moment(backup_of(action));
}

static struct error *undo_moment_of_backup(struct action *action)
{
    backup_job_undo_moment(backup_of(action));
    return NULL;
}

static void start_backup(struct action *action)
{
    backup_job_go(backup_of(action));
}

static void give_up_backup(struct action *action)
{
    if (backup_of(action))
        backup_job_give_up(backup_of(action));
}

static const struct action_ops backup_ops = {
    .describe = describe_backup,
    .undescribe = undescribe_backup,
    .moment = moment_of_backup,
    .undo_moment = undo_moment_of_backup,
    .done = start_backup,
    .give_up = give_up_backup,
};

struct error *transaction_back_up(struct transaction *transaction, const struct backup_options *options)
{
    struct backup_options ours = *options;
    struct action *action = action_add(transaction, &backup_ops, sizeof(struct backup_action));
    struct error *err = NULL;
    if (options->bitmap)
        err = transaction_take_bitmap(transaction, options->bitmap, DIRTY_BITMAP_BUSY | DIRTY_BITMAP_INCONSISTENT);
    ours.bitmap_is_ours = true;
    if (!err)
        err = backup_job_prepare(&ours, transaction->jobs, &CONTAINER_OF(action, struct backup_action, action)->backup);
    return err;
}

/* Overlays ------------------------------------------------------------------------------------------------------- */

struct snapshot_action {
    struct action action;
    struct node *node;
    struct node *overlay;
};

static struct error *describe_snapshot(struct action *action, struct change *change)
{
    struct snapshot_action *snapshot = CONTAINER_OF(action, struct snapshot_action, action);
    return overlay_describe(snapshot->node, snapshot->overlay, change);
}

static void settle_snapshot(struct action *action)
{
    struct snapshot_action *snapshot = CONTAINER_OF(action, struct snapshot_action, action);
    overlay_settle(snapshot->node, snapshot->overlay);
}

static void fini_snapshot(struct action *action)
{
    struct snapshot_action *snapshot = CONTAINER_OF(action, struct snapshot_action, action);
    node_unref(snapshot->overlay);
    node_unref(snapshot->node);
}

static const struct action_ops snapshot_ops = {
    .describe = describe_snapshot,
    .settle = settle_snapshot,
    .fini = fini_snapshot,
};

struct error *transaction_snapshot(struct transaction *transaction, struct node *node, struct node *overlay)
{
    struct action *action = action_add(transaction, &snapshot_ops, sizeof(struct snapshot_action));
    struct snapshot_action *snapshot = CONTAINER_OF(action, struct snapshot_action, action);
    snapshot->node = node_ref(node);
    snapshot->overlay = node_ref(overlay);
    return overlay_prepare(node, overlay);
}

/* All of it ------------------------------------------------------------------------------------------------------ */

static struct action *next_action(struct transaction *transaction, struct action *after)
{
    struct list *at = after ? after->link.next : transaction->actions.next;
    return at == &transaction->actions ? NULL : list_entry(at, struct action, link);
}

static struct action *previous_action(struct transaction *transaction, struct action *before)
{
    struct list *at = before ? before->link.prev : transaction->actions.prev;
    return at == &transaction->actions ? NULL : list_entry(at, struct action, link);
}

static struct error *describe(struct transaction *transaction, struct change *change)
{
    struct action *action = NULL;
    struct error *err = NULL;
    while (!err && (action = next_action(transaction, action))) {
        transaction->failed = action->number;
        err = action->ops->describe ? action->ops->describe(action, change) : NULL;
    }
    if (!err)
        transaction->failed = SIZE_MAX;
    return err;
}

static struct error *at_the_moment(void *arg)
{
    struct transaction *transaction = arg;
    struct action *action = NULL;
    struct error *err = NULL;
    while (!err && (action = next_action(transaction, action))) {
        transaction->failed = action->number;
        transaction->reached = action;
        err = action->ops->moment ? action->ops->moment(action) : NULL;
    }
    if (!err)
        transaction->failed = SIZE_MAX;
    return err;
}

static void undo_moment(void *arg)
{
    struct transaction *transaction = arg;
    for (struct action *action = transaction->reached; action; action = previous_action(transaction, action)) {
        struct error *err = action->ops->undo_moment ? action->ops->undo_moment(action) : NULL;
        if (err && transaction->undo_error)
            error_free(err);
        else if (err)
            transaction->undo_error = err;
    }
}

static const struct change_owner moment = { .before = at_the_moment, .failed = undo_moment };

static struct error *try_once(struct transaction *transaction) CO_FN;

static struct error *try_once(struct transaction *transaction)
{
    struct change *change = change_begin();
    transaction->reached = NULL;
    change_add_owner(change, &moment, transaction);
    change_may_be_cancelled(change);
    change_set_patience(change, transaction_patience_ms(transaction));
    struct error *err = describe(transaction, change);
    if (!err)
        return change_commit(change);
    change_abort(change);
    return err;
}

/* Others may be changing what is around it: that passes. */
static struct error *make_it_so(struct transaction *transaction) CO_FN;

static struct error *make_it_so(struct transaction *transaction)
{
    struct error *err = try_once(transaction);
    for (int tries = 1; err && error_errnum(err) == EAGAIN && tries < TRIES; tries++) {
        struct action *action = NULL;
        error_free(err);
        while ((action = next_action(transaction, action))) {
            if (action->ops->undescribe)
                action->ops->undescribe(action);
        }
        co_sleep_ms(RETRY_MS);
        err = try_once(transaction);
    }
    return err;
}

static void transaction_free(struct transaction *transaction) CO_FN;

/* Nodes last: with them go their bitmaps, also those that actions have made for themselves. */
static void transaction_free(struct transaction *transaction)
{
    struct list *link;
    release_bitmaps(transaction);
    while ((link = list_take_first(&transaction->actions))) {
        struct action *action = list_entry(link, struct action, link);
        if (action->ops->fini)
            action->ops->fini(action);
        free(action);
    }
    free_bitmaps(transaction);
    job_txn_unref(transaction->jobs);
    error_free(transaction->undo_error);
    free(transaction);
}

static void finish(struct transaction *transaction) CO_FN;

static void finish(struct transaction *transaction)
{
    struct action *action = NULL;
    while ((action = next_action(transaction, action))) {
        if (action->ops->done)
            action->ops->done(action);
    }
    release_bitmaps(transaction);
    while ((action = next_action(transaction, action))) {
        if (action->ops->settle)
            action->ops->settle(action);
    }
    transaction_free(transaction);
}

void transaction_abort(struct transaction *transaction)
{
    struct action *action = NULL;
    while ((action = previous_action(transaction, action))) {
        if (action->ops->give_up)
            action->ops->give_up(action);
    }
    transaction_free(transaction);
}

struct error *transaction_commit(struct transaction *transaction, size_t *failed)
{
    struct error *err = make_it_so(transaction);
    *failed = transaction->failed;
    if (!err) {
        finish(transaction);
        return NULL;
    }
    if (transaction->undo_error) {
        struct error *both =
            error_new("%s; undoing it: %s", error_message(err), error_message(transaction->undo_error));
        both = error_set_class(both, error_get_class(err));
        error_free(err);
        err = both;
    }
    transaction_abort(transaction);
    return err;
}
