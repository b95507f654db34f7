/* The filter: its options, and what it does before a write. */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/filters/cluster.h"
#include "blockcore/filters/copy_before_write_private.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/notice.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <string.h>

#define CLUSTER_MIN (64 * 1024)          /* the unit of copies, unless the target's own is larger */
#define CLUSTERS_MAX (UINT64_C(1) << 31) /* three bits each: 768 MiB of memory, if all of them are touched */
#define NS_PER_MS UINT64_C(1000000)

/* Before a write ----------------------------------------------------------------------------------------------- */

static bool is_frozen(const struct cbw *cbw, struct range range)
{
    struct frozen_read *read;
    list_for_each (read, &cbw->frozen, link) {
        if (range_overlaps(read->range, range))
            return true;
    }
    return false;
}

static void tell_broken(const struct node *node, struct range range, int ret)
{
    char text[128];
    CLEANUP(free)
    char *message = xasprintf("the point in time is lost: the old bytes of %llu bytes at %llu could not be kept: %s",
                              (unsigned long long)range.bytes, (unsigned long long)range.offset,
                              strerror_r(-ret, text, sizeof(text)));
    notice_give(&(struct notice){
        .kind = NOTICE_SNAPSHOT_BROKEN,
        .node_name = node_name(node),
        .message = message,
        .place = range,
    });
}

/* Afterwards @range of the disk may be changed, as far as the point in time is concerned. */
static int before_write(struct node *node, struct range range) CO_FN;

static int before_write(struct node *node, struct range range)
{
    struct cbw *cbw = node_state(node);
    range = range_intersect(range, range_make(0, cbw->bytes));
    if (range.bytes == 0)
        return 0;
    atomic_store_explicit(&cbw->used, true, memory_order_relaxed);
    struct range clusters = cbw_clusters(cbw, range);
    uint64_t deadline_ns = cbw->timeout_ms ? loop_now_ns() + cbw->timeout_ms * NS_PER_MS : 0;

    struct cbw_patience patience = { .may_leave = deadline_ns || cbw->of_job, .deadline_ns = deadline_ns };
    bool write_failed;
    spinlock_lock(&cbw->lock);
    int error = cbw_keep_clusters(node, clusters, &patience, &write_failed);
    int ret = cbw->break_snapshot || cbw->broken ? 0 : error;
    bool breaks = error < 0 && ret == 0 && !cbw->broken;
    if (breaks)
        cbw_break(cbw, error);
    while (ret == 0 && is_frozen(cbw, range))
        cbw_wait(cbw, 0);
    spinlock_unlock(&cbw->lock);
    if (breaks)
        tell_broken(node, range, error);
    return ret;
}

static int cbw_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    const struct cbw *cbw = node_state(node);
    int ret = before_write(node, range);
    return ret < 0 ? ret : child_pwritev(cbw->file, range, iov, flags);
}

static int cbw_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    const struct cbw *cbw = node_state(node);
    int ret = before_write(node, range);
    return ret < 0 ? ret : child_pwrite_zeroes(cbw->file, range, flags);
}

static int cbw_pdiscard(struct node *node, struct range range)
{
    const struct cbw *cbw = node_state(node);
    int ret = before_write(node, range);
    return ret < 0 ? ret : child_pdiscard(cbw->file, range);
}

/* What is cut off is kept before; what is added was not there at the moment. */
static int cbw_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    struct cbw *cbw = node_state(node);
    int ret = before_write(node, range_between(bytes, cbw->bytes));
    return ret < 0 ? ret : child_truncate(cbw->file, bytes, mode);
}

/* The target holds nothing that has to outlast this process, and an error there is none of the guest's business. */
static int cbw_flush(struct node *node)
{
    const struct cbw *cbw = node_state(node);
    return child_flush(cbw->file);
}

/* Opening ------------------------------------------------------------------------------------------------------ */

struct node *cbw_find(struct node *node)
{
    while (node_driver(node) != &copy_before_write_driver) {
        struct child *filtered = node_filtered(node);
        if (!filtered)
            return NULL;
        node = child_node(filtered);
    }
    return node;
}

uint64_t cbw_snapshot_length(struct node *cbw)
{
    return ((const struct cbw *)node_state(cbw))->bytes;
}

/* Not smaller than the target's clusters, or it would have to fill them up from what is below it. */
static struct error *choose_cluster(struct cbw *cbw, uint64_t wanted)
{
    if (wanted && (!is_power_of_two(wanted) || wanted > NODE_LENGTH_MAX))
        return error_new("min-cluster-size: %llu is not a power of two", (unsigned long long)wanted);
    cbw->cluster = max_u64(CLUSTER_MIN, max_u64(wanted, node_cluster_bytes(child_node(cbw->target))));
    cbw->bytes = child_length(cbw->file);
    if (child_length(cbw->target) < cbw->bytes)
        return error_new("target: node '%s' is %llu bytes long, but node '%s' is %llu",
                         node_name(child_node(cbw->target)), (unsigned long long)child_length(cbw->target),
                         node_name(child_node(cbw->file)), (unsigned long long)cbw->bytes);
    if (div_round_up(cbw->bytes, cbw->cluster) > CLUSTERS_MAX)
        return error_new("%llu bytes in clusters of %llu are too many; a larger min-cluster-size helps",
                         (unsigned long long)cbw->bytes, (unsigned long long)cbw->cluster);
    return NULL;
}

static void bitsets_fini(struct cbw *cbw)
{
    bitset_fini(&cbw->settled);
    bitset_fini(&cbw->copied);
    bitset_fini(&cbw->copying);
}

static struct error *bitsets_init(struct cbw *cbw)
{
    uint64_t count = div_round_up(cbw->bytes, cbw->cluster);
    if (bitset_init(&cbw->settled, count) && bitset_init(&cbw->copied, count) && bitset_init(&cbw->copying, count))
        return NULL;
    bitsets_fini(cbw);
    return error_new("no memory for the state of %llu clusters", (unsigned long long)count);
}

struct error *cbw_choose_units(struct cbw *cbw, uint64_t wanted_cluster)
{
    cbw->ends = (struct copy_ends){
        .from = cbw->file,
        .to = cbw->target,
        .flags = REQ_MAY_UNMAP,
        .zero_unit = CLUSTER_MIN,
        .offload = OFFLOAD_CARRY,
    };
    struct error *err = choose_cluster(cbw, wanted_cluster);
    return err ? err : bitsets_init(cbw);
}

void cbw_set_up(struct cbw *cbw)
{
    spinlock_init(&cbw->lock);
    list_init(&cbw->frozen);
    list_init(&cbw->waiters);
}

static struct error *find_bitmap(const struct cbw *cbw, const struct block_dirty_bitmap *ref, struct dirty_bitmap **out)
{
    const struct node *node = node_find(ref->node);
    if (!node)
        return error_wrap(node_not_found(ref->node), "bitmap.node");
    *out = dirty_bitmap_find(node, ref->name);
    if (!*out)
        return error_new("bitmap.name: Dirty bitmap '%s' not found", ref->name);
    if (dirty_bitmap_length(*out) != cbw->bytes)
        return error_new("bitmap: dirty bitmap '%s' speaks of %llu bytes, but node '%s' has %llu", ref->name,
                         (unsigned long long)dirty_bitmap_length(*out), node_name(child_node(cbw->file)),
                         (unsigned long long)cbw->bytes);
    return dirty_bitmap_check(*out, DIRTY_BITMAP_BUSY | DIRTY_BITMAP_INCONSISTENT);
}

void cbw_want_dirty(struct cbw *cbw, struct dirty_bitmap *bitmap)
{
    if (cbw->bytes == 0)
        return;
    bitset_set(&cbw->settled, cbw_clusters(cbw, range_make(0, cbw->bytes)));
    for (uint64_t begin = 0; (begin = dirty_bitmap_next_dirty(bitmap, begin)) < cbw->bytes;) {
        uint64_t end = dirty_bitmap_next_clean(bitmap, begin);
        bitset_clear(&cbw->settled, cbw_clusters(cbw, range_between(begin, min_u64(end, cbw->bytes))));
        begin = end;
    }
}

/* Only what is dirty is wanted. */
static struct error *choose_wanted(struct cbw *cbw, const struct block_dirty_bitmap *ref)
{
    struct dirty_bitmap *bitmap = NULL;
    struct error *err = ref ? find_bitmap(cbw, ref, &bitmap) : NULL;
    if (ref && !err)
        cbw_want_dirty(cbw, bitmap);
    return err;
}

static void set_error_options(struct cbw *cbw, const struct blockdev_options_cbw *own)
{
    cbw->break_snapshot = own->on_cbw_error == ON_CBW_ERROR_BREAK_SNAPSHOT;
    cbw->timeout_ms = (uint64_t)own->cbw_timeout * 1000;
}

static struct error *cbw_open(struct node *node, const struct blockdev_options *options,
                              const struct open_context *context)
{
    const struct blockdev_options_cbw *own = &options->u.copy_before_write;
    struct cbw *cbw = node_state(node);
    cbw_set_up(cbw);
    set_error_options(cbw, own);
    struct error *err = child_open(node, "file", CHILD_FILTERED, own->file, context, &cbw->file);
    if (!err)
        err = child_open(node, "target", CHILD_DATA, own->target, context, &cbw->target);
    if (!err)
        err = cbw_choose_units(cbw, own->has_min_cluster_size ? own->min_cluster_size : 0);
    if (!err) {
        err = choose_wanted(cbw, own->bitmap);
        if (err)
            bitsets_fini(cbw);
    }
    if (!err)
        node_set_filename(node, node_filename(child_node(cbw->file)));
    return err;
}

/* No handle is left, but copies may be that nobody waited for. */
static void cbw_close(struct node *node)
{
    struct cbw *cbw = node_state(node);
    spinlock_lock(&cbw->lock);
    while (cbw->left_behind > 0)
        cbw_wait(cbw, 0);
    spinlock_unlock(&cbw->lock);
    bitsets_fini(cbw);
}

/* The old bytes are in the target. */
static struct error *cbw_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                        struct reopen *reopen)
{
    const struct blockdev_options_cbw *own = &options->u.copy_before_write;
    struct blockdev_options_cbw *next = xmalloc(sizeof(*next));
    (void)node;
    *next = *own;
    reopen_set_state(reopen, next);
    struct error *err = reopen_child(reopen, "file", own->file);
    return err ? err : reopen_same_child(reopen, "target", own->target);
}

static void cbw_reopen_commit(struct node *node, struct reopen *reopen)
{
    set_error_options(node_state(node), reopen_state(reopen));
}

static void cbw_reopen_end(struct node *node, struct reopen *reopen)
{
    (void)node;
    free(reopen_state(reopen));
}

static const char *const cbw_reopenable[] = { "on-cbw-error", "cbw-timeout", NULL };

/* Others may write the target, unless its maker knows better: it may be an overlay of the disk itself. The disk is the
 * filter's alone as long as it has users. */
static void cbw_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                  unsigned *child_perm, unsigned *child_shared)
{
    const struct cbw *cbw = node_state((struct node *)(uintptr_t)node);
    if (!(child_role(child) & CHILD_FILTERED)) {
        *child_perm = PERM_WRITE;
        *child_shared = PERM_ALL & ~(unsigned)(PERM_RESIZE | (cbw->target_alone ? PERM_WRITE : 0));
        return;
    }
    *child_perm = perm;
    *child_shared = shared & ~(unsigned)PERM_RESIZE;
    if (perm) {
        *child_perm |= PERM_CONSISTENT_READ | (cbw->discard_source ? PERM_WRITE : 0);
        *child_shared &= ~(unsigned)PERM_WRITE;
    }
}

/* From now on others may write the disk. */
static struct error *cbw_set_permissions(struct node *node, unsigned perm, unsigned shared)
{
    struct cbw *cbw = node_state(node);
    (void)shared;
    spinlock_lock(&cbw->lock);
    if (perm == 0 && atomic_load_explicit(&cbw->used, memory_order_relaxed))
        cbw_break(cbw, -EACCES);
    spinlock_unlock(&cbw->lock);
    return NULL;
}

const struct driver copy_before_write_driver = {
    .name = "copy-before-write",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct cbw),
    .write_flags = REQ_FUA | REQ_COMPRESSED,
    .flushes_children = true,
    .open = cbw_open,
    .reopen_prepare = cbw_reopen_prepare,
    .reopen_commit = cbw_reopen_commit,
    .reopen_abort = cbw_reopen_end,
    .reopen_end = cbw_reopen_end,
    .reopenable = cbw_reopenable,
    .close = cbw_close,
    .pwritev = cbw_pwritev,
    .pwrite_zeroes = cbw_pwrite_zeroes,
    .pdiscard = cbw_pdiscard,
    .truncate = cbw_truncate,
    .flush = cbw_flush,
    .child_permissions = cbw_child_permissions,
    .set_permissions = cbw_set_permissions,
};
