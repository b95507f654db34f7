#include "blockcore/jobs/mirror_filter.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/drain.h"
#include "blockcore/graph/inner.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/jobs/chain_copy.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>

#define ZERO_UNIT (64u * 1024)
#define EXTENTS_AT_ONCE 64

struct mirror_filter *mirror_filter_of(struct node *node)
{
    return node_state(node);
}

static bool is_active(struct mirror_filter *filter)
{
    return atomic_load(&filter->mode) == MIRROR_ACTIVE;
}

static void noted(struct mirror_filter *filter)
{
    if (atomic_load(&filter->mode) != MIRROR_OVER)
        filter->noted(filter->noted_arg);
}

/* For requests that nobody counts: bitmap and job are there as long as the mirror is not over. */
static void note_range(struct mirror_filter *filter, struct range range)
{
    spinlock_lock(&filter->lock);
    if (atomic_load(&filter->mode) != MIRROR_OVER) {
        dirty_bitmap_mark(filter->bitmap, range);
        filter->noted(filter->noted_arg);
    }
    spinlock_unlock(&filter->lock);
}

/* Writes to the target ----------------------------------------------------------------------------------------- */

/* It has bytes of its own, since the guest may change its memory between the two writes, and may be answered before the
 * target has taken them. */
struct target_write {
    struct list link;
    struct node *node;
    struct range range;
    void *data; /* NULL: zeroes */
    bool is_flush;
    unsigned flags;
    struct tracked tracked;
    bool waited_for; /* GUARDED_BY(filter->lock), as is done */
    bool done;
    struct co_event *end; /* of whoever waits */
};

static void target_write_free(struct target_write *write)
{
    buffer_put(write->data, write->range.bytes);
    free(write);
}

static int begin_background(void *arg)
{
    node_background_begin(arg);
    return 0;
}

static int end_background(void *arg)
{
    node_background_end(arg);
    return 0;
}

static void finish_left_behind(struct target_write *write) CO_FN;

static void finish_left_behind(struct target_write *write)
{
    struct mirror_filter *filter = node_state(write->node);
    co_call_on(loop_control(), "mirror", end_background, write->node);
    target_write_free(write);
    spinlock_lock(&filter->lock);
    filter->left_behind--;
    co_queue_wake_all(&filter->changed);
    spinlock_unlock(&filter->lock);
}

static int write_to_target(const struct target_write *write) CO_FN;

static int write_to_target(const struct target_write *write)
{
    struct mirror_filter *filter = node_state(write->node);
    if (write->is_flush)
        return child_flush(filter->target);
    return write->data
               ? child_pwrite(filter->target, write->range.offset, write->data, write->range.bytes, write->flags)
               : child_pwrite_zeroes(filter->target, write->range, write->flags);
}

static void target_write_entry(void *arg)
{
    struct target_write *write = arg;
    struct mirror_filter *filter = node_state(write->node);
    int ret = write_to_target(write);
    if (write->is_flush && ret < 0)
        atomic_store(&filter->flush_error, ret);
    else if (ret < 0)
        note_range(filter, write->range);
    if (!write->is_flush)
        tracked_end(&filter->tracker, &write->tracked);
    spinlock_lock(&filter->lock);
    write->done = true;
    struct co_event *end = write->end;
    bool left_behind = !write->waited_for;
    if (end) {
        list_remove(&write->link);
        write->end = NULL;
        co_event_set(end);
    }
    spinlock_unlock(&filter->lock);
    if (left_behind)
        finish_left_behind(write);
}

/* Until the target has taken it, or the mirror is over. */
static void wait_for_target(struct target_write *write) CO_FN;

static void wait_for_target(struct target_write *write)
{
    struct mirror_filter *filter = node_state(write->node);
    struct co_event end;
    co_event_init(&end);
    spinlock_lock(&filter->lock);
    bool waits = !write->done && atomic_load(&filter->mode) != MIRROR_OVER;
    if (waits) {
        write->end = &end;
        list_append(&filter->waiting, &write->link);
    }
    spinlock_unlock(&filter->lock);
    if (waits)
        co_event_wait(&end, "the target of a mirror");
}

/* The guest is answered. A write that is not done goes on alone; drains wait for it from before this request ends. */
static void part_with(struct target_write *write) CO_FN;

static void part_with(struct target_write *write)
{
    struct node *node = write->node;
    struct mirror_filter *filter = node_state(node);
    spinlock_lock(&filter->lock);
    bool done = write->done;
    spinlock_unlock(&filter->lock);
    if (!done) {
        co_call_on(loop_control(), "mirror", begin_background, node);
        spinlock_lock(&filter->lock);
        done = write->done;
        write->waited_for = done;
        filter->left_behind += done ? 0 : 1;
        spinlock_unlock(&filter->lock);
        if (done)
            co_call_on(loop_control(), "mirror", end_background, node);
    }
    if (done)
        target_write_free(write);
}

static void bring_to_target(struct target_write *write) CO_FN;

static void bring_to_target(struct target_write *write)
{
    co_start("write to the target of a mirror", target_write_entry, write);
    wait_for_target(write);
    part_with(write);
}

/* Requests ----------------------------------------------------------------------------------------------------- */

static int write_to_source(struct target_write *write, const struct iov *iov) CO_FN;

static int write_to_source(struct target_write *write, const struct iov *iov)
{
    const struct mirror_filter *filter = node_state(write->node);
    if (!iov)
        return child_pwrite_zeroes(filter->file, write->range, write->flags | REQ_COPIED);
    return child_pwritev(filter->file, write->range, iov, write->flags | REQ_COPIED);
}

/* @iov NULL: zeroes. */
static int active_write(struct node *node, struct range range, const struct iov *iov, unsigned flags) CO_FN;

static int active_write(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct mirror_filter *filter = node_state(node);
    struct target_write *write = xmalloc(sizeof(*write));
    *write = (struct target_write){ .node = node, .range = range, .flags = flags, .waited_for = true };
    struct iovec storage;
    struct iov own;
    if (iov) {
        write->data = buffer_get(range.bytes);
        if (!write->data) {
            free(write);
            return -ENOMEM;
        }
        iov_copy_to(iov, write->data);
        own = iov_of(&storage, write->data, range.bytes);
    }
    tracked_begin(&filter->tracker, &write->tracked, range, true);
    int ret = write_to_source(write, iov ? &own : NULL);
    if (ret < 0 || atomic_load(&filter->mode) == MIRROR_OVER) {
        note_range(filter, range); /* what of it the source has taken is not known, so it is copied */
        tracked_end(&filter->tracker, &write->tracked);
        target_write_free(write);
        return ret;
    }
    bring_to_target(write);
    return 0;
}

static int mirror_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct mirror_filter *filter = node_state(node);
    if (is_active(filter))
        return active_write(node, range, iov, flags & REQ_FUA);
    int ret = child_pwritev(filter->file, range, iov, flags);
    noted(filter);
    return ret;
}

static int mirror_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    struct mirror_filter *filter = node_state(node);
    if (is_active(filter))
        return active_write(node, range, NULL, flags);
    int ret = child_pwrite_zeroes(filter->file, range, flags);
    noted(filter);
    return ret;
}

/* Noted in every mode: the target need not be able to. */
static int mirror_pdiscard(struct node *node, struct range range)
{
    struct mirror_filter *filter = node_state(node);
    int ret = child_pdiscard(filter->file, range);
    noted(filter);
    return ret;
}

/* In the background mode the job flushes the target. Later, what a guest has flushed must survive in the target too,
 * which may take over at any moment. */
static int mirror_flush(struct node *node)
{
    struct mirror_filter *filter = node_state(node);
    int ret = child_flush(filter->file);
    if (ret < 0 || !is_active(filter))
        return ret;
    struct target_write *write = xmalloc(sizeof(*write));
    *write = (struct target_write){ .node = node, .is_flush = true, .waited_for = true };
    bring_to_target(write);
    return 0;
}

/* An active write may have come since the source was asked. None comes now, so it is asked again. */
static int copy_zeroes(struct mirror_filter *filter, struct range range, bool *write_failed) CO_FN;

static int copy_zeroes(struct mirror_filter *filter, struct range range, bool *write_failed)
{
    int ret = 0;
    *write_failed = false;
    while (range.bytes > 0 && ret == 0) {
        CLEANUP(extents_fini) struct extents extents;
        extents_init(&extents, EXTENTS_AT_ONCE);
        ret = child_block_status(filter->file, range, ASK_ZERO, &extents);
        for (size_t i = 0; i < extents.count && ret == 0; i++) {
            struct range part = range_make(extents.items[i].offset, extents.items[i].bytes);
            bool zero = extents.items[i].flags & EXTENT_ZERO;
            ret = zero ? child_copy_zeroes(&filter->ends, part) : child_copy(&filter->ends, part, write_failed);
            *write_failed = *write_failed || (zero && ret < 0);
            range = range_between(range_end(part), range_end(range));
        }
    }
    return ret;
}

int mirror_filter_copy(struct mirror_filter *filter, struct range range, bool zero, bool *write_failed)
{
    struct tracked tracked;
    tracked_begin(&filter->tracker, &tracked, range, true);
    int ret = zero ? copy_zeroes(filter, range, write_failed) : child_copy(&filter->ends, range, write_failed);
    tracked_end(&filter->tracker, &tracked);
    return ret;
}

void mirror_filter_wait_active(struct mirror_filter *filter)
{
    struct tracked tracked;
    tracked_begin(&filter->tracker, &tracked, range_make(0, INT64_MAX), true);
    tracked_end(&filter->tracker, &tracked);
}

void mirror_filter_set_mode(struct mirror_filter *filter, enum mirror_mode mode)
{
    spinlock_lock(&filter->lock);
    if (atomic_load(&filter->mode) != MIRROR_OVER)
        atomic_store(&filter->mode, mode);
    struct list *link;
    while (mode == MIRROR_OVER && (link = list_take_first(&filter->waiting))) {
        struct target_write *write = list_entry(link, struct target_write, link);
        co_event_set(steal(&write->end));
    }
    spinlock_unlock(&filter->lock);
    if (mode == MIRROR_OVER)
        tracker_open(&filter->tracker);
}

/* The node ----------------------------------------------------------------------------------------------------- */

static void mirror_close(struct node *node)
{
    struct mirror_filter *filter = node_state(node);
    spinlock_lock(&filter->lock);
    while (filter->left_behind > 0)
        co_queue_wait_spin(&filter->changed, &filter->lock, "the target of a mirror");
    spinlock_unlock(&filter->lock);
    co_queue_fini(&filter->changed);
}

/* Without users the filter needs nothing of the source. While it is used nobody else may look at the target, which is
 * not a copy yet, and the length of the source stays. */
static void permissions_of_mirror(const struct mirror_filter *filter, const struct child *child, unsigned perm,
                                  unsigned shared, unsigned *child_perm, unsigned *child_shared)
{
    *child_perm = perm;
    *child_shared = shared;
    if (perm && (child_role(child) & CHILD_FILTERED)) {
        *child_perm |= PERM_CONSISTENT_READ;
        *child_shared &= ~(unsigned)PERM_RESIZE;
    } else if (child == filter->target && (perm || filter->holds_target)) {
        *child_perm = PERM_WRITE;
        *child_shared = PERM_WRITE_UNCHANGED | (filter->target_alone ? 0 : PERM_WRITE);
    }
}

/* What changes in the target shows through the layers above, but never through the filter: all that has been copied is
 * the source's own, or below it. So nobody may look at those layers but the filter, which does not mind. When users
 * have left it, a copy that hangs may still bring the target what the source shows anyway. */
static void permissions_of_commit(const struct mirror_filter *filter, const struct child *child, unsigned perm,
                                  unsigned *child_perm, unsigned *child_shared)
{
    *child_perm = 0;
    *child_shared = PERM_ALL;
    if (child == filter->target && (perm || filter->holds_target)) {
        *child_perm = PERM_CONSISTENT_READ | (perm ? PERM_WRITE | PERM_RESIZE : PERM_WRITE_UNCHANGED);
        *child_shared = PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED;
    } else if (perm && (child_role(child) & CHILD_FILTERED)) {
        *child_perm = perm & PERM_WRITE;
        *child_shared = PERM_ALL & ~(unsigned)PERM_RESIZE;
    } else if (perm && child != filter->target) {
        *child_shared = PERM_ALL & ~(unsigned)PERM_CONSISTENT_READ;
    }
}

static void mirror_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                     unsigned *child_perm, unsigned *child_shared)
{
    const struct mirror_filter *filter = node_state((struct node *)(uintptr_t)node);
    if (filter->is_commit)
        permissions_of_commit(filter, child, perm, child_perm, child_shared);
    else
        permissions_of_mirror(filter, child, perm, shared, child_perm, child_shared);
}

const struct driver mirror_filter_driver = {
    .name = "mirror_top",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct mirror_filter),
    .write_flags = REQ_FUA,
    .flushes_children = true,
    .close = mirror_close,
    .pwritev = mirror_pwritev,
    .pwrite_zeroes = mirror_pwrite_zeroes,
    .pdiscard = mirror_pdiscard,
    .flush = mirror_flush,
    .child_permissions = mirror_child_permissions,
};

static struct error *attach_all(struct node *node, struct node *source, struct node *target,
                                const struct chain_copy_nodes *chain) CO_FN;

static struct error *attach_all(struct node *node, struct node *source, struct node *target,
                                const struct chain_copy_nodes *chain)
{
    struct mirror_filter *filter = node_state(node);
    struct error *err = inner_node_attach(node, "file", CHILD_FILTERED, source, &filter->file);
    if (!err)
        err = inner_node_attach(node, "target", 0, target, &filter->target);
    return err || !chain ? err : chain_nodes_attach(chain, node);
}

struct error *mirror_filter_create(const char *name, const char *owner, struct node *source, struct node *target,
                                   const struct chain_copy_nodes *chain, struct node **out)
{
    struct node *node;
    struct error *err = inner_node_begin(&mirror_filter_driver, name, owner, &node);
    if (err)
        return err;
    struct mirror_filter *filter = node_state(node);
    tracker_init(&filter->tracker);
    spinlock_init(&filter->lock);
    list_init(&filter->waiting);
    co_queue_init(&filter->changed);
    filter->is_commit = chain;
    filter->target_alone = !node_reaches(target, source);
    err = attach_all(node, source, target, chain);
    if (err) {
        co_queue_fini(&filter->changed);
        inner_node_give_up(node);
        return err;
    }
    filter->ends = (struct copy_ends){
        .from = filter->file,
        .to = filter->target,
        .flags = REQ_MAY_UNMAP,
        .zero_unit = ZERO_UNIT,
        .offload = OFFLOAD_SHARE,
    };
    node_set_filename(node, node_filename(source));
    inner_node_publish(node);
    *out = node;
    return NULL;
}
