/* Making, deleting and applying internal snapshots.
 *
 * Each operation ends with one sector of the header, before which the image is as it was, and after which it is as it
 * shall be; what the header leads to is stable before. Around that, references are counted:
 *
 *     create   COPIED flags go | count up all that the active state leads to | header: table with the snapshot
 *     delete   header: table without it | count down what it led to | COPIED flags come back
 *     apply    COPIED flags in its tables go | count up all that it leads to | header: its L1 table, copied
 *              | count down what was active before | COPIED flags come back
 *
 * What stands between two bars is stable before the next. So at every moment counts are right or too high, and a COPIED
 * flag stands only beside a count of one. When the power goes between, clusters are leaked, and COPIED flags may be
 * missing: harmless, but not as it should be. Therefore images of version 3 are marked as dirty meanwhile, and whoever
 * opens them next for writing counts anew; version 2 has no mark, and is as it should be after a check. The mark stays
 * as well when a step fails that nothing else mends.
 *
 * The node is drained: no request is in flight, so L2 tables may be changed in place, and what is given up is free as
 * soon as nothing on disk leads there. */
#include "blockcore/drivers/qcow2/snapshots.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/bitmaps.h"
#include "blockcore/drivers/qcow2/crypt.h"
#include "blockcore/drivers/qcow2/refcount_field.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXTRA_BYTES 24 /* length of the machine's state, of the disk, and an instruction count */
#define EXTRA_ICOUNT 16

/* The mark ------------------------------------------------------------------------------------------------------ */

/* An operation under way. */
struct operation {
    struct qcow2 *q;
    bool marked;   /* by this operation, so that it takes the mark away */
    bool unmended; /* a step failed, and so did taking it back: the mark stays */
};

/* Everything that was done before is in the file, and stable. */
static int write_back(struct qcow2 *q)
{
    int ret = qcow2_reclaim(q);
    return ret < 0 ? ret : qcow2_flush_children(q);
}

static int operation_begin(struct qcow2 *q, struct operation *operation)
{
    *operation = (struct operation){ .q = q };
    int ret = write_back(q);
    if (ret < 0 || q->geometry.version < 3 || (q->header.incompatible & QCOW2_DIRTY))
        return ret;
    ret = qcow2_set_features(q, QCOW2_DIRTY, 0);
    /* With lazy refcounts all that is counted here stays in memory until the image is closed, and so does the mark. */
    q->marked_late = ret == 0 && q->lazy_refcounts;
    operation->marked = !q->marked_late;
    return ret;
}

/* @ret: of the steps so far, which becomes the result. Only what is as it should be loses its mark. */
static int operation_end(struct operation *operation, int ret)
{
    struct qcow2 *q = operation->q;
    if (operation->unmended) {
        q->marked_late = false; /* closing the image does not mend it */
        return ret;
    }
    int ended = write_back(q);
    if (ended == 0 && operation->marked)
        ended = qcow2_set_features(q, 0, QCOW2_DIRTY);
    return ret < 0 ? ret : ended;
}

/* Counting ------------------------------------------------------------------------------------------------------ */

static int count_up(struct qcow2 *q, struct range host, bool is_table, void *arg)
{
    (void)is_table;
    uint64_t *visits = arg;
    co_mutex_lock(&q->metadata);
    int ret = refcount_retain(q, host);
    co_mutex_unlock(&q->metadata);
    *visits += ret == 0;
    return ret;
}

/* Takes the first *visits of these steps back; 1 when that is done. */
static int count_back(struct qcow2 *q, struct range host, bool is_table, void *arg)
{
    (void)is_table;
    uint64_t *visits = arg;
    if (*visits == 0)
        return 1;
    --*visits;
    co_mutex_lock(&q->metadata);
    int ret = refcount_release(q, host);
    co_mutex_unlock(&q->metadata);
    return ret;
}

static int count_down(struct qcow2 *q, struct range host, bool is_table, void *arg)
{
    (void)arg;
    co_mutex_lock(&q->metadata);
    freed_add(q, host, is_table ? FREED_L2_TABLE : FREED_BY_SNAPSHOT);
    co_mutex_unlock(&q->metadata);
    return qcow2_reclaim_if_crowded(q);
}

/* After COPIED flags have gone. All or nothing: what cannot be taken back is leaked, and stays marked. */
static int share(struct qcow2 *q, const uint64_t *l1, uint32_t l1_entries, uint64_t *visits)
{
    int ret = write_back(q);
    return ret < 0 ? ret : census_visit(q, l1, l1_entries, count_up, visits);
}

static int share_no_more(struct qcow2 *q, const uint64_t *l1, uint32_t l1_entries, uint64_t visits)
{
    int ret = census_visit(q, l1, l1_entries, count_back, &visits);
    if (ret >= 0)
        ret = write_back(q);
    if (ret >= 0)
        ret = census_refresh_copied(q);
    return ret;
}

static void give_up_l1(struct qcow2 *q, uint64_t offset, uint32_t entries)
{
    struct range place = range_make(offset, entries * sizeof(uint64_t));
    co_mutex_lock(&q->metadata);
    if (place.bytes > 0)
        freed_add(q, range_align_out(place, cluster_bytes(&q->geometry)), FREED_OTHERWISE);
    co_mutex_unlock(&q->metadata);
}

/* A copy of an L1 table in clusters of its own. What it leads to is shared, so no entry is COPIED. */
static int write_l1_copy(struct qcow2 *q, const uint64_t *l1, uint32_t entries, uint64_t *offset)
{
    size_t bytes = entries * sizeof(uint64_t);
    *offset = 0;
    if (entries == 0)
        return 0;
    CLEANUP(free) uint8_t *data = try_calloc(1, bytes);
    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < entries; i++)
        store_be64(data + i * sizeof(uint64_t), entry_offset(l1[i]));
    int ret = snapshot_alloc(q, bytes, offset);
    if (ret < 0)
        return ret;
    child_debug_event(q->file, "l1_update");
    ret = child_pwrite(q->file, *offset, data, bytes, 0);
    if (ret < 0)
        give_up_l1(q, *offset, entries);
    return ret;
}

/* Create -------------------------------------------------------------------------------------------------------- */

static struct qcow2_snapshot *find(const struct qcow2 *q, const char *id, const char *name)
{
    for (uint32_t i = 0; i < q->header.snapshot_count; i++) {
        struct qcow2_snapshot *snapshot = &q->snapshots[i];
        if ((!id || strcmp(snapshot->id, id) == 0) && (!name || strcmp(snapshot->name, name) == 0))
            return snapshot;
    }
    return NULL;
}

static struct error *not_found(const struct qcow2 *q, const char *id, const char *name)
{
    return error_new("Snapshot with id '%s' and name '%s' does not exist on device '%s'", id ? id : "null",
                     name ? name : "null", node_name(q->node));
}

/* A number that no snapshot has for its id. */
static char *next_id(const struct qcow2 *q)
{
    unsigned long long last = 0;
    for (uint32_t i = 0; i < q->header.snapshot_count; i++) {
        unsigned long long id = strtoull(q->snapshots[i].id, NULL, 10);
        if (id > last && id < ULLONG_MAX)
            last = id;
    }
    return xasprintf("%llu", last + 1);
}

static struct qcow2_snapshot snapshot_of_now(const struct qcow2 *q, const char *name)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct qcow2_snapshot snapshot = {
        .l1_entries = q->l1_entries,
        .id = next_id(q),
        .name = xstrdup(name),
        .date_sec = (uint32_t)now.tv_sec,
        .date_nsec = (uint32_t)now.tv_nsec,
        .has_disk_bytes = true,
        .disk_bytes = q->header.size,
        .extra = xcalloc(1, EXTRA_BYTES),
        .extra_bytes = EXTRA_BYTES,
    };
    store_be64(snapshot.extra + EXTRA_ICOUNT, UINT64_MAX); /* none */
    return snapshot;
}

static struct qcow2_snapshot copy_of(const struct qcow2_snapshot *snapshot)
{
    struct qcow2_snapshot copy = *snapshot;
    copy.id = xstrdup(snapshot->id);
    copy.name = xstrdup(snapshot->name);
    copy.extra = xcalloc(1, snapshot->extra_bytes + 1);
    memcpy(copy.extra, snapshot->extra, snapshot->extra_bytes);
    return copy;
}

/* The list without @gone (or all of it), with room for one more. */
static struct qcow2_snapshot *copy_list(const struct qcow2 *q, const struct qcow2_snapshot *gone, uint32_t *count)
{
    struct qcow2_snapshot *list = xcalloc(q->header.snapshot_count + 1, sizeof(*list));
    *count = 0;
    for (uint32_t i = 0; i < q->header.snapshot_count; i++) {
        if (&q->snapshots[i] != gone)
            list[(*count)++] = copy_of(&q->snapshots[i]);
    }
    return list;
}

static int replace_list(struct qcow2 *q, struct qcow2_snapshot *list, uint32_t count)
{
    int ret = snapshot_table_replace(q, list, count);
    if (ret < 0)
        snapshot_list_free(list, count);
    return ret;
}

static int add_to_table(struct qcow2 *q, const char *name)
{
    struct qcow2_snapshot snapshot = snapshot_of_now(q, name);
    int ret = write_l1_copy(q, q->l1, q->l1_entries, &snapshot.l1_offset);
    if (ret < 0) {
        qcow2_snapshot_fini(&snapshot);
        return ret;
    }
    uint32_t count;
    struct qcow2_snapshot *list = copy_list(q, NULL, &count);
    uint64_t l1_offset = snapshot.l1_offset;
    list[count++] = snapshot;
    ret = replace_list(q, list, count);
    if (ret < 0)
        give_up_l1(q, l1_offset, q->l1_entries);
    return ret;
}

static int make_snapshot(struct operation *operation, const char *name)
{
    struct qcow2 *q = operation->q;
    uint64_t visits = 0;
    int ret = census_clear_copied(q);
    if (ret == 0)
        ret = share(q, q->l1, q->l1_entries, &visits);
    if (ret == 0)
        ret = add_to_table(q, name);
    if (ret < 0)
        operation->unmended = share_no_more(q, q->l1, q->l1_entries, visits) < 0;
    return ret;
}

static struct error *check_possible(const struct qcow2 *q)
{
    int ret = qcow2_may_write(q);
    if (ret < 0)
        return error_errno(-ret, "node '%s' cannot be written", node_name(q->node));
    if (q->geometry.data_file)
        return error_new("images with an external data file have no internal snapshots");
    return NULL;
}

static struct error *check_new(const struct qcow2 *q, const char *name)
{
    if (find(q, NULL, name))
        return error_new("Snapshot with name '%s' already exists on device '%s'", name, node_name(q->node));
    if (strlen(name) > UINT16_MAX)
        return error_new("the name of a snapshot has at most %u bytes", UINT16_MAX);
    if (q->header.snapshot_count >= QCOW2_SNAPSHOTS_MAX)
        return error_new("an image has at most %u snapshots", QCOW2_SNAPSHOTS_MAX);
    return NULL;
}

/* To create or to apply one, which both share all clusters of a state. */
static struct error *failed(const struct qcow2 *q, int ret, const char *what, const char *name)
{
    if (ret == -ERANGE)
        return error_new("cannot %s snapshot '%s' of node '%s': refcounts of %u bits count to %" PRIu64
                         " only, so no cluster can be shared once more",
                         what, name, node_name(q->node), 1u << q->geometry.refcount_order,
                         refcount_max(q->geometry.refcount_order));
    return error_errno(-ret, "cannot %s snapshot '%s' of node '%s'", what, name, node_name(q->node));
}

struct error *qcow2_snapshot_create(struct node *node, const char *name)
{
    struct qcow2 *q = node_state(node);
    struct error *err = check_possible(q);
    if (!err)
        err = check_new(q, name);
    if (err)
        return err;
    struct operation operation;
    int ret = operation_begin(q, &operation);
    if (ret == 0) {
        ret = make_snapshot(&operation, name);
        ret = operation_end(&operation, ret);
    }
    if (ret < 0)
        return failed(q, ret, "create", name);
    return snapshot_table_remember(q);
}

/* Delete -------------------------------------------------------------------------------------------------------- */

/* Nothing leads to the snapshot any more; what it led to is free, or belongs to the active state alone. */
static int drop_state(struct qcow2 *q, const struct qcow2_snapshot *gone, const uint64_t *l1)
{
    int ret = census_visit(q, l1, gone->l1_entries, count_down, NULL);
    if (ret == 0) {
        give_up_l1(q, gone->l1_offset, gone->l1_entries);
        ret = write_back(q);
    }
    return ret < 0 ? ret : census_refresh_copied(q);
}

static int remove_snapshot(struct qcow2 *q, const struct qcow2_snapshot *snapshot, const uint64_t *l1)
{
    struct operation operation;
    int ret = operation_begin(q, &operation);
    if (ret < 0)
        return ret;
    uint32_t count;
    struct qcow2_snapshot gone = copy_of(snapshot);
    struct qcow2_snapshot *list = copy_list(q, snapshot, &count);
    ret = replace_list(q, list, count);
    if (ret == 0) {
        ret = drop_state(q, &gone, l1);
        operation.unmended = ret < 0;
    }
    ret = operation_end(&operation, ret);
    qcow2_snapshot_fini(&gone);
    return ret;
}

struct error *qcow2_snapshot_delete(struct node *node, const char *id, const char *name, struct arena *arena,
                                    struct snapshot_info *deleted)
{
    struct qcow2 *q = node_state(node);
    struct error *err = check_possible(q);
    if (err)
        return err;
    struct qcow2_snapshot *snapshot = find(q, id, name);
    if (!snapshot)
        return not_found(q, id, name);
    *deleted = snapshot_describe(snapshot, arena);
    CLEANUP(free) uint64_t *l1 = NULL;
    err = snapshot_load_l1(q, snapshot, &l1);
    if (err)
        return err;
    int ret = remove_snapshot(q, snapshot, l1);
    if (ret < 0)
        return error_errno(-ret, "cannot delete snapshot '%s' of node '%s'", deleted->name, node_name(node));
    return snapshot_table_remember(q);
}

/* Apply --------------------------------------------------------------------------------------------------------- */

/* The state that shall be the active one. */
struct state {
    uint64_t *l1;
    uint32_t l1_entries;
    uint64_t l1_offset;
    uint64_t disk_bytes;
};

static struct error *load_state(struct qcow2 *q, const struct qcow2_snapshot *snapshot, struct state *state)
{
    uint64_t bytes = snapshot->has_disk_bytes ? snapshot->disk_bytes : q->header.size;
    uint64_t needed = qcow2_l1_entries_for(&q->header, bytes);
    if (bytes > INT64_MAX || needed > QCOW2_L1_BYTES_MAX / sizeof(uint64_t))
        return error_new("snapshot '%s' says that the disk had %" PRIu64 " bytes, which cannot be", snapshot->name,
                         bytes);
    if (q->crypt && bytes % CIPHER_SECTOR_BYTES)
        return error_new("snapshot '%s' says that the disk ended inside a sector, which it cannot when it is encrypted",
                         snapshot->name);
    int ret = bytes == q->header.size ? 0 : qcow2_bitmaps_check_resize(q, bytes);
    if (ret < 0)
        return error_errno(-ret, "the dirty bitmaps of the image cannot get the length that it had in snapshot '%s'",
                           snapshot->name);
    CLEANUP(free) uint64_t *l1 = NULL;
    struct error *err = snapshot_load_l1(q, snapshot, &l1);
    if (err)
        return err;
    *state = (struct state){ .l1_entries = (uint32_t)max_u64(needed, snapshot->l1_entries), .disk_bytes = bytes };
    state->l1 = try_calloc(max_u64(state->l1_entries, 1), sizeof(uint64_t));
    if (!state->l1)
        return error_errno(ENOMEM, "cannot apply snapshot '%s'", snapshot->name);
    for (uint32_t i = 0; i < snapshot->l1_entries; i++)
        state->l1[i] = entry_offset(l1[i]);
    return NULL;
}

/* Size and L1 table lie in one sector, with the encryption between them. */
static int write_state_fields(struct qcow2 *q, uint64_t disk_bytes, uint32_t l1_entries, uint64_t l1_offset)
{
    CLEANUP(co_mutex_release) struct co_mutex *header = co_mutex_hold(&q->header_mutex);
    uint8_t fields[24];
    store_be64(fields, disk_bytes);
    store_be32(fields + 8, q->header.crypt_method);
    store_be32(fields + 12, l1_entries);
    store_be64(fields + 16, l1_offset);
    int ret = child_pwrite(q->file, QCOW2_FIELD_SIZE, fields, sizeof(fields), 0);
    return ret < 0 ? ret : child_flush(q->file);
}

/* The header may lead to either state when writing it fails. Only with the old one can this go on. */
static int switch_state_on_disk(struct qcow2 *q, const struct state *state)
{
    int ret = write_back(q);
    if (ret == 0)
        ret = write_state_fields(q, state->disk_bytes, state->l1_entries, state->l1_offset);
    if (ret < 0 && write_state_fields(q, q->header.size, q->header.l1_entries, q->header.l1_offset) < 0)
        q->corrupt = true;
    return ret;
}

/* *@state becomes the state that was active before. */
static void exchange_state(struct qcow2 *q, struct state *state)
{
    struct state old = { q->l1, q->l1_entries, q->header.l1_offset, q->header.size };
    spinlock_lock(&q->l2.lock);
    q->l1 = state->l1;
    q->l1_entries = state->l1_entries;
    q->header.l1_offset = state->l1_offset;
    q->header.l1_entries = state->l1_entries;
    q->header.size = state->disk_bytes;
    cluster_set_remove_kinds(&q->tables, TABLE_BIT(TABLE_ACTIVE_L2));
    spinlock_unlock(&q->l2.lock);
    node_set_length(q->node, state->disk_bytes);
    *state = old;
}

static int make_active(struct operation *operation, struct state *state)
{
    struct qcow2 *q = operation->q;
    uint64_t visits = 0;
    int ret = census_clear_copied_in(q, state->l1, state->l1_entries);
    if (ret == 0)
        ret = share(q, state->l1, state->l1_entries, &visits);
    if (ret == 0)
        ret = write_l1_copy(q, state->l1, state->l1_entries, &state->l1_offset);
    if (ret == 0) {
        ret = switch_state_on_disk(q, state);
        if (ret < 0)
            give_up_l1(q, state->l1_offset, state->l1_entries);
    }
    if (ret < 0)
        operation->unmended = share_no_more(q, state->l1, state->l1_entries, visits) < 0;
    else
        exchange_state(q, state);
    return ret;
}

static int drop_old_state(struct qcow2 *q, const struct state *old)
{
    struct error *err = qcow2_remember_tables(q, q->l1, q->l1_entries, TABLE_ACTIVE_L2);
    if (err) {
        error_free(err);
        return -ENOMEM;
    }
    int ret = census_visit(q, old->l1, old->l1_entries, count_down, NULL);
    if (ret == 0) {
        give_up_l1(q, old->l1_offset, old->l1_entries);
        ret = write_back(q);
    }
    return ret < 0 ? ret : census_refresh_copied(q);
}

static int apply_state(struct qcow2 *q, struct state *state)
{
    struct operation operation;
    int ret = operation_begin(q, &operation);
    if (ret < 0)
        return ret;
    ret = make_active(&operation, state);
    if (ret == 0) {
        ret = drop_old_state(q, state);
        operation.unmended = ret < 0;
    }
    return operation_end(&operation, ret);
}

/* Behind the end that the disk has lies what it showed then, which no bitmap in the image tells of. */
static int apply_state_of_any_length(struct qcow2 *q, struct state *state)
{
    if (state->disk_bytes == q->header.size)
        return apply_state(q, state);
    int ret = qcow2_bitmaps_will_resize(q);
    if (ret == 0)
        ret = apply_state(q, state);
    qcow2_bitmaps_resized(q);
    return ret;
}

struct error *qcow2_snapshot_apply(struct node *node, const char *id, const char *name)
{
    struct qcow2 *q = node_state(node);
    struct error *err = check_possible(q);
    if (err)
        return err;
    const struct qcow2_snapshot *snapshot = find(q, id, name);
    if (!snapshot)
        return not_found(q, id, name);
    struct state state = { 0 };
    err = load_state(q, snapshot, &state);
    int ret = err ? 0 : apply_state_of_any_length(q, &state);
    free(state.l1);
    if (ret < 0)
        return failed(q, ret, "apply", snapshot->name);
    return err;
}

/* Telling ------------------------------------------------------------------------------------------------------- */

struct snapshot_info snapshot_describe(const struct qcow2_snapshot *snapshot, struct arena *arena)
{
    uint64_t icount = snapshot->extra_bytes >= EXTRA_BYTES ? load_be64(snapshot->extra + EXTRA_ICOUNT) : UINT64_MAX;
    return (struct snapshot_info){
        .id = arena_strdup(arena, snapshot->id),
        .name = arena_strdup(arena, snapshot->name),
        .vm_state_size = (int64_t)snapshot->vm_state_bytes,
        .date_sec = snapshot->date_sec,
        .date_nsec = snapshot->date_nsec,
        .vm_clock_sec = (int64_t)(snapshot->vm_clock_nsec / 1000000000),
        .vm_clock_nsec = (int64_t)(snapshot->vm_clock_nsec % 1000000000),
        .has_icount = icount != UINT64_MAX,
        .icount = icount != UINT64_MAX ? (int64_t)icount : 0,
    };
}

void qcow2_describe_snapshots(struct qcow2 *q, struct image_info *info, struct arena *arena)
{
    uint32_t count = q->header.snapshot_count;
    if (count == 0)
        return;
    struct snapshot_info *list = arena_array(arena, count, sizeof(*list));
    spinlock_lock(&q->snapshots_lock);
    for (uint32_t i = 0; i < count; i++)
        list[i] = snapshot_describe(&q->snapshots[i], arena);
    spinlock_unlock(&q->snapshots_lock);
    info->has_snapshots = true;
    info->snapshots = list;
    info->snapshots_count = count;
}
