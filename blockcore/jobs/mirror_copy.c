#include "blockcore/jobs/mirror_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/flush.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/jobs/copier.h"
#include "blockcore/jobs/job.h"
#include "blockcore/jobs/mirror_filter.h"
#include "blockcore/jobs/progress.h"
#include "blockcore/runtime/coroutine.h"

#include <errno.h>
#include <inttypes.h>

#define RUNS_AT_ONCE 256
#define SETTLE_MS 20 /* writes that come soon after each other are copied together */
#define RETRY_MS 100

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
            child_is_zero(mirror->filter->target, range_make(extent->offset, extent->bytes)))
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

void mirror_note_to(struct mirror *mirror)
{
    mirror->woken.run = run_woken;
    mirror->filter->noted = on_noted;
    mirror->filter->noted_arg = mirror;
}

struct error *mirror_make_copier(struct mirror *mirror, uint32_t granularity)
{
    static const struct copier_ops ops = { .plan = plan, .copy = copy, .failed = failed };
    const struct copier_options options = {
        .ops = &ops,
        .arg = mirror,
        .job = mirror->job,
        .handle = mirror->handle,
        .bytes = node_length(mirror->source),
        .granule = granularity,
        .bytes_max = mirror->options.buf_size,
        .speed = job_speed(mirror->job),
    };
    return copier_create(&options, &mirror->copier);
}

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

uint64_t mirror_bytes_left(struct mirror *mirror)
{
    return copier_left(mirror->copier) + dirty_bitmap_count(mirror->bitmap);
}

/* The total is what was copied and what is left. */
static void count_total(struct mirror *mirror)
{
    uint64_t total = job_progress_current(mirror->job) + mirror_bytes_left(mirror);
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

bool mirror_copy_all(struct mirror *mirror, struct error **err)
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
    } while (mirror_bytes_left(mirror) > 0 && atomic_load(&mirror->filter->mode) == MIRROR_ACTIVE);
    return true;
}

static bool shall_end(struct mirror *mirror)
{
    return job_shall_complete(mirror->job) || job_shall_end(mirror->job);
}

static bool has_news(struct mirror *mirror)
{
    return shall_end(mirror) || job_is_cancelled(mirror->job) || job_is_paused(mirror->job) ||
           progress_is_due(mirror->progress);
}

static void wait_for_news(struct mirror *mirror) CO_FN;

static void wait_for_news(struct mirror *mirror)
{
    atomic_store(&mirror->idle, true);
    while (mirror_bytes_left(mirror) == 0 && !has_news(mirror)) {
        co_queue_wait(&mirror->told, NULL, "writes to the source of a mirror");
        atomic_store(&mirror->idle, true);
    }
    atomic_store(&mirror->idle, false);
    if (!has_news(mirror) && atomic_load(&mirror->filter->mode) == MIRROR_BACKGROUND)
        co_sleep_ms(SETTLE_MS);
}

/* Checkpoints ---------------------------------------------------------------------------------------------------- */

void mirror_checkpoint_due(void *arg)
{
    struct mirror *mirror = arg;
    if (!mirror->job)
        return;
    copier_interrupt(mirror->copier);
    co_queue_wake_all(&mirror->told);
}

static struct error *wait_active(void *arg) CO_FN;

static struct error *wait_active(void *arg)
{
    struct mirror *mirror = arg;
    mirror_filter_wait_active(mirror->filter);
    return NULL;
}

/* An error is not lost: whoever flushes the target next meets it. */
static struct error *flush_for_checkpoint(void *arg) CO_FN;

static struct error *flush_for_checkpoint(void *arg)
{
    struct mirror *mirror = arg;
    struct error *err = node_flush_in_use(mirror->target, mirror->owner);
    if (err)
        atomic_store(&mirror->filter->flush_error, -(error_errnum(err) ? error_errnum(err) : EIO));
    else if (atomic_load(&mirror->filter->flush_error))
        err = error_new("a flush of the target failed");
    return err;
}

static void note_left(struct mirror *mirror) CO_FN;

static void note_left(struct mirror *mirror)
{
    struct range left = range_make(0, 0);
    unsigned runs = 0;
    while ((left = copier_next_left(mirror->copier, range_end(left))).bytes > 0) {
        progress_note_left(mirror->progress, left);
        if (++runs % RUNS_AT_ONCE == 0)
            co_yield ();
    }
}

/* No piece is on its way. Active writes that began before have got to the target, or were noted, when it is asked what
 * is left; later ones are among what was written since. */
static void checkpoint(struct mirror *mirror) CO_FN;

static void checkpoint(struct mirror *mirror)
{
    if (!progress_begin_checkpoint(mirror->progress))
        return;
    struct error *err = job_step_take(&mirror->step, mirror->job, wait_active, mirror);
    if (!err) {
        take_noted(mirror);
        count_total(mirror);
        note_left(mirror);
        err = job_step_take(&mirror->step, mirror->job, flush_for_checkpoint, mirror);
    }
    progress_end_checkpoint(mirror->progress, !err);
    error_free(err);
}

/* Becoming ready ------------------------------------------------------------------------------------------------- */

struct error *mirror_flush_target(void *arg)
{
    struct mirror *mirror = arg;
    int error = atomic_exchange(&mirror->filter->flush_error, 0);
    struct error *err = node_flush_in_use(mirror->target, mirror->owner);
    if (!err && error != 0)
        err = error_errno(-error, "flushing node '%s'", node_name(mirror->target));
    if (err)
        progress_distrust(mirror->progress);
    return err;
}

/* All has been copied for the first time. */
static struct error *get_ready(struct mirror *mirror) CO_FN;

static struct error *get_ready(struct mirror *mirror)
{
    struct error *err = job_step_take(&mirror->step, mirror->job, mirror_flush_target, mirror);
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
static struct error *grow_target(void *arg) CO_FN;

static struct error *grow_target(void *arg)
{
    struct mirror *mirror = arg;
    uint64_t length = node_length(mirror->source);
    if (!mirror->chain || child_length(mirror->filter->target) >= length)
        return NULL;
    int ret = child_resize(mirror->filter->target, length, TRUNCATE_SPARSE);
    return ret < 0 ? error_errno(-ret, "growing node '%s' to %" PRIu64 " bytes", node_name(mirror->target), length)
                   : NULL;
}

/* Before it ends, writes go to both: what is left becomes less, however much is written. */
struct error *mirror_run(struct job *job)
{
    struct mirror *mirror = mirror_of(job);
    struct error *err = job_step_take(&mirror->step, job, grow_target, mirror);
    while (!err && job_go_on(job)) {
        bool ends = shall_end(mirror);
        if (progress_is_due(mirror->progress))
            checkpoint(mirror);
        if (ends)
            mirror_filter_set_mode(mirror->filter, MIRROR_ACTIVE);
        if (!mirror_copy_all(mirror, &err) || mirror_bytes_left(mirror) > 0)
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
