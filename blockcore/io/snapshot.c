#include "blockcore/io/snapshot.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/graph/drain.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/layout.h"
#include "schema/cairn_types.h"

/* The node, held still. */
struct session {
    struct node *node;
    struct handle *handle;
    struct drain *drain;
};

static struct node *skip_filters(struct node *node)
{
    while (node->driver->kind == DRIVER_FILTER && node->filtered)
        node = node->filtered->node;
    return node;
}

static struct error *check(const struct node *node)
{
    if (!node->driver->snapshot_create)
        return error_new("Block format '%s' used by device '%s' does not support internal snapshots",
                         node->driver->name, node_name(node));
    if (node_is_read_only(node))
        return error_new("Device '%s' is read only", node_name(node));
    return NULL;
}

/* What is to be held still may be exchanged for something else until it is. */
static void drain_storage(struct session *session)
{
    for (;;) {
        session->node = node_ref(skip_filters(handle_node(session->handle)));
        session->drain = drain_begin(session->node);
        if (skip_filters(handle_node(session->handle)) == session->node)
            return;
        drain_end(session->drain);
        node_unref(session->node);
    }
}

static void session_end(struct session *session)
{
    if (session->drain) {
        node_set_busy(session->node, false);
        drain_end(session->drain);
        node_unref(session->node);
    }
    handle_close(session->handle);
}

static struct error *session_begin(struct node *node, unsigned perm, unsigned shared, struct session *session)
{
    *session = (struct session){ 0 };
    struct error *err = check(skip_filters(node));
    if (!err)
        err = handle_open_here(node, "internal snapshot", perm, shared, &session->handle);
    if (err)
        return err;
    drain_storage(session);
    /* All doors are closed: this tells others that requests are on their way. */
    node_set_busy(session->node, true);
    err = check(session->node);
    if (err)
        session_end(session);
    return err;
}

struct error *node_snapshot_create(struct node *node, const char *name)
{
    struct session session;
    struct error *err = session_begin(node, PERM_WRITE_UNCHANGED, PERM_ALL, &session);
    if (err)
        return err;
    err = session.node->driver->snapshot_create(session.node, name);
    session_end(&session);
    return err;
}

struct error *node_snapshot_delete(struct node *node, const char *id, const char *name, struct arena *arena,
                                   struct snapshot_info *deleted)
{
    struct session session;
    struct error *err = session_begin(node, PERM_WRITE_UNCHANGED, PERM_ALL, &session);
    if (err)
        return err;
    err = session.node->driver->snapshot_delete(session.node, id, name, arena, deleted);
    session_end(&session);
    return err;
}

struct snapshot_session {
    struct node *node; /* the storage */
    struct handle *handle;
};

struct error *snapshot_session_begin(struct node *node, struct snapshot_session **out)
{
    struct handle *handle;
    struct error *err = check(skip_filters(node));
    if (!err)
        err = handle_open_here(node, "internal snapshot", PERM_WRITE_UNCHANGED, PERM_ALL, &handle);
    if (err)
        return err;
    struct snapshot_session *session = xcalloc(1, sizeof(*session));
    session->handle = handle;
    session->node = node_ref(skip_filters(handle_node(handle)));
    *out = session;
    return NULL;
}

struct node *snapshot_session_node(const struct snapshot_session *session)
{
    return session->node;
}

struct error *snapshot_session_create(struct snapshot_session *session, const char *name)
{
    struct node *node = session->node;
    if (skip_filters(handle_node(session->handle)) != node)
        return error_new("node '%s' is not what it was any more", node_name(handle_node(session->handle)));
    struct error *err = check(node);
    return err ? err : node->driver->snapshot_create(node, name);
}

struct error *snapshot_session_undo(struct snapshot_session *session, const char *name)
{
    struct arena arena;
    struct snapshot_info deleted = { 0 };
    arena_init(&arena, SIZE_MAX);
    struct error *err = session->node->driver->snapshot_delete(session->node, NULL, name, &arena, &deleted);
    arena_fini(&arena);
    return err;
}

void snapshot_session_end(struct snapshot_session *session)
{
    if (!session)
        return;
    handle_close(session->handle);
    node_unref(session->node);
    free(session);
}

/* Content and length may be different ones, in @last and in the filters on the way there. */
static void mark_all_dirty(struct node *node, const struct node *last) CO_FN;

static void mark_all_dirty(struct node *node, const struct node *last)
{
    for (;; node = node->filtered->node) {
        node_settle_bitmaps(node);
        node_mark_dirty(node, range_make(0, node_length(node)), 0);
        if (node == last || node->driver->kind != DRIVER_FILTER || !node->filtered)
            return;
    }
}

struct error *node_snapshot_apply(struct node *node, const char *id, const char *name)
{
    struct session session;
    struct error *err = session_begin(node, PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE, 0, &session);
    if (err)
        return err;
    struct range all = range_make(0, INT64_MAX);
    int ret = node_enter_regions(session.node, all);
    if (ret < 0)
        err = error_errno(-ret, "noting that all of node '%s' changes", node_name(session.node));
    else
        err = session.node->driver->snapshot_apply(session.node, id, name);
    mark_all_dirty(node, session.node);
    if (ret == 0)
        node_leave_regions(session.node, all);
    session_end(&session);
    return err;
}
