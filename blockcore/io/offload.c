#include "blockcore/io/offload.h"

#include "blockcore/graph/stats_count.h"
#include "blockcore/io/node_io.h"
#include "blockcore/io/request.h"

#include <errno.h>

/* The child that @node reads @range from, which is moved to its place there. NULL: its data are its own business. */
static struct child *read_below(const struct node *node, struct range *range)
{
    const struct driver *driver = node->driver;
    if (driver->reads_from)
        return driver->reads_from(node, range);
    return driver->kind == DRIVER_FILTER && !driver->preadv ? node->filtered : NULL;
}

/* Where the bytes lie. False: nowhere as they are. */
static bool find_source(struct child *from, struct range range, struct copy_source *source)
{
    struct node *node = from->node;
    struct child *below;
    while (range_inside(range, node_length(node)) && (below = read_below(node, &range)))
        node = below->node;
    source->node = node;
    source->offset = range.offset;
    return node->driver->kind == DRIVER_PROTOCOL && range_inside(range, node_length(node));
}

static void count_reads(struct child *from, struct range range)
{
    struct child *next = from;
    for (struct node *node; next; next = read_below(node, &range)) {
        node = next->node;
        stats_count(node, STATS_READ, range.bytes, 0);
    }
}

static int driver_copy_in(struct node *node, struct range range, const struct copy_source *source) CO_FN;

static int driver_copy_in(struct node *node, struct range range, const struct copy_source *source)
{
    const struct driver *driver = node->driver;
    if (driver->copy_in)
        return driver->copy_in(node, range, source);
    bool passes = driver->kind == DRIVER_FILTER && !driver->pwritev;
    return passes ? child_copy_in(node->filtered, range, source) : -EOPNOTSUPP;
}

/* What a write does around its driver, see node_write(). */
static int node_copy_in(struct node *node, struct range range, const struct copy_source *source) CO_FN;

static int node_copy_in(struct node *node, struct range range, const struct copy_source *source)
{
    uint64_t alignment = node->limits.request_alignment;
    if (node->set.detect_zeroes != DETECT_ZEROES_OFF)
        return -EOPNOTSUPP;
    if (!is_aligned(range.offset | range.bytes, alignment))
        return -ENOTSUP;
    int ret = node_enter_regions(node, range);
    if (unlikely(ret < 0))
        return ret;
    struct tracked tracked;
    struct stats_lane *stats = stats_begin(node);
    if (alignment > 1)
        tracked_begin(&node->tracker, &tracked, range, false);
    stats_write_begins(node, range_end(range));
    ret = driver_copy_in(node, range, source);
    node_mark_dirty(node, range, 0);
    node_leave_regions(node, range);
    if (alignment > 1)
        tracked_end(&node->tracker, &tracked);
    if (*source->done > 0) {
        node_set_written(node);
        stats_wrote(stats, range.offset + *source->done, *source->done, 0);
    } else {
        stats_drop(stats);
    }
    return ret;
}

int child_copy_in(struct child *child, struct range range, const struct copy_source *source)
{
    bool may = !node_refuses_writes(child->node) && (child->granted & (PERM_WRITE | PERM_WRITE_UNCHANGED));
    if (!may || !range_inside(range, node_length(child->node)))
        return -ENOTSUP;
    return node_copy_in(child->node, range, source);
}

int child_offload(struct child *from, struct child *to, struct range range, uint64_t zero_unit,
                  enum copy_offload *offload, uint64_t *done)
{
    struct copy_source source = { .zero_unit = zero_unit, .offload = offload, .done = done };
    *done = 0;
    if (!range_inside(range, node_length(from->node)))
        return -ENOTSUP;
    int ret = find_source(from, range, &source) ? child_copy_in(to, range, &source) : -EOPNOTSUPP;
    if (ret == -EOPNOTSUPP)
        *offload = OFFLOAD_NONE;
    if (*done > 0)
        count_reads(from, range_make(range.offset, *done));
    return ret == 0 ? 0 : -ENOTSUP;
}
