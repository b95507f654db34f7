#include "blockcore/graph/rearrange.h"

#include "blockcore/graph/change.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/flush.h"
#include "blockcore/graph/inner.h"
#include "blockcore/graph/layout.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/runtime/coroutine.h"

#include <errno.h>

#define TRIES 50
#define RETRY_MS 20

/* Edges of users, and not only those of the node's own overlay or filter. */
static struct error *check_snapshot(const struct node *node, const struct node *overlay)
{
    if (node == overlay)
        return error_new("node '%s' cannot be its own overlay", node->name);
    if (!overlay->driver->supports_backing)
        return error_new("The overlay does not support backing images");
    if (overlay->backing)
        return error_new("The overlay already has a backing image");
    /* A job goes on with this node: it would not see what is written above it. */
    const char *inner = node_inner_user(node);
    if (inner)
        return error_new("node '%s' is in use by %s", node->name, inner);
    const struct child *user = node_parent_next(overlay, NULL);
    while (user && user->parent && user->parent->unplaced)
        user = node_parent_next(overlay, user);
    if (user) {
        CLEANUP(free) char *name = child_user(user);
        return error_new("The overlay is already in use by %s", name);
    }
    return NULL;
}

static void overlay_takes_over(void *arg)
{
    struct node *overlay = arg;
    atomic_store(&overlay->flush_backing, true);
}

struct error *overlay_prepare(struct node *node, struct node *overlay)
{
    struct error *err = check_snapshot(node, overlay);
    return err ? err : node_flush_in_use(node, "a snapshot");
}

/* Storage that takes long to flush must not hold requests up. So the node is flushed before, and what was written in
 * between is flushed after its users have left; until that has succeeded, whoever flushes the overlay flushes what is
 * below it, too. */
struct error *overlay_describe(struct node *node, struct node *overlay, struct change *change)
{
    static const struct change_owner owner = { .done = overlay_takes_over };
    struct child *backing;
    struct error *err = check_snapshot(node, overlay); /* others had their turn */
    if (!err)
        err = change_add(change, overlay, "backing", CHILD_BACKING, node, &backing);
    if (!err)
        err = change_replace(change, node, overlay);
    change_add_owner(change, &owner, overlay);
    return err;
}

/* What is below is not written any more: as in QEMU it becomes read-only, so that other programs can open it to copy
 * it. Where that cannot be it stays as it is. */
void overlay_settle(struct node *node, struct node *overlay)
{
    struct error *err = node_flush_in_use(node, "a snapshot");
    if (!err)
        atomic_store(&overlay->flush_backing, false);
    if (!err && !node_is_read_only(node))
        err = node_reopen_read_only(node);
    /* The snapshot is there, and those who need to know hear of an error with their next flush. */
    error_free(err);
}

static struct error *snapshot(struct node *node, struct node *overlay) CO_FN;

static struct error *snapshot(struct node *node, struct node *overlay)
{
    struct error *err = overlay_prepare(node, overlay);
    if (err)
        return err;
    struct change *change = change_begin();
    change_may_be_cancelled(change);
    err = overlay_describe(node, overlay, change);
    if (err) {
        change_abort(change);
        return err;
    }
    err = change_commit(change);
    if (!err)
        overlay_settle(node, overlay);
    return err;
}

struct error *node_snapshot(struct node *node, struct node *overlay)
{
    node_ref(node);
    node_ref(overlay);
    struct error *err = snapshot(node, overlay);
    node_unref(overlay);
    node_unref(node);
    return err;
}

static struct error *replace(struct node *node, struct node *replacement, struct handle *only) CO_FN;

static struct error *replace(struct node *node, struct node *replacement, struct handle *only)
{
    struct change *change = change_begin();
    change_may_be_cancelled(change);
    struct error *err =
        only ? change_edge(change, handle_edge(only), replacement) : change_replace(change, node, replacement);
    if (!err)
        return change_commit(change);
    change_abort(change);
    return err;
}

static struct error *check_user(const struct node *node, const struct handle *only)
{
    if (only && only->edge.node != node)
        return error_new("%s does not use node '%s' directly", only->user, node->name);
    return NULL;
}

struct error *node_replace(struct node *node, struct node *replacement, struct handle *only)
{
    struct error *err = check_user(node, only);
    if (!err && node == replacement)
        err = error_new("node '%s' cannot replace itself", node->name);
    if (!err && node_length(node) != node_length(replacement))
        err = error_new("node '%s' has %llu bytes and cannot be replaced by node '%s' of %llu bytes", node->name,
                        (unsigned long long)node_length(node), replacement->name,
                        (unsigned long long)node_length(replacement));
    return err ? err : replace(node, replacement, only);
}

static struct error *check_filter(const struct node *filter)
{
    if (filter->driver->kind != DRIVER_FILTER || !filter->filtered)
        return error_new("node '%s' (driver '%s') is not a filter", filter->name, filter->driver->name);
    return NULL;
}

/* A filter that comes or goes, and what it stood on when that began. */
struct passage {
    const struct node *filter;
    const struct node *below;
};

static struct error *still_on_it(void *arg)
{
    const struct passage *passage = arg;
    if (passage->filter->filtered->node == passage->below)
        return NULL;
    return error_errno(EAGAIN, "filter '%s' stands on another node since a moment", passage->filter->name);
}

/* Does a change that others are about to make bring somebody here? What he needs is held already, and may be what keeps
 * ours from being made. */
static bool is_claimed(const struct node *node)
{
    const struct child *edge = NULL;
    while ((edge = node_parent_next(node, edge))) {
        if (edge->claim)
            return true;
    }
    return false;
}

/* *@passes: an error may be one of the moment. */
static struct error *pass_once(struct node *filter, struct handle *only, bool insert, bool *passes) CO_FN;

static struct error *pass_once(struct node *filter, struct handle *only, bool insert, bool *passes)
{
    static const struct change_owner owner = { .before = still_on_it };
    struct node *below = filter->filtered->node;
    struct passage passage = { .filter = filter, .below = below };
    bool claimed = is_claimed(filter) || is_claimed(below);
    struct change *change = change_begin();
    change_add_owner(change, &owner, &passage);
    struct error *err = only ? change_edge(change, handle_edge(only), insert ? filter : below)
                             : change_replace(change, insert ? below : filter, insert ? filter : below);
    if (!err)
        err = change_commit(change);
    else
        change_abort(change);
    *passes = err && (claimed || error_errnum(err) == EAGAIN);
    return err;
}

/* Others may be changing what is around it: that passes. */
static struct error *pass(struct node *filter, struct handle *only, bool insert) CO_FN;

static struct error *pass(struct node *filter, struct handle *only, bool insert)
{
    bool passes;
    struct error *err = pass_once(filter, only, insert, &passes);
    if (only)
        return err;
    node_ref(filter);
    for (int tries = 1; err && passes && tries < TRIES; tries++) {
        error_free(err);
        co_sleep_ms(RETRY_MS);
        err = pass_once(filter, only, insert, &passes);
    }
    node_unref(filter);
    return err;
}

struct error *filter_insert(struct node *node, struct node *filter, struct handle *only)
{
    struct error *err = check_filter(filter);
    if (!err)
        err = check_user(node, only);
    if (!err && filter->filtered->node != node)
        err = error_new("filter '%s' stands on node '%s', not on node '%s'", filter->name, filter->filtered->node->name,
                        node->name);
    return err ? err : pass(filter, only, true);
}

struct error *filter_remove(struct node *filter, struct handle *only)
{
    struct error *err = check_filter(filter);
    if (!err)
        err = check_user(filter, only);
    return err ? err : pass(filter, only, false);
}
