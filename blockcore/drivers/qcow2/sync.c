/* Writing tables back in the one right order. Why it is right is told in README.md, "Order". */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"

#include <errno.h>

/* Part of a table that is wholly in memory, as it shall be in the file. */
struct table_part {
    struct changed entries;
    uint64_t offset; /* in the file */
    uint8_t *data;   /* NULL: nothing changed */
    size_t bytes;
};

/* All that was changed at one moment. */
struct write_back {
    struct list refblocks;
    struct list slices;
    struct table_part reftable;
    struct table_part l1;
    bool needs_flush;
};

/* A copy of the entries that changed, in the byte order of the file. */
static int part_copy(const uint64_t *table, uint64_t table_offset, struct changed entries, struct table_part *part)
{
    *part = (struct table_part){ .entries = entries };
    if (entries.end == 0)
        return 0;
    part->offset = table_offset + entries.begin * sizeof(uint64_t);
    part->bytes = (entries.end - entries.begin) * sizeof(uint64_t);
    part->data = try_calloc(1, part->bytes);
    if (!part->data)
        return -ENOMEM;
    for (size_t i = entries.begin; i < entries.end; i++)
        store_be64(part->data + (i - entries.begin) * sizeof(uint64_t), table[i]);
    return 0;
}

static int part_write(struct qcow2 *q, const struct table_part *part, const char *event)
{
    child_debug_event(q->file, event);
    TRACE(qcow2_write_part, node_name(child_node(q->file)), part->offset, part->bytes);
    return child_pwrite(q->file, part->offset, part->data, part->bytes, 0);
}

/* Do refcounts stay in memory, because the image is marked as dirty? Under metadata. */
static bool refcounts_are_late(const struct qcow2 *q)
{
    return q->lazy_refcounts && !q->settling && (q->header.incompatible & QCOW2_DIRTY);
}

/* With lazy refcounts, the mark has to be stable before an entry reaches the file whose refcount does not. */
static int mark_if_late(struct qcow2 *q)
{
    if (!q->lazy_refcounts || q->settling || q->corrupt || !table_cache_is_dirty(&q->refblocks) ||
        (q->header.incompatible & QCOW2_DIRTY))
        return 0;
    int ret = qcow2_set_features(q, QCOW2_DIRTY, 0);
    q->marked_late = ret == 0;
    return ret;
}

/* Under both mutexes: from here on the file is brought to the state of this moment, whatever changes meanwhile. */
static int freeze(struct qcow2 *q, struct write_back *state)
{
    *state = (struct write_back){ .needs_flush = q->l2_needs_flush };
    list_init(&state->refblocks);
    list_init(&state->slices);
    bool late = refcounts_are_late(q);
    int ret = late ? 0 : part_copy(q->reftable, q->header.reftable_offset, q->reftable_changed, &state->reftable);
    if (ret == 0)
        ret = part_copy(q->l1, q->header.l1_offset, q->l1_changed, &state->l1);
    if (ret < 0) {
        free(state->reftable.data);
        return ret;
    }
    if (!late) {
        table_cache_freeze(&q->refblocks, &state->refblocks);
        q->reftable_changed = (struct changed){ 0 };
    }
    table_cache_freeze(&q->l2, &state->slices);
    q->l1_changed = (struct changed){ 0 };
    q->l2_needs_flush = false;
    freed_seal(q);
    return 0;
}

int qcow2_flush_children(struct qcow2 *q)
{
    int ret = q->data == q->file ? 0 : child_flush(q->data);
    return ret < 0 ? ret : child_flush(q->file);
}

/* What was handed to the file before is stable afterwards. */
static int barrier(struct qcow2 *q)
{
    int ret = qcow2_flush_children(q);
    if (ret == 0)
        freed_flushed(q);
    return ret;
}

static int write_refcounts(struct qcow2 *q, struct write_back *state)
{
    int ret = table_batch_write(&q->refblocks, q->file, &state->refblocks);
    if (ret < 0 || !state->reftable.data)
        return ret;
    ret = barrier(q); /* a block is what it shall be before the table leads to it */
    return ret < 0 ? ret : part_write(q, &state->reftable, "reftable_update");
}

/* L1 entries need not wait for the L2 tables that they lead to: each was written in a state that may be read, empty or
 * as a copy, when it was made (own_l2_table), and that is stable as well after the barrier. */
static int write_mapping(struct qcow2 *q, struct write_back *state)
{
    int ret = 0;
    if (state->needs_flush || state->l1.data)
        ret = barrier(q); /* data and refcounts are stable before an entry points there */
    if (ret == 0)
        ret = table_batch_write(&q->l2, q->file, &state->slices);
    return ret < 0 || !state->l1.data ? ret : part_write(q, &state->l1, "l1_update");
}

static void part_return(struct table_part *part, struct changed *changed, bool written)
{
    if (part->data && !written)
        changed_add(changed, part->entries.begin, part->entries.end);
    free(part->data);
}

/* Under sync_mutex and metadata. */
static void thaw(struct qcow2 *q, struct write_back *state, bool written)
{
    table_cache_thaw(&q->refblocks, &state->refblocks, written);
    table_cache_thaw(&q->l2, &state->slices, written);
    part_return(&state->reftable, &q->reftable_changed, written);
    part_return(&state->l1, &q->l1_changed, written);
    if (written)
        freed_written(q);
    else
        q->l2_needs_flush |= state->needs_flush;
}

static int write_frozen(struct qcow2 *q, struct write_back *state)
{
    if (q->corrupt)
        return -EIO;
    child_debug_event(q->file, "flush_to_os");
    int ret = write_refcounts(q, state);
    return ret < 0 ? ret : write_mapping(q, state);
}

/* Under metadata. */
static bool is_clean(struct qcow2 *q)
{
    bool refcounts_clean =
        refcounts_are_late(q) || (q->reftable_changed.end == 0 && !table_cache_is_dirty(&q->refblocks));
    return q->freed.count == 0 && q->l1_changed.end == 0 && refcounts_clean && !table_cache_is_dirty(&q->l2);
}

/* With sync_mutex. */
static int write_back(struct qcow2 *q)
{
    freed_apply(q);
    struct write_back state;
    co_mutex_lock(&q->metadata);
    int ret = mark_if_late(q);
    bool clean = is_clean(q);
    if (ret == 0 && !clean)
        ret = freeze(q, &state);
    co_mutex_unlock(&q->metadata);
    if (clean || ret < 0)
        return ret;
    TRACE(qcow2_write_back, node_name(child_node(q->file)));
    ret = write_frozen(q, &state);
    TRACE(qcow2_write_back_done, node_name(child_node(q->file)), ret);
    co_mutex_lock(&q->metadata);
    thaw(q, &state, ret == 0);
    co_mutex_unlock(&q->metadata);
    return ret;
}

int qcow2_sync(struct qcow2 *q)
{
    co_mutex_lock(&q->sync_mutex);
    int ret = write_back(q);
    co_mutex_unlock(&q->sync_mutex);
    return ret;
}

int qcow2_sync_held(struct qcow2 *q)
{
    int marked = mark_if_late(q);
    if (marked < 0)
        return marked;
    if (!is_clean(q)) {
        struct write_back state;
        int ret = freeze(q, &state);
        if (ret < 0)
            return ret;
        ret = write_frozen(q, &state);
        thaw(q, &state, ret == 0);
        if (ret < 0)
            return ret;
    }
    return barrier(q);
}

static bool has_freed(struct qcow2 *q)
{
    co_mutex_lock(&q->metadata);
    bool any = q->freed.count > 0 || q->freed_state != FREED_NONE;
    co_mutex_unlock(&q->metadata);
    return any;
}

/* Twice, since the batch that is already under way has to end first. */
static int reclaim(struct qcow2 *q)
{
    for (int round = 0; round < 2 && has_freed(q); round++) {
        int ret = write_back(q);
        if (ret == 0)
            ret = barrier(q);
        if (ret < 0)
            return ret;
        freed_apply(q);
        if (q->freed_state == FREED_STABLE)
            return 0; /* an old request still runs: doing more would free nothing */
    }
    return write_back(q);
}

int qcow2_reclaim(struct qcow2 *q)
{
    co_mutex_lock(&q->sync_mutex);
    freed_apply(q);
    int ret = q->freed_state == FREED_STABLE ? 0 : reclaim(q);
    co_mutex_unlock(&q->sync_mutex);
    return ret;
}

int qcow2_reclaim_if_crowded(struct qcow2 *q)
{
    return unlikely(atomic_load_explicit(&q->freed_is_crowded, memory_order_relaxed)) ? qcow2_reclaim(q) : 0;
}

int qcow2_sync_if_crowded(struct qcow2 *q)
{
    return unlikely(table_cache_is_crowded(&q->l2)) ? qcow2_sync(q) : 0;
}

/* What was late is written; everything else is written as well. */
static int write_all(struct qcow2 *q)
{
    co_mutex_lock(&q->sync_mutex);
    co_mutex_lock(&q->metadata);
    q->settling = true;
    int ret = qcow2_sync_held(q);
    co_mutex_unlock(&q->metadata);
    co_mutex_unlock(&q->sync_mutex);
    return ret;
}

/* The mark goes only if it is ours: whoever else has set it counts on it. */
int qcow2_settle(struct qcow2 *q)
{
    int ret = qcow2_reclaim(q);
    if (ret == 0)
        ret = write_all(q);
    if (ret == 0 && q->marked_late) {
        ret = qcow2_set_features(q, 0, QCOW2_DIRTY);
        q->marked_late = ret < 0;
    }
    q->settling = false;
    return ret;
}
