/* blockdev-reopen: caches, discards, protection, read-only, and other nodes below. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/bitmaps.h"
#include "blockcore/drivers/qcow2/snapshots.h"
#include "blockcore/graph/reopen.h"
#include "schema/cairn_types.h"

const char *const qcow2_reopenable[] = {
    "lazy-refcounts",      "pass-discard-request", "pass-discard-snapshot",
    "pass-discard-other",  "discard-no-unref",     "overlap-check",
    "cache-size",          "l2-cache-size",        "l2-cache-entry-size",
    "refcount-cache-size", "cache-clean-interval", NULL,
};

/* What is in the making. */
struct qcow2_reopen {
    struct qcow2_settings settings;
    const struct node *storage; /* below filters, before; not dereferenced */
};

static const struct node *below_filters(const struct node *node)
{
    while (node_filtered(node))
        node = child_node(node_filtered(node));
    return node;
}

struct error *qcow2_reopen_prepare(struct node *node, const struct blockdev_options *options, struct reopen *reopen)
{
    const struct blockdev_options_qcow2 *own = &options->u.qcow2;
    struct qcow2 *q = node_state(node);
    struct qcow2_reopen *next = xcalloc(1, sizeof(*next));
    struct qcow2_settings *settings = &next->settings;
    reopen_set_state(reopen, next);
    next->storage = below_filters(child_node(q->file));
    struct error *err = qcow2_read_options(q, options, settings);
    if (!err)
        err = reopen_child(reopen, "file", own->file);
    if (!err && own->data_file)
        err = reopen_child(reopen, "data-file", own->data_file);
    if (!err)
        err = qcow2_check_backing_option(q, own->backing);
    /* What the header names must be chosen on purpose. */
    if (!err && !own->backing && q->header.backing_file)
        err = error_new("backing is missing for '%s'", node_name(node));
    return err ? err : reopen_backing(reopen, own->backing);
}

/* As when it is closed: nobody can make freed clusters available afterwards. */
struct error *qcow2_reopen_leave(struct node *node, struct reopen *reopen)
{
    struct qcow2 *q = node_state(node);
    if (!reopen_read_only(reopen) || !q->writable)
        return NULL;
    struct error *err = qcow2_bitmaps_store(q);
    if (err)
        return err;
    int ret = qcow2_settle(q);
    return ret < 0 ? error_errno(-ret, "the image cannot be flushed before it becomes read-only") : NULL;
}

/* What has been lazy so far is written, and tables that are cached otherwise from now on are not changed. A repair
 * counts for the image, so a damaged one has to wait for it. */
static struct error *settle_for(struct qcow2 *q, const struct qcow2_settings *settings) CO_FN;

static struct error *settle_for(struct qcow2 *q, const struct qcow2_settings *settings)
{
    bool eager = q->lazy_refcounts && !settings->lazy_refcounts;
    bool other_tables = settings->l2_entry_bytes != q->l2.table_bytes;
    if (!q->writable || !(eager || other_tables))
        return NULL;
    int ret = qcow2_may_write(q);
    if (ret == 0)
        ret = qcow2_settle(q);
    return ret < 0 ? error_errno(-ret, "the image cannot be flushed") : NULL;
}

/* Tables of snapshots that are to be protected from now on have to be known. */
static struct error *enter_settings(struct qcow2 *q, const struct qcow2_settings *settings) CO_FN;

static struct error *enter_settings(struct qcow2 *q, const struct qcow2_settings *settings)
{
    struct error *err = settle_for(q, settings);
    unsigned before = q->overlap_checks;
    if (err || !(settings->overlap_checks & ~before & TABLE_BIT(TABLE_INACTIVE_L2)))
        return err;
    q->overlap_checks |= TABLE_BIT(TABLE_INACTIVE_L2);
    err = snapshot_table_remember(q);
    q->overlap_checks = before;
    return err;
}

struct error *qcow2_reopen_enter(struct node *node, struct reopen *reopen)
{
    struct qcow2 *q = node_state(node);
    const struct qcow2_reopen *next = reopen_state(reopen);
    /* What is cached would be written into another image, and make it a ruin. */
    if (below_filters(child_node(q->file)) != next->storage)
        return error_new("'file' cannot become node '%s': below filters it must be the node that it was",
                         node_name(child_node(q->file)));
    struct error *err = enter_settings(q, &next->settings);
    if (err || reopen_read_only(reopen) || q->writable)
        return err;
    err = qcow2_enter_writing(q);
    if (!err)
        err = qcow2_bitmaps_begin(q);
    if (!err)
        qcow2_finish_shrinking(q);
    return err;
}

/* Nothing was written meanwhile. */
void qcow2_reopen_undo(struct node *node, struct reopen *reopen)
{
    struct qcow2 *q = node_state(node);
    if (!reopen_read_only(reopen) && !q->writable)
        qcow2_bitmaps_undo_begin(q);
}

void qcow2_reopen_commit(struct node *node, struct reopen *reopen)
{
    struct qcow2 *q = node_state(node);
    const struct qcow2_settings *settings = &((const struct qcow2_reopen *)reopen_state(reopen))->settings;
    bool other_interval = settings->cache_clean_ms != q->cache_clean_ms;
    q->writable = !reopen_read_only(reopen);
    qcow2_bitmaps_set_readonly(q, !q->writable);
    qcow2_apply_settings(q, settings);
    if (other_interval)
        qcow2_start_cache_timer(q);
    node_set_filename(node, node_filename(child_node(q->file)));
}

void qcow2_reopen_abort(struct node *node, struct reopen *reopen)
{
    struct qcow2 *q = node_state(node);
    if (q->writable)
        qcow2_bitmaps_begin_again(q);
    free(reopen_state(reopen));
}

void qcow2_reopen_end(struct node *node, struct reopen *reopen)
{
    (void)node;
    free(reopen_state(reopen));
}
