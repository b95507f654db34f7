#include "blockcore/drivers/qcow2/bitmaps.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/bitmaps_ahead.h"
#include "blockcore/drivers/qcow2/snapshots.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define TYPE_DIRTY_TRACKING 1

/* A directory in the making. */
struct plan {
    struct qcow2_bitmap *list;
    uint32_t count;
    struct range place;
    bool *written;             /* of each entry: it has clusters of its own, which nothing leads to yet */
    struct ahead_items *ahead; /* NULL: bits are as they are now, and will not change */
};

static struct qcow2_bitmap *find_entry(const struct qcow2 *q, const char *name)
{
    for (uint32_t i = 0; i < q->bitmap_count; i++) {
        const struct qcow2_bitmap *entry = &q->bitmaps[i];
        if (strlen(name) == entry->name_bytes && memcmp(name, entry->name, entry->name_bytes) == 0)
            return &q->bitmaps[i];
    }
    return NULL;
}

/* The node's bitmap that an entry is of, if we know how to use it. */
static struct dirty_bitmap *bitmap_of(const struct qcow2 *q, const struct qcow2_bitmap *entry)
{
    struct dirty_bitmap *bitmap = entry->usable ? dirty_bitmap_find(q->node, entry->name) : NULL;
    return bitmap && dirty_bitmap_is_persistent(bitmap) ? bitmap : NULL;
}

static bool is_to_be_stored(const struct dirty_bitmap *bitmap)
{
    return dirty_bitmap_is_persistent(bitmap) && !dirty_bitmap_is_inconsistent(bitmap);
}

/* Opening ------------------------------------------------------------------------------------------------------- */

static struct error *read_directory(struct qcow2 *q) CO_FN;

static struct error *read_directory(struct qcow2 *q)
{
    struct range place = q->bitmap_directory;
    if (place.bytes == 0 || place.bytes > QCOW2_BITMAP_DIRECTORY_BYTES_MAX || in_cluster(&q->geometry, place.offset))
        return error_new("the bitmap directory of %" PRIu64 " bytes at offset %" PRIu64 " cannot be right",
                         q->header.bitmap_directory_bytes, q->header.bitmap_directory_offset);
    CLEANUP(free) void *data = try_calloc(1, place.bytes);
    if (!data)
        return error_errno(ENOMEM, "cannot read the bitmap directory");
    int ret = child_pread(q->file, place.offset, data, place.bytes);
    if (ret < 0)
        return error_errno(-ret, "cannot read the bitmap directory");
    struct error *err =
        qcow2_bitmaps_parse(data, place.bytes, q->header.bitmap_count, q->header.cluster_bits, &q->bitmaps);
    if (!err)
        q->bitmap_count = q->header.bitmap_count;
    return err;
}

struct error *qcow2_bitmaps_load(struct qcow2 *q)
{
    if (!(q->header.autoclear & QCOW2_BITMAPS))
        return NULL;
    struct error *err = read_directory(q);
    if (!err || !node_is_read_only(q->node))
        return err;
    error_free(err);
    return NULL;
}

void qcow2_bitmaps_fini(struct qcow2 *q)
{
    qcow2_ahead_end(q);
    qcow2_bitmaps_free(q->bitmaps, q->bitmap_count);
    q->bitmaps = NULL;
    q->bitmap_count = 0;
}

/* -EINVAL: what the image has cannot be right. */
static int read_bits(struct qcow2 *q, const struct qcow2_bitmap *entry, struct dirty_bitmap *bitmap) CO_FN;

static int read_bits(struct qcow2 *q, const struct qcow2_bitmap *entry, struct dirty_bitmap *bitmap)
{
    uint64_t expected = qcow2_bitmap_table_entries(q->header.size, entry->granularity_bits, q->header.cluster_bits);
    return entry->table_entries == expected ? qcow2_bitmap_read(q, entry, bitmap) : -EINVAL;
}

static struct error *make_bitmap(struct qcow2 *q, struct qcow2_bitmap *entry) CO_FN;

static struct error *make_bitmap(struct qcow2 *q, struct qcow2_bitmap *entry)
{
    struct dirty_bitmap *bitmap;
    struct error *err = dirty_bitmap_create(q->node, entry->name, UINT32_C(1) << entry->granularity_bits, &bitmap);
    if (err)
        return err;
    dirty_bitmap_set_persistent(bitmap, true);
    dirty_bitmap_set_enabled(bitmap, entry->flags & QCOW2_BITMAP_AUTO);
    int ret = entry->flags & QCOW2_BITMAP_IN_USE ? 0 : read_bits(q, entry, bitmap);
    entry->damaged = ret == -EINVAL;
    if (entry->damaged || (entry->flags & QCOW2_BITMAP_IN_USE))
        dirty_bitmap_set_inconsistent(bitmap);
    return ret < 0 && !entry->damaged ? error_errno(-ret, "cannot read bitmap '%s'", entry->name) : NULL;
}

struct error *qcow2_bitmaps_make(struct qcow2 *q)
{
    struct error *err = NULL;
    for (uint32_t i = 0; i < q->bitmap_count && !err; i++) {
        if (q->bitmaps[i].usable)
            err = make_bitmap(q, &q->bitmaps[i]);
    }
    qcow2_bitmaps_set_readonly(q, !q->writable);
    return err;
}

void qcow2_bitmaps_set_readonly(struct qcow2 *q, bool readonly)
{
    for (struct dirty_bitmap *bitmap = NULL; (bitmap = dirty_bitmap_next(q->node, bitmap));) {
        if (dirty_bitmap_is_persistent(bitmap))
            dirty_bitmap_set_readonly(bitmap, readonly);
    }
}

void qcow2_bitmaps_forget(struct qcow2 *q)
{
    qcow2_ahead_end(q);
    struct dirty_bitmap *bitmap = dirty_bitmap_next(q->node, NULL);
    while (bitmap) {
        struct dirty_bitmap *next = dirty_bitmap_next(q->node, bitmap);
        if (dirty_bitmap_is_persistent(bitmap))
            dirty_bitmap_destroy(bitmap);
        bitmap = next;
    }
}

static int store(struct qcow2 *q, bool ahead) CO_FN;

/* Writing begins ------------------------------------------------------------------------------------------------ */

static int write_directory(struct qcow2 *q, const struct plan *plan) CO_FN;

static int write_directory(struct qcow2 *q, const struct plan *plan)
{
    CLEANUP(free) void *data = try_calloc(1, plan->place.bytes);
    if (!data)
        return -ENOMEM;
    qcow2_bitmaps_format(plan->list, plan->count, data);
    return child_pwrite(q->file, plan->place.offset, data, plan->place.bytes, 0);
}

static bool is_ahead(const struct qcow2 *q, const struct qcow2_bitmap *entry)
{
    const struct dirty_bitmap *bitmap = q->ahead ? bitmap_of(q, entry) : NULL;
    return bitmap && is_to_be_stored(bitmap);
}

/* Those that record writes, and are not in use already or ahead. False: there is none. */
static bool mark_in_use(struct qcow2 *q)
{
    bool changed = false;
    for (uint32_t i = 0; i < q->bitmap_count; i++) {
        struct qcow2_bitmap *entry = &q->bitmaps[i];
        bool tracks = (entry->usable || (entry->flags & QCOW2_BITMAP_AUTO)) && !is_ahead(q, entry);
        entry->marked = tracks && !(entry->flags & QCOW2_BITMAP_IN_USE);
        if (entry->marked)
            entry->flags |= QCOW2_BITMAP_IN_USE;
        changed = changed || entry->marked;
    }
    return changed;
}

/* @marked: as they were marked, or were before. */
static void set_marks(struct qcow2 *q, bool marked)
{
    for (uint32_t i = 0; i < q->bitmap_count; i++) {
        if (q->bitmaps[i].marked && marked)
            q->bitmaps[i].flags |= QCOW2_BITMAP_IN_USE;
        else if (q->bitmaps[i].marked)
            q->bitmaps[i].flags &= ~(uint32_t)QCOW2_BITMAP_IN_USE;
    }
}

/* The flags are written where they are: each lies in one sector, and it does not matter which of them are there, as
 * long as nothing has been written that bitmaps should show. */
static int write_marks(struct qcow2 *q) CO_FN;

static int write_marks(struct qcow2 *q)
{
    const struct plan plan = { .list = q->bitmaps, .count = q->bitmap_count, .place = q->bitmap_directory };
    int ret = plan.count > 0 ? write_directory(q, &plan) : 0;
    return ret < 0 ? ret : child_flush(q->file);
}

static int begin_marked(struct qcow2 *q) CO_FN;

static int begin_marked(struct qcow2 *q)
{
    int ret = mark_in_use(q) ? write_marks(q) : 0;
    /* Whoever begins again must mark them again. */
    if (ret < 0)
        set_marks(q, false);
    return ret;
}

/* No request is in flight yet. */
static int begin_ahead(struct qcow2 *q) CO_FN;

static int begin_ahead(struct qcow2 *q)
{
    int ret = qcow2_ahead_begin(q);
    if (ret == 0)
        ret = store(q, true);
    if (ret < 0)
        qcow2_ahead_end(q);
    return ret;
}

struct error *qcow2_bitmaps_begin(struct qcow2 *q)
{
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&q->bitmap_mutex);
    q->bitmaps_stored = false;
    int ret = qcow2_ahead_wanted(q) ? begin_ahead(q) : 0;
    if (ret < 0)
        return error_errno(-ret, "cannot write the bitmaps ahead");
    ret = begin_marked(q);
    return ret < 0 ? error_errno(-ret, "cannot mark the bitmaps as in use") : NULL;
}

void qcow2_bitmaps_begin_again(struct qcow2 *q)
{
    struct error *err = q->bitmaps_stored ? qcow2_bitmaps_begin(q) : NULL;
    if (err)
        (void)qcow2_corrupt(q, range_make(0, 0), "the image cannot be written any more: %s", error_message(err));
    error_free(err);
}

struct error *qcow2_bitmap_keep(struct node *node)
{
    struct qcow2 *q = node_state(node);
    if (!q->ahead)
        return NULL;
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&q->bitmap_mutex);
    int ret = qcow2_may_write(q);
    if (ret == 0)
        ret = store(q, true);
    return ret < 0 ? error_errno(-ret, "cannot write the bitmaps of '%s' ahead", node_name(node)) : NULL;
}

bool qcow2_bitmaps_are_ahead(const struct node *node)
{
    const struct qcow2 *q = node_state((struct node *)(uintptr_t)node);
    return q->ahead;
}

static void mark_ahead_in_use(struct qcow2 *q)
{
    for (uint32_t i = 0; i < q->bitmap_count; i++) {
        if (is_ahead(q, &q->bitmaps[i]))
            q->bitmaps[i].flags |= QCOW2_BITMAP_IN_USE;
    }
}

/* What the image has of them is not enough any more, as it is said to be. */
static void give_up_ahead(struct qcow2 *q) CO_FN;

static void give_up_ahead(struct qcow2 *q)
{
    CLEANUP(co_mutex_release) struct co_mutex *ahead = qcow2_ahead_hold(q);
    qcow2_ahead_exchange(q, NULL);
    mark_ahead_in_use(q);
    if (write_marks(q) < 0)
        (void)qcow2_corrupt(q, range_make(0, 0), "its bitmaps cannot be marked as in use");
}

int qcow2_bitmaps_will_resize(struct qcow2 *q)
{
    if (!q->ahead)
        return 0;
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&q->bitmap_mutex);
    CLEANUP(co_mutex_release) struct co_mutex *ahead = qcow2_ahead_hold(q);
    mark_ahead_in_use(q);
    return write_marks(q);
}

void qcow2_bitmaps_resized(struct qcow2 *q)
{
    if (!q->ahead)
        return;
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&q->bitmap_mutex);
    if (store(q, true) < 0)
        give_up_ahead(q);
}

void qcow2_bitmaps_undo_begin(struct qcow2 *q)
{
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&q->bitmap_mutex);
    qcow2_ahead_end(q);
    bool any = false;
    for (uint32_t i = 0; i < q->bitmap_count; i++)
        any = any || q->bitmaps[i].marked;
    set_marks(q, false);
    if (any && write_marks(q) < 0)
        set_marks(q, true);
}

/* Another directory --------------------------------------------------------------------------------------------- */

/* Puts the directory into the file and lets the header lead to it. */
static int publish(struct qcow2 *q, struct plan *plan) CO_FN;

static int publish(struct qcow2 *q, struct plan *plan)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < plan->count; i++)
        bytes += qcow2_bitmap_entry_bytes(&plan->list[i]);
    if (plan->count > QCOW2_BITMAPS_MAX || bytes > QCOW2_BITMAP_DIRECTORY_BYTES_MAX)
        return -EFBIG;
    uint64_t offset;
    int ret = snapshot_alloc(q, bytes, &offset);
    if (ret < 0)
        return ret;
    plan->place = range_make(offset, bytes);
    ret = write_directory(q, plan);
    /* Refcounts of all that it leads to, and the bits. */
    if (ret == 0)
        ret = qcow2_sync(q);
    if (ret == 0)
        ret = qcow2_flush_children(q);
    if (ret == 0)
        ret = qcow2_header_set_bitmaps(q, plan->place, plan->count);
    if (ret < 0)
        qcow2_bitmap_free_place(q, plan->place);
    return ret;
}

/* The header leads to @plan; returns what it led to. */
static struct plan exchange(struct qcow2 *q, const struct plan *plan, struct range old_place)
{
    struct plan old = { .list = q->bitmaps, .count = q->bitmap_count, .place = old_place };
    q->bitmaps = plan->list;
    q->bitmap_count = plan->count;
    return old;
}

/* Writing ends -------------------------------------------------------------------------------------------------- */

static struct qcow2_bitmap new_entry(const struct dirty_bitmap *bitmap, const struct qcow2_bitmap *old)
{
    const char *name = dirty_bitmap_name(bitmap);
    struct qcow2_bitmap entry = {
        .type = TYPE_DIRTY_TRACKING,
        .name = xstrdup(name),
        .name_bytes = (uint16_t)strlen(name),
        .usable = true,
    };
    if (old) {
        qcow2_bitmap_fini(&entry);
        entry = qcow2_bitmap_copy(old);
        entry.flags &= QCOW2_BITMAP_EXTRA_COMPATIBLE;
        entry.marked = false;
        entry.damaged = false;
    }
    entry.granularity_bits = (uint8_t)__builtin_ctz(dirty_bitmap_granularity(bitmap));
    entry.flags |= dirty_bitmap_is_enabled(bitmap) ? QCOW2_BITMAP_AUTO : 0;
    return entry;
}

/* For one more entry: while others are written, clients add bitmaps. */
static void make_room(struct plan *plan)
{
    plan->list = xrealloc_array(plan->list, plan->count + 1, sizeof(*plan->list));
    plan->written = xrealloc_array(plan->written, plan->count + 1, sizeof(*plan->written));
}

static int store_bitmap(struct qcow2 *q, struct plan *plan, struct dirty_bitmap *bitmap, const struct qcow2_bitmap *old)
    CO_FN;

static int store_bitmap(struct qcow2 *q, struct plan *plan, struct dirty_bitmap *bitmap, const struct qcow2_bitmap *old)
{
    make_room(plan);
    dirty_bitmap_set_planned(bitmap, true);
    struct qcow2_bitmap *entry = &plan->list[plan->count];
    *entry = new_entry(bitmap, old);
    if (plan->ahead)
        entry->flags |= QCOW2_BITMAP_AUTO;
    int ret = plan->ahead ? qcow2_ahead_write(q, bitmap, entry, plan->ahead) : qcow2_bitmap_write(q, bitmap, entry);
    if (ret < 0)
        qcow2_bitmap_fini(entry);
    else
        plan->written[plan->count++] = true;
    return ret;
}

/* The oldest of those that are not planned yet: they are not in the image. */
static struct dirty_bitmap *oldest_new(const struct qcow2 *q)
{
    struct dirty_bitmap *oldest = NULL;
    for (struct dirty_bitmap *bitmap = NULL; (bitmap = dirty_bitmap_next(q->node, bitmap));) {
        if (is_to_be_stored(bitmap) && !dirty_bitmap_is_planned(bitmap))
            oldest = bitmap;
    }
    return oldest;
}

static void begin_plan(struct qcow2 *q)
{
    for (struct dirty_bitmap *bitmap = NULL; (bitmap = dirty_bitmap_next(q->node, bitmap));)
        dirty_bitmap_set_planned(bitmap, false);
}

/* Writes the bits of each bitmap; what is not ours stays as it is. The order stays, new ones come behind. */
static int plan_store(struct qcow2 *q, struct plan *plan) CO_FN;

static int plan_store(struct qcow2 *q, struct plan *plan)
{
    int ret = 0;
    begin_plan(q);
    for (uint32_t i = 0; i < q->bitmap_count && ret == 0; i++) {
        struct dirty_bitmap *bitmap = bitmap_of(q, &q->bitmaps[i]);
        if (bitmap && is_to_be_stored(bitmap)) {
            ret = store_bitmap(q, plan, bitmap, &q->bitmaps[i]);
            continue;
        }
        make_room(plan);
        plan->written[plan->count] = false;
        struct qcow2_bitmap *copy = &plan->list[plan->count++];
        *copy = qcow2_bitmap_copy(&q->bitmaps[i]);
        /* It was ahead, and is not in memory any more: from now on it misses writes. */
        if (q->ahead && copy->usable)
            copy->flags |= QCOW2_BITMAP_IN_USE;
    }
    struct dirty_bitmap *bitmap;
    while (ret == 0 && (bitmap = oldest_new(q)))
        ret = store_bitmap(q, plan, bitmap, NULL);
    return ret;
}

/* Clusters of those that were written anew, and of the directory itself. */
static void give_up_old(struct qcow2 *q, const struct plan *old) CO_FN;

static void give_up_old(struct qcow2 *q, const struct plan *old)
{
    for (uint32_t i = 0; i < old->count; i++) {
        const struct dirty_bitmap *bitmap = bitmap_of(q, &old->list[i]);
        if (bitmap && is_to_be_stored(bitmap))
            qcow2_bitmap_give_up(q, &old->list[i]);
    }
    qcow2_bitmap_free_place(q, old->place);
}

static uint32_t count_to_store(const struct qcow2 *q)
{
    uint32_t count = 0;
    for (struct dirty_bitmap *bitmap = NULL; (bitmap = dirty_bitmap_next(q->node, bitmap));)
        count += is_to_be_stored(bitmap);
    return count;
}

/* @ahead: requests may be in flight, and bits are written where they are from then on. */
static int store(struct qcow2 *q, bool ahead)
{
    struct range old_place = q->bitmap_directory;
    if (count_to_store(q) == 0)
        return 0;
    CLEANUP(co_mutex_release) struct co_mutex *held = qcow2_ahead_hold(q);
    struct plan plan = { .ahead = ahead ? ahead_items_create() : NULL };
    int ret = plan_store(q, &plan);
    if (ret == 0)
        ret = publish(q, &plan);
    if (ret < 0) {
        for (uint32_t i = 0; i < plan.count; i++) {
            if (plan.written[i])
                qcow2_bitmap_give_up(q, &plan.list[i]);
        }
        qcow2_bitmaps_free(plan.list, plan.count);
        ahead_items_free(plan.ahead);
        free(plan.written);
        return ret;
    }
    free(plan.written);
    struct plan old = exchange(q, &plan, old_place);
    if (q->ahead)
        qcow2_ahead_exchange(q, plan.ahead);
    give_up_old(q, &old);
    qcow2_bitmaps_free(old.list, old.count);
    q->bitmaps_stored = !ahead;
    return 0;
}

struct error *qcow2_bitmaps_store(struct qcow2 *q)
{
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&q->bitmap_mutex);
    if (q->bitmaps_stored || qcow2_may_write(q) < 0 || count_to_store(q) == 0)
        return NULL;
    int ret = store(q, false);
    if (ret == 0)
        qcow2_ahead_end(q);
    return ret < 0 ? error_errno(-ret, "the dirty bitmaps cannot be stored") : NULL;
}

/* Removing ------------------------------------------------------------------------------------------------------ */

static int remove_entry(struct qcow2 *q, const struct qcow2_bitmap *gone) CO_FN;

static int remove_entry(struct qcow2 *q, const struct qcow2_bitmap *gone)
{
    struct range old_place = q->bitmap_directory;
    struct plan plan = { .list = xcalloc(q->bitmap_count, sizeof(struct qcow2_bitmap)) };
    for (uint32_t i = 0; i < q->bitmap_count; i++) {
        if (&q->bitmaps[i] != gone)
            plan.list[plan.count++] = qcow2_bitmap_copy(&q->bitmaps[i]);
    }
    int ret = plan.count ? publish(q, &plan) : qcow2_header_drop_bitmaps(q);
    if (ret < 0) {
        qcow2_bitmaps_free(plan.list, plan.count);
        return ret;
    }
    struct plan old = exchange(q, &plan, old_place);
    qcow2_bitmap_give_up(q, gone);
    qcow2_bitmap_free_place(q, old.place);
    qcow2_bitmaps_free(old.list, old.count);
    return 0;
}

struct error *qcow2_bitmap_remove(struct node *node, const char *name)
{
    struct qcow2 *q = node_state(node);
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&q->bitmap_mutex);
    const struct qcow2_bitmap *entry = find_entry(q, name);
    if (!entry)
        return NULL;
    CLEANUP(co_mutex_release) struct co_mutex *ahead = qcow2_ahead_hold(q);
    int ret = qcow2_may_write(q);
    if (ret == 0)
        ret = remove_entry(q, entry);
    if (ret == 0)
        qcow2_ahead_forget(q, name);
    return ret < 0 ? error_errno(-ret, "cannot remove bitmap '%s' from '%s'", name, node_name(node)) : NULL;
}

/* Limits -------------------------------------------------------------------------------------------------------- */

static bool fits(const struct qcow2 *q, uint64_t disk_bytes, uint32_t granularity)
{
    uint32_t bits = (uint32_t)__builtin_ctz(granularity);
    return qcow2_bitmap_table_entries(disk_bytes, bits, q->header.cluster_bits) << q->header.cluster_bits <=
           QCOW2_BITMAP_BYTES_MAX;
}

/* QEMU does not open an image of a disk of 0 bytes with a bitmap that is not in use: it wants a table, and none. */
static bool can_have_bitmaps(uint64_t disk_bytes)
{
    return disk_bytes > 0;
}

int qcow2_bitmaps_check_resize(struct qcow2 *q, uint64_t bytes)
{
    for (uint32_t i = 0; i < q->bitmap_count; i++) {
        if (!q->bitmaps[i].usable && !(q->bitmaps[i].flags & QCOW2_BITMAP_IN_USE))
            return -ENOTSUP;
    }
    for (struct dirty_bitmap *bitmap = NULL; (bitmap = dirty_bitmap_next(q->node, bitmap));) {
        if (is_to_be_stored(bitmap) && !can_have_bitmaps(bytes))
            return -ENOTSUP;
        if (is_to_be_stored(bitmap) && !fits(q, bytes, dirty_bitmap_granularity(bitmap)))
            return -EFBIG;
    }
    return 0;
}

static struct error *check_room(const struct qcow2 *q, const char *name)
{
    uint64_t count = q->bitmap_count + 1;
    uint64_t bytes = QCOW2_BITMAP_ENTRY_BYTES + strlen(name) + 8;
    for (uint32_t i = 0; i < q->bitmap_count; i++)
        bytes += qcow2_bitmap_entry_bytes(&q->bitmaps[i]);
    for (struct dirty_bitmap *bitmap = NULL; (bitmap = dirty_bitmap_next(q->node, bitmap));) {
        if (!dirty_bitmap_is_persistent(bitmap) || find_entry(q, dirty_bitmap_name(bitmap)))
            continue;
        count++;
        bytes += QCOW2_BITMAP_ENTRY_BYTES + strlen(dirty_bitmap_name(bitmap)) + 8;
    }
    if (count > QCOW2_BITMAPS_MAX)
        return error_new("Maximum number of persistent bitmaps is already reached");
    if (bytes > QCOW2_BITMAP_DIRECTORY_BYTES_MAX)
        return error_new("Not enough space in the bitmap directory");
    return NULL;
}

struct error *qcow2_bitmap_check(struct node *node, const char *name, uint32_t granularity)
{
    const struct qcow2 *q = node_state(node);
    if (q->geometry.version < 3)
        return error_new("Cannot store dirty bitmaps in qcow2 v2 files");
    if (!q->writable)
        return error_new("the image is open for reading only");
    if (strlen(name) > QCOW2_BITMAP_NAME_MAX)
        return error_new("Name length exceeds maximum (%d characters)", QCOW2_BITMAP_NAME_MAX);
    if (find_entry(q, name))
        return error_new("the image has a bitmap of that name already");
    if (!can_have_bitmaps(q->header.size))
        return error_new("a disk of 0 bytes cannot have one in its image");
    if (!qcow2_header_has_room_for_bitmaps(&q->header))
        return error_new("the header of the image, a cluster of %" PRIu64 " bytes, has no room left",
                         cluster_bytes(&q->geometry));
    if (!fits(q, q->header.size, granularity))
        return error_new("Too much space will be occupied by the bitmap. Use larger granularity");
    return check_room(q, name);
}

/* Telling ------------------------------------------------------------------------------------------------------- */

static void describe_flags(const struct qcow2_bitmap *entry, struct qcow2_bitmap_info *info, struct arena *arena)
{
    enum qcow2_bitmap_info_flags *flags = arena_array(arena, 2, sizeof(*flags));
    if (entry->flags & QCOW2_BITMAP_IN_USE)
        flags[info->flags_count++] = QCOW2_BITMAP_INFO_FLAGS_IN_USE;
    if (entry->flags & QCOW2_BITMAP_AUTO)
        flags[info->flags_count++] = QCOW2_BITMAP_INFO_FLAGS_AUTO;
    info->flags = flags;
}

void qcow2_describe_bitmaps(const struct qcow2 *q, struct image_info_specific_q_cow2 *own, struct arena *arena)
{
    if (q->bitmap_count == 0)
        return;
    struct qcow2_bitmap_info *list = arena_array(arena, q->bitmap_count, sizeof(*list));
    size_t count = 0;
    for (uint32_t i = 0; i < q->bitmap_count; i++) {
        const struct qcow2_bitmap *entry = &q->bitmaps[i];
        if (!entry->usable)
            continue;
        struct qcow2_bitmap_info *info = &list[count++];
        info->name = arena_strdup(arena, entry->name);
        info->granularity = UINT32_C(1) << entry->granularity_bits;
        describe_flags(entry, info, arena);
    }
    own->has_bitmaps = true;
    own->bitmaps = list;
    own->bitmaps_count = count;
}
