/* The command transaction (schema/transaction.json). Texts of errors are QEMU's; with several actions, it is added
 * which one they are about. */
#include "daemon/transaction.h"
#include "blockcore/jobs/transaction.h"
#include "schema/cairn_commands.h"

#include <stdint.h>

struct error *transaction_end(struct transaction *transaction, struct error *err)
{
    size_t failed;
    if (!err)
        return transaction_commit(transaction, &failed);
    transaction_abort(transaction);
    return err;
}

/* Only jobs can fail later. */
static struct error *check_completion_mode(const struct transaction_arguments *arguments)
{
    for (size_t i = 0; i < arguments->actions_count; i++) {
        enum transaction_action_kind kind = arguments->actions[i].type;
        if (kind != TRANSACTION_ACTION_KIND_BLOCKDEV_BACKUP && kind != TRANSACTION_ACTION_KIND_DRIVE_BACKUP)
            return error_new("Action '%s' does not support transaction property completion-mode = %s",
                             transaction_action_kind_name(kind),
                             action_completion_mode_name(ACTION_COMPLETION_MODE_GROUPED));
    }
    return NULL;
}

static struct error *prepare(struct transaction *transaction, const struct transaction_action *action) CO_FN;

static struct error *prepare(struct transaction *transaction, const struct transaction_action *action)
{
    switch (action->type) {
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_ADD:
        return add_bitmap_action(transaction, action->u.block_dirty_bitmap_add.data);
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_REMOVE:
        return remove_bitmap_action(transaction, action->u.block_dirty_bitmap_remove.data);
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_CLEAR:
        return clear_bitmap_action(transaction, action->u.block_dirty_bitmap_clear.data);
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_ENABLE:
        return enable_bitmap_action(transaction, action->u.block_dirty_bitmap_enable.data);
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_DISABLE:
        return disable_bitmap_action(transaction, action->u.block_dirty_bitmap_disable.data);
    case TRANSACTION_ACTION_KIND_BLOCK_DIRTY_BITMAP_MERGE:
        return merge_bitmaps_action(transaction, action->u.block_dirty_bitmap_merge.data);
    case TRANSACTION_ACTION_KIND_BLOCKDEV_BACKUP:
        return blockdev_backup_action(transaction, action->u.blockdev_backup.data);
    case TRANSACTION_ACTION_KIND_DRIVE_BACKUP:
        return drive_backup_action(transaction, action->u.drive_backup.data);
    case TRANSACTION_ACTION_KIND_BLOCKDEV_SNAPSHOT:
        return snapshot_action(transaction, action->u.blockdev_snapshot.data);
    case TRANSACTION_ACTION_KIND_BLOCKDEV_SNAPSHOT_SYNC:
        return snapshot_sync_action(transaction, action->u.blockdev_snapshot_sync.data);
    case TRANSACTION_ACTION_KIND_BLOCKDEV_SNAPSHOT_INTERNAL_SYNC:
        return internal_snapshot_action(transaction, action->u.blockdev_snapshot_internal_sync.data);
    case TRANSACTION_ACTION_KIND_ABORT:
    case TRANSACTION_ACTION_KIND__MAX:
        break;
    }
    return error_new("Transaction aborted using Abort action");
}

/* Behind the text, which clients look for. */
static struct error *say_which(struct error *err, const struct transaction_arguments *arguments, size_t failed)
{
    if (!err || arguments->actions_count < 2 || failed >= arguments->actions_count)
        return err;
    struct error *more =
        error_new_class(error_get_class(err), "%s (action %zu of %zu, '%s')", error_message(err), failed + 1,
                        arguments->actions_count, transaction_action_kind_name(arguments->actions[failed].type));
    error_free(err);
    return more;
}

struct error *handle_transaction(struct command_context *context, const struct transaction_arguments *arguments)
{
    (void)context;
    const struct transaction_properties *properties = arguments->properties;
    bool grouped =
        properties && properties->has_completion_mode && properties->completion_mode == ACTION_COMPLETION_MODE_GROUPED;
    struct error *err = grouped ? check_completion_mode(arguments) : NULL;
    if (err)
        return err;
    struct transaction *transaction = transaction_begin(grouped);
    for (size_t i = 0; i < arguments->actions_count; i++) {
        err = prepare(transaction, &arguments->actions[i]);
        if (err) {
            transaction_abort(transaction);
            return say_which(err, arguments, i);
        }
    }
    size_t failed;
    err = transaction_commit(transaction, &failed);
    return say_which(err, arguments, failed);
}
