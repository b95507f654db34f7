#include "blockcore/jobs/mirror.h"

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
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#define GRANULARITY_MIN 512u
#define GRANULARITY_MAX (64u << 20)
#define GRANULARITY_DEFAULT (64u * 1024)
#define RUNS_AT_ONCE 256
#define SETTLE_MS 20 /* writes that come soon after each other are copied together */
#define SWITCH_ROUNDS 16
#define GRACE_MS 1000
#define RETRY_MS 100

/* Outlives the job where requests hang. */
struct mirror {
    struct job *job;               /* NULL: it has ended */
    struct mirror_options options; /* without what its pointers led to */
    char *owner;                   /* in messages */
    struct node *source;
    struct node *target;
    struct node *replaces;
    struct node *base;              /* from there down nothing is copied; NULL: all is */
    struct chain_copy_nodes *chain; /* of a commit: the layers, and what it makes writable */
    struct node *filter_node;
    struct mirror_filter *filter;
    struct handle *handle;
    struct dirty_bitmap *bitmap;
    struct copier *copier;
    uint64_t counted; /* bytes in the job's total */

    struct co_queue told;
    _Atomic bool idle; /* waits for something to be noted */
    struct loop_task woken;
    bool working; /* a step that may hang is under way; its error when it has ended */
    struct error *step_error;
    bool inserted; /* the filter is in the graph */
    bool switched;
    bool closed;
    bool hangs; /* its end took too long */
    unsigned refs;
};

static struct mirror *mirror_of(struct job *job)
{
    return *(struct mirror **)job_state(job);
}

/* On any loop ---------------------------------------------------------------------------------------------------- */

static void run_woken(struct loop_task *task)
{
    struct mirror *mirror = CONTAINER_OF(task, struct mirror, woken);
    co_queue_wake_all(&mirror->told);
}

/* The filter has noted something. */
static void on_noted(void *arg)
{
    struct mirror *mirror = arg;
    if (atomic_load_explicit(&mirror->idle, memory_order_relaxed) && atomic_exchange(&mirror->idle, false))
        loop_post(loop_control(), &mirror->woken);
}

/* Zeroes that the target has already need not be written. */
static bool target_is_zero(struct mirror *mirror, struct range range) CO_FN;

static bool target_is_zero(struct mirror *mirror, struct range range)
{
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 1);
    range = range_intersect(range, range_make(0, child_length(mirror->filter->target)));
    return range.bytes > 0 && child_block_status(mirror->filter->target, range, ASK_ZERO, &extents) == 0 &&
           (extents.items[0].flags & EXTENT_ZERO) && extents.items[0].bytes >= range.bytes;
}

static int plan(void *arg, struct range range, struct extents *plan)
{
    struct mirror *mirror = arg;
    unsigned ask = ASK_ZERO | (mirror->base ? ASK_ALLOCATED : 0);
    int ret = handle_block_status_entered(mirror->handle, range, ask, mirror->base, false, plan);
    for (size_t i = 0; i < plan->count && ret == 0; i++) {
        struct extent *extent = &plan->items[i];
        bool ours = !mirror->base || (extent->flags & EXTENT_ALLOCATED);
        bool zero = extent->flags & EXTENT_ZERO;
        if (ours && zero && (!mirror->base || mirror->chain) &&
            target_is_zero(mirror, range_make(extent->offset, extent->bytes)))
            ours = false;
        extent->flags = (ours ? EXTENT_ALLOCATED : 0u) | (zero ? EXTENT_ZERO : 0u);
    }
    return ret;
}

static int copy(void *arg, struct copier_piece *piece)
{
    struct mirror *mirror = arg;
    return mirror_filter_copy(mirror->filter, piece->range, piece->zero, &piece->write_failed);
}

struct failure {
    struct mirror *mirror;
    bool write;
    int errnum;
};

/* The last step cannot wait for a client. */
static bool may_pause(const struct job *job)
{
    enum job_status status = job_get_status(job);
    return status != JOB_STATUS_WAITING && status != JOB_STATUS_PENDING;
}

static int met_error(void *arg)
{
    const struct failure *failure = arg;
    struct mirror *mirror = failure->mirror;
    if (!mirror->job)
        return COPIER_GIVE_UP;
    enum blockdev_on_error policy = failure->write ? mirror->options.on_target_error : mirror->options.on_source_error;
    if (policy != BLOCKDEV_ON_ERROR_IGNORE && !may_pause(mirror->job))
        policy = BLOCKDEV_ON_ERROR_REPORT;
    enum block_error_action action = job_met_error(mirror->job, policy, failure->write, failure->errnum);
    return action == BLOCK_ERROR_ACTION_REPORT ? COPIER_GIVE_UP : COPIER_TRY_AGAIN;
}

static enum copier_answer failed(void *arg, const struct copier_piece *piece, int ret)
{
    struct failure failure = { .mirror = arg, .write = piece->write_failed, .errnum = -ret };
    return (enum copier_answer)co_call_on(loop_control(), "error of a mirror", met_error, &failure);
}

static const struct copier_ops copier_ops = { .plan = plan, .copy = copy, .failed = failed };

/* Copying -------------------------------------------------------------------------------------------------------- */

/* What was noted is the copier's now. */
static void take_noted(struct mirror *mirror)
{
    struct range runs[RUNS_AT_ONCE];
    uint64_t offset = 0;
    size_t count;
    while ((count = dirty_bitmap_take(mirror->bitmap, &offset, runs, RUNS_AT_ONCE)) > 0) {
        for (size_t i = 0; i < count; i++)
            copier_add(mirror->copier, runs[i]);
    }
}

static uint64_t bytes_left(struct mirror *mirror)
{
    return copier_left(mirror->copier) + dirty_bitmap_count(mirror->bitmap);
}

/* The total is what was copied and what is left. */
static void count_total(struct mirror *mirror)
{
    uint64_t total = job_progress_current(mirror->job) + bytes_left(mirror);
    if (total > mirror->counted) {
        job_progress_add_total(mirror->job, total - mirror->counted);
        mirror->counted = total;
    }
}

static struct error *copy_error(const struct mirror *mirror, int ret)
{
    return error_errno(-ret, "copying from node '%s' to node '%s'", node_name(mirror->source),
                       node_name(mirror->target));
}

/* Copies until nothing is left, for the moment. False: interrupted. */
static bool copy_all(struct mirror *mirror, struct error **err) CO_FN;

static bool copy_all(struct mirror *mirror, struct error **err)
{
    do {
        take_noted(mirror);
        count_total(mirror);
        int ret = copier_run(mirror->copier);
        if (ret == -EINTR)
            return false;
        if (ret < 0) {
            *err = copy_error(mirror, ret);
            return false;
        }
    } while (bytes_left(mirror) > 0 && atomic_load(&mirror->filter->mode) == MIRROR_ACTIVE);
    return true;
}

static bool shall_end(struct mirror *mirror)
{
    return job_shall_complete(mirror->job) || job_shall_end(mirror->job);
}

static bool has_news(struct mirror *mirror)
{
    return shall_end(mirror) || job_is_cancelled(mirror->job) || job_is_paused(mirror->job);
}

static void wait_for_news(struct mirror *mirror) CO_FN;

static void wait_for_news(struct mirror *mirror)
{
    atomic_store(&mirror->idle, true);
    while (bytes_left(mirror) == 0 && !has_news(mirror)) {
        co_queue_wait(&mirror->told, NULL, "writes to the source of a mirror");
        atomic_store(&mirror->idle, true);
    }
    atomic_store(&mirror->idle, false);
    if (!has_news(mirror) && atomic_load(&mirror->filter->mode) == MIRROR_BACKGROUND)
        co_sleep_ms(SETTLE_MS);
}

/* Steps that may hang ---------------------------------------------------------------------------------------------- */

struct step {
    struct mirror *mirror;
    struct error *(*work)(struct mirror *mirror)CO_FN;
};

static void step_entry(void *arg)
{
    struct step step = *(struct step *)arg;
    struct mirror *mirror = step.mirror;
    mirror->step_error = step.work(mirror);
    mirror->working = false;
    co_queue_wake_all(&mirror->told);
}

/* Until it has ended, or the job is cancelled: then it is left behind, and the end of the mirror waits for it. */
static struct error *take_step(struct mirror *mirror, struct error *(*work)(struct mirror *mirror)CO_FN) CO_FN;

static struct error *take_step(struct mirror *mirror, struct error *(*work)(struct mirror *mirror)CO_FN)
{
    struct step step = { .mirror = mirror, .work = work };
    mirror->working = true;
    co_start("step of a mirror", step_entry, &step);
    while (mirror->working && !mirror->switched && !job_is_cancelled(mirror->job))
        co_queue_wait(&mirror->told, NULL, "a step of a mirror");
    if (mirror->working)
        return mirror->switched ? NULL : error_new("the job was cancelled");
    return steal(&mirror->step_error);
}

static struct error *flush_target(struct mirror *mirror) CO_FN;

static struct error *flush_target(struct mirror *mirror)
{
    int error = atomic_exchange(&mirror->filter->flush_error, 0);
    struct error *err = node_flush_in_use(mirror->target, mirror->owner);
    if (err || error == 0)
        return err;
    return error_errno(-error, "flushing node '%s'", node_name(mirror->target));
}

/* All has been copied for the first time. */
static struct error *get_ready(struct mirror *mirror) CO_FN;

static struct error *get_ready(struct mirror *mirror)
{
    struct error *err = take_step(mirror, flush_target);
    if (!err)
        job_become_ready(mirror->job);
    if (!err || job_is_cancelled(mirror->job))
        return err;
    struct failure failure = { .mirror = mirror, .write = true, .errnum = error_errnum(err) ? error_errnum(err) : EIO };
    if (met_error(&failure) == COPIER_GIVE_UP)
        return err;
    error_free(err);
    co_sleep_ms(RETRY_MS);
    return NULL;
}

/* The target of a commit may be shorter than what stands on it. */
static struct error *grow_target(struct mirror *mirror) CO_FN;

static struct error *grow_target(struct mirror *mirror)
{
    uint64_t length = node_length(mirror->source);
    if (!mirror->chain || child_length(mirror->filter->target) >= length)
        return NULL;
    int ret = child_resize(mirror->filter->target, length, TRUNCATE_SPARSE);
    return ret < 0 ? error_errno(-ret, "growing node '%s' to %" PRIu64 " bytes", node_name(mirror->target), length)
                   : NULL;
}

/* Before it ends, writes go to both: what is left becomes less, however much is written. */
static struct error *run(struct job *job)
{
    struct mirror *mirror = mirror_of(job);
    struct error *err = take_step(mirror, grow_target);
    while (!err && job_go_on(job)) {
        bool ends = shall_end(mirror);
        if (ends)
            mirror_filter_set_mode(mirror->filter, MIRROR_ACTIVE);
        if (!copy_all(mirror, &err) || bytes_left(mirror) > 0)
            continue;
        if (job_get_status(job) != JOB_STATUS_READY)
            err = get_ready(mirror);
        else if (ends)
            return NULL;
        else
            wait_for_news(mirror);
    }
    return err;
}

/* The end -------------------------------------------------------------------------------------------------------- */

static struct error *nothing_left(void *arg)
{
    struct mirror *mirror = arg;
    if (!mirror->job || job_is_cancelled(mirror->job))
        return error_new("the job was cancelled"); /* writes were let go without the target */
    return bytes_left(mirror) == 0 ? NULL : error_errno(EAGAIN, "more was written meanwhile");
}

static void have_switched(void *arg)
{
    struct mirror *mirror = arg;
    mirror->switched = true;
    mirror->inserted = false;
}

static const struct change_owner switch_owner = { .before = nothing_left, .done = have_switched };

/* The users of the source, or of what is to be replaced, get the target. */
static struct error *switch_users(struct mirror *mirror) CO_FN;

static struct error *switch_users(struct mirror *mirror)
{
    struct change *change = change_begin();
    struct node *to = mirror->replaces ? mirror->source : mirror->target;
    struct error *err = change_replace(change, mirror->filter_node, to);
    if (!err && mirror->replaces)
        err = change_replace(change, mirror->replaces, mirror->target);
    if (!err) /* while it stays on the filter, nobody else may write the target */
        err = change_edge(change, handle_edge(mirror->handle), to);
    change_set_owner(change, &switch_owner, mirror);
    if (!err)
        return change_commit(change);
    change_abort(change);
    return err;
}

static struct error *prepare(struct job *job)
{
    struct mirror *mirror = mirror_of(job);
    struct error *err = NULL;
    if (job_shall_end(job))
        return take_step(mirror, flush_target);
    for (int round = 0; round < SWITCH_ROUNDS; round++) {
        error_free(steal(&err));
        while (!copy_all(mirror, &err) && !err && !job_is_cancelled(job))
            ; /* told something that does not matter any more */
        if (!err)
            err = job_is_cancelled(job) ? error_new("the job was cancelled") : take_step(mirror, flush_target);
        if (err)
            return err;
        err = take_step(mirror, switch_users);
        if (mirror->switched && mirror->chain && !node_is_read_only(mirror->source))
            writable_forget(&mirror->chain->writable); /* its new users write it */
        if (mirror->switched || job_is_cancelled(job) || error_errnum(err) != EAGAIN)
            return err;
    }
    return err;
}

static void unref(struct mirror *mirror)
{
    if (--mirror->refs > 0)
        return;
    co_queue_fini(&mirror->told);
    error_free(mirror->step_error);
    free(mirror->chain);
    free(mirror->owner);
    free(mirror);
}

static void close_all(void *arg)
{
    struct mirror *mirror = arg;
    handle_close(mirror->handle);
    node_unref(mirror->filter_node);
    node_unref(mirror->target);
    node_unref(mirror->source);
    node_unref(mirror->replaces);
    node_unref(mirror->base);
    chain_nodes_let_go(mirror->chain);
    mirror->closed = true;
    co_queue_wake_all(&mirror->told);
    unref(mirror);
    job_left_behind_ended();
}

/* No piece is on its way any more. */
static void released(void *arg)
{
    co_start("end of a mirror", close_all, arg);
}

static void grace_is_over(void *arg)
{
    struct mirror *mirror = arg;
    mirror->hangs = true;
    co_queue_wake_all(&mirror->told);
}

/* Until the nodes are free for others. What hangs is left behind, and lets go of them when it has ended. */
static void wait_closed(struct mirror *mirror) CO_FN;

static void wait_closed(struct mirror *mirror)
{
    struct timer *timer = timer_create_on_loop(grace_is_over, mirror);
    timer_start(timer, GRACE_MS);
    while (!mirror->closed && !mirror->hangs)
        co_queue_wait(&mirror->told, NULL, "requests of a mirror");
    timer_destroy(timer);
}

/* As if there had been none. */
static struct error *remove_filter(struct mirror *mirror) CO_FN;

static struct error *remove_filter(struct mirror *mirror)
{
    struct change *change = change_begin();
    struct error *err = change_replace(change, mirror->filter_node, mirror->source);
    /* While the handle stays on the filter of a commit, that minds others who use the layers. Elsewhere it does stay,
     * so that nobody has to wait for pieces that hang. */
    if (!err && mirror->chain && mirror->handle)
        err = change_edge(change, handle_edge(mirror->handle), mirror->source);
    if (!err)
        return change_commit(change);
    change_abort(change);
    return err;
}

static void leave_entry(void *arg)
{
    struct mirror *mirror = arg;
    while (mirror->working)
        co_queue_wait(&mirror->told, NULL, "a step of a mirror");
    if (mirror->inserted)
        error_free(remove_filter(mirror));
    copier_destroy(mirror->copier, released, mirror);
}

/* The graph is again as if there had been no mirror, or the target has taken over. */
static void leave_graph(struct mirror *mirror) CO_FN;

static void leave_graph(struct mirror *mirror)
{
    if (mirror->filter)
        mirror_filter_set_mode(mirror->filter, MIRROR_OVER);
    mirror->job = NULL;
    if (mirror->bitmap)
        dirty_bitmap_destroy(steal(&mirror->bitmap));
    mirror->refs++;
    job_leave_behind();
    co_start("end of a mirror", leave_entry, mirror);
    wait_closed(mirror);
    unref(mirror);
}

static void finish(struct job *job, bool success)
{
    (void)success;
    struct mirror *mirror = mirror_of(job);
    *(struct mirror **)job_state(job) = NULL;
    leave_graph(mirror);
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
        return error_new("Change to copy mode '%s' is not implemented",
                         mirror_copy_mode_name(options->u.mirror.copy_mode));
    mirror->options.copy_mode = MIRROR_COPY_MODE_WRITE_BLOCKING;
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
            info->ready && atomic_load(&(*mirror)->filter->mode) == MIRROR_ACTIVE && bytes_left(*mirror) == 0;
}

static const struct job_driver mirror_driver = {
    .type = JOB_TYPE_MIRROR,
    .state_size = sizeof(struct mirror *),
    .is_block_job = true,
    .may_end_ready = true,
    .run = run,
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
    .run = run,
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
    return err ? err : writable_make(&mirror->chain->writable, mirror->target);
}

static struct error *open_parts(struct mirror *mirror, uint32_t granularity) CO_FN;

static struct error *open_parts(struct mirror *mirror, uint32_t granularity)
{
    const struct mirror_options *options = &mirror->options;
    struct error *err = open_chain(mirror);
    if (!err)
        err = mirror_filter_create(options->filter_node_name, mirror->owner, mirror->source, mirror->target,
                                   mirror->chain, &mirror->filter_node);
    if (err)
        return err;
    mirror->filter = mirror_filter_of(mirror->filter_node);
    mirror->filter->noted = on_noted;
    mirror->filter->noted_arg = mirror;
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
    err = handle_open_here(mirror->filter_node, mirror->owner, PERM_CONSISTENT_READ, PERM_ALL, &mirror->handle);
    if (err)
        return err;
    const struct copier_options copier_options = {
        .ops = &copier_ops,
        .arg = mirror,
        .job = mirror->job,
        .handle = mirror->handle,
        .bytes = node_length(mirror->source),
        .granule = granularity,
        .bytes_max = options->buf_size,
        .speed = options->speed,
    };
    return copier_create(&copier_options, &mirror->copier);
}

static void begin(struct mirror *mirror)
{
    if (mirror->options.sync != MIRROR_SYNC_MODE_NONE)
        copier_add(mirror->copier, range_make(0, node_length(mirror->source)));
    if (mirror->options.copy_mode == MIRROR_COPY_MODE_WRITE_BLOCKING)
        mirror_filter_set_mode(mirror->filter, MIRROR_ACTIVE);
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
    struct mirror *mirror = xcalloc(1, sizeof(*mirror));
    *mirror = (struct mirror){
        .job = job,
        .options = *options,
        .owner = xasprintf("block job '%s'", options->id),
        .source = node_ref(options->source),
        .target = node_ref(options->target),
        .replaces = ref_or_null(options->replaces),
        .base = ref_or_null(base_of(options)),
        .woken.run = run_woken,
        .refs = 1,
    };
    co_queue_init(&mirror->told);
    *(struct mirror **)job_state(job) = mirror;
    err = set_up(mirror, granularity);
    if (err) {
        *(struct mirror **)job_state(job) = NULL;
        error_free(job_cancel(job, true));
        return err;
    }
    error_free(job_set_speed(job, (int64_t)options->speed));
    job_start(job);
    return NULL;
}
