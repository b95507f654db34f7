#include "blockcore/export/export.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/hash.h"
#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/export_kind.h"
#include "blockcore/export/grace.h"
#include "blockcore/graph/active.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/options.h"
#include "blockcore/objects/object.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define NS_PER_MS 1000000u

enum export_state {
    EXPORT_STARTING,
    EXPORT_RUNNING,
    EXPORT_SHUTTING_DOWN,
};

struct export
{
    char *id;
    const struct export_kind *kind;
    void *state_of_kind;
    struct handle *handle; /* NULL at the end, while it is being closed */
    char *node_name;       /* of the handle's node, from then on */
    enum export_state state;
    unsigned users;
    struct hash_link by_id;
    struct list link;   /* in `exports`, once it is running */
    struct grace grace; /* of those who wait until it is gone */
    struct arena arena; /* of given */
    const struct block_export_options *given;
};

static struct {
    struct hash by_id; /* those that are starting included: their ids are taken */
    struct list all;
    void (*deleted)(const char *id, void *arg);
    void *deleted_arg;
} exports = { .all = LIST_INIT(exports.all) };

static const struct export_kind *const kinds[] = { &nbd_export_kind };

static const struct export_kind *kind_of(enum block_export_type type)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (kinds[i]->type == type)
            return kinds[i];
    }
    return NULL;
}

struct export *export_find(const char *id)
{
    struct hash_link *link = hash_find_string(&exports.by_id, id);
    struct export *export = link ? hash_entry(link, struct export, by_id) : NULL;
    return export && export->state != EXPORT_STARTING ? export : NULL;
}

struct export *export_next(const struct export *after)
{
    const struct list *link = after ? after->link.next : exports.all.next;
    return link == &exports.all ? NULL : list_entry((struct list *)(uintptr_t)link, struct export, link);
}

const char *export_id(const struct export *export)
{
    return export->id;
}

enum block_export_type export_type(const struct export *export)
{
    return export->kind->type;
}

struct node *export_node(const struct export *export)
{
    return export->handle ? handle_node(export->handle) : NULL;
}

const char *export_node_name(const struct export *export)
{
    return export->node_name ? export->node_name : node_name(handle_node(export->handle));
}

const struct block_export_options *export_given_options(const struct export *export)
{
    return export->given;
}

bool export_is_shutting_down(const struct export *export)
{
    return export->state == EXPORT_SHUTTING_DOWN;
}

unsigned export_users(const struct export *export)
{
    return export->users;
}

void export_describe_clients(const struct export *export, struct arena *arena,
                             const struct export_client_statistics **clients, size_t *count)
{
    *count = 0;
    if (export->handle)
        export->kind->describe_clients(export->state_of_kind, arena, clients, count);
}

struct handle *export_handle(const struct export *export)
{
    return export->handle;
}

void export_set_listener(void (*deleted)(const char *id, void *arg), void *arg)
{
    exports.deleted = deleted;
    exports.deleted_arg = arg;
}

static bool is_iothread(const char *id)
{
    const struct object *object = object_find(id);
    return object && object_kind_of(object)->type == OBJECT_TYPE_IOTHREAD;
}

static struct error *check_options(const struct block_export_options *options)
{
    if (hash_find_string(&exports.by_id, options->id))
        return error_new("Block export id '%s' is already in use", options->id);
    if (!kind_of(options->type))
        return error_new("no support for exports of this type");
    struct node *node = node_find(options->node_name);
    if (!node)
        return error_new("Cannot find device='' nor node-name='%s'", options->node_name);
    if (options->has_writable && options->writable && node_is_read_only(node))
        return error_new("Cannot export read-only node as writable");
    if (options->iothread && !is_iothread(options->iothread))
        return error_new("iothread \"%s\" not found", options->iothread);
    return NULL;
}

static struct export *export_create(const struct block_export_options *options)
{
    struct export *export = xcalloc(1, sizeof(*export));
    export->id = xstrdup(options->id);
    export->kind = kind_of(options->type);
    arena_init_small(&export->arena, SIZE_MAX);
    export->given = options_service()->copy_export ? options_service()->copy_export(options, &export->arena) : NULL;
    list_init(&export->link);
    grace_init(&export->grace);
    hash_insert_string(&exports.by_id, &export->by_id, export->id);
    return export;
}

static void export_free(struct export *export)
{
    list_remove(&export->link);
    hash_remove(&exports.by_id, &export->by_id);
    if (exports.by_id.count == 0)
        hash_fini(&exports.by_id);
    arena_fini(&export->arena);
    free(export->node_name);
    free(export->id);
    free(export);
}

static struct error *open_handle(struct export *export, const struct block_export_options *options)
{
    unsigned perm = PERM_CONSISTENT_READ | (options->has_writable && options->writable ? PERM_WRITE : 0);
    CLEANUP(free) char *user = xasprintf("export '%s'", export->id);
    struct node *node = node_find(options->node_name);
    bool may_be_inactive = options->has_allow_inactive && options->allow_inactive;
    struct error *err = !may_be_inactive && node_is_inactive(node) ? node_set_active(node, true) : NULL;
    if (!err)
        node = node_find(options->node_name); /* others had their turn */
    if (!err && !node)
        err = node_not_found(options->node_name);
    if (!err)
        err = handle_open(node, user, perm, PERM_ALL, &export->handle);
    if (!err)
        handle_keep_stats(export->handle);
    if (!err && !may_be_inactive)
        handle_need_active(export->handle);
    return err;
}

struct error *export_add(const struct block_export_options *options)
{
    struct error *err = check_options(options);
    if (err)
        return err;
    struct export *export = export_create(options);
    err = open_handle(export, options);
    if (!err && co_cancelled())
        err = error_errno(ECANCELED, "export '%s'", options->id);
    if (!err)
        err = export->kind->start(export, options, &export->state_of_kind);
    if (err) {
        handle_close(export->handle);
        export_free(export);
        return err;
    }
    export->state = EXPORT_RUNNING;
    list_append(&exports.all, &export->link);
    return NULL;
}

/* Nobody uses it any more. May wait long for storage: locks are given up, and a node that is closed is flushed. The
 * export is still listed meanwhile. */
static void export_end(void *arg)
{
    struct export *export = arg;
    CLEANUP(free) char *id = xstrdup(export->id);
    export->node_name = xstrdup(node_name(export_node(export)));
    handle_close(steal(&export->handle));
    export->kind->destroy(export->state_of_kind);
    grace_over(&export->grace);
    export_free(export);
    if (exports.deleted)
        exports.deleted(id, exports.deleted_arg);
}

static void end_if_unused(struct export *export)
{
    if (export->state == EXPORT_SHUTTING_DOWN && export->users == 0)
        co_start("end of an export", export_end, export);
}

void export_enter(struct export *export)
{
    assert(export->state == EXPORT_RUNNING);
    export->users++;
}

void export_leave(struct export *export)
{
    assert(export->users > 0);
    export->users--;
    end_if_unused(export);
}

/* Waits until the export of that id is gone, as it may be already; at most @ms. */
static void wait_gone(const char *id, uint64_t ms)
{
    struct export *export = export_find(id);
    if (export)
        grace_wait(&export->grace, ms);
}

static void shut_down(struct export *export)
{
    export->state = EXPORT_SHUTTING_DOWN;
    handle_abandon(export->handle);
    export->kind->shut_down(export->state_of_kind);
    end_if_unused(export);
}

struct error *export_del(const char *id, enum block_export_remove_mode mode)
{
    struct export *export = export_find(id);
    if (!export)
        return error_new("Export '%s' is not found", id);
    if (export->state == EXPORT_SHUTTING_DOWN)
        return error_new("Export '%s' is already shutting down", id);
    if (mode == BLOCK_EXPORT_REMOVE_MODE_SAFE && export->users > 0)
        return error_new("export '%s' still in use", id);
    shut_down(export);
    wait_gone(id, EXPORT_GRACE_MS);
    return NULL;
}

static bool is_one(const struct export *export, enum block_export_type type, enum export_state state,
                   bool (*chosen)(const void *state))
{
    return export->kind->type == type && export->state == state && (!chosen || chosen(export->state_of_kind));
}

static struct export *find_one(enum block_export_type type, enum export_state state, bool (*chosen)(const void *state))
{
    struct export *export = export_next(NULL);
    while (export && !is_one(export, type, state, chosen))
        export = export_next(export);
    return export;
}

void export_del_all(enum block_export_type type, bool (*chosen)(const void *state))
{
    struct export *export;
    while ((export = find_one(type, EXPORT_RUNNING, chosen)))
        shut_down(export);
    uint64_t end = loop_now_ns() + EXPORT_GRACE_MS * (uint64_t)NS_PER_MS;
    while ((export = find_one(type, EXPORT_SHUTTING_DOWN, chosen)) && loop_now_ns() < end) {
        CLEANUP(free) char *id = xstrdup(export->id);
        wait_gone(id, (end - loop_now_ns()) / NS_PER_MS + 1);
    }
}
