#include "blockcore/io/node_io.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"
#include "blockcore/graph/stats_count.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>
#include <string.h>

/* Longest piece of a request that is bounced, and of zeroes that are written the slow way. */
#define BOUNCE_MAX (1024 * 1024)

/* Zeroes to write where a driver cannot zero by itself: repeated, since reading them costs only the cache. */
#define ZEROES_BYTES (64 * 1024)
static _Alignas(4096) const unsigned char zeroes[ZEROES_BYTES];

static bool range_is_aligned(struct range range, uint64_t alignment)
{
    return is_aligned(range.offset | range.bytes, alignment);
}

/* The longest piece that begins at @range's begin and ends at its end or at a multiple of @limit. */
static struct range first_piece(struct range range, uint64_t limit)
{
    if (limit && range.bytes > limit)
        range.bytes = limit;
    return range;
}

static struct range range_after(struct range range, uint64_t bytes)
{
    return range_make(range.offset + bytes, range.bytes - bytes);
}

static bool memory_fits(const struct node *node, const struct iov *iov)
{
    return node->limits.memory_alignment == 1 || iov_is_aligned(iov, node->limits.memory_alignment);
}

/* Reading --------------------------------------------------------------------------------------------------- */

static int driver_read(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    const struct driver *driver = node->driver;
    if (!driver->preadv)
        return driver->kind == DRIVER_FILTER ? child_preadv(node->filtered, range, iov, flags) : -ENOTSUP;
    uint64_t limit = node->limits.max_transfer;
    if (!limit || range.bytes <= limit)
        return driver->preadv(node, range, iov, flags);

    int ret = 0;
    for (size_t done = 0; done < iov->bytes && ret == 0;) {
        struct range piece = first_piece(range_after(range, done), limit);
        struct iov part = iov_slice(iov, done, piece.bytes);
        ret = driver->preadv(node, piece, &part, flags);
        done += piece.bytes;
    }
    return ret;
}

/* Reads whole units into a buffer of ours, and copies what was asked for. */
static int read_bounced(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    uint64_t alignment = node->limits.request_alignment;
    int ret = 0;
    for (size_t done = 0; done < iov->bytes && ret == 0;) {
        struct range wanted = first_piece(range_after(range, done), BOUNCE_MAX);
        struct range whole = range_align_out(wanted, alignment);
        char *buffer = buffer_get(whole.bytes);
        if (!buffer)
            return -ENOMEM;
        struct iovec storage;
        struct iov bounce = iov_of(&storage, buffer, whole.bytes);
        ret = driver_read(node, whole, &bounce, flags);
        if (ret == 0) {
            struct iov part = iov_slice(iov, done, wanted.bytes);
            iov_copy_from(&part, buffer + (wanted.offset - whole.offset));
        }
        buffer_put(buffer, whole.bytes);
        done += wanted.bytes;
    }
    return ret;
}

int node_read(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    if (range.bytes == 0)
        return 0;
    TRACE(node_read, node->name, range.offset, range.bytes);
    struct stats_lane *stats = stats_begin(node);
    bool fits = likely(range_is_aligned(range, node->limits.request_alignment) && memory_fits(node, iov));
    int ret = fits ? driver_read(node, range, iov, flags) : read_bounced(node, range, iov, flags);
    stats_end(stats, STATS_READ, range.bytes, ret);
    TRACE(node_read_done, node->name, range.offset, range.bytes, ret);
    return ret;
}

/* To those who listen (blkdebug), at the node itself. */
static inline void tell(struct node *node, const char *event) CO_FN;

static inline void tell(struct node *node, const char *event)
{
    if (unlikely(node->driver->debug_event))
        node->driver->debug_event(node, event);
}

/* Writing --------------------------------------------------------------------------------------------------- */

static int driver_write(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    const struct driver *driver = node->driver;
    if (!driver->pwritev)
        return driver->kind == DRIVER_FILTER ? child_pwritev(node->filtered, range, iov, flags) : -ENOTSUP;

    unsigned driver_flags = flags & driver->write_flags;
    uint64_t limit = node->limits.max_transfer;
    int ret = 0;
    tell(node, "pwritev");
    for (size_t done = 0; done < iov->bytes && ret == 0;) {
        struct range piece = first_piece(range_after(range, done), limit);
        struct iov part = iov_slice(iov, done, piece.bytes);
        ret = driver->pwritev(node, piece, &part, driver_flags);
        done += piece.bytes;
    }
    tell(node, "pwritev_done");
    return ret;
}

/* Is FUA ours to emulate, by one flush when all pieces are written? @passed_on: the request goes to the filtered child,
 * which sees to it. */
static bool needs_flush(const struct node *node, unsigned flags, bool passed_on)
{
    return (flags & REQ_FUA) && !passed_on && !(node->driver->write_flags & REQ_FUA);
}

/* Fills @buffer (of @whole) with what surrounds @inner: the first and the last unit, where @inner covers them in part.
 */
static int read_edges(struct node *node, struct range whole, struct range inner, char *buffer)
{
    uint64_t alignment = node->limits.request_alignment;
    struct iovec storage;
    int ret = 0;
    bool head = whole.offset < inner.offset;
    bool tail = range_end(whole) > range_end(inner);
    if (head) {
        struct iov iov = iov_of(&storage, buffer, alignment);
        tell(node, "pwritev_rmw_head");
        ret = driver_read(node, range_make(whole.offset, alignment), &iov, 0);
        tell(node, "pwritev_rmw_after_head");
    }
    if (ret == 0 && tail && !(head && whole.bytes == alignment)) {
        struct iov iov = iov_of(&storage, buffer + whole.bytes - alignment, alignment);
        tell(node, "pwritev_rmw_tail");
        ret = driver_read(node, range_make(range_end(whole) - alignment, alignment), &iov, 0);
        tell(node, "pwritev_rmw_after_tail");
    }
    return ret;
}

/* One piece of at most BOUNCE_MAX bytes as whole units. The units are ours alone meanwhile (tracked by the caller). */
static int write_bounced(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct range whole = range_align_out(range, node->limits.request_alignment);
    char *buffer = buffer_get(whole.bytes);
    if (!buffer)
        return -ENOMEM;
    int ret = read_edges(node, whole, range, buffer);
    if (ret == 0) {
        iov_copy_to(iov, buffer + (range.offset - whole.offset));
        /* A node may end inside its last unit. What is only filling behind the end must not make it longer. */
        uint64_t end = min_u64(range_end(whole), max_u64(range_end(range), node_length(node)));
        struct range written = range_between(whole.offset, end);
        struct iovec storage;
        struct iov bounce = iov_of(&storage, buffer, written.bytes);
        ret = driver_write(node, written, &bounce, flags);
    }
    buffer_put(buffer, whole.bytes);
    return ret;
}

static int write_pieces_bounced(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    uint64_t alignment = node->limits.request_alignment;
    uint64_t limit = max_u64(BOUNCE_MAX, alignment);
    int ret = 0;
    for (size_t done = 0; done < iov->bytes && ret == 0;) {
        /* Pieces end at units, so that only the outer two are read. */
        struct range piece = range_after(range, done);
        if (piece.bytes > limit)
            piece.bytes = align_down(piece.offset + limit, alignment) - piece.offset;
        struct iov part = iov_slice(iov, done, piece.bytes);
        ret = write_bounced(node, piece, &part, flags);
        done += piece.bytes;
    }
    return ret;
}

/* On nodes with units larger than a byte. */
static int write_tracked(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    bool aligned = range_is_aligned(range, node->limits.request_alignment);
    struct tracked tracked;
    tracked_begin(&node->tracker, &tracked, range_align_out(range, node->limits.request_alignment), !aligned);
    int ret;
    if (aligned && memory_fits(node, iov))
        ret = driver_write(node, range, iov, flags);
    else
        ret = write_pieces_bounced(node, range, iov, flags);
    tracked_end(&node->tracker, &tracked);
    return ret;
}

/* As a whole: what is compressed together lies together, and half a cluster cannot be added to the other half. */
static int write_compressed(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    const struct driver *driver = node->driver;
    if (!driver->pwritev && driver->kind == DRIVER_FILTER)
        return child_pwritev(node->filtered, range, iov, flags);
    if (!driver->pwritev || !(driver->write_flags & REQ_COMPRESSED))
        return -ENOTSUP;
    uint64_t alignment = node->limits.request_alignment;
    uint64_t end = range_end(range);
    if (!is_aligned(range.offset, alignment) || (!is_aligned(end, alignment) && end != node_length(node)))
        return -EINVAL;
    if (alignment == 1)
        return driver->pwritev(node, range, iov, flags & driver->write_flags);
    struct tracked tracked;
    tracked_begin(&node->tracker, &tracked, range_align_out(range, alignment), false);
    int ret = driver->pwritev(node, range, iov, flags & driver->write_flags);
    tracked_end(&node->tracker, &tracked);
    return ret;
}

bool node_can_compress(const struct node *node)
{
    while (node->driver->kind == DRIVER_FILTER &&
           (!node->driver->pwritev || node->driver->write_flags & REQ_COMPRESSED))
        node = node->filtered->node;
    return node->driver->pwritev && (node->driver->write_flags & REQ_COMPRESSED);
}

int node_write(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    int ret;
    if (range.bytes == 0)
        return 0;
    if (node->set.detect_zeroes != DETECT_ZEROES_OFF && iov_is_zero(iov)) {
        unsigned unmap = node->set.detect_zeroes == DETECT_ZEROES_UNMAP ? REQ_MAY_UNMAP : 0;
        return node_write_zeroes(node, range, (flags & (REQ_FUA | REQ_NOT_FOR_DRIVERS)) | unmap);
    }
    TRACE(node_write, node->name, range.offset, range.bytes, flags);
    ret = node_enter_regions(node, range);
    if (unlikely(ret < 0))
        return ret;
    struct stats_lane *stats = stats_begin(node);
    stats_write_begins(node, range_end(range));
    unsigned below = flags & ~(unsigned)REQ_NOT_FOR_DRIVERS;
    if (unlikely(flags & REQ_COMPRESSED))
        ret = write_compressed(node, range, iov, below);
    else if (likely(node->limits.request_alignment == 1 && memory_fits(node, iov)))
        ret = driver_write(node, range, iov, below);
    else
        ret = write_tracked(node, range, iov, below);
    node_mark_dirty(node, range, flags);
    node_leave_regions(node, range);
    if (ret == 0)
        node_set_written(node);
    stats_wrote(stats, range_end(range), range.bytes, ret);
    TRACE(node_write_done, node->name, range.offset, range.bytes, ret);
    return ret == 0 && needs_flush(node, flags, !node->driver->pwritev) ? node_flush(node) : ret;
}

/* Zeroes ---------------------------------------------------------------------------------------------------- */

/* As data: for what the driver cannot zero by itself. */
static int write_zero_data(struct node *node, struct range range, unsigned flags)
{
    struct iovec pieces[BOUNCE_MAX / ZEROES_BYTES];
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++)
        pieces[i] = (struct iovec){ .iov_base = (void *)(uintptr_t)zeroes, .iov_len = ZEROES_BYTES };
    struct iov all = iov_of_vec(pieces, ARRAY_SIZE(pieces));

    int ret = 0;
    while (range.bytes > 0 && ret == 0) {
        struct range piece = first_piece(range, BOUNCE_MAX);
        struct iov iov = iov_slice(&all, 0, piece.bytes);
        if (range_is_aligned(piece, node->limits.request_alignment) && memory_fits(node, &iov))
            ret = driver_write(node, piece, &iov, flags);
        else
            ret = write_bounced(node, piece, &iov, flags);
        range = range_after(range, piece.bytes);
    }
    return ret;
}

static uint64_t zero_granularity(const struct node *node)
{
    return max_u64(node->limits.zero_granularity, node->limits.request_alignment);
}

/* The head up to the next multiple of the granularity, the middle, the tail: what comes first of @range. */
static struct range zero_piece(const struct node *node, struct range range)
{
    uint64_t granularity = zero_granularity(node);
    uint64_t rest = range.offset & (granularity - 1);
    if (rest)
        return first_piece(range, granularity - rest);
    uint64_t limit = node->limits.max_write_zeroes;
    if (range.bytes > granularity) {
        range.bytes = align_down(range.bytes, granularity);
        if (limit && range.bytes > limit)
            range.bytes = max_u64(align_down(limit, granularity), granularity);
    }
    return range;
}

static int driver_write_zeroes(struct node *node, struct range range, unsigned flags)
{
    const struct driver *driver = node->driver;
    if (driver->kind == DRIVER_FILTER && !driver->pwrite_zeroes)
        return child_pwrite_zeroes(node->filtered, range, flags);
    int ret = -ENOTSUP;
    tell(node, "pwritev_zero");
    if (driver->pwrite_zeroes && range_is_aligned(range, node->limits.request_alignment))
        ret = driver->pwrite_zeroes(node, range, flags & ~(REQ_FUA & ~driver->write_flags));
    if (ret == -ENOTSUP && !(flags & REQ_NO_FALLBACK))
        ret = write_zero_data(node, range, flags & REQ_FUA);
    tell(node, "pwritev_done");
    return ret;
}

/* With REQ_NO_FALLBACK: what is refused is refused before anything is changed. It is the head and the tail that a
 * driver may not be able to do where it can do the middle, so they come first, and are taken off @range. */
static int zero_edges(struct node *node, struct range *range, unsigned flags)
{
    uint64_t granularity = zero_granularity(node);
    uint64_t begin = min_u64(align_up(range->offset, granularity), range_end(*range));
    uint64_t end = max_u64(align_down(range_end(*range), granularity), begin);
    struct range head = range_between(range->offset, begin);
    struct range tail = range_between(end, range_end(*range));
    int ret = head.bytes > 0 ? driver_write_zeroes(node, head, flags) : 0;
    *range = range_between(begin, end);
    return ret == 0 && tail.bytes > 0 ? driver_write_zeroes(node, tail, flags) : ret;
}

int node_write_zeroes(struct node *node, struct range range, unsigned flags)
{
    struct tracked tracked;
    if (!node->set.unmap)
        flags &= ~(unsigned)REQ_MAY_UNMAP;
    bool track = node->limits.request_alignment > 1;
    TRACE(node_zero, node->name, range.offset, range.bytes, flags);
    int ret = node_enter_regions(node, range);
    if (unlikely(ret < 0))
        return ret;
    struct stats_lane *stats = stats_begin(node);
    if (track)
        tracked_begin(&node->tracker, &tracked, range_align_out(range, node->limits.request_alignment),
                      !range_is_aligned(range, node->limits.request_alignment));
    stats_write_begins(node, range_end(range));
    struct range rest = range;
    unsigned below = flags & ~(unsigned)REQ_NOT_FOR_DRIVERS;
    if (flags & REQ_NO_FALLBACK)
        ret = zero_edges(node, &rest, below);
    while (rest.bytes > 0 && ret == 0) {
        struct range piece = zero_piece(node, rest);
        ret = driver_write_zeroes(node, piece, below);
        rest = range_after(rest, piece.bytes);
    }
    node_mark_dirty(node, range, flags);
    node_leave_regions(node, range);
    if (track)
        tracked_end(&node->tracker, &tracked);
    if (ret == 0)
        node_set_written(node);
    stats_wrote(stats, range_end(range), range.bytes, ret);
    TRACE(node_zero_done, node->name, range.offset, range.bytes, ret);
    bool passed_on = node->driver->kind == DRIVER_FILTER && !node->driver->pwrite_zeroes;
    return ret == 0 && needs_flush(node, flags, passed_on) ? node_flush(node) : ret;
}

/* Discard, flush, truncate ---------------------------------------------------------------------------------- */

static int driver_discard(struct node *node, struct range range)
{
    int ret = 0;
    while (range.bytes > 0 && ret == 0) {
        struct range piece = first_piece(range, node->limits.max_discard);
        ret = node->driver->pdiscard(node, piece);
        range = range_after(range, piece.bytes);
    }
    return ret == -ENOTSUP ? 0 : ret;
}

static int discard_without_driver(struct node *node, struct range range)
{
    bool passed_on = node->driver->kind == DRIVER_FILTER;
    struct stats_lane *stats = stats_begin(node);
    int ret = passed_on ? child_pdiscard(node->filtered, range) : 0;
    if (passed_on)
        node_mark_dirty(node, range, 0);
    stats_end(stats, STATS_UNMAP, range.bytes, ret);
    return ret;
}

int node_discard(struct node *node, struct range range)
{
    const struct driver *driver = node->driver;
    TRACE(node_discard, node->name, range.offset, range.bytes);
    if (!node->set.unmap)
        return 0;
    if (!driver->pdiscard)
        return discard_without_driver(node, range);

    /* A unit that is not asked for as a whole keeps its content. The last one of a node may be short. Bitmaps count all
     * that was asked for, as in QEMU, so that those of two hosts can be compared. */
    uint64_t granularity = max_u64(node->limits.discard_granularity, node->limits.request_alignment);
    uint64_t begin = align_up(range.offset, granularity);
    uint64_t end = range_end(range) == node_length(node) ? range_end(range) : align_down(range_end(range), granularity);
    struct range asked = range;
    range = range_between(begin, end);
    if (range.bytes == 0) {
        node_mark_dirty(node, asked, 0);
        return 0;
    }

    struct tracked tracked;
    bool track = node->limits.request_alignment > 1;
    int ret = node_enter_regions(node, asked);
    if (unlikely(ret < 0))
        return ret;
    struct stats_lane *stats = stats_begin(node);
    if (track)
        tracked_begin(&node->tracker, &tracked, range, false);
    ret = driver_discard(node, range);
    node_mark_dirty(node, asked, 0);
    node_leave_regions(node, asked);
    if (track)
        tracked_end(&node->tracker, &tracked);
    stats_end(stats, STATS_UNMAP, range.bytes, ret);
    return ret;
}

int node_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    if (bytes > NODE_LENGTH_MAX)
        return -EFBIG;
    if (node->driver->truncate)
        return node->driver->truncate(node, bytes, mode);
    return node->driver->kind == DRIVER_FILTER ? child_truncate(node->filtered, bytes, mode) : -ENOTSUP;
}

static size_t count_children(const struct node *node)
{
    size_t count = 0;
    for (struct child *edge = NULL; (edge = node_child_next(node, edge));)
        count++;
    return count;
}

/* No handle keeps the graph as it is meanwhile: edges may go while one of the nodes is asked, so all are kept first. */
static int64_t allocated_by_children(struct node *node)
{
    size_t count = 0;
    struct node **parts = xcalloc(count_children(node), sizeof(struct node *));
    for (struct child *edge = NULL; (edge = node_child_next(node, edge));) {
        if (edge->role & (CHILD_DATA | CHILD_METADATA | CHILD_FILTERED))
            parts[count++] = node_ref(edge->node);
    }
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t bytes = sum < 0 ? 0 : node_allocated_bytes(parts[i]);
        sum = bytes < 0 ? bytes : sum + bytes;
        node_unref(parts[i]);
    }
    free(parts);
    return sum;
}

int64_t node_allocated_bytes(struct node *node)
{
    const struct driver *driver = node->driver;
    return driver->allocated_bytes ? driver->allocated_bytes(node) : allocated_by_children(node);
}
