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
#include <inttypes.h>

#define GRANULE_MIN (64u * 1024)
#define ZERO_UNIT (64u * 1024)
#define OVERLAYS_MAX 256

struct commit {
    struct chain_copy copy;
    struct node *top; /* the copy keeps them */
    struct node *base;
    struct commit_filter *filter;
};

/* The filter ------------------------------------------------------------------------------------------------------ */

struct commit_filter {
    struct child *file;
    struct child *base;
    struct copy_ends ends;
    bool holds_base; /* also without users: copies that hang may still write it, and nobody else may */
};

/* The layers above base show what they did through the filter only, since base changes below them. Whoever is above
 * does not mind that base is written. When they have left the filter, a copy that hangs may still bring base what the
 * layers above it show anyway. */
static void commit_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                     unsigned *child_perm, unsigned *child_shared)
{
    (void)shared;
    const struct commit_filter *filter = node_state((struct node *)(uintptr_t)node);
    *child_perm = 0;
    *child_shared = PERM_ALL;
    if (child == filter->base && (perm || filter->holds_base)) {
        *child_perm = PERM_CONSISTENT_READ | (perm ? PERM_WRITE | PERM_RESIZE : PERM_WRITE_UNCHANGED);
        *child_shared = PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED;
    } else if (perm && (child_role(child) & CHILD_FILTERED)) {
        *child_shared = PERM_ALL & ~(unsigned)PERM_RESIZE;
    } else if (perm && child != filter->base) {
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
        if (ours && zero && child_is_zero(commit->filter->base, range_make(extent->offset, extent->bytes)))
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

static struct error *grow_base(void *arg) CO_FN;

static struct error *grow_base(void *arg)
{
    struct commit *commit = arg;
    uint64_t length = node_length(commit->top);
    if (child_length(commit->filter->base) >= length)
        return NULL;
    int ret = child_resize(commit->filter->base, length, TRUNCATE_SPARSE);
    return ret < 0 ? error_errno(-ret, "growing node '%s' to %" PRIu64 " bytes", node_name(commit->base), length)
                   : NULL;
}

static struct error *run(struct job *job)
{
    struct chain_copy *copy = chain_copy_of(job);
    struct error *err = job_step_take(&copy->step, job, grow_base, copy);
    return err ? err : chain_copy_run(job);
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
    const struct chain_copy *copy = &commit->copy;
    CLEANUP(free) struct node **overlays = xcalloc(OVERLAYS_MAX, sizeof(struct node *));
    size_t count = find_overlays(commit, overlays);
    struct error *err = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!err)
            err = chain_write_backing(overlays[i], layer_of(commit->base), copy->backing_file, copy->mask_protocol);
        if (!err && chain_copy_is_over(copy))
            err = error_new("the job was cancelled");
        node_unref(overlays[i]);
    }
    return err;
}

static void restore_headers(struct commit *commit) CO_FN;

static void restore_headers(struct commit *commit)
{
    CLEANUP(free) struct node **overlays = xcalloc(OVERLAYS_MAX, sizeof(struct node *));
    size_t count = find_overlays(commit, overlays);
    for (size_t i = 0; i < count; i++) {
        chain_restore_backing(overlays[i], commit->copy.mask_protocol);
        node_unref(overlays[i]);
    }
}

static struct error *switch_over(struct chain_copy *copy)
{
    struct commit *commit = CONTAINER_OF(copy, struct commit, copy);
    if (!chain_contains(commit->top, commit->base))
        return error_new("the chain of node '%s' was changed meanwhile", node_name(commit->top));
    struct error *err = node_flush_in_use(commit->base, copy->owner);
    if (!err && chain_copy_is_over(copy))
        err = error_new("the job was cancelled");
    if (err)
        return err;
    err = write_headers(commit);
    if (!err) {
        commit->filter->holds_base = false;
        err = chain_copy_switch(copy, change_begin(), commit->base);
        commit->filter->holds_base = err;
    }
    if (err)
        restore_headers(commit);
    return err;
}

static const struct chain_copy_ops ops = {
    .driver = {
        .type = JOB_TYPE_COMMIT,
        .state_size = sizeof(struct chain_copy *),
        .is_block_job = true,
        .run = run,
        .wake = chain_copy_wake,
        .speed_changed = chain_copy_speed_changed,
        .prepare = chain_copy_prepare,
        .finish = chain_copy_finish,
    },
    .size = sizeof(struct commit),
    .copier = { .plan = plan, .copy = copy_piece },
    .switch_over = switch_over,
};

/* Starting ------------------------------------------------------------------------------------------------------- */

static struct error *set_up(struct commit *commit, const char *filter_name) CO_FN;

static struct error *set_up(struct commit *commit, const char *filter_name)
{
    struct error *err = chain_nodes_add_above(&commit->copy.nodes, commit->top, commit->base);
    if (!err && !commit->copy.backing_file) /* better now than when all is copied */
        err = chain_check_name(layer_of(commit->base));
    if (!err)
        err = writable_make(&commit->copy.nodes.writable, commit->base);
    if (!err)
        err = make_filter(commit, filter_name);
    if (err)
        return err;
    chain_nodes_freeze(&commit->copy.nodes, commit->top, layer_of(commit->base), commit->copy.owner);
    uint64_t granule = max_u64(node_cluster_bytes(commit->base), GRANULE_MIN);
    uint64_t bytes = max_u64(node_length(commit->top), node_length(commit->base));
    err = chain_copy_begin(&commit->copy, PERM_CONSISTENT_READ, bytes, granule);
    commit->filter->holds_base = commit->copy.in_graph;
    return err;
}

struct error *commit_job_start(const struct commit_options *options)
{
    struct chain_copy *copy;
    struct error *err = chain_copy_create(&ops, &options->copy, options->top, &copy);
    if (err)
        return err;
    struct commit *commit = CONTAINER_OF(copy, struct commit, copy);
    copy->nodes.other = node_ref(options->base);
    commit->top = options->top;
    commit->base = options->base;
    return chain_copy_start(copy, set_up(commit, options->copy.filter_node_name));
}
