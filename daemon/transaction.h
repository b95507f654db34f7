/* transaction - actions of a transaction as the wire says them, each beside its command (schema/transaction.json)
 *
 * Each finds what the arguments name, as the command of its name does, and prepares the action in @transaction. */
#ifndef CAIRN_DAEMON_TRANSACTION_H
#define CAIRN_DAEMON_TRANSACTION_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

struct block_dirty_bitmap;
struct block_dirty_bitmap_add;
struct block_dirty_bitmap_merge;
struct blockdev_backup;
struct blockdev_snapshot;
struct blockdev_snapshot_internal;
struct blockdev_snapshot_sync;
struct drive_backup;
struct transaction;

/* A transaction of one action, for its command: @err is what preparing it has said. Frees @transaction. */
struct error *transaction_end(struct transaction *transaction, struct error *err) CO_FN MUST_CHECK;

struct error *add_bitmap_action(struct transaction *transaction, const struct block_dirty_bitmap_add *arguments)
    CO_FN MUST_CHECK;
struct error *remove_bitmap_action(struct transaction *transaction, const struct block_dirty_bitmap *arguments)
    CO_FN MUST_CHECK;
struct error *clear_bitmap_action(struct transaction *transaction, const struct block_dirty_bitmap *arguments)
    CO_FN MUST_CHECK;
struct error *enable_bitmap_action(struct transaction *transaction, const struct block_dirty_bitmap *arguments)
    CO_FN MUST_CHECK;
struct error *disable_bitmap_action(struct transaction *transaction, const struct block_dirty_bitmap *arguments)
    CO_FN MUST_CHECK;
struct error *merge_bitmaps_action(struct transaction *transaction, const struct block_dirty_bitmap_merge *arguments)
    CO_FN MUST_CHECK;
struct error *blockdev_backup_action(struct transaction *transaction, const struct blockdev_backup *arguments)
    CO_FN MUST_CHECK;
struct error *drive_backup_action(struct transaction *transaction, const struct drive_backup *arguments)
    CO_FN MUST_CHECK;
struct error *snapshot_action(struct transaction *transaction, const struct blockdev_snapshot *arguments)
    CO_FN MUST_CHECK;
struct error *snapshot_sync_action(struct transaction *transaction, const struct blockdev_snapshot_sync *arguments)
    CO_FN MUST_CHECK;
struct error *internal_snapshot_action(struct transaction *transaction,
                                       const struct blockdev_snapshot_internal *arguments) CO_FN MUST_CHECK;

#endif
