#include "blockcore/jobs/backup.h"

#include "blockcore/base/memory.h"
#include "blockcore/filters/copy_before_write_job.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/flush.h"
#include "blockcore/graph/inner.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/io/request.h"
#include "blockcore/jobs/copier.h"
#include "blockcore/jobs/job.h"
#include "blockcore/jobs/leave.h"
#include "blockcore/jobs/progress.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>

#define RUNS_AT_ONCE 4096 /* of a bitmap, before others get a turn */

/* Outlives the job where requests hang. */
struct backup {
    struct job *job;               /* NULL: it has ended */
    struct backup_options options; /* without what its pointers led to */
    char *owner;                   /* in messages */
    struct node *source;
    struct node *target;
    struct node *base; /* what it and those below it decide is not copied; NULL: everything is */
    struct node *filter;
    struct handle *handle; /* the copies'; it stays on the filter, so that nothing waits for copies that hang */
    struct handle *guard;  /* keeps others from writing the source beside the filter */
    bool inserted;
    struct dirty_bitmap *bitmap; /* the source's, busy */
    struct dirty_bitmap *aside;  /* its bits of the moment; NULL: they are still in it */
    struct copier *copier;
    struct progress *progress; /* NULL: none is kept */
    bool done;                 /* the target is a backup */

    struct co_queue told;
    struct loop_task woken; /* posted once at most */
    struct job_step step;   /* a flush */
    struct error *flush_error;
};

static struct backup *backup_of(struct job *job)
{
    return *(struct backup **)job_state(job);
}

/* On any loop ---------------------------------------------------------------------------------------------------- */

static void run_woken(struct loop_task *task)
{
    struct backup *backup = CONTAINER_OF(task, struct backup, woken);
    if (backup->copier)
        copier_interrupt(backup->copier);
    co_queue_wake_all(&backup->told);
}

/* That happens once. */
static void on_broke(void *arg)
{
    struct backup *backup = arg;
    loop_post(loop_control(), &backup->woken);
}

static int plan(void *arg, struct range range, struct extents *plan)
{
    struct backup *backup = arg;
    return cbw_job_plan(backup->filter, range, plan);
}

static int copy(void *arg, struct copier_piece *piece)
{
    struct backup *backup = arg;
    return cbw_job_keep(backup->filter, piece->range, piece->zero, &piece->write_failed);
}

struct failure {
    struct backup *backup;
    bool write;
    int errnum;
};

/* What is lost cannot be tried again. */
static int met_error(void *arg)
{
    const struct failure *failure = arg;
    struct backup *backup = failure->backup;
    if (!backup->job || cbw_job_broken(backup->filter) < 0)
        return COPIER_GIVE_UP;
    enum blockdev_on_error policy = failure->write ? backup->options.on_target_error : backup->options.on_source_error;
    enum block_error_action action = job_met_error(backup->job, policy, failure->write, failure->errnum);
    return action == BLOCK_ERROR_ACTION_REPORT ? COPIER_GIVE_UP : COPIER_TRY_AGAIN;
}

static enum copier_answer failed(void *arg, const struct copier_piece *piece, int ret)
{
    struct failure failure = { .backup = arg, .write = piece->write_failed, .errnum = -ret };
    return (enum copier_answer)co_call_on(loop_control(), "error of a backup", met_error, &failure);
}

static const struct copier_ops copier_ops = { .plan = plan, .copy = copy, .failed = failed };

/* Copying -------------------------------------------------------------------------------------------------------- */

static struct error *flush_target(void *arg) CO_FN;

static struct error *flush_target(void *arg)
{
    struct backup *backup = arg;
    return node_flush_in_use(backup->target, backup->owner);
}

static struct error *copy_error(const struct backup *backup, int ret)
{
    int broken = cbw_job_broken(backup->filter);
    if (broken < 0)
        return error_errno(-broken, "the point in time of node '%s' is lost", node_name(backup->source));
    return error_errno(-ret, "copying from node '%s' to node '%s'", node_name(backup->source),
                       node_name(backup->target));
}

/* With sync mode "none" only what is overwritten is copied, until somebody ends the job. */
static struct error *wait_for_end(struct backup *backup) CO_FN;

static struct error *wait_for_end(struct backup *backup)
{
    while (job_go_on(backup->job)) {
        if (cbw_job_broken(backup->filter) < 0)
            return copy_error(backup, 0);
        co_queue_wait(&backup->told, NULL, "the end of a backup");
    }
    return NULL;
}

static void checkpoint_due(void *arg)
{
    struct backup *backup = arg;
    if (backup->job)
        copier_interrupt(backup->copier);
}

/* What is settled when it is asked has got to the target. */
static void checkpoint(struct backup *backup) CO_FN;

static void checkpoint(struct backup *backup)
{
    if (!progress_begin_checkpoint(backup->progress))
        return;
    struct range left = range_make(0, 0);
    unsigned runs = 0;
    while ((left = cbw_job_next_original(backup->filter, range_end(left))).bytes > 0) {
        progress_note_left(backup->progress, left);
        if (++runs % RUNS_AT_ONCE == 0)
            co_yield ();
    }
    backup->flush_error = job_step_take(&backup->step, backup->job, flush_target, backup);
    progress_end_checkpoint(backup->progress, !backup->flush_error);
}

static struct error *run(struct job *job)
{
    struct backup *backup = backup_of(job);
    if (backup->options.sync == MIRROR_SYNC_MODE_NONE)
        return wait_for_end(backup);
    while (job_go_on(job)) {
        int ret = cbw_job_broken(backup->filter);
        if (ret == 0)
            ret = copier_run(backup->copier);
        if (ret == 0)
            return job_step_take(&backup->step, job, flush_target, backup);
        if (ret != -EINTR)
            return copy_error(backup, ret);
        if (progress_is_due(backup->progress))
            checkpoint(backup);
        if (backup->flush_error)
            return steal(&backup->flush_error);
    }
    return NULL;
}

/* The end -------------------------------------------------------------------------------------------------------- */

/* What was not copied has still to be. */
static void mark_left(struct backup *backup) CO_FN;

static void mark_left(struct backup *backup)
{
    struct range left = range_make(0, 0);
    unsigned runs = 0;
    while ((left = cbw_job_next_original(backup->filter, range_end(left))).bytes > 0) {
        dirty_bitmap_mark(backup->bitmap, left);
        if (++runs % RUNS_AT_ONCE == 0)
            co_yield ();
    }
}

/* In its image too; if that cannot be told, no write can be either. */
static void put_back_left(struct backup *backup) CO_FN;

static void put_back_left(struct backup *backup)
{
    mark_left(backup);
    error_free(dirty_bitmap_tell_image(backup->bitmap, backup->bitmap));
}

/* The bitmap has recorded what was written since the moment. Nobody can have resized the source. */
static void settle_bitmap(struct backup *backup, bool success) CO_FN;

static void settle_bitmap(struct backup *backup, bool success)
{
    struct dirty_bitmap *aside = steal(&backup->aside);
    if (!backup->bitmap)
        return;
    if (aside && backup->inserted && !success) {
        if (backup->options.bitmap_mode == BITMAP_SYNC_MODE_ALWAYS)
            put_back_left(backup);
        else
            error_free(dirty_bitmap_merge(backup->bitmap, aside));
    }
    if (aside)
        dirty_bitmap_destroy(aside);
    dirty_bitmap_set_busy(steal(&backup->bitmap), false);
}

static void leave(struct leaving *leaving, void *arg) CO_FN;

static void leave(struct leaving *leaving, void *arg)
{
    struct backup *backup = arg;
    if (backup->inserted)
        leaving_filter(leaving, backup->filter);
    handle_close(backup->guard);
    leaving_copier(leaving, backup->copier, backup->handle);
    job_step_wait(&backup->step);
    handle_close(backup->handle);
    leaving_got_on(leaving);
    progress_close(backup->progress, backup->done);
    node_unref(backup->filter);
    node_unref(backup->target);
    node_unref(backup->source);
    node_unref(backup->base);
    co_queue_fini(&backup->told);
    job_step_fini(&backup->step);
    error_free(backup->flush_error);
    free(backup->owner);
    free(backup);
}

/* The graph and, but for what the outcome says, the bitmap are as if there had been no backup. */
static void leave_graph(struct backup *backup, bool success) CO_FN;

static void leave_graph(struct backup *backup, bool success)
{
    if (backup->filter)
        cbw_job_end(backup->filter);
    settle_bitmap(backup, success);
    backup->done = success;
    backup->job = NULL;
    job_leave(leave, backup);
}

static void finish(struct job *job, bool success)
{
    struct backup *backup = backup_of(job);
    *(struct backup **)job_state(job) = NULL;
    leave_graph(backup, success);
}

static void wake(struct job *job)
{
    struct backup *backup = backup_of(job);
    if (!backup)
        return;
    if (job_is_cancelled(job)) {
        cbw_job_end(backup->filter);
        copier_abandon(backup->copier);
    } else {
        copier_interrupt(backup->copier);
    }
    co_queue_wake_all(&backup->told);
    job_step_wake(&backup->step);
}

static void speed_changed(struct job *job)
{
    struct backup *backup = backup_of(job);
    if (backup)
        copier_set_speed(backup->copier, job_speed(job));
}

static const struct job_driver backup_driver = {
    .type = JOB_TYPE_BACKUP,
    .state_size = sizeof(struct backup *),
    .is_block_job = true,
    .run = run,
    .wake = wake,
    .speed_changed = speed_changed,
    .finish = finish,
};

/* Starting ------------------------------------------------------------------------------------------------------- */

static struct error *check_nodes(const struct backup_options *options)
{
    if (options->source == options->target)
        return error_new("Source and target cannot be the same");
    if (node_is_read_only(options->target))
        return error_new("node '%s' is read-only", node_name(options->target));
    if (node_length(options->source) != node_length(options->target))
        return error_new("Source and target image have different sizes: node '%s' has %" PRIu64
                         " bytes, node '%s' has %" PRIu64,
                         node_name(options->source), node_length(options->source), node_name(options->target),
                         node_length(options->target));
    if (options->compress && !node_can_compress(options->target))
        return error_new("Compression is not supported for this drive %s", node_name(options->target));
    if (!options->bitmap)
        return NULL;
    unsigned states = DIRTY_BITMAP_BUSY | DIRTY_BITMAP_INCONSISTENT;
    return options->bitmap_is_ours ? dirty_bitmap_check_ours(options->bitmap, states)
                                   : dirty_bitmap_check(options->bitmap, states);
}

static struct error *make_filter(struct backup *backup) CO_FN;

static struct error *make_filter(struct backup *backup)
{
    const struct cbw_job_options options = {
        .name = backup->options.filter_node_name,
        .owner = backup->owner,
        .source = backup->source,
        .target = backup->target,
        .min_cluster_size = backup->options.min_cluster_size,
        .break_snapshot = backup->options.on_cbw_error == ON_CBW_ERROR_BREAK_SNAPSHOT,
        .compress = backup->options.compress,
        .use_copy_range = backup->options.use_copy_range,
        .discard_source = backup->options.discard_source,
        .broke = on_broke,
        .broke_arg = backup,
    };
    struct error *err = cbw_job_create(&options, &backup->filter);
    if (err)
        return err;
    inner_node_set_placed(backup->filter, false);
    err = handle_open_here(backup->filter, backup->owner, 0, PERM_ALL, &backup->handle);
    return err ? err : handle_open(backup->filter, backup->owner, 0, PERM_ALL, &backup->guard);
}

static struct error *make_copier(struct backup *backup)
{
    const struct backup_options *options = &backup->options;
    uint64_t cluster = cbw_job_cluster(backup->filter);
    if (options->chunk_max && options->chunk_max < cluster)
        return error_new("max-chunk (%" PRIu64 ") is less than backup cluster size (%" PRIu64 ")", options->chunk_max,
                         cluster);
    const struct copier_options copier_options = {
        .ops = &copier_ops,
        .arg = backup,
        .job = backup->job,
        .handle = backup->handle,
        .bytes = node_length(backup->source),
        .granule = cluster,
        .chunk_max = options->chunk_max,
        .pieces_max = options->workers_max,
        .speed = job_speed(backup->job),
    };
    return copier_create(&copier_options, &backup->copier);
}

/* Empty, and records nothing. */
static struct error *make_aside(struct backup *backup)
{
    if (!backup->bitmap || backup->options.bitmap_mode == BITMAP_SYNC_MODE_NEVER)
        return NULL;
    uint32_t granularity = dirty_bitmap_granularity(backup->bitmap);
    struct error *err = dirty_bitmap_create(backup->source, NULL, granularity, &backup->aside);
    if (!err)
        dirty_bitmap_set_enabled(backup->aside, false);
    return err;
}

struct error *backup_job_moment(struct backup *backup)
{
    if (backup->aside)
        dirty_bitmap_exchange(backup->bitmap, backup->aside);
    if (backup->options.sync == MIRROR_SYNC_MODE_BITMAP)
        cbw_job_want_dirty(backup->filter, backup->aside ? backup->aside : backup->bitmap);
    backup->inserted = true;
    if (!backup->progress)
        return NULL;
    cbw_job_want_dirty(backup->filter, progress_bitmap(backup->progress));
    return progress_begin_moment(backup->progress);
}

void backup_job_undo_moment(struct backup *backup)
{
    if (backup->inserted && backup->aside)
        dirty_bitmap_exchange(backup->bitmap, backup->aside);
    backup->inserted = false;
}

/* The layer below the source's topmost; filters are transparent. */
static void choose_base(struct backup *backup, const struct change *change)
{
    if (backup->options.sync != MIRROR_SYNC_MODE_TOP)
        return;
    const struct node *node = backup->source;
    while (node_filtered(node))
        node = child_node(node_filtered(node));
    struct node *base = change_child_node(change, node, "backing");
    if (!base)
        return;
    backup->base = node_ref(base);
    cbw_job_want_above(backup->filter, backup->handle, base);
}

void backup_job_undescribe(struct backup *backup)
{
    inner_node_set_placed(backup->filter, false);
    cbw_job_want_above(backup->filter, NULL, NULL);
    node_unref(steal(&backup->base));
}

struct error *backup_job_describe(struct backup *backup, struct change *change)
{
    choose_base(backup, change);
    inner_node_set_placed(backup->filter, true);
    struct error *err = change_replace(change, backup->source, backup->filter);
    return err ? err : change_permissions(change, backup->guard, PERM_CONSISTENT_READ, PERM_ALL);
}

static void begin(struct backup *backup) CO_FN;

static void begin(struct backup *backup)
{
    struct range left = range_make(0, 0);
    unsigned runs = 0;
    while (backup->options.sync != MIRROR_SYNC_MODE_NONE &&
           (left = cbw_job_next_original(backup->filter, range_end(left))).bytes > 0) {
        copier_add(backup->copier, left);
        if (++runs % RUNS_AT_ONCE == 0)
            co_yield ();
    }
    job_progress_add_total(backup->job, min_u64(copier_left(backup->copier), node_length(backup->source)));
    if (backup->progress)
        progress_start_clock(backup->progress, checkpoint_due, backup);
}

/* Its parts must be good for a job that copies all that differs, and nothing else that could differ. */
static struct error *open_progress(struct backup *backup) CO_FN;

static struct error *open_progress(struct backup *backup)
{
    const struct backup_options *options = &backup->options;
    const struct progress_options progress_options = {
        .name = options->progress,
        .owner = backup->owner,
        .source = backup->source,
        .target = backup->target,
        .granularity = (uint32_t)min_u64(cbw_job_cluster(backup->filter), DIRTY_BITMAP_GRANULARITY_MAX),
    };
    if (!options->progress)
        return NULL;
    if (options->sync != MIRROR_SYNC_MODE_FULL && options->sync != MIRROR_SYNC_MODE_TOP)
        return error_new("progress: sync mode '%s' cannot go on where it was", mirror_sync_mode_name(options->sync));
    if (options->bitmap)
        return error_new("progress: cannot be kept together with a bitmap");
    if (options->discard_source)
        return error_new("progress: cannot be kept when the source is discarded");
    return progress_open(&progress_options, &backup->progress);
}

static struct error *set_up(struct backup *backup) CO_FN;

static struct error *set_up(struct backup *backup)
{
    struct error *err = make_filter(backup);
    if (!err)
        err = open_progress(backup);
    if (!err)
        err = make_copier(backup);
    return err ? err : make_aside(backup);
}

struct error *backup_job_prepare(const struct backup_options *options, struct job_txn *txn, struct backup **out)
{
    struct job *job;
    struct error *err = check_nodes(options);
    if (!err)
        err = job_create(&backup_driver, options->id, options->flags, txn, &job);
    if (err)
        return err;
    error_free(job_set_speed(job, (int64_t)options->speed));
    struct backup *backup = xcalloc(1, sizeof(*backup));
    *backup = (struct backup){
        .job = job,
        .options = *options,
        .owner = xasprintf("block job '%s'", options->id),
        .source = node_ref(options->source),
        .target = node_ref(options->target),
        .bitmap = options->bitmap,
        .woken.run = run_woken,
    };
    co_queue_init(&backup->told);
    job_step_init(&backup->step);
    if (backup->bitmap)
        dirty_bitmap_set_busy(backup->bitmap, true);
    err = set_up(backup);
    if (err)
        backup_job_give_up(backup);
    else
        *out = backup;
    return err;
}

void backup_job_give_up(struct backup *backup)
{
    struct job *job = backup->job;
    leave_graph(backup, false);
    error_free(job_cancel(job, true));
}

void backup_job_go(struct backup *backup)
{
    begin(backup);
    *(struct backup **)job_state(backup->job) = backup;
    copier_set_speed(backup->copier, job_speed(backup->job)); /* it may have been told meanwhile */
    job_start(backup->job);
}
