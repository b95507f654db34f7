#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/drivers/qcow2/bitmaps.h"
#include "blockcore/drivers/qcow2/snapshots.h"
#include "blockcore/graph/notice.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/loop.h"
#include "schema/cairn_types.h"

#include <errno.h>

int qcow2_may_write(const struct qcow2 *q)
{
    if (unlikely(!q->writable))
        return -EACCES;
    return likely(!atomic_load_explicit(&q->corrupt, memory_order_relaxed)) ? 0 : -EIO;
}

static int qcow2_flush(struct node *node)
{
    struct qcow2 *q = node_state(node);
    return q->writable ? qcow2_sync(q) : 0;
}

/* Opening ----------------------------------------------------------------------------------------------------- */

static struct error *read_header(struct qcow2 *q)
{
    uint8_t start[QCOW2_V2_HEADER_BYTES] = { 0 };
    uint64_t length = child_length(q->file);
    size_t bytes = (size_t)min_u64(length, sizeof(start));
    int ret = child_pread(q->file, 0, start, bytes);
    if (ret < 0)
        return error_errno(-ret, "cannot read the header");
    size_t whole;
    struct error *err = qcow2_header_measure(start, bytes, &whole);
    if (err)
        return err;
    bytes = (size_t)min_u64(length, whole);
    uint8_t *cluster = buffer_get(bytes);
    if (!cluster)
        return error_errno(ENOMEM, "cannot read the header");
    ret = child_pread(q->file, 0, cluster, bytes);
    err = ret < 0 ? error_errno(-ret, "cannot read the header") : qcow2_header_parse(cluster, bytes, &q->header);
    buffer_put(cluster, bytes);
    return err;
}

struct error *qcow2_check_writable(const struct qcow2 *q)
{
    if (q->header.incompatible & QCOW2_CORRUPT)
        return error_new("the image is marked as corrupt and can only be opened read-only; "
                         "blockdev-check may repair it");
    if (q->tables_overlap)
        return error_new("tables of the image overlap each other: it is damaged and can only be opened read-only");
    return NULL;
}

/* Whoever writes must first take back what the image promises beyond what the writer keeps up: all autoclear features
 * that are unknown. Of bitmaps it promises no more than that their directory is kept up. */
struct error *qcow2_clear_promises(struct qcow2 *q)
{
    uint64_t kept = q->header.autoclear & (QCOW2_BITMAPS | (q->raw_data ? QCOW2_DATA_FILE_RAW : 0));
    if (q->header.autoclear == kept)
        return NULL;
    uint8_t field[8];
    store_be64(field, kept);
    int ret = child_pwrite(q->file, QCOW2_FIELD_AUTOCLEAR, field, sizeof(field), 0);
    if (ret == 0)
        ret = child_flush(q->file);
    if (ret < 0)
        return error_errno(-ret, "cannot update the header");
    q->header.autoclear = kept;
    return NULL;
}

struct error *qcow2_enter_writing(struct qcow2 *q)
{
    struct error *err = qcow2_check_writable(q);
    if (!err)
        err = qcow2_clear_promises(q);
    return err ? err : qcow2_repair_dirty(q);
}

static void clean_caches(void *arg)
{
    struct qcow2 *q = arg;
    table_cache_clean(&q->l2);
    table_cache_clean(&q->refblocks);
    timer_start(q->cache_timer, q->cache_clean_ms);
}

void qcow2_start_cache_timer(struct qcow2 *q)
{
    timer_destroy(steal(&q->cache_timer));
    if (q->cache_clean_ms == 0)
        return;
    q->cache_timer = timer_create_on_loop(clean_caches, q);
    timer_start(q->cache_timer, q->cache_clean_ms);
}

static void state_init(struct qcow2 *q, struct node *node)
{
    q->node = node;
    spinlock_init(&q->snapshots_lock);
    co_mutex_init(&q->bitmap_mutex);
    co_mutex_init(&q->sync_mutex);
    co_mutex_init(&q->metadata);
    co_mutex_init(&q->header_mutex);
    list_init(&q->in_flight);
    q->lane_count = loop_io_count() + 1;
    q->lanes = try_aligned_alloc(_Alignof(struct lane), q->lane_count * sizeof(struct lane));
    for (unsigned i = 0; q->lanes && i < q->lane_count; i++)
        q->lanes[i] = (struct lane){ 0 };
}

static void state_fini(struct qcow2 *q)
{
    timer_destroy(q->cache_timer);
    if (q->l2.table_bytes) {
        table_cache_fini(&q->l2);
        table_cache_fini(&q->refblocks);
    }
    freed_fini(q);
    snapshot_table_fini(q);
    qcow2_bitmaps_fini(q);
    qcow2_crypt_close(q);
    cluster_set_fini(&q->tables);
    qcow2_header_fini(&q->header);
    free(q->l1);
    free(q->reftable);
    free(q->lanes);
    co_mutex_fini(&q->header_mutex);
    co_mutex_fini(&q->metadata);
    co_mutex_fini(&q->sync_mutex);
    co_mutex_fini(&q->bitmap_mutex);
}

static void set_limits(struct qcow2 *q)
{
    struct node_limits *limits = node_limits_mutable(q->node);
    if (q->crypt)
        limits->request_alignment = CIPHER_SECTOR_BYTES;
    limits->optimal_transfer = cluster_bytes(&q->geometry);
    limits->discard_granularity = (uint32_t)unit_bytes(&q->geometry);
    limits->zero_granularity = (uint32_t)unit_bytes(&q->geometry);
}

static struct error *load(struct qcow2 *q, const struct blockdev_options *options)
{
    if (!q->lanes)
        return error_errno(ENOMEM, "cannot open the image");
    struct error *err = read_header(q);
    if (err)
        return err;
    q->geometry = geometry_of(&q->header);
    q->write_ahead = options->u.qcow2.write_ahead_bitmaps;
    err = qcow2_apply_options(q, options);
    return err ? err : qcow2_load_tables(q);
}

/* Neither read-only nor in the hands of another host. */
static bool may_be_written(const struct node *node)
{
    return !node_is_read_only(node) && !node_is_inactive(node);
}

/* What requests need, and a check does not: keys, what lies below, and an image that may be written. */
static struct error *open_for_requests(struct qcow2 *q, const struct blockdev_options *options,
                                       const struct open_context *context)
{
    struct error *err = qcow2_crypt_open(q, options->u.qcow2.encrypt);
    if (err)
        return error_wrap(err, "'%s'", node_filename(child_node(q->file)));
    err = qcow2_check_backing_option(q, options->u.qcow2.backing);
    if (!err)
        err = qcow2_open_backing(q, options, context);
    if (!err && !node_is_inactive(q->node))
        err = error_wrap(qcow2_bitmaps_load(q), "'%s'", node_filename(child_node(q->file)));
    if (!err && may_be_written(q->node))
        err = error_wrap(qcow2_enter_writing(q), "'%s'", node_filename(child_node(q->file)));
    return err;
}

static struct error *open_image(struct qcow2 *q, const struct blockdev_options *options,
                                const struct open_context *context)
{
    struct error *err = load(q, options);
    if (err)
        return error_wrap(err, "'%s'", node_filename(child_node(q->file)));
    err = qcow2_open_data_file(q, options, context);
    if (!err && !open_for_check(context))
        err = open_for_requests(q, options, context);
    q->writable = !err && may_be_written(q->node);
    if (q->writable && !open_for_check(context))
        qcow2_finish_shrinking(q);
    return err;
}

/* When the node knows its length. */
static struct error *open_bitmaps(struct qcow2 *q)
{
    struct error *err = qcow2_bitmaps_make(q);
    if (!err && q->writable)
        err = qcow2_bitmaps_begin(q);
    return error_wrap(err, "'%s'", node_filename(child_node(q->file)));
}

static struct error *qcow2_open(struct node *node, const struct blockdev_options *options,
                                const struct open_context *context)
{
    struct qcow2 *q = node_state(node);
    state_init(q, node);
    struct error *err = child_open(node, "file", CHILD_DATA | CHILD_METADATA, options->u.qcow2.file, context, &q->file);
    q->data = q->file;
    if (!err)
        err = open_image(q, options, context);
    if (!err) {
        node_set_length(node, q->header.size);
        err = open_bitmaps(q);
    }
    if (err) {
        state_fini(q);
        return err;
    }
    node_set_filename(node, node_filename(child_node(q->file)));
    set_limits(q);
    qcow2_start_cache_timer(q);
    return NULL;
}

/* Another host goes on with the image. */
static struct error *qcow2_inactivate(struct node *node)
{
    struct qcow2 *q = node_state(node);
    struct error *err = qcow2_bitmaps_store(q);
    if (err)
        return err;
    int ret = q->writable ? qcow2_settle(q) : 0;
    if (ret < 0) {
        qcow2_bitmaps_begin_again(q);
        return error_errno(-ret, "the image cannot be flushed");
    }
    q->writable = false;
    qcow2_bitmaps_forget(q);
    return NULL;
}

static struct error *load_again(struct qcow2 *fresh, const struct qcow2 *old, const struct blockdev_options *options)
    CO_FN;

static struct error *load_again(struct qcow2 *fresh, const struct qcow2 *old, const struct blockdev_options *options)
{
    fresh->file = old->file;
    fresh->data = old->data;
    struct error *err = load(fresh, options);
    if (!err && fresh->geometry.data_file != old->geometry.data_file)
        err = error_new("the image has another data file than before");
    fresh->raw_data = old->raw_data;
    if (!err)
        err = qcow2_crypt_open(fresh, options->u.qcow2.encrypt);
    if (!err)
        err = qcow2_bitmaps_load(fresh);
    if (err || !may_be_written(fresh->node))
        return err;
    err = qcow2_enter_writing(fresh);
    fresh->writable = !err;
    if (fresh->writable)
        qcow2_finish_shrinking(fresh);
    return err;
}

/* Another host has written the image: all that is remembered is read again, beside what is there, which stays if that
 * fails. */
static struct error *qcow2_activate(struct node *node)
{
    struct qcow2 *old = node_state(node);
    const struct blockdev_options *options = node_options(node);
    if (!options)
        return error_new("its options are not known any more");
    struct qcow2 *fresh = xcalloc(1, sizeof(*fresh));
    state_init(fresh, node);
    struct error *err = load_again(fresh, old, options);
    if (!err) {
        node_set_length(node, fresh->header.size);
        err = open_bitmaps(fresh);
    }
    if (err) {
        qcow2_bitmaps_forget(old);
        node_set_length(node, old->header.size);
        state_fini(fresh);
        free(fresh);
        return error_wrap(err, "'%s'", node_filename(child_node(old->file)));
    }
    state_fini(old);
    free(node_replace_state(node, fresh));
    set_limits(fresh);
    qcow2_start_cache_timer(fresh);
    return NULL;
}

/* Nobody waits for this, so nobody would hear of it otherwise. */
static void store_bitmaps(struct qcow2 *q)
{
    CLEANUP(error_free) struct error *err = qcow2_bitmaps_store(q);
    if (!err)
        return;
    notice_give(&(struct notice){
        .kind = NOTICE_FLUSH_FAILED,
        .node_name = node_name(q->node),
        .message = error_message(err),
        .fatal = true,
    });
}

static void qcow2_close(struct node *node)
{
    struct qcow2 *q = node_state(node);
    if (q->writable)
        store_bitmaps(q);
    /* What cannot be written any more is lost; whoever needed it has flushed before. Clusters that cannot be made
     * available are leaked. */
    if (q->writable)
        (void)qcow2_settle(q);
    state_fini(q);
}

/* Telling ----------------------------------------------------------------------------------------------------- */

static void qcow2_describe(struct node *node, struct image_info *info, struct arena *arena)
{
    struct qcow2 *q = node_state(node);
    struct image_info_specific_q_cow2 *own = arena_alloc(arena, sizeof(*own));
    own->compat = q->geometry.version >= 3 ? "1.1" : "0.10";
    own->refcount_bits = INT64_C(1) << q->geometry.refcount_order;
    own->compression_type =
        q->header.compression == QCOW2_ZSTD ? QCOW2_COMPRESSION_TYPE_ZSTD : QCOW2_COMPRESSION_TYPE_ZLIB;
    if (q->geometry.version >= 3) {
        own->has_lazy_refcounts = true;
        own->lazy_refcounts = q->header.compatible & QCOW2_LAZY_REFCOUNTS;
        own->has_corrupt = true;
        own->corrupt = q->corrupt || (q->header.incompatible & QCOW2_CORRUPT);
        own->has_extended_l2 = true;
        own->extended_l2 = geometry_is_extended(&q->geometry);
        own->data_file = q->header.data_file ? arena_strdup(arena, q->header.data_file) : NULL;
        own->has_data_file_raw = q->geometry.data_file;
        own->data_file_raw = q->raw_data;
    }
    struct image_info_specific *specific = arena_alloc(arena, sizeof(*specific));
    specific->type = IMAGE_INFO_SPECIFIC_KIND_QCOW2;
    specific->u.qcow2.data = own;

    info->format_specific = specific;
    info->has_cluster_size = true;
    info->cluster_size = (int64_t)cluster_bytes(&q->geometry);
    info->has_dirty_flag = true;
    info->dirty_flag = q->header.incompatible & QCOW2_DIRTY;
    qcow2_describe_bitmaps(q, own, arena);
    qcow2_crypt_describe(q, info, own, arena);
    qcow2_describe_snapshots(q, info, arena);
    if (q->header.backing_file)
        info->backing_filename = arena_strdup(arena, q->header.backing_file);
    if (q->header.backing_format)
        info->backing_filename_format = arena_strdup(arena, q->header.backing_format);
    if (q->header.backing_file && node_backing(node))
        info->full_backing_filename = arena_strdup(arena, node_filename(child_node(node_backing(node))));
}

const struct driver qcow2_driver = {
    .name = "qcow2",
    .kind = DRIVER_FORMAT,
    .state_size = sizeof(struct qcow2),
    .write_flags = REQ_COMPRESSED,
    .supports_backing = true,
    .open = qcow2_open,
    .close = qcow2_close,
    .preadv = qcow2_preadv,
    .pwritev = qcow2_pwritev,
    .pwrite_zeroes = qcow2_pwrite_zeroes,
    .pdiscard = qcow2_pdiscard,
    .flush = qcow2_flush,
    .truncate = qcow2_truncate,
    .block_status = qcow2_block_status,
    .child_permissions = qcow2_child_permissions,
    .check = qcow2_check,
    .describe = qcow2_describe,
    .bitmap_check = qcow2_bitmap_check,
    .bitmap_remove = qcow2_bitmap_remove,
    .bitmap_keep = qcow2_bitmap_keep,
    .bitmaps_are_ahead = qcow2_bitmaps_are_ahead,
    .snapshot_create = qcow2_snapshot_create,
    .snapshot_delete = qcow2_snapshot_delete,
    .snapshot_apply = qcow2_snapshot_apply,
    .create = qcow2_create,
    .amend = qcow2_amend,
    .change_backing_file = qcow2_change_backing_file,
    .inactivate = qcow2_inactivate,
    .activate = qcow2_activate,
    .reopen_prepare = qcow2_reopen_prepare,
    .reopen_leave = qcow2_reopen_leave,
    .reopen_enter = qcow2_reopen_enter,
    .reopen_undo = qcow2_reopen_undo,
    .reopen_commit = qcow2_reopen_commit,
    .reopen_abort = qcow2_reopen_abort,
    .reopen_end = qcow2_reopen_end,
    .reopenable = qcow2_reopenable,
};
