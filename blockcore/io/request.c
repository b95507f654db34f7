#include "blockcore/io/request.h"

#include "blockcore/base/trace.h"
#include "blockcore/graph/stats_count.h"
#include "blockcore/io/node_io.h"

#include <errno.h>

/* What an outside user may do, before its request enters. */
static int handle_check(const struct handle *handle, unsigned perm)
{
    if (!perm)
        return 0;
    if (node_refuses_writes(handle->edge.node))
        return -EACCES;
    return (handle->edge.granted & perm) ? 0 : -EPERM;
}

static const char *const kind_names[] = {
    [STATS_READ] = "read",
    [STATS_WRITE] = "write",
    [STATS_UNMAP] = "discard",
    [STATS_FLUSH] = "flush",
};

/* Looks at the node only inside, where it cannot be exchanged. Returns 0 with the handle entered. */
static int handle_begin(struct handle *handle, struct range range, unsigned perm)
{
    handle_enter(handle);
    int ret = handle_check(handle, perm);
    if (ret == 0 && !range_inside(range, node_length(handle->edge.node)))
        ret = -EINVAL;
    if (ret < 0)
        handle_leave(handle);
    return ret;
}

/* The same for what is counted. @begin: when, for handle_end(). */
static int handle_begin_counted(struct handle *handle, struct range range, unsigned perm, enum stats_kind kind,
                                uint64_t *begin)
{
    *begin = ticks_now();
    int ret = handle_begin(handle, range, perm);
    if (unlikely(ret < 0)) {
        handle_enter(handle); /* for the node, which may be exchanged */
        stats_refused(stats_lane(handle->edge.node), kind);
        if (handle->stats)
            stats_refused(&handle->stats[loop_index(loop_current())], kind);
        TRACE(request_failed, handle->edge.node->name, TRACE_CONSTANT(kind_names[kind]), ret);
        handle_leave(handle);
    }
    return ret;
}

static int handle_end(struct handle *handle, enum stats_kind kind, uint64_t bytes, uint64_t begin, int ret)
{
    uint64_t now = ticks_now();
    struct stats_lane *own = handle->stats ? &handle->stats[loop_index(loop_current())] : NULL;
    if (own)
        stats_count_in(own, kind, bytes, ret);
    stats_time(handle->edge.node, own, kind, begin, now, ret);
    if (unlikely(ret < 0))
        TRACE(request_failed, handle->edge.node->name, TRACE_CONSTANT(kind_names[kind]), ret);
    handle_leave(handle);
    return ret;
}

int handle_preadv(struct handle *handle, struct range range, const struct iov *iov)
{
    uint64_t begin;
    int ret = handle_begin_counted(handle, range, 0, STATS_READ, &begin);
    if (ret < 0)
        return ret;
    ret = node_read(handle->edge.node, range, iov, 0);
    return handle_end(handle, STATS_READ, range.bytes, begin, ret);
}

int handle_pwritev(struct handle *handle, struct range range, const struct iov *iov, unsigned flags)
{
    uint64_t begin;
    int ret = handle_begin_counted(handle, range, PERM_WRITE, STATS_WRITE, &begin);
    if (ret < 0)
        return ret;
    ret = node_write(handle->edge.node, range, iov, flags);
    return handle_end(handle, STATS_WRITE, range.bytes, begin, ret);
}

int handle_pwrite_zeroes(struct handle *handle, struct range range, unsigned flags)
{
    uint64_t begin;
    int ret = handle_begin_counted(handle, range, PERM_WRITE, STATS_WRITE, &begin);
    if (ret < 0)
        return ret;
    ret = node_write_zeroes(handle->edge.node, range, flags);
    return handle_end(handle, STATS_WRITE, range.bytes, begin, ret);
}

int handle_pdiscard(struct handle *handle, struct range range)
{
    uint64_t begin;
    int ret = handle_begin_counted(handle, range, PERM_WRITE, STATS_UNMAP, &begin);
    if (ret < 0)
        return ret;
    ret = node_discard(handle->edge.node, range);
    return handle_end(handle, STATS_UNMAP, range.bytes, begin, ret);
}

int handle_flush(struct handle *handle)
{
    uint64_t begin = ticks_now();
    handle_enter(handle);
    int ret = node_refuses_writes(handle->edge.node) ? 0 : node_flush(handle->edge.node);
    return handle_end(handle, STATS_FLUSH, 0, begin, ret);
}

int handle_truncate(struct handle *handle, uint64_t bytes, enum truncate_mode mode)
{
    int ret = handle_begin(handle, range_make(0, 0), PERM_RESIZE);
    if (ret < 0)
        return ret;
    ret = node_truncate(handle->edge.node, bytes, mode);
    handle_leave(handle);
    return ret;
}

/* Holds still whatever uses the bytes of the edge's node, which may be exchanged until that has happened; *@kept is to
 * be given back. */
static struct drain *drain_node_of(const struct child *edge, struct node **kept) CO_FN;

static struct drain *drain_node_of(const struct child *edge, struct node **kept)
{
    for (;;) {
        *kept = node_ref(edge->node);
        struct drain *drain = drain_begin_content(*kept);
        if (edge->node == *kept)
            return drain;
        drain_end(drain);
        node_unref(*kept);
    }
}

/* Nodes above may be as long as this one. */
static void settle_bitmaps_above(struct node *node)
{
    node_settle_bitmaps(node);
    for (struct child *edge = NULL; (edge = node_parent_next(node, edge));) {
        if (edge->parent)
            settle_bitmaps_above(edge->parent);
    }
}

int child_resize(struct child *child, uint64_t bytes, enum truncate_mode mode)
{
    struct node *node;
    struct drain *drain = drain_node_of(child, &node);
    /* Our own door is closed as well, so nothing but this tells others that a request is on its way. */
    node_set_busy(node, true);
    int ret = child_truncate(child, bytes, mode);
    settle_bitmaps_above(node);
    node_set_busy(node, false);
    drain_end(drain);
    node_unref(node);
    return ret;
}

int handle_resize(struct handle *handle, uint64_t bytes, enum truncate_mode mode)
{
    return child_resize(&handle->edge, bytes, mode);
}

/* What lies past the end of a child reads as zero: a backing file may be shorter than its overlay, and tables may
 * have been announced that nobody wrote yet. */
static int read_across_end(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    uint64_t length = node_length(node);
    size_t inside = range.offset < length ? (size_t)min_u64(range.bytes, length - range.offset) : 0;
    struct iov rest = iov_slice(iov, inside, iov->bytes - inside);
    iov_fill(&rest, 0);
    if (inside == 0)
        return 0;
    struct iov front = iov_slice(iov, 0, inside);
    return node_read(node, range_make(range.offset, inside), &front, flags);
}

int child_preadv(struct child *child, struct range range, const struct iov *iov, unsigned flags)
{
    struct node *node = child->node;
    if (likely(range_inside(range, node_length(node))))
        return node_read(node, range, iov, flags);
    if (!range_inside(range, NODE_LENGTH_MAX))
        return -EINVAL;
    return read_across_end(node, range, iov, flags);
}

static int child_check_write(const struct child *child, struct range range)
{
    if (node_refuses_writes(child->node))
        return -EACCES;
    if (!(child->granted & (PERM_WRITE | PERM_WRITE_UNCHANGED)))
        return -EPERM;
    if (likely(range_inside(range, node_length(child->node))))
        return 0;
    return (child->granted & PERM_RESIZE) && range_inside(range, NODE_LENGTH_MAX) ? 0 : -EINVAL;
}

int child_pwritev(struct child *child, struct range range, const struct iov *iov, unsigned flags)
{
    int ret = child_check_write(child, range);
    return ret < 0 ? ret : node_write(child->node, range, iov, flags);
}

int child_pwrite_zeroes(struct child *child, struct range range, unsigned flags)
{
    int ret = child_check_write(child, range);
    return ret < 0 ? ret : node_write_zeroes(child->node, range, flags);
}

int child_pdiscard(struct child *child, struct range range)
{
    int ret = child_check_write(child, range_make(0, 0));
    if (ret < 0)
        return ret;
    /* Past the end there is nothing to give back. */
    range = range_intersect(range, range_make(0, node_length(child->node)));
    return range.bytes ? node_discard(child->node, range) : 0;
}

int child_flush(struct child *child)
{
    return node_refuses_writes(child->node) ? 0 : node_flush(child->node);
}

int child_truncate(struct child *child, uint64_t bytes, enum truncate_mode mode)
{
    if (node_refuses_writes(child->node))
        return -EACCES;
    if (!(child->granted & PERM_RESIZE))
        return -EPERM;
    return node_truncate(child->node, bytes, mode);
}

uint64_t child_length(const struct child *child)
{
    return node_length(child->node);
}

int child_pread(struct child *child, uint64_t offset, void *data, size_t bytes)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, data, bytes);
    return child_preadv(child, range_make(offset, bytes), &iov, 0);
}

int child_pwrite(struct child *child, uint64_t offset, const void *data, size_t bytes, unsigned flags)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, (void *)(uintptr_t)data, bytes); /* a write only reads the memory */
    return child_pwritev(child, range_make(offset, bytes), &iov, flags);
}

void child_debug_event(struct child *child, const char *event)
{
    node_debug_event(child->node, event);
}
