#include "blockcore/jobs/commit.h"

#include "blockcore/base/memory.h"
#include "blockcore/filters/cluster.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/flush.h"
#include "blockcore/graph/inner.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/copy.h"
#include "blockcore/io/request.h"
#include "blockcore/jobs/chain_copy.h"

#include <errno.h>

#define GRANULE_MIN (64u * 1024)
#define ZERO_UNIT (64u * 1024)
#define OVERLAYS_MAX 256

struct commit {
    struct chain_copy copy;
    struct node *top; /* the copy keeps them */
    struct node *base;
    struct commit_filter *filter;
    char *backing_file;
    bool mask_protocol;
};

static struct commit *commit_of(struct job *job)
{
    return *(struct commit **)job_state(job);
}

/* The filter ------------------------------------------------------------------------------------------------------ */

struct commit_filter {
    struct child *file;
    struct child *base;
    struct copy_ends ends;
};

/* The layers above base show what they did through the filter only, since base changes below them. Whoever is above
 * does not mind that base is written. */
static void commit_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                     unsigned *child_perm, unsigned *child_shared)
{
    (void)shared;
    const struct commit_filter *filter = node_state((struct node *)(uintptr_t)node);
    *child_perm = 0;
    *child_shared = PERM_ALL;
    if (perm == 0)
        return;
    if (child_role(child) & CHILD_FILTERED) {
        *child_shared = PERM_ALL & ~(unsigned)PERM_RESIZE;
    } else if (child == filter->base) {
        *child_perm = PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE;
        *child_shared = PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED;
    } else {
        *child_shared = PERM_ALL & ~(unsigned)PERM_CONSISTENT_READ;
    }
}

static const struct driver commit_filter_driver = {
    .name = "commit_top",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct commit_filter),
    .child_permissions = commit_child_permissions,
};

static struct error *attach_all(struct commit *commit, struct node *node) CO_FN;

static struct error *attach_all(struct commit *commit, struct node *node)
{
    struct commit_filter *filter = node_state(node);
    struct error *err = inner_node_attach(node, "file", CHILD_FILTERED, commit->top, &filter->file);
    if (!err)
        err = inner_node_attach(node, "base", 0, commit->base, &filter->base);
    if (!err)
        err = chain_nodes_attach(&commit->copy.nodes, node);
    filter->ends = (struct copy_ends){
        .from = filter->file,
        .to = filter->base,
        .flags = REQ_MAY_UNMAP,
        .zero_unit = ZERO_UNIT,
    };
    return err;
}

static struct error *make_filter(struct commit *commit, const char *name) CO_FN;

static struct error *make_filter(struct commit *commit, const char *name)
{
    struct node *node;
    struct error *err = inner_node_begin(&commit_filter_driver, name, commit->copy.owner, &node);
    if (err)
        return err;
    err = attach_all(commit, node);
    if (err) {
        inner_node_give_up(node);
        return err;
    }
    node_set_filename(node, node_filename(commit->top));
    inner_node_publish(node);
    commit->filter = node_state(node);
    commit->copy.nodes.filter = node;
    return NULL;
}

/* Copying -------------------------------------------------------------------------------------------------------- */

/* What base has already need not be written. */
static bool base_is_zero(const struct commit *commit, struct range range) CO_FN;

static bool base_is_zero(const struct commit *commit, struct range range)
{
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 1);
    range = range_intersect(range, range_make(0, child_length(commit->filter->base)));
    return range.bytes > 0 && child_block_status(commit->filter->base, range, ASK_ZERO, &extents) == 0 &&
           (extents.items[0].flags & EXTENT_ZERO) && extents.items[0].bytes >= range.bytes;
}

static int plan(void *arg, struct range range, struct extents *plan)
{
    struct commit *commit = arg;
    uint64_t length = child_length(commit->filter->file);
    int ret = 0;
    if (range.offset >= length) {
        /* Above a short layer is zero whatever base has there. */
        struct extent past = { .offset = range.offset, .bytes = range.bytes, .flags = EXTENT_ALLOCATED | EXTENT_ZERO };
        extents_append(plan, &past);
    } else {
        range = range_between(range.offset, min_u64(range_end(range), length));
        ret = handle_block_status_entered(commit->copy.handle, range, ASK_ALLOCATED | ASK_ZERO, layer_of(commit->base),
                                          false, plan);
    }
    for (size_t i = 0; i < plan->count && ret == 0; i++) {
        struct extent *extent = &plan->items[i];
        bool ours = extent->flags & EXTENT_ALLOCATED;
        bool zero = extent->flags & EXTENT_ZERO;
        if (ours && zero && base_is_zero(commit, range_make(extent->offset, extent->bytes)))
            ours = false;
        extent->flags = (ours ? EXTENT_ALLOCATED : 0u) | (zero ? EXTENT_ZERO : 0u);
    }
    return ret;
}

static int copy_piece(void *arg, struct copier_piece *piece)
{
    struct commit *commit = arg;
    if (!piece->zero)
        return child_copy(&commit->filter->ends, piece->range, &piece->write_failed);
    int ret = child_copy_zeroes(&commit->filter->ends, piece->range);
    piece->write_failed = ret < 0;
    return ret;
}

static const struct chain_copy_ops ops = { .copier = { .plan = plan, .copy = copy_piece } };

static struct error *run(struct job *job)
{
    struct commit *commit = commit_of(job);
    uint64_t length = node_length(commit->top);
    int ret = 0;
    if (child_length(commit->filter->base) < length)
        ret = child_resize(commit->filter->base, length, TRUNCATE_SPARSE);
    if (ret < 0)
        return error_errno(-ret, "growing node '%s' to %llu bytes", node_name(commit->base),
                           (unsigned long long)length);
    return chain_copy_run(&commit->copy);
}

/* The end -------------------------------------------------------------------------------------------------------- */

/* Does @overlay stand on @filter, perhaps with other filters in between? */
static bool stands_on(const struct node *overlay, const struct node *filter)
{
    const struct child *down = node_backing(overlay);
    while (down && child_node(down) != filter)
        down = node_filtered(child_node(down));
    return down;
}

/* With references. */
static size_t find_overlays(const struct commit *commit, struct node **overlays)
{
    size_t count = 0;
    for (struct node *node = NULL; (node = node_next(node)) && count < OVERLAYS_MAX;) {
        if (stands_on(node, commit->copy.nodes.filter))
            overlays[count++] = node_ref(node);
    }
    return count;
}

/* Base has all of it now, so overlays read the same over what their headers name before and after. */
static struct error *write_headers(struct commit *commit) CO_FN;

static struct error *write_headers(struct commit *commit)
{
    CLEANUP(free) struct node **overlays = xcalloc(OVERLAYS_MAX, sizeof(struct node *));
    size_t count = find_overlays(commit, overlays);
    struct error *err = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!err)
            err = chain_write_backing(overlays[i], layer_of(commit->base), commit->backing_file, commit->mask_protocol);
        node_unref(overlays[i]);
    }
    return err;
}

static struct error *switch_graph(struct commit *commit) CO_FN;

static struct error *switch_graph(struct commit *commit)
{
    struct change *change = change_begin();
    struct error *err = chain_copy_leave(&commit->copy, change, commit->base);
    if (!err)
        return change_commit(change);
    change_abort(change);
    return err;
}

static struct error *prepare(struct job *job)
{
    struct commit *commit = commit_of(job);
    if (!chain_contains(commit->top, commit->base))
        return error_new("the chain of node '%s' was changed meanwhile", node_name(commit->top));
    struct error *err = node_flush_in_use(commit->base, commit->copy.owner);
    if (!err)
        err = write_headers(commit);
    if (!err)
        err = switch_graph(commit);
    commit->copy.switched = !err;
    return err;
}

static void end(struct commit *commit) CO_FN;

static void end(struct commit *commit)
{
    free(steal(&commit->backing_file));
    chain_copy_end(&commit->copy);
}

static void finish(struct job *job, bool success)
{
    (void)success;
    struct commit *commit = commit_of(job);
    *(struct commit **)job_state(job) = NULL;
    end(commit);
}

static void wake(struct job *job)
{
    if (commit_of(job))
        chain_copy_wake(&commit_of(job)->copy);
}

static void speed_changed(struct job *job)
{
    const struct commit *commit = commit_of(job);
    if (commit && commit->copy.copier)
        copier_set_speed(commit->copy.copier, job_speed(job));
}

static const struct job_driver commit_driver = {
    .type = JOB_TYPE_COMMIT,
    .state_size = sizeof(struct commit *),
    .is_block_job = true,
    .run = run,
    .wake = wake,
    .speed_changed = speed_changed,
    .prepare = prepare,
    .finish = finish,
};

/* Starting ------------------------------------------------------------------------------------------------------- */

static struct error *set_up(struct commit *commit, const struct commit_options *options) CO_FN;

static struct error *set_up(struct commit *commit, const struct commit_options *options)
{
    struct error *err = chain_nodes_add_above(&commit->copy.nodes, commit->top, commit->base);
    if (!err)
        err = writable_make(&commit->copy.nodes.writable, commit->base);
    if (!err)
        err = make_filter(commit, options->filter_node_name);
    if (err)
        return err;
    uint64_t granule = max_u64(node_cluster_bytes(commit->base), GRANULE_MIN);
    uint64_t bytes = max_u64(node_length(commit->top), node_length(commit->base));
    return chain_copy_begin(&commit->copy, PERM_CONSISTENT_READ, bytes, granule, options->speed);
}

struct error *commit_job_start(const struct commit_options *options)
{
    struct job *job;
    struct error *err = job_create(&commit_driver, options->id, options->flags, NULL, &job);
    if (err)
        return err;
    struct commit *commit = xcalloc(1, sizeof(*commit));
    chain_copy_init(&commit->copy, &ops, job);
    commit->copy.on_error = options->on_error;
    commit->copy.nodes.place = node_ref(options->top);
    commit->top = options->top;
    commit->copy.nodes.other = node_ref(options->base);
    commit->base = options->base;
    commit->backing_file = xstrdup_or_null(options->backing_file);
    commit->mask_protocol = options->mask_protocol;
    err = set_up(commit, options);
    if (err) {
        error_free(job_cancel(job, true));
        end(commit);
        return err;
    }
    *(struct commit **)job_state(job) = commit;
    error_free(job_set_speed(job, (int64_t)options->speed));
    job_start(job);
    return NULL;
}
