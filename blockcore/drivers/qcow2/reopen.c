/* blockdev-reopen: caches, discards, protection, read-only, and other nodes below. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/reopen.h"
#include "schema/cairn_types.h"

const char *const qcow2_reopenable[] = {
    "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",  "discard-no-unref",     "overlap-check",
    "cache-size",           "l2-cache-size",         "refcount-cache-size", "cache-clean-interval", NULL,
};

struct error *qcow2_reopen_prepare(struct node *node, const struct blockdev_options *options, struct reopen *reopen)
{
    const struct blockdev_options_qcow2 *own = &options->u.qcow2;
    struct qcow2 *q = node_state(node);
    struct qcow2_settings *settings = xcalloc(1, sizeof(*settings));
    reopen_set_state(reopen, settings);
    struct error *err = qcow2_read_options(q, options, settings);
    if (!err)
        err = reopen_child(reopen, "file", own->file);
    if (!err && own->data_file)
        err = reopen_child(reopen, "data-file", own->data_file);
    if (!err)
        err = qcow2_check_backing_option(q, own->backing);
    bool more = settings->overlap_checks & ~q->overlap_checks & TABLE_BIT(TABLE_INACTIVE_L2);
    if (!err && more)
        err =
            error_new("overlap-check: tables of snapshots are read when the image is opened; they cannot be protected "
                      "from now on");
    /* What the header names must be chosen on purpose. */
    if (!err && !own->backing && q->header.backing_file)
        err = error_new("backing is missing for '%s'", node_name(node));
    return err ? err : reopen_backing(reopen, own->backing);
}

struct error *qcow2_reopen_enter(struct node *node, struct reopen *reopen)
{
    struct qcow2 *q = node_state(node);
    if (reopen_read_only(reopen) || q->writable)
        return NULL;
    struct error *err = qcow2_check_writable(q);
    if (!err)
        err = qcow2_clear_promises(q);
    if (!err)
        qcow2_finish_shrinking(q);
    return err;
}

void qcow2_reopen_commit(struct node *node, struct reopen *reopen)
{
    struct qcow2 *q = node_state(node);
    const struct qcow2_settings *settings = reopen_state(reopen);
    bool other_interval = settings->cache_clean_ms != q->cache_clean_ms;
    q->writable = !reopen_read_only(reopen);
    qcow2_apply_settings(q, settings);
    if (other_interval)
        qcow2_start_cache_timer(q);
    node_set_filename(node, node_filename(child_node(q->file)));
}

void qcow2_reopen_end(struct node *node, struct reopen *reopen)
{
    (void)node;
    free(reopen_state(reopen));
}
