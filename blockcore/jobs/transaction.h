/* transaction - several actions at one moment, all of them or none
 *
 *     prepare   each action, in order: whatever takes long or may fail. Files are opened, filters and jobs made,
 *               overlays flushed. Requests go on, and nothing of it is seen through them
 *     describe  one change of the graph (graph/change.h), of all actions in order, each as if those before it were
 *               done already: two filters on one node come one on top of the other. Nobody else has a turn
 *     hold      all doors above all nodes are closed, and the requests behind them have ended
 *     moment    each action, in order: bitmaps get their bits and begin to record, internal snapshots are taken. What
 *               fails is undone, with those before it, in reverse order
 *     switch    all edges at once: filters of backups and overlays are in their places. Cannot fail
 *     done      the doors are open. Jobs start; what was written before overlays came is flushed once more
 *
 * Why all nodes show one point in time: no request of any of them is on its way between the closing of the last door
 * and the opening of the first. So a write is in what the actions keep if and only if it ended before; and a
 * guest that waits for the end of one write before it begins another, on whatever node, never finds the second kept
 * without the first.
 *
 * Why all or nothing: until the switch each step can be undone, and what is undone at the moment is undone before
 * a door opens, so no write has come in between. Bits of a bitmap are put aside as a whole and come back as they were.
 * After the switch nothing can fail.
 *
 * A bitmap that an action names is busy for all others until the transaction ends, and one that is new is not used
 * before. Inside of the transaction it is as after the actions before: an action that gives it to a backup, or removes
 * it, is the last one that may name it.
 *
 * Requests are held back for as long as those in flight take, but not for longer than 10 seconds: one dead disk must
 * not stop the guests of the others for ever. Nor must one that dies while it makes its internal snapshot: what is half
 * made is left behind, with the guests of that disk, see transaction_snapshot.c. */
#ifndef CAIRN_JOBS_TRANSACTION_H
#define CAIRN_JOBS_TRANSACTION_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct backup_options;
struct dirty_bitmap;
struct node;
struct transaction;

/* @grouped: its jobs succeed or fail together. */
struct transaction *transaction_begin(bool grouped) CONTROL_FN;

/* Is the bitmap in none of @states (enum dirty_bitmap_state), but for being busy with this transaction? From then on it
 * is. */
struct error *transaction_take_bitmap(struct transaction *transaction, struct dirty_bitmap *bitmap,
                                      unsigned states) CONTROL_FN MUST_CHECK;
/* Each prepares one action, and takes references of its own; after an error the transaction can only be aborted. */
struct error *transaction_back_up(struct transaction *transaction, const struct backup_options *options)
    CO_FN CONTROL_FN MUST_CHECK;
struct error *transaction_snapshot(struct transaction *transaction, struct node *node, struct node *overlay)
    CO_FN CONTROL_FN MUST_CHECK;
struct error *transaction_snapshot_internal(struct transaction *transaction, struct node *node, const char *name)
    CO_FN CONTROL_FN MUST_CHECK;
/* A bitmap that was just made, and is not busy. It does not record until the moment, when it is empty. If the
 * transaction fails it is destroyed. */
struct error *transaction_new_bitmap(struct transaction *transaction,
                                     struct dirty_bitmap *bitmap) CONTROL_FN MUST_CHECK;
struct error *transaction_remove_bitmap(struct transaction *transaction, struct dirty_bitmap *bitmap)
    CO_FN CONTROL_FN MUST_CHECK;
struct error *transaction_clear_bitmap(struct transaction *transaction,
                                       struct dirty_bitmap *bitmap) CONTROL_FN MUST_CHECK;
struct error *transaction_enable_bitmap(struct transaction *transaction, struct dirty_bitmap *bitmap,
                                        bool enabled) CONTROL_FN MUST_CHECK;
/* What is dirty in any of @sources at the moment is dirty in @target afterwards. */
struct error *transaction_merge_bitmaps(struct transaction *transaction, struct dirty_bitmap *target,
                                        struct dirty_bitmap *const *sources, size_t count) CO_FN CONTROL_FN MUST_CHECK;

/* Makes it so, or aborts; frees @transaction in both cases. Returns when everything has happened and its jobs have
 * started. @failed: the number of the action, from 0 on, that an error is about; SIZE_MAX: of all of them. */
struct error *transaction_commit(struct transaction *transaction, size_t *failed) CO_FN CONTROL_FN MUST_CHECK;
/* Undoes what was prepared, the last one first. */
void transaction_abort(struct transaction *transaction) CO_FN CONTROL_FN;

#endif
