#include "blockcore/jobs/mirror_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/filters/cluster.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/flush.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/jobs/chain_copy.h"
#include "blockcore/jobs/copier.h"
#include "blockcore/jobs/job.h"
#include "blockcore/jobs/mirror_filter.h"
#include "blockcore/jobs/progress.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#define GRANULARITY_MIN 512u
#define GRANULARITY_MAX (64u << 20)
#define GRANULARITY_DEFAULT (64u * 1024)
#define SWITCH_ROUNDS 16
#define RUNS_AT_ONCE 4096 /* of a bitmap, before others get a turn */

struct mirror *mirror_of(struct job *job)
{
    return *(struct mirror **)job_state(job);
}

/* The end -------------------------------------------------------------------------------------------------------- */

static struct error *nothing_left(void *arg)
{
    struct mirror *mirror = arg;
    if (!mirror->job || job_is_cancelled(mirror->job))
        return error_new("the job was cancelled"); /* writes were let go without the target */
    return mirror_bytes_left(mirror) == 0 ? NULL : error_errno(EAGAIN, "more was written meanwhile");
}

static void have_switched(void *arg)
{
    struct mirror *mirror = arg;
    mirror->switched = true;
    mirror->inserted = false;
    job_step_settle(&mirror->step);
}

static const struct change_owner switch_owner = { .before = nothing_left, .done = have_switched };

/* The users of the source, or of what is to be replaced, get the target. */
static struct error *switch_users(void *arg) CO_FN;

static struct error *switch_users(void *arg)
{
    struct mirror *mirror = arg;
    struct change *change = change_begin();
    struct node *to = mirror->replaces ? mirror->source : mirror->target;
    struct error *err = change_replace(change, mirror->filter_node, to);
    if (!err && mirror->replaces)
        err = change_replace(change, mirror->replaces, mirror->target);
    change_add_owner(change, &switch_owner, mirror);
    mirror->filter->holds_target = false;
    if (!err)
        err = change_commit(change);
    else
        change_abort(change);
    mirror->filter->holds_target = err;
    return err;
}

static struct error *prepare(struct job *job)
{
    struct mirror *mirror = mirror_of(job);
    struct error *err = NULL;
    if (job_shall_end(job))
        return job_step_take(&mirror->step, job, mirror_flush_target, mirror);
    for (int round = 0; round < SWITCH_ROUNDS; round++) {
        error_free(steal(&err));
        while (!mirror_copy_all(mirror, &err) && !err && !job_is_cancelled(job))
            ; /* told something that does not matter any more */
        if (!err)
            err = job_is_cancelled(job) ? error_new("the job was cancelled")
                                        : job_step_take(&mirror->step, job, mirror_flush_target, mirror);
        if (err)
            return err;
        err = job_step_take(&mirror->step, job, switch_users, mirror);
        if (mirror->switched && mirror->chain && !node_is_read_only(mirror->source))
            writable_forget(&mirror->chain->writable); /* its new users write it */
        if (mirror->switched || job_is_cancelled(job) || error_errnum(err) != EAGAIN)
            return err;
    }
    return err;
}

static void mirror_free(struct mirror *mirror)
{
    co_queue_fini(&mirror->told);
    job_step_fini(&mirror->step);
    free(mirror->chain);
    free(mirror->owner);
    free(mirror);
}

/* A step that goes on alone may be inside of what stands on the filter, which could not be drained before it ends. */
static void leave(struct leaving *leaving, void *arg) CO_FN;

static void leave(struct leaving *leaving, void *arg)
{
    struct mirror *mirror = arg;
    job_step_wait(&mirror->step);
    leaving_got_on(leaving);
    chain_nodes_thaw(mirror->chain);
    if (mirror->inserted)
        leaving_filter(leaving, mirror->filter_node);
    handle_close(mirror->guard);
    leaving_copier(leaving, mirror->copier, mirror->handle);
    handle_close(mirror->handle);
    leaving_got_on(leaving);
    progress_close(mirror->progress, mirror->switched);
    node_unref(mirror->filter_node);
    node_unref(mirror->target);
    node_unref(mirror->source);
    node_unref(mirror->replaces);
    node_unref(mirror->base);
    chain_nodes_let_go(mirror->chain);
    mirror_free(mirror);
}

/* The graph is again as if there had been no mirror, or the target has taken over. */
static void leave_graph(struct mirror *mirror) CO_FN;

static void leave_graph(struct mirror *mirror)
{
    if (mirror->filter)
        mirror_filter_set_mode(mirror->filter, MIRROR_OVER);
    *(struct mirror **)job_state(mirror->job) = NULL;
    mirror->job = NULL;
    if (mirror->bitmap)
        dirty_bitmap_destroy(steal(&mirror->bitmap));
    job_leave(leave, mirror);
}

static void finish(struct job *job, bool success)
{
    (void)success;
    leave_graph(mirror_of(job));
}

static void wake(struct job *job)
{
    struct mirror *mirror = mirror_of(job);
    if (!mirror)
        return;
    if (job_is_cancelled(job)) {
        copier_abandon(mirror->copier);
        if (!mirror->switched)
            mirror_filter_set_mode(mirror->filter, MIRROR_OVER);
    } else {
        copier_interrupt(mirror->copier);
    }
    co_queue_wake_all(&mirror->told);
    job_step_wake(&mirror->step);
}

static void speed_changed(struct job *job)
{
    struct mirror *mirror = mirror_of(job);
    if (mirror)
        copier_set_speed(mirror->copier, job_speed(job));
}

static struct error *change(struct job *job, const struct block_job_change_options *options)
{
    struct mirror *mirror = mirror_of(job);
    if (!mirror)
        return error_new("the job is ending");
    if (options->u.mirror.copy_mode == mirror->options.copy_mode)
        return NULL;
    if (options->u.mirror.copy_mode != MIRROR_COPY_MODE_WRITE_BLOCKING)
        return error_new("Change to copy mode '%s' is not implemented", /* as QEMU says it */
                         mirror_copy_mode_name(options->u.mirror.copy_mode));
    mirror->options.copy_mode = MIRROR_COPY_MODE_WRITE_BLOCKING;
    if (!mirror->copier)
        return NULL; /* it has not begun */
    mirror_filter_set_mode(mirror->filter, MIRROR_ACTIVE);
    copier_interrupt(mirror->copier);
    co_queue_wake_all(&mirror->told);
    return NULL;
}

static void describe(const struct job *job, struct block_job_info *info)
{
    struct mirror *const *mirror = job_state((struct job *)(uintptr_t)job);
    if (*mirror)
        info->u.mirror.actively_synced =
            info->ready && atomic_load(&(*mirror)->filter->mode) == MIRROR_ACTIVE && mirror_bytes_left(*mirror) == 0;
}

static const struct job_driver mirror_driver = {
    .type = JOB_TYPE_MIRROR,
    .state_size = sizeof(struct mirror *),
    .is_block_job = true,
    .may_end_ready = true,
    .run = mirror_run,
    .wake = wake,
    .speed_changed = speed_changed,
    .change = change,
    .describe = describe,
    .prepare = prepare,
    .finish = finish,
};

/* An active commit is a mirror, but clients know it as a commit. */
static const struct job_driver commit_driver = {
    .type = JOB_TYPE_COMMIT,
    .state_size = sizeof(struct mirror *),
    .is_block_job = true,
    .may_end_ready = true,
    .run = mirror_run,
    .wake = wake,
    .speed_changed = speed_changed,
    .prepare = prepare,
    .finish = finish,
};

/* Starting ------------------------------------------------------------------------------------------------------- */

static struct error *choose_granularity(const struct mirror_options *options, uint32_t *granularity)
{
    *granularity = options->granularity;
    if (!*granularity) {
        uint64_t cluster = node_cluster_bytes(options->target);
        *granularity = (uint32_t)min_u64(max_u64(cluster, GRANULARITY_DEFAULT), GRANULARITY_MAX);
    }
    if (!is_power_of_two(*granularity) || *granularity < GRANULARITY_MIN || *granularity > GRANULARITY_MAX)
        return error_new("granularity: expected a power of two from %u to %u, found %" PRIu32, GRANULARITY_MIN,
                         GRANULARITY_MAX, *granularity);
    return NULL;
}

static struct error *check_nodes(const struct mirror_options *options)
{
    const struct node *replaced = options->replaces ? options->replaces : options->source;
    if (options->is_commit)
        return NULL;
    if (options->source == options->target)
        return error_new("Can't mirror node into itself");
    if (node_is_read_only(options->target))
        return error_new("node '%s' is read-only", node_name(options->target));
    if (node_length(options->source) != node_length(options->target))
        return error_new("Source and target image have different sizes: node '%s' has %" PRIu64
                         " bytes, node '%s' has %" PRIu64,
                         node_name(options->source), node_length(options->source), node_name(options->target),
                         node_length(options->target));
    if (node_length(replaced) != node_length(options->source))
        return error_new("cannot replace image with a mirror image of different size");
    return NULL;
}

/* The layer below what is mirrored; filters are transparent. */
static struct node *base_of(const struct mirror_options *options)
{
    if (options->is_commit)
        return layer_of(options->target);
    if (options->sync == MIRROR_SYNC_MODE_FULL)
        return NULL;
    struct node *node = options->source;
    while (node_filtered(node))
        node = child_node(node_filtered(node));
    return node_backing(node) ? child_node(node_backing(node)) : NULL;
}

/* The layers between source and target, which nobody else may use, and a target that can be written. */
static struct error *open_chain(struct mirror *mirror) CO_FN;

static struct error *open_chain(struct mirror *mirror)
{
    if (!mirror->options.is_commit)
        return NULL;
    mirror->chain = xcalloc(1, sizeof(*mirror->chain));
    struct error *err = chain_nodes_add_above(mirror->chain, mirror->source, mirror->target);
    if (err)
        return err;
    chain_nodes_freeze(mirror->chain, mirror->source, layer_of(mirror->target), mirror->owner);
    return writable_make(&mirror->chain->writable, mirror->target);
}

static struct error *open_progress(struct mirror *mirror, uint32_t granularity) CO_FN;

static struct error *open_progress(struct mirror *mirror, uint32_t granularity)
{
    const struct progress_options options = {
        .name = mirror->options.progress,
        .owner = mirror->owner,
        .source = mirror->source,
        .target = mirror->target,
        .granularity = granularity,
    };
    if (mirror->options.sync == MIRROR_SYNC_MODE_NONE)
        return error_new("progress: sync mode 'none' copies nothing that could be left to be done");
    return progress_open(&options, &mirror->progress);
}

static struct error *open_parts(struct mirror *mirror, uint32_t granularity) CO_FN;

static struct error *open_parts(struct mirror *mirror, uint32_t granularity)
{
    const struct mirror_options *options = &mirror->options;
    struct error *err = open_chain(mirror);
    if (!err && options->progress)
        err = open_progress(mirror, granularity);
    if (!err)
        err = mirror_filter_create(options->filter_node_name, mirror->owner, mirror->source, mirror->target,
                                   mirror->chain, &mirror->filter_node);
    if (err)
        return err;
    mirror->filter = mirror_filter_of(mirror->filter_node);
    mirror_note_to(mirror);
    mirror->filter->ends.flags = options->keep_zeroes ? 0 : REQ_MAY_UNMAP;
    err = dirty_bitmap_create(mirror->source, NULL, granularity, &mirror->bitmap);
    if (err)
        return err;
    dirty_bitmap_set_copier(mirror->bitmap);
    mirror->filter->bitmap = mirror->bitmap;
    /* The filter's users first: a handle of its own makes it mind others who use the nodes below. */
    err = filter_insert(mirror->source, mirror->filter_node, NULL);
    if (err)
        return err;
    mirror->inserted = true;
    mirror->filter->holds_target = true;
    err = handle_open(mirror->filter_node, mirror->owner, PERM_CONSISTENT_READ, PERM_ALL, &mirror->guard);
    if (!err)
        err = handle_open_here(mirror->filter_node, mirror->owner, 0, PERM_ALL, &mirror->handle);
    return err ? err : mirror_make_copier(mirror, granularity);
}

/* What the progress says was noted before the filter came; what was written since is in the mirror's own bitmap. */
static void add_what_is_left(struct mirror *mirror) CO_FN;

static void add_what_is_left(struct mirror *mirror)
{
    struct dirty_bitmap *bitmap = progress_bitmap(mirror->progress);
    uint64_t length = node_length(mirror->source);
    unsigned runs = 0;
    for (uint64_t at = 0; (at = dirty_bitmap_next_dirty(bitmap, at)) < length;) {
        uint64_t end = dirty_bitmap_next_clean(bitmap, at);
        copier_add(mirror->copier, range_between(at, end));
        at = end;
        if (++runs % RUNS_AT_ONCE == 0)
            co_yield ();
    }
    progress_start_clock(mirror->progress, mirror_checkpoint_due, mirror);
}

static void begin(struct mirror *mirror) CO_FN;

static void begin(struct mirror *mirror)
{
    if (mirror->progress)
        add_what_is_left(mirror);
    else if (mirror->options.sync != MIRROR_SYNC_MODE_NONE)
        copier_add(mirror->copier, range_make(0, node_length(mirror->source)));
    if (mirror->options.copy_mode == MIRROR_COPY_MODE_WRITE_BLOCKING)
        mirror_filter_set_mode(mirror->filter, MIRROR_ACTIVE);
    copier_set_speed(mirror->copier, job_speed(mirror->job)); /* it may have been told meanwhile */
}

/* The bitmap notes from before the filter comes, so nothing is missed in between. */
static struct error *set_up(struct mirror *mirror, uint32_t granularity) CO_FN;

static struct error *set_up(struct mirror *mirror, uint32_t granularity)
{
    struct error *err = open_parts(mirror, granularity);
    if (err)
        leave_graph(mirror);
    else
        begin(mirror);
    return err;
}

static struct node *ref_or_null(struct node *node)
{
    return node ? node_ref(node) : NULL;
}

struct error *mirror_job_start(const struct mirror_options *options, struct job_txn *txn)
{
    uint32_t granularity;
    struct job *job;
    struct error *err = check_nodes(options);
    if (!err)
        err = choose_granularity(options, &granularity);
    if (!err)
        err = job_create(options->is_commit ? &commit_driver : &mirror_driver, options->id, options->flags, txn, &job);
    if (err)
        return err;
    error_free(job_set_speed(job, (int64_t)options->speed));
    struct mirror *mirror = xcalloc(1, sizeof(*mirror));
    *mirror = (struct mirror){
        .job = job,
        .options = *options,
        .owner = xasprintf("block job '%s'", options->id),
        .source = node_ref(options->source),
        .target = node_ref(options->target),
        .replaces = ref_or_null(options->replaces),
        .base = ref_or_null(base_of(options)),
    };
    co_queue_init(&mirror->told);
    job_step_init(&mirror->step);
    *(struct mirror **)job_state(job) = mirror;
    err = set_up(mirror, granularity);
    if (err)
        error_free(job_cancel(job, true));
    else
        job_start(job);
    return err;
}
