/* What a transaction does to dirty bitmaps. */
#include "blockcore/graph/change.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/write_ahead.h"
#include "blockcore/jobs/transaction_private.h"

#include "blockcore/base/memory.h"

#include <errno.h>

#define CHANGED (DIRTY_BITMAP_BUSY | DIRTY_BITMAP_READONLY | DIRTY_BITMAP_INCONSISTENT)
#define USED (DIRTY_BITMAP_BUSY | DIRTY_BITMAP_INCONSISTENT)

struct bitmap_action {
    struct action action;
    struct dirty_bitmap *bitmap; /* NULL: it could not be prepared */
    bool enabled;                /* what it shall be */
    bool was_enabled;
    struct dirty_bitmap *aside; /* nameless, of the same node and granularity: the bits that it shall have, or had */
    bool exchanged;
    bool was_persistent; /* it is removed */
    struct node *cools;  /* its image may have fewer bits afterwards; NULL: none */
    struct dirty_bitmap **sources;
    size_t sources_count;
    bool merged; /* what there was before is in @aside already */
    bool empty;  /* @bitmap is at the moment */
    /* Nameless: what was written to @bitmap (at 0) and to each source since. NULL: nothing that counts. */
    struct dirty_bitmap **since;
};

static struct bitmap_action *self(struct action *action)
{
    return CONTAINER_OF(action, struct bitmap_action, action);
}

static bool has_bits_ahead(const struct dirty_bitmap *bitmap)
{
    const struct node *node = dirty_bitmap_node(bitmap);
    return dirty_bitmap_is_persistent(bitmap) && node_driver(node)->bitmaps_are_ahead(node);
}

static struct error *hold_node(struct action *action, struct change *change)
{
    change_hold(change, dirty_bitmap_node(self(action)->bitmap), false);
    return NULL;
}

/* Making --------------------------------------------------------------------------------------------------------- */

static struct error *set_enabled(struct action *action)
{
    self(action)->was_enabled = dirty_bitmap_is_enabled(self(action)->bitmap);
    dirty_bitmap_set_enabled(self(action)->bitmap, self(action)->enabled);
    return NULL;
}

static struct error *reset_enabled(struct action *action)
{
    dirty_bitmap_set_enabled(self(action)->bitmap, self(action)->was_enabled);
    return NULL;
}

static void destroy_bitmap(struct action *action)
{
    transaction_forget_bitmap(action->transaction, self(action)->bitmap);
    dirty_bitmap_destroy(self(action)->bitmap);
}

static struct error *remove_from_image(struct dirty_bitmap *bitmap) CO_FN;

static struct error *remove_from_image(struct dirty_bitmap *bitmap)
{
    struct node *node = dirty_bitmap_node(bitmap);
    struct handle *handle;
    struct error *err = handle_enter_here(node, "block-dirty-bitmap-remove", &handle);
    if (err)
        return err;
    err = node_driver(node)->bitmap_remove(node, dirty_bitmap_name(bitmap));
    handle_leave_here(handle);
    return err;
}

/* An image that has its bitmaps right at every moment may have fewer bits now, and what a new bitmap takes as written
 * before becomes stable. An error does no harm. */
static void cool_image(struct action *action)
{
    struct handle *handle;
    if (!self(action)->cools)
        return;
    struct error *err = handle_enter_here(self(action)->cools, "a transaction", &handle);
    if (!err) {
        node_cool_regions(self(action)->cools, false);
        handle_leave_here(handle);
    }
    error_free(err);
}

/* If the image keeps it after all, it is one that was not closed properly. */
static void give_up_new(struct action *action)
{
    if (dirty_bitmap_is_persistent(self(action)->bitmap))
        error_free(remove_from_image(self(action)->bitmap));
    destroy_bitmap(action);
}

static const struct action_ops new_ops = {
    .describe = hold_node,
    .moment = set_enabled,
    .undo_moment = reset_enabled,
    .settle = cool_image,
    .give_up = give_up_new,
};

/* Its image was told already whether it records. */
struct error *transaction_new_bitmap(struct transaction *transaction, struct dirty_bitmap *bitmap)
{
    struct action *action = action_add(transaction, &new_ops, sizeof(struct bitmap_action));
    error_free(transaction_take_bitmap(transaction, bitmap, 0));
    transaction_set_bits(transaction, bitmap, BITS_NONE);
    self(action)->bitmap = bitmap;
    self(action)->cools = has_bits_ahead(bitmap) ? dirty_bitmap_node(bitmap) : NULL;
    self(action)->enabled = dirty_bitmap_is_enabled(bitmap);
    dirty_bitmap_set_enabled(bitmap, false);
    return dirty_bitmap_clear(bitmap) ? NULL : error_errno(ENOMEM, "bitmap '%s'", dirty_bitmap_name(bitmap));
}

/* Removing ------------------------------------------------------------------------------------------------------- */

/* A bitmap that stays after all is stored again with the others: when the image is closed, or at once if the image has
 * its bitmaps right at every moment. */
static void keep_bitmap(struct action *action)
{
    struct dirty_bitmap *bitmap = self(action)->bitmap;
    struct handle *handle;
    if (!bitmap)
        return;
    struct node *node = dirty_bitmap_node(bitmap);
    dirty_bitmap_set_persistent(bitmap, self(action)->was_persistent);
    if (has_bits_ahead(bitmap)) {
        struct error *err = handle_enter_here(node, "block-dirty-bitmap-remove", &handle);
        if (!err) {
            err = node_driver(node)->bitmap_keep(node);
            handle_leave_here(handle);
        }
        error_free(err);
    }
    dirty_bitmap_set_busy(bitmap, false);
}

static const struct action_ops remove_ops = {
    .describe = hold_node,
    .done = destroy_bitmap,
    .give_up = keep_bitmap,
};

/* Removing it from the image may fail, so that comes before. */
struct error *transaction_remove_bitmap(struct transaction *transaction, struct dirty_bitmap *bitmap)
{
    struct action *action = action_add(transaction, &remove_ops, sizeof(struct bitmap_action));
    struct error *err = transaction_take_bitmap(transaction, bitmap, DIRTY_BITMAP_BUSY | DIRTY_BITMAP_READONLY);
    if (err)
        return err;
    self(action)->bitmap = bitmap;
    dirty_bitmap_set_busy(bitmap, true); /* for the actions that follow, too */
    if (!dirty_bitmap_is_persistent(bitmap))
        return NULL;
    /* It stays in memory until it has happened: whoever stores the others meanwhile must not bring it back. */
    self(action)->was_persistent = true;
    dirty_bitmap_set_persistent(bitmap, false);
    return remove_from_image(bitmap);
}

/* Enabling ------------------------------------------------------------------------------------------------------- */

static const struct action_ops enable_ops = {
    .describe = hold_node,
    .moment = set_enabled,
    .undo_moment = reset_enabled,
};

struct error *transaction_enable_bitmap(struct transaction *transaction, struct dirty_bitmap *bitmap, bool enabled)
{
    struct action *action = action_add(transaction, &enable_ops, sizeof(struct bitmap_action));
    self(action)->bitmap = bitmap;
    self(action)->enabled = enabled;
    return transaction_take_bitmap(transaction, bitmap, USED);
}

/* Other bits ----------------------------------------------------------------------------------------------------- */

static struct error *make_aside(struct bitmap_action *self)
{
    struct error *err = dirty_bitmap_create(dirty_bitmap_node(self->bitmap), NULL,
                                            dirty_bitmap_granularity(self->bitmap), &self->aside);
    if (!err)
        dirty_bitmap_set_enabled(self->aside, false);
    return err;
}

static struct error *exchange(struct action *action)
{
    dirty_bitmap_exchange(self(action)->bitmap, self(action)->aside);
    self(action)->exchanged = true;
    return NULL;
}

static struct error *exchange_back(struct action *action)
{
    if (!self(action)->exchanged)
        return NULL;
    struct error *err = exchange(action);
    self(action)->exchanged = false;
    return err;
}

static void fini_aside(struct action *action)
{
    if (self(action)->aside)
        dirty_bitmap_destroy(self(action)->aside);
    free(self(action)->sources);
}

static const struct action_ops clear_ops = {
    .describe = hold_node,
    .moment = exchange,
    .undo_moment = exchange_back,
    .settle = cool_image,
    .fini = fini_aside,
};

struct error *transaction_clear_bitmap(struct transaction *transaction, struct dirty_bitmap *bitmap)
{
    struct action *action = action_add(transaction, &clear_ops, sizeof(struct bitmap_action));
    self(action)->bitmap = bitmap;
    self(action)->cools = has_bits_ahead(bitmap) ? dirty_bitmap_node(bitmap) : NULL;
    struct error *err = transaction_take_bitmap(transaction, bitmap, CHANGED);
    if (!err)
        transaction_set_bits(transaction, bitmap, BITS_NONE);
    return err ? err : make_aside(self(action));
}

static struct error *hold_all_nodes(struct action *action, struct change *change)
{
    struct dirty_bitmap *target = self(action)->bitmap;
    change_hold(change, dirty_bitmap_node(target), has_bits_ahead(target));
    for (size_t i = 0; i < self(action)->sources_count; i++)
        change_hold(change, dirty_bitmap_node(self(action)->sources[i]), false);
    return NULL;
}

/* Merging -------------------------------------------------------------------------------------------------------- */

/* Millions of bits take long, so they are merged while guests go on, and what is written to the bitmaps meanwhile is
 * noted beside them. Nothing but writes, which only add bits, can change bitmaps that are busy with the transaction,
 * unless an action before this one does. One that leaves no bits is simple; after others all is done at the moment. */
static struct error *note_since(struct dirty_bitmap *bitmap, struct dirty_bitmap **since)
{
    if (!dirty_bitmap_is_enabled(bitmap))
        return NULL;
    return dirty_bitmap_create(dirty_bitmap_node(bitmap), NULL, dirty_bitmap_granularity(bitmap), since);
}

static struct error *merge_before(struct bitmap_action *merging) CO_FN;

static struct error *merge_before(struct bitmap_action *merging)
{
    merging->since = xcalloc(merging->sources_count + 1, sizeof(struct dirty_bitmap *));
    struct error *err = merging->empty ? NULL : note_since(merging->bitmap, &merging->since[0]);
    for (size_t i = 0; !err && i < merging->sources_count; i++)
        err = note_since(merging->sources[i], &merging->since[i + 1]);
    if (!err && !merging->empty)
        err = dirty_bitmap_merge(merging->aside, merging->bitmap);
    for (size_t i = 0; !err && i < merging->sources_count; i++)
        err = dirty_bitmap_merge(merging->aside, merging->sources[i]);
    merging->merged = !err;
    return err;
}

/* An image that has its bitmaps right at every moment is told of all bits, before memory has them: one that was closed
 * and opened meanwhile would have forgotten what it was told earlier. */
static struct error *merge_source(struct bitmap_action *merging, size_t i) CO_FN;

static struct error *merge_source(struct bitmap_action *merging, size_t i)
{
    struct dirty_bitmap *more = merging->merged ? merging->since[i + 1] : merging->sources[i];
    struct error *err = more ? dirty_bitmap_merge(merging->aside, more) : NULL;
    int ret = err || !has_bits_ahead(merging->bitmap)
                  ? 0
                  : dirty_bitmap_tell_image_held(merging->bitmap, merging->sources[i]);
    return ret < 0 ? error_errno(-ret, "bitmap '%s' cannot be kept in its image", dirty_bitmap_name(merging->bitmap))
                   : err;
}

static struct error *merge(struct action *action)
{
    struct bitmap_action *merging = self(action);
    struct dirty_bitmap *own = merging->merged ? merging->since[0] : merging->bitmap;
    struct error *err = own ? dirty_bitmap_merge(merging->aside, own) : NULL;
    for (size_t i = 0; !err && i < merging->sources_count; i++)
        err = merge_source(merging, i);
    return err ? err : exchange(action);
}

static void fini_merge(struct action *action)
{
    struct bitmap_action *merging = self(action);
    for (size_t i = 0; merging->since && i <= merging->sources_count; i++) {
        if (merging->since[i])
            dirty_bitmap_destroy(merging->since[i]);
    }
    free(merging->since);
    fini_aside(action);
}

static const struct action_ops merge_ops = {
    .describe = hold_all_nodes,
    .moment = merge,
    .undo_moment = exchange_back,
    .fini = fini_merge,
};

struct error *transaction_merge_bitmaps(struct transaction *transaction, struct dirty_bitmap *target,
                                        struct dirty_bitmap *const *sources, size_t count)
{
    struct action *action = action_add(transaction, &merge_ops, sizeof(struct bitmap_action));
    struct bitmap_action *merging = self(action);
    bool as_they_are = transaction_bits(transaction, target) != BITS_OTHERS;
    merging->empty = transaction_bits(transaction, target) == BITS_NONE;
    merging->bitmap = target;
    merging->sources = xcalloc(count, sizeof(*sources));
    struct error *err = transaction_take_bitmap(transaction, target, CHANGED);
    for (size_t i = 0; !err && i < count; i++) {
        as_they_are = as_they_are && transaction_bits(transaction, sources[i]) == BITS_AS_THEY_ARE;
        err = transaction_take_bitmap(transaction, sources[i], USED);
        merging->sources[merging->sources_count++] = sources[i];
    }
    if (!err)
        err = make_aside(merging);
    if (!err && as_they_are)
        err = merge_before(merging);
    if (!err)
        transaction_set_bits(transaction, target, BITS_OTHERS);
    return err;
}
