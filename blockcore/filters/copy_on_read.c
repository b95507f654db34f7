/* copy-on-read - a filter that copies what is read from a backing file into the overlay
 *
 *     guest --> copy-on-read --file--> overlay --backing--> mid --backing--> base
 *                         '--bottom------------------------^      optional: what is below is not copied
 *
 * A read first asks which layer decides. What the overlay decides, or no layer has, is just read. For the rest, whole
 * clusters are read and written to the overlay, with the range to themselves: a write that comes through the filter
 * waits for the copy, or the copy for it, so that old data never replaces new. Nobody else may write the overlay while
 * the filter has users. What is zero in a backing file, known or read, becomes a zero of the overlay, without data.
 *
 * What the guest sees does not change by a copy. So a copy that fails (no space) leaves the read as good as it was. */
#include "blockcore/filters/copy_on_read.h"

#include "blockcore/base/iov.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/filters/cluster.h"
#include "blockcore/graph/inner.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/tracking.h"
#include "schema/cairn_types.h"

#include <errno.h>

#define COPY_MAX (UINT64_C(1) << 20) /* bytes that are copied at once */
#define EXTENTS_MAX 64               /* of one question */

struct cor {
    struct child *file;
    struct child *bottom;           /* NULL: the whole chain is copied, or a job says how much of it */
    const struct node *jobs_bottom; /* the job's; weak: it keeps it */
    uint64_t cluster;               /* of the overlay, a power of two, at most COPY_MAX */
    struct tracker tracker;
    /* A job's copies */
    struct spinlock lock;
    struct list populating GUARDED_BY(lock);
    struct co_queue fewer GUARDED_BY(lock); /* of them */
    bool over GUARDED_BY(lock);
};

/* Where in @iov, which is for @wanted, @part goes: as much of it as is wanted. */
static struct iov iov_for(const struct iov *iov, struct range wanted, struct range part)
{
    part = range_intersect(part, wanted);
    return iov_slice(iov, part.bytes ? part.offset - wanted.offset : 0, part.bytes);
}

/* Backing edges from the overlay down to the bottom, the deepest layer that is copied; -1: the bottom is elsewhere now.
 */
static int64_t bottom_depth(const struct cor *cor)
{
    const struct node *bottom = cor->bottom ? child_node(cor->bottom) : cor->jobs_bottom;
    if (!bottom)
        return UINT32_MAX;
    const struct node *node = child_node(cor->file);
    int64_t depth = 0;
    while (node != bottom) {
        const struct child *down = node_filtered(node) ? node_filtered(node) : node_backing(node);
        if (!down)
            return -1;
        depth += down == node_backing(node);
        node = child_node(down);
    }
    return depth;
}

static bool is_to_be_copied(const struct extent *extent, int64_t deepest)
{
    bool from_below = (extent->flags & EXTENT_PRESENT) && (extent->flags & EXTENT_ALLOCATED) && extent->depth > 0;
    return from_below && extent->depth <= deepest;
}

/* Reading of what is not copied, and copying -------------------------------------------------------------------- */

static int read_plain(const struct cor *cor, struct range part, struct range wanted, const struct iov *iov) CO_FN;

static int read_plain(const struct cor *cor, struct range part, struct range wanted, const struct iov *iov)
{
    part = range_intersect(part, wanted);
    if (part.bytes == 0)
        return 0;
    struct iov target = iov_for(iov, wanted, part);
    return child_preadv(cor->file, part, &target, 0);
}

static uint64_t cluster_end(const struct cor *cor, uint64_t offset, struct range part)
{
    return min_u64(align_down(offset, cor->cluster) + cor->cluster, range_end(part));
}

/* The clusters from @part's begin on that are alike: all zero, or not. */
static struct range first_alike(const struct cor *cor, struct range part, const char *data, bool *zero)
{
    struct range run = range_between(part.offset, cluster_end(cor, part.offset, part));
    *zero = memory_is_zero(data, run.bytes);
    while (run.bytes < part.bytes) {
        uint64_t end = cluster_end(cor, range_end(run), part);
        if (memory_is_zero(data + run.bytes, end - range_end(run)) != *zero)
            break;
        run = range_between(run.offset, end);
    }
    return run;
}

static void write_copy(const struct cor *cor, struct range part, char *data) CO_FN;

/* Fails where it may: then the next read tries again. */
static void write_copy(const struct cor *cor, struct range part, char *data)
{
    child_debug_event(cor->file, "cor_write");
    for (uint64_t done = 0; done < part.bytes;) {
        bool zero;
        struct range run = first_alike(cor, range_make(part.offset + done, part.bytes - done), data + done, &zero);
        if (!zero || child_pwrite_zeroes(cor->file, run, REQ_NO_FALLBACK | REQ_UNCHANGED) == -ENOTSUP)
            child_pwrite(cor->file, run.offset, data + done, run.bytes, REQ_UNCHANGED);
        done += run.bytes;
    }
}

static int copy_data(const struct cor *cor, struct range part, struct range wanted, const struct iov *iov) CO_FN;

static int copy_data(const struct cor *cor, struct range part, struct range wanted, const struct iov *iov)
{
    char *data = buffer_get(part.bytes);
    if (!data)
        return read_plain(cor, part, wanted, iov);
    int ret = child_pread(cor->file, part.offset, data, part.bytes);
    if (ret == 0) {
        struct iov target = iov_for(iov, wanted, part);
        iov_copy_from(&target, data + (range_intersect(part, wanted).offset - part.offset));
        write_copy(cor, part, data);
    }
    buffer_put(data, part.bytes);
    return ret == 0 ? 0
                    : read_plain(cor, part, wanted, iov); /* only what the guest did not ask for may be unreadable */
}

static int copy_zeroes(const struct cor *cor, struct range part, struct range wanted, const struct iov *iov) CO_FN;

static int copy_zeroes(const struct cor *cor, struct range part, struct range wanted, const struct iov *iov)
{
    struct iov target = iov_for(iov, wanted, part);
    iov_fill(&target, 0);
    child_debug_event(cor->file, "cor_write");
    child_pwrite_zeroes(cor->file, part, REQ_NO_FALLBACK | REQ_UNCHANGED);
    return 0;
}

/* One extent of the range that is the filter's alone now. */
static int read_extent(const struct cor *cor, const struct extent *extent, int64_t deepest, struct range wanted,
                       const struct iov *iov) CO_FN;

static int read_extent(const struct cor *cor, const struct extent *extent, int64_t deepest, struct range wanted,
                       const struct iov *iov)
{
    struct range part = range_make(extent->offset, extent->bytes);
    if (!is_to_be_copied(extent, deepest))
        return read_plain(cor, part, wanted, iov);
    return extent->flags & EXTENT_ZERO ? copy_zeroes(cor, part, wanted, iov) : copy_data(cor, part, wanted, iov);
}

static int read_copying(struct cor *cor, struct range whole, int64_t deepest, struct range wanted,
                        const struct iov *iov) CO_FN;

/* @whole: clusters, at most COPY_MAX bytes. Of @wanted, only what lies inside is read. */
static int read_copying(struct cor *cor, struct range whole, int64_t deepest, struct range wanted,
                        const struct iov *iov)
{
    struct tracked tracked;
    tracked_begin(&cor->tracker, &tracked, whole, true);
    int ret = 0;
    while (whole.bytes > 0 && ret == 0) {
        CLEANUP(extents_fini) struct extents extents;
        extents_init(&extents, EXTENTS_MAX);
        ret = child_block_status(cor->file, whole, ASK_ALLOCATED | ASK_ZERO, &extents);
        for (size_t i = 0; i < extents.count && ret == 0; i++) {
            ret = read_extent(cor, &extents.items[i], deepest, wanted, iov);
            whole = range_between(extents.items[i].offset + extents.items[i].bytes, range_end(whole));
        }
    }
    tracked_end(&cor->tracker, &tracked);
    return ret;
}

/* Reads ---------------------------------------------------------------------------------------------------------- */

/* How much of the begin of @range is to be copied (then *copies), or is not. */
static int first_run(const struct cor *cor, struct range range, int64_t deepest, bool *copies, uint64_t *bytes) CO_FN;

static int first_run(const struct cor *cor, struct range range, int64_t deepest, bool *copies, uint64_t *bytes)
{
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, EXTENTS_MAX);
    int ret = child_block_status(cor->file, range, ASK_ALLOCATED, &extents);
    if (ret < 0)
        return ret;
    *copies = is_to_be_copied(&extents.items[0], deepest);
    *bytes = 0;
    for (size_t i = 0; i < extents.count && is_to_be_copied(&extents.items[i], deepest) == *copies; i++)
        *bytes += extents.items[i].bytes;
    return 0;
}

/* The clusters around the begin of @range, as many as are copied at once. */
static struct range clusters_of(const struct cor *cor, struct range range)
{
    struct range whole = range_align_out(range, cor->cluster);
    whole.bytes = min_u64(whole.bytes, max_u64(COPY_MAX, cor->cluster));
    return range_between(whole.offset, min_u64(range_end(whole), max_u64(child_length(cor->file), range_end(range))));
}

static int cor_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct cor *cor = node_state(node);
    int64_t deepest = bottom_depth(cor);
    int ret = 0;
    for (uint64_t done = 0; done < range.bytes && ret == 0;) {
        struct range rest = range_make(range.offset + done, range.bytes - done);
        struct iov target = iov_slice(iov, done, rest.bytes);
        bool copies;
        uint64_t bytes;
        ret = first_run(cor, rest, deepest, &copies, &bytes);
        if (ret == 0 && copies) {
            struct range whole = clusters_of(cor, range_make(rest.offset, bytes));
            bytes = min_u64(rest.bytes, range_end(whole) - rest.offset);
            rest.bytes = bytes;
            ret = read_copying(cor, whole, deepest, rest, &target);
        } else if (ret == 0) {
            target = iov_slice(iov, done, bytes);
            ret = child_preadv(cor->file, range_make(rest.offset, bytes), &target, flags);
        }
        done += bytes;
    }
    return ret;
}

/* Writes --------------------------------------------------------------------------------------------------------- */

static int cor_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct cor *cor = node_state(node);
    struct tracked tracked;
    tracked_begin(&cor->tracker, &tracked, range, false);
    int ret = child_pwritev(cor->file, range, iov, flags);
    tracked_end(&cor->tracker, &tracked);
    return ret;
}

static int cor_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    struct cor *cor = node_state(node);
    struct tracked tracked;
    tracked_begin(&cor->tracker, &tracked, range, false);
    int ret = child_pwrite_zeroes(cor->file, range, flags);
    tracked_end(&cor->tracker, &tracked);
    return ret;
}

static int cor_pdiscard(struct node *node, struct range range)
{
    struct cor *cor = node_state(node);
    struct tracked tracked;
    tracked_begin(&cor->tracker, &tracked, range, false);
    int ret = child_pdiscard(cor->file, range);
    tracked_end(&cor->tracker, &tracked);
    return ret;
}

/* For jobs ------------------------------------------------------------------------------------------------------- */

bool copy_on_read_copies(struct node *filter, const struct extent *extent)
{
    const struct cor *cor = node_state(filter);
    if (!(extent->flags & EXTENT_ALLOCATED) || extent->depth == 0 || extent->depth > bottom_depth(cor))
        return false;
    /* Without a layer below, what the overlay does not have reads as zero. With one, also what lies past the end of a
     * short layer has to become the overlay's own. */
    return cor->jobs_bottom || ((extent->flags & EXTENT_PRESENT) && !(extent->flags & EXTENT_ZERO));
}

/* A copy by the job. Writes of guests that overlap wait for it, until it is let go: it will write nothing then. */
struct populating {
    struct list link;
    struct tracked tracked;
    bool writing;
    bool let_go;
    bool write_failed;
};

/* The lock is held. */
static void let_go(struct cor *cor, struct populating *populating)
{
    populating->let_go = true;
    list_remove(&populating->link);
    tracked_end(&cor->tracker, &populating->tracked);
    co_queue_wake_all(&cor->fewer);
}

static void let_go_unless_gone(struct cor *cor, struct populating *populating)
{
    spinlock_lock(&cor->lock);
    if (!populating->let_go)
        let_go(cor, populating);
    spinlock_unlock(&cor->lock);
}

static bool begin_to_write(struct cor *cor, struct populating *populating)
{
    spinlock_lock(&cor->lock);
    populating->writing = !populating->let_go;
    spinlock_unlock(&cor->lock);
    return populating->writing;
}

static void end_to_write(struct cor *cor, struct populating *populating)
{
    spinlock_lock(&cor->lock);
    populating->writing = false;
    if (cor->over)
        let_go(cor, populating);
    spinlock_unlock(&cor->lock);
}

static int populate_zeroes(struct cor *cor, struct range part, struct populating *populating) CO_FN;

static int populate_zeroes(struct cor *cor, struct range part, struct populating *populating)
{
    if (!cor->jobs_bottom || part.bytes == 0)
        return 0;
    if (!begin_to_write(cor, populating))
        return -ECANCELED;
    child_debug_event(cor->file, "cor_write");
    int ret = child_pwrite_zeroes(cor->file, part, REQ_UNCHANGED);
    populating->write_failed = ret < 0;
    end_to_write(cor, populating);
    return ret;
}

static int write_data(struct cor *cor, struct range part, char *data, struct populating *populating) CO_FN;

static int write_data(struct cor *cor, struct range part, char *data, struct populating *populating)
{
    if (!begin_to_write(cor, populating))
        return -ECANCELED;
    child_debug_event(cor->file, "cor_write");
    int ret = child_pwrite(cor->file, part.offset, data, part.bytes, REQ_UNCHANGED);
    populating->write_failed = ret < 0;
    end_to_write(cor, populating);
    return ret;
}

static int populate_piece(struct cor *cor, struct range part, char *data, struct populating *populating) CO_FN;

static int populate_piece(struct cor *cor, struct range part, char *data, struct populating *populating)
{
    int ret = child_pread(cor->file, part.offset, data, part.bytes);
    for (uint64_t done = 0; done < part.bytes && ret == 0;) {
        bool zero;
        struct range run = first_alike(cor, range_make(part.offset + done, part.bytes - done), data + done, &zero);
        ret = zero ? populate_zeroes(cor, run, populating) : write_data(cor, run, data + done, populating);
        done += run.bytes;
    }
    return ret;
}

static int populate_data(struct cor *cor, struct range part, struct populating *populating) CO_FN;

static int populate_data(struct cor *cor, struct range part, struct populating *populating)
{
    if (part.bytes == 0)
        return 0;
    size_t bytes = (size_t)min_u64(part.bytes, COPY_MAX);
    char *data = buffer_get(bytes);
    int ret = data ? 0 : -ENOMEM;
    while (part.bytes > 0 && ret == 0) {
        struct range piece = range_make(part.offset, min_u64(part.bytes, bytes));
        ret = populate_piece(cor, piece, data, populating);
        part = range_between(range_end(piece), range_end(part));
    }
    buffer_put(data, bytes);
    return ret;
}

/* Extents may be shorter than clusters, which are copied as a whole: what is zero in whole clusters is taken out, the
 * rest collected in *@data. */
static int populate_extent(struct node *node, const struct extent *extent, struct range *data,
                           struct populating *populating) CO_FN;

static int populate_extent(struct node *node, const struct extent *extent, struct range *data,
                           struct populating *populating)
{
    struct cor *cor = node_state(node);
    uint64_t end = extent->offset + extent->bytes;
    uint64_t zero_begin = end;
    uint64_t zero_end = end;
    if (!copy_on_read_copies(node, extent)) {
        zero_begin = extent->offset;
    } else if (extent->flags & EXTENT_ZERO) {
        zero_begin = min_u64(align_up(extent->offset, cor->cluster), end);
        zero_end = max_u64(end == child_length(cor->file) ? end : align_down(end, cor->cluster), zero_begin);
    }
    *data = range_between(data->bytes ? data->offset : extent->offset, zero_begin);
    if (zero_begin == end)
        return 0;
    int ret = populate_data(cor, *data, populating);
    if (ret == 0 && copy_on_read_copies(node, extent))
        ret = populate_zeroes(cor, range_between(zero_begin, zero_end), populating);
    *data = range_between(zero_end, end);
    return ret;
}

static int populate_clusters(struct node *node, struct range range, struct populating *populating) CO_FN;

static int populate_clusters(struct node *node, struct range range, struct populating *populating)
{
    struct cor *cor = node_state(node);
    int ret = 0;
    while (range.bytes > 0 && ret == 0) {
        struct range data = range_make(range.offset, 0);
        CLEANUP(extents_fini) struct extents extents;
        extents_init(&extents, EXTENTS_MAX);
        ret = child_block_status(cor->file, range, ASK_ALLOCATED | ASK_ZERO, &extents);
        for (size_t i = 0; i < extents.count && ret == 0; i++) {
            ret = populate_extent(node, &extents.items[i], &data, populating);
            range = range_between(extents.items[i].offset + extents.items[i].bytes, range_end(range));
        }
        if (ret == 0)
            ret = populate_data(cor, data, populating);
    }
    return ret;
}

int copy_on_read_populate(struct node *filter, struct range range, bool *write_failed)
{
    struct cor *cor = node_state(filter);
    struct range whole = range_align_out(range, cor->cluster);
    whole = range_between(whole.offset, min_u64(range_end(whole), max_u64(child_length(cor->file), range_end(range))));
    struct populating populating = { .writing = false };
    tracked_begin(&cor->tracker, &populating.tracked, whole, true);
    spinlock_lock(&cor->lock);
    list_append(&cor->populating, &populating.link);
    if (cor->over)
        let_go(cor, &populating);
    spinlock_unlock(&cor->lock);
    int ret = populate_clusters(filter, whole, &populating);
    let_go_unless_gone(cor, &populating);
    *write_failed = populating.write_failed;
    return ret;
}

void copy_on_read_end(struct node *filter)
{
    struct cor *cor = node_state(filter);
    struct populating *populating;
    struct populating *next;
    spinlock_lock(&cor->lock);
    cor->over = true;
    list_for_each_safe (populating, next, &cor->populating, link) {
        if (!populating->writing)
            let_go(cor, populating);
    }
    while (!list_empty(&cor->populating))
        co_queue_wait_spin(&cor->fewer, &cor->lock, "copies into an overlay");
    spinlock_unlock(&cor->lock);
}

static void cor_init(struct cor *cor)
{
    tracker_init(&cor->tracker);
    spinlock_init(&cor->lock);
    list_init(&cor->populating);
    co_queue_init(&cor->fewer);
}

static void cor_close(struct node *node)
{
    struct cor *cor = node_state(node);
    co_queue_fini(&cor->fewer);
}

static struct error *attach_all(struct node *filter, struct node *node, struct node *const *layers, size_t count) CO_FN;

static struct error *attach_all(struct node *filter, struct node *node, struct node *const *layers, size_t count)
{
    struct cor *cor = node_state(filter);
    struct error *err = inner_node_attach(filter, "file", CHILD_FILTERED, node, &cor->file);
    for (size_t i = 0; i < count && !err; i++) {
        struct child *layer;
        CLEANUP(free) char *name = xasprintf("layer.%zu", i);
        err = inner_node_attach(filter, name, 0, layers[i], &layer);
    }
    return err;
}

struct error *copy_on_read_create(const char *name, const char *owner, struct node *node, struct node *bottom,
                                  struct node *const *layers, size_t layers_count, struct node **out)
{
    struct node *filter;
    struct error *err = inner_node_begin(&copy_on_read_driver, name, owner, &filter);
    if (err)
        return err;
    struct cor *cor = node_state(filter);
    cor_init(cor);
    err = attach_all(filter, node, layers, layers_count);
    if (err) {
        co_queue_fini(&cor->fewer);
        inner_node_give_up(filter);
        return err;
    }
    cor->jobs_bottom = bottom;
    cor->cluster = min_u64(max_u64(node_cluster_bytes(node), 1), COPY_MAX);
    node_set_filename(filter, node_filename(node));
    inner_node_publish(filter);
    *out = filter;
    return NULL;
}

/* Opening -------------------------------------------------------------------------------------------------------- */

static struct error *open_bottom(struct node *node, struct cor *cor, const char *name,
                                 const struct open_context *context)
{
    struct node *bottom = node_find(name);
    if (!bottom)
        return error_new("bottom: Bottom node '%s' not found", name);
    if (node_driver(bottom)->kind == DRIVER_FILTER)
        return error_new("bottom: Bottom node '%s' is a filter", name);
    if (!chain_contains(child_node(cor->file), bottom))
        return error_new("bottom: node '%s' is not in the backing chain of node '%s'", name,
                         node_name(child_node(cor->file)));
    const struct blockdev_ref ref = { .kind = BLOCKDEV_REF_KIND_REFERENCE, .u.reference = name };
    return child_open(node, "bottom", 0, &ref, context, &cor->bottom);
}

static struct error *cor_open(struct node *node, const struct blockdev_options *options,
                              const struct open_context *context)
{
    const struct blockdev_options_cor *own = &options->u.copy_on_read;
    struct cor *cor = node_state(node);
    cor_init(cor);
    struct error *err = child_open(node, "file", CHILD_FILTERED, own->file, context, &cor->file);
    if (!err && own->bottom)
        err = open_bottom(node, cor, own->bottom, context);
    if (err)
        return err;
    cor->cluster = min_u64(max_u64(node_cluster_bytes(child_node(cor->file)), 1), COPY_MAX);
    return NULL;
}

/* Nobody else may write what is about to be copied, as long as the filter has users. */
static void cor_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                  unsigned *child_perm, unsigned *child_shared)
{
    (void)node;
    *child_perm = 0;
    *child_shared = PERM_ALL;
    if (!(child_role(child) & CHILD_FILTERED))
        return;
    *child_perm = perm;
    *child_shared = shared;
    if (perm) {
        *child_perm |= PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED;
        *child_shared &= ~(unsigned)(PERM_WRITE | PERM_RESIZE);
    }
}

static struct error *cor_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                        struct reopen *reopen)
{
    (void)node;
    return reopen_child(reopen, "file", options->u.copy_on_read.file);
}

const struct driver copy_on_read_driver = {
    .name = "copy-on-read",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct cor),
    .write_flags = REQ_FUA | REQ_COMPRESSED,
    .open = cor_open,
    .close = cor_close,
    .reopen_prepare = cor_reopen_prepare,
    .preadv = cor_preadv,
    .pwritev = cor_pwritev,
    .pwrite_zeroes = cor_pwrite_zeroes,
    .pdiscard = cor_pdiscard,
    .child_permissions = cor_child_permissions,
};
