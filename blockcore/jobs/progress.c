#include "blockcore/jobs/progress.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/drain.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/write_ahead.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define TARGET_DIGITS 16
#define NAME_MAX_BYTES (DIRTY_BITMAP_NAME_MAX - TARGET_DIGITS - 1)
#define CHECKPOINT_MS 1000
#define CHECKPOINT_SHARE 10 /* the time between two is at least so many times what one takes */
#define SAMPLES 64
#define SAMPLE_BYTES (64u * 1024)
#define EXTENTS_AT_ONCE 64
#define NS_PER_MS UINT64_C(1000000)

struct progress {
    struct node *source;
    struct node *target;
    char *owner;
    char *bitmap_name;
    struct dirty_bitmap *bitmap;
    struct dirty_bitmap *since; /* written since a checkpoint began */
    struct dirty_bitmap *left;  /* of that checkpoint; does not record */
    struct timer *timer;
    void (*due_fn)(void *arg);
    void *due_arg;
    bool due;
    bool moment;     /* it is of one moment, where since began */
    bool distrusted; /* a flush failed */
    uint64_t begun_ns;
};

/* Names --------------------------------------------------------------------------------------------------------- */

static uint64_t hash_more(uint64_t hash, const void *data, size_t bytes)
{
    const uint8_t *byte = data;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return hash;
}

/* The same for the same target after a restart: its file, or else its name. */
static uint64_t number_of(const struct node *target)
{
    const char *driver = node_driver(target)->name;
    uint64_t inode = node_inode(target);
    uint64_t length = node_length(target);
    uint64_t hash = hash_more(UINT64_C(0xcbf29ce484222325), driver, strlen(driver));
    hash = hash_more(hash, &length, sizeof(length));
    if (inode)
        return hash_more(hash, &inode, sizeof(inode));
    return hash_more(hash, node_filename(target), strlen(node_filename(target)));
}

/* Of any target. */
static bool is_progress(const char *bitmap, const char *name)
{
    size_t bytes = strlen(name);
    return strncmp(bitmap, name, bytes) == 0 && bitmap[bytes] == '@' &&
           strspn(bitmap + bytes + 1, "0123456789abcdef") == TARGET_DIGITS && !bitmap[bytes + 1 + TARGET_DIGITS];
}

static struct dirty_bitmap *find(const struct node *node, const char *name)
{
    struct dirty_bitmap *bitmap = NULL;
    while ((bitmap = dirty_bitmap_next(node, bitmap)) && !is_progress(dirty_bitmap_name(bitmap), name))
        ;
    return bitmap;
}

/* In the image -------------------------------------------------------------------------------------------------- */

static struct error *check_source(const struct progress_options *options)
{
    const struct driver *driver = node_driver(options->source);
    if (strlen(options->name) == 0 || strlen(options->name) > NAME_MAX_BYTES)
        return error_new("progress: expected a name of 1 to %d bytes", NAME_MAX_BYTES);
    if (!driver->bitmaps_are_ahead || !driver->bitmaps_are_ahead(options->source))
        return error_new("node '%s' (driver '%s') cannot keep the progress of a job: that takes a qcow2 image that is "
                         "opened with write-ahead-bitmaps=on",
                         node_name(options->source), driver->name);
    return NULL;
}

/* Waits for the image. */
static struct error *make_bitmap(struct progress *progress, uint32_t granularity) CO_FN CONTROL_FN;

static struct error *make_bitmap(struct progress *progress, uint32_t granularity)
{
    struct node *node = progress->source;
    struct handle *handle;
    struct dirty_bitmap *bitmap;
    struct error *err = node_driver(node)->bitmap_check(node, progress->bitmap_name, granularity);
    if (!err)
        err = dirty_bitmap_create(node, progress->bitmap_name, granularity, &bitmap);
    if (err)
        return err;
    dirty_bitmap_set_busy(bitmap, true);
    dirty_bitmap_set_persistent(bitmap, true);
    dirty_bitmap_mark(bitmap, range_make(0, node_length(node)));
    err = handle_enter_here(node, progress->owner, &handle);
    if (!err) {
        err = node_driver(node)->bitmap_keep(node);
        handle_leave_here(handle);
    }
    if (err)
        dirty_bitmap_destroy(bitmap);
    else
        progress->bitmap = bitmap;
    return err;
}

static struct error *check_found(const struct progress *progress, const struct dirty_bitmap *bitmap)
{
    const char *name = dirty_bitmap_name(bitmap);
    if (strcmp(name, progress->bitmap_name) != 0)
        return error_new(
            "bitmap '%s' of node '%s' tells how far another target has got: node '%s' would be '%s'. Give the "
            "other target, or remove the bitmap (block-dirty-bitmap-remove) to begin from the start",
            name, node_name(progress->source), node_name(progress->target), progress->bitmap_name);
    struct error *err =
        dirty_bitmap_check(bitmap, DIRTY_BITMAP_BUSY | DIRTY_BITMAP_READONLY | DIRTY_BITMAP_INCONSISTENT);
    if (!err && (!dirty_bitmap_is_persistent(bitmap) || !dirty_bitmap_is_enabled(bitmap)))
        err = error_new("Bitmap '%s' is not persistent, or has not recorded", name);
    return error_wrap(err, "the job cannot go on where it was; remove the bitmap to begin from the start");
}

/* Comparing ----------------------------------------------------------------------------------------------------- */

/* Both ends, opened for reading. */
struct ends {
    struct handle *source;
    struct handle *target;
    uint8_t *bytes; /* two samples */
};

static int read_sample(const struct ends *ends, struct range range) CO_FN;

static int read_sample(const struct ends *ends, struct range range)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, ends->bytes, range.bytes);
    int ret = handle_preadv(ends->source, range, &iov);
    iov = iov_of(&storage, ends->bytes + SAMPLE_BYTES, range.bytes);
    return ret < 0 ? ret : handle_preadv(ends->target, range, &iov);
}

/* What differs may be on its way to be written: when such a write has ended, the bitmap says so. */
static bool is_dirty_after_all(struct progress *progress, struct range range) CO_FN CONTROL_FN;

static bool is_dirty_after_all(struct progress *progress, struct range range)
{
    drain_end(drain_begin(progress->source));
    return dirty_bitmap_next_dirty(progress->bitmap, range.offset) < range_end(range);
}

static struct error *compare(struct progress *progress, const struct ends *ends, struct range range) CO_FN CONTROL_FN;

static struct error *compare(struct progress *progress, const struct ends *ends, struct range range)
{
    int ret = read_sample(ends, range);
    if (ret < 0)
        return error_errno(-ret, "comparing node '%s' with node '%s' at offset %" PRIu64, node_name(progress->source),
                           node_name(progress->target), range.offset);
    if (memcmp(ends->bytes, ends->bytes + SAMPLE_BYTES, range.bytes) == 0 || is_dirty_after_all(progress, range))
        return NULL;
    return error_new(
        "node '%s' does not hold what was copied to it before: it differs from node '%s' at offset %" PRIu64
        ", which bitmap '%s' says was copied. Give the right target, or remove the bitmap "
        "(block-dirty-bitmap-remove) to begin from the start",
        node_name(progress->target), node_name(progress->source), range.offset, progress->bitmap_name);
}

/* The begin of what is not zero, or of @window. */
static uint64_t interesting(const struct ends *ends, struct range window) CO_FN;

static uint64_t interesting(const struct ends *ends, struct range window)
{
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, EXTENTS_AT_ONCE);
    if (handle_block_status(ends->source, window, ASK_ZERO, NULL, false, &extents) < 0)
        return window.offset;
    for (size_t i = 0; i < extents.count; i++) {
        if (!(extents.items[i].flags & EXTENT_ZERO))
            return align_down(extents.items[i].offset, SAMPLE_BYTES);
    }
    return window.offset;
}

static struct error *compare_samples(struct progress *progress, const struct ends *ends) CO_FN CONTROL_FN;

static struct error *compare_samples(struct progress *progress, const struct ends *ends)
{
    uint64_t length = node_length(progress->source);
    uint64_t step = max_u64(align_up(length / SAMPLES, SAMPLE_BYTES), SAMPLE_BYTES);
    struct error *err = NULL;
    for (uint64_t at = 0; at < length && !err;) {
        uint64_t from = max_u64(at, interesting(ends, range_between(at, min_u64(at + step, length))));
        uint64_t clean = dirty_bitmap_next_clean(progress->bitmap, from);
        uint64_t end = min_u64(dirty_bitmap_next_dirty(progress->bitmap, clean), clean + SAMPLE_BYTES);
        if (clean < end)
            err = compare(progress, ends, range_between(clean, end));
        at = max_u64(at + step, align_down(end, step));
    }
    return err;
}

static struct error *compare_ends(struct progress *progress) CO_FN CONTROL_FN;

static struct error *compare_ends(struct progress *progress)
{
    struct ends ends = { .bytes = buffer_get(2 * SAMPLE_BYTES) };
    if (!ends.bytes)
        return error_errno(ENOMEM, "comparing samples");
    struct error *err = handle_open(progress->source, progress->owner, PERM_CONSISTENT_READ, PERM_ALL, &ends.source);
    if (!err)
        err = handle_open(progress->target, progress->owner, PERM_CONSISTENT_READ, PERM_ALL, &ends.target);
    if (!err)
        err = compare_samples(progress, &ends);
    handle_close(ends.target);
    handle_close(ends.source);
    buffer_put(ends.bytes, 2 * SAMPLE_BYTES);
    return err;
}

/* Opening and closing ------------------------------------------------------------------------------------------- */

static struct error *go_on(struct progress *progress, struct dirty_bitmap *found) CO_FN CONTROL_FN;

static struct error *go_on(struct progress *progress, struct dirty_bitmap *found)
{
    struct error *err = check_found(progress, found);
    if (err)
        return err;
    progress->bitmap = found;
    dirty_bitmap_set_busy(found, true);
    return compare_ends(progress);
}

static struct error *make_helpers(struct progress *progress)
{
    uint32_t granularity = dirty_bitmap_granularity(progress->bitmap);
    struct error *err = dirty_bitmap_create(progress->source, NULL, granularity, &progress->since);
    if (!err)
        err = dirty_bitmap_create(progress->source, NULL, granularity, &progress->left);
    if (!err)
        dirty_bitmap_set_enabled(progress->left, false);
    return err;
}

struct error *progress_open(const struct progress_options *options, struct progress **out)
{
    struct error *err = check_source(options);
    if (err)
        return err;
    struct progress *progress = xcalloc(1, sizeof(*progress));
    *progress = (struct progress){
        .source = node_ref(options->source),
        .target = node_ref(options->target),
        .owner = xasprintf("%s", options->owner),
        .bitmap_name = xasprintf("%s@%016" PRIx64, options->name, number_of(options->target)),
    };
    struct dirty_bitmap *found = find(options->source, options->name);
    err = found ? go_on(progress, found) : make_bitmap(progress, options->granularity);
    if (!err)
        err = make_helpers(progress);
    if (err) {
        progress_close(progress, false);
        return err;
    }
    dirty_bitmap_set_followed(progress->bitmap, true);
    *out = progress;
    return NULL;
}

struct dirty_bitmap *progress_bitmap(const struct progress *progress)
{
    return progress->bitmap;
}

/* What cannot be removed stays, and does no harm. */
static void remove_bitmap(struct progress *progress) CO_FN CONTROL_FN;

static void remove_bitmap(struct progress *progress)
{
    struct handle *handle;
    struct error *err = handle_enter_here(progress->source, progress->owner, &handle);
    if (!err) {
        err = node_driver(progress->source)->bitmap_remove(progress->source, progress->bitmap_name);
        handle_leave_here(handle);
    }
    if (!err)
        dirty_bitmap_destroy(steal(&progress->bitmap));
    error_free(err);
}

void progress_close(struct progress *progress, bool done)
{
    if (!progress)
        return;
    timer_destroy(progress->timer);
    if (progress->since)
        dirty_bitmap_destroy(progress->since);
    if (progress->left)
        dirty_bitmap_destroy(progress->left);
    if (progress->bitmap)
        dirty_bitmap_set_followed(progress->bitmap, false);
    if (progress->bitmap && done)
        remove_bitmap(progress);
    if (progress->bitmap)
        dirty_bitmap_set_busy(progress->bitmap, false);
    node_unref(progress->target);
    node_unref(progress->source);
    free(progress->bitmap_name);
    free(progress->owner);
    free(progress);
}

/* Checkpoints --------------------------------------------------------------------------------------------------- */

static void clock_strikes(void *arg)
{
    struct progress *progress = arg;
    progress->due = true;
    progress->due_fn(progress->due_arg);
}

void progress_start_clock(struct progress *progress, void (*due)(void *arg), void *arg)
{
    progress->due_fn = due;
    progress->due_arg = arg;
    progress->timer = timer_create_on_loop(clock_strikes, progress);
    timer_start(progress->timer, CHECKPOINT_MS);
}

bool progress_is_due(const struct progress *progress)
{
    return progress && progress->due;
}

static void wind_up(struct progress *progress)
{
    uint64_t took_ms = (loop_now_ns() - progress->begun_ns) / NS_PER_MS;
    progress->due = false;
    timer_start(progress->timer, max_u64(CHECKPOINT_MS, CHECKPOINT_SHARE * took_ms));
}

struct error *progress_begin_moment(struct progress *progress)
{
    progress->moment = true;
    return dirty_bitmap_clear(progress->since) ? NULL : error_errno(ENOMEM, "beginning to note what is written");
}

void progress_distrust(struct progress *progress)
{
    if (progress)
        progress->distrusted = true;
}

bool progress_begin_checkpoint(struct progress *progress)
{
    progress->begun_ns = loop_now_ns();
    bool wanted = !progress->distrusted && dirty_bitmap_count(progress->bitmap) > 0;
    if (wanted && (progress->moment || dirty_bitmap_clear(progress->since)) && dirty_bitmap_clear(progress->left))
        return true;
    wind_up(progress);
    return false;
}

void progress_note_left(struct progress *progress, struct range range)
{
    dirty_bitmap_mark(progress->left, range);
}

void progress_end_checkpoint(struct progress *progress, bool flushed)
{
    struct handle *handle;
    progress->distrusted |= !flushed;
    if (flushed) {
        dirty_bitmap_retain(progress->bitmap, progress->since, progress->left);
        struct error *err = handle_enter_here(progress->source, progress->owner, &handle);
        if (!err) {
            node_cool_regions(progress->source, true);
            handle_leave_here(handle);
        }
        error_free(err); /* the image has more bits than it needs */
    }
    wind_up(progress);
}
