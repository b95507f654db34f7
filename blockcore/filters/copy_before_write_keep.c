/* How old bytes get to the target, and how writers and copiers wait for each other. */
#include "blockcore/base/memory.h"
#include "blockcore/filters/copy_before_write_private.h"
#include "blockcore/graph/drain.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>

#define COPY_MAX (UINT64_C(16) << 20) /* claimed at once; others wait for all of it */
#define STATUS_EXTENTS_MAX 64
#define NS_PER_MS UINT64_C(1000000)

/* Waiting ------------------------------------------------------------------------------------------------------ */

struct waiter {
    struct list link;
    struct cbw *cbw;
    bool late;
    struct co_event go_on;
};

/* Whoever takes a waiter out of the list lets it go on, under the lock: so that happens once. */
static void waiter_is_late(void *arg)
{
    struct waiter *waiter = arg;
    struct cbw *cbw = waiter->cbw;
    spinlock_lock(&cbw->lock);
    if (!list_empty(&waiter->link)) {
        list_remove(&waiter->link);
        waiter->late = true;
        co_event_set(&waiter->go_on);
    }
    spinlock_unlock(&cbw->lock);
}

bool cbw_wait(struct cbw *cbw, uint64_t deadline_ns)
{
    struct waiter waiter = { .cbw = cbw };
    struct timer *timer = NULL;
    co_event_init(&waiter.go_on);
    list_append(&cbw->waiters, &waiter.link);
    spinlock_unlock(&cbw->lock);
    if (deadline_ns) {
        uint64_t now = loop_now_ns();
        timer = timer_create_on_loop(waiter_is_late, &waiter);
        timer_start(timer, deadline_ns > now ? div_round_up(deadline_ns - now, NS_PER_MS) : 0);
    }
    co_event_wait(&waiter.go_on, "copy before write");
    timer_destroy(timer);
    spinlock_lock(&cbw->lock);
    return !waiter.late;
}

void cbw_wake(struct cbw *cbw)
{
    struct list *link;
    while ((link = list_take_first(&cbw->waiters)))
        co_event_set(&list_entry(link, struct waiter, link)->go_on);
}

void cbw_break(struct cbw *cbw, int error)
{
    if (cbw->broken)
        return;
    cbw->broken = true;
    cbw->broken_error = error;
    if (cbw->broke)
        cbw->broke(cbw->broke_arg);
    cbw_wake(cbw);
}

/* Copying ------------------------------------------------------------------------------------------------------ */

/* What is decided above the base is wanted. If that cannot be told, all is. */
static bool is_wanted(const struct cbw *cbw, struct range range) CO_FN;

static bool is_wanted(const struct cbw *cbw, struct range range)
{
    if (!cbw->base)
        return true;
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 1);
    int ret = handle_block_status_entered(cbw->asker, range, ASK_ALLOCATED, cbw->base, false, &extents);
    return ret < 0 || (extents.items[0].flags & EXTENT_ALLOCATED) || extents.items[0].bytes < range.bytes;
}

/* What the disk holds there, from the begin on. What cannot be told, or lies past its end, counts as data; and what is
 * not all zeroes, where only whole clusters can be compressed. */
static void ask_disk(const struct cbw *cbw, struct range range, struct extents *extents) CO_FN;

static void ask_disk(const struct cbw *cbw, struct range range, struct extents *extents)
{
    struct range inside = range_intersect(range, range_make(0, child_length(cbw->file)));
    bool told = inside.bytes > 0 && child_block_status(cbw->file, inside, ASK_ZERO, extents) == 0;
    if (told && !(cbw->ends.flags & REQ_COMPRESSED))
        return;
    if (told && (extents->items[0].flags & EXTENT_ZERO) && extents->items[0].bytes == range.bytes)
        return;
    extents->count = 0;
    struct extent unknown = { .offset = range.offset, .bytes = range.bytes };
    extents_append(extents, &unknown);
}

static int copy_extents(struct cbw *cbw, const struct extents *extents, bool *write_failed) CO_FN;

static int copy_extents(struct cbw *cbw, const struct extents *extents, bool *write_failed)
{
    int ret = 0;
    for (size_t i = 0; i < extents->count && ret == 0; i++) {
        struct range part = range_make(extents->items[i].offset, extents->items[i].bytes);
        bool zero = extents->items[i].flags & EXTENT_ZERO;
        ret = zero ? child_copy_zeroes(&cbw->ends, part) : child_copy(&cbw->ends, part, write_failed);
        *write_failed = *write_failed || (zero && ret < 0);
    }
    return ret;
}

/* *@copied: the target has the old bytes now; else they are not wanted. */
static int copy_clusters(struct cbw *cbw, struct range clusters, bool *copied, bool *write_failed) CO_FN;

static int copy_clusters(struct cbw *cbw, struct range clusters, bool *copied, bool *write_failed)
{
    struct range left = cbw_bytes(cbw, clusters);
    int ret = 0;
    *write_failed = false;
    *copied = is_wanted(cbw, left);
    while (*copied && left.bytes > 0 && ret == 0) {
        CLEANUP(extents_fini) struct extents extents;
        extents_init(&extents, STATUS_EXTENTS_MAX);
        ask_disk(cbw, left, &extents);
        ret = copy_extents(cbw, &extents, write_failed);
        const struct extent *last = &extents.items[extents.count - 1];
        left = range_between(last->offset + last->bytes, range_end(left));
    }
    return ret;
}

/* The caller holds the lock. */
static void copy_ended(struct cbw *cbw, struct range clusters, int ret, bool copied)
{
    bitset_clear(&cbw->copying, clusters);
    if (ret == 0) {
        bitset_set(&cbw->settled, clusters);
        if (copied)
            bitset_set(&cbw->copied, clusters);
    }
    cbw_wake(cbw);
}

/* The clusters are marked as copying. */
static int copy_now(struct cbw *cbw, struct range clusters, bool data, bool *write_failed) CO_FN;

static int copy_now(struct cbw *cbw, struct range clusters, bool data, bool *write_failed)
{
    bool copied = true;
    int ret = data ? child_copy(&cbw->ends, cbw_bytes(cbw, clusters), write_failed)
                   : copy_clusters(cbw, clusters, &copied, write_failed);
    spinlock_lock(&cbw->lock);
    copy_ended(cbw, clusters, ret, copied);
    spinlock_unlock(&cbw->lock);
    return ret;
}

/* A copy that its writer may give up waiting for. It goes on then, and nobody counts its requests but the node. */
struct copy {
    struct node *node;
    struct range clusters;
    int ret;
    bool done; /* GUARDED_BY(cbw->lock), as is left_behind */
    bool left_behind;
};

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

static void copy_entry(void *arg)
{
    struct copy *copy = arg;
    struct cbw *cbw = node_state(copy->node);
    bool copied;
    bool write_failed;
    int ret = copy_clusters(cbw, copy->clusters, &copied, &write_failed);
    spinlock_lock(&cbw->lock);
    copy->ret = ret;
    copy->done = true;
    copy_ended(cbw, copy->clusters, ret, copied);
    bool left_behind = copy->left_behind; /* if not, its writer frees it from now on */
    spinlock_unlock(&cbw->lock);
    if (!left_behind)
        return;
    co_call_on(loop_control(), "copy before write", end_background, copy->node);
    free(copy);
    spinlock_lock(&cbw->lock);
    cbw->left_behind--;
    cbw_wake(cbw);
    spinlock_unlock(&cbw->lock);
}

/* The copy will outlast the request of its writer: from before that ends, drains have to wait for it. */
static bool leave_behind(struct cbw *cbw, struct copy *copy) CO_FN;

static bool leave_behind(struct cbw *cbw, struct copy *copy)
{
    struct node *node = copy->node;
    co_call_on(loop_control(), "copy before write", begin_background, node);
    spinlock_lock(&cbw->lock);
    bool done = copy->done;
    copy->left_behind = !done;
    cbw->left_behind += !done;
    spinlock_unlock(&cbw->lock);
    if (done)
        co_call_on(loop_control(), "copy before write", end_background, node);
    return !done;
}

/* Waits no longer than until the deadline (0: none), or until nobody needs the point in time any more. */
static int copy_in_time(struct node *node, struct range clusters, uint64_t deadline_ns) CO_FN;

static int copy_in_time(struct node *node, struct range clusters, uint64_t deadline_ns)
{
    struct cbw *cbw = node_state(node);
    struct copy *copy = xmalloc(sizeof(*copy));
    *copy = (struct copy){ .node = node, .clusters = clusters };
    co_start("copy before write", copy_entry, copy);
    bool in_time = true;
    spinlock_lock(&cbw->lock);
    while (!copy->done && in_time && !cbw->broken)
        in_time = cbw_wait(cbw, deadline_ns);
    bool done = copy->done;
    spinlock_unlock(&cbw->lock);
    if (!done && leave_behind(cbw, copy))
        return -ETIMEDOUT;
    int ret = copy->ret;
    free(copy);
    return ret;
}

/* The first clusters among @clusters that are not settled, all being copied or none. The caller holds the lock. */
static struct range next_to_keep(const struct cbw *cbw, struct range clusters, bool *copying)
{
    uint64_t first = bitset_next_clear(&cbw->settled, clusters);
    struct range rest = range_between(first, range_end(clusters));
    *copying = false;
    if (rest.bytes == 0)
        return rest;
    rest.bytes = min_u64(rest.bytes, max_u64(COPY_MAX / cbw->cluster, 1));
    rest = range_between(first, bitset_next_set(&cbw->settled, rest));
    *copying = bitset_has(&cbw->copying, first);
    return range_between(first, *copying ? first + 1 : bitset_next_set(&cbw->copying, rest));
}

int cbw_keep_clusters(struct node *node, struct range clusters, const struct cbw_patience *patience, bool *write_failed)
{
    struct cbw *cbw = node_state(node);
    int ret = 0;
    *write_failed = false;
    while (ret == 0 && !cbw->broken) {
        bool copying;
        struct range next = next_to_keep(cbw, clusters, &copying);
        if (next.bytes == 0)
            break;
        if (copying) {
            ret = cbw_wait(cbw, patience->deadline_ns) ? 0 : -ETIMEDOUT;
            continue;
        }
        bitset_set(&cbw->copying, next);
        spinlock_unlock(&cbw->lock);
        ret = patience->may_leave ? copy_in_time(node, next, patience->deadline_ns)
                                  : copy_now(cbw, next, patience->data, write_failed);
        spinlock_lock(&cbw->lock);
    }
    return ret;
}
