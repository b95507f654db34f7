/* The part of the plan that is about nodes: which can be reopened, which must be replaced, and when those that are over
 * can go. */
#include "blockcore/base/memory.h"
#include "blockcore/graph/driver.h"
#include "daemon/reconcile/plan_private.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/compare.h"
#include "schema/codec/value.h"

#include <string.h>

/* References ------------------------------------------------------------------------------------------------------- */

typedef void visit_ref(const char *node_name, void *arg);

static void for_each_ref(const struct blockdev_options *options, visit_ref *visit, void *arg);

static void visit_alternate(const struct type_descriptor *type, const void *ref, visit_ref *visit, void *arg)
{
    const void *content = value_pointer((const char *)ref + type->alternate.branch_offset);
    const struct type_descriptor *branch = type->alternate.branches[value_enum(ref)].type;
    if (branch->kind == VALUE_OBJECT)
        for_each_ref(content, visit, arg);
    else if (branch->kind == VALUE_STRING)
        visit(content, arg);
}

static bool is_ref(const struct type_descriptor *type)
{
    return type == &blockdev_ref_descriptor || type == &blockdev_ref_or_null_descriptor;
}

static void visit_member(const struct member_descriptor *member, const char *object, visit_ref *visit, void *arg)
{
    const char *at = value_pointer(member_place(member, object));
    if (is_ref(member->type))
        visit_alternate(member->type, at, visit, arg);
    for (size_t i = 0; member->type->kind == VALUE_ARRAY && is_ref(member->type->array.element) &&
                       i < value_count(object + member->count_offset);
         i++)
        visit_alternate(member->type->array.element, at + i * member->type->array.element->size, visit, arg);
}

/* The nodes that @options name, also deeper inside. */
static void for_each_ref(const struct blockdev_options *options, visit_ref *visit, void *arg)
{
    const struct type_descriptor *type = &blockdev_options_descriptor;
    const char *object = (const char *)options;
    while (type) {
        for (uint32_t i = 0; i < type->object.count; i++) {
            const struct member_descriptor *member = &type->object.members[i];
            bool leads_on = is_ref(member->type) || member->type->kind == VALUE_ARRAY;
            if (leads_on && member_present(member, object))
                visit_member(member, object, visit, arg);
        }
        const struct type_descriptor *branch = union_branch(type, object);
        object += type->object.branch_offset;
        type = branch;
    }
}

/* Reopen or replace ------------------------------------------------------------------------------------------------ */

static bool is_in(const char *const *list, const char *name, size_t length)
{
    for (; list && *list; list++) {
        if (strlen(*list) == length && strncmp(*list, name, length) == 0)
            return true;
    }
    return false;
}

/* The same node for good, though it is given like a child that may be another one. */
static bool is_fixed_child(enum blockdev_driver driver, const char *name, size_t length)
{
    static const char *const targets[] = { "target", NULL };
    static const char *const logs[] = { "log", NULL };
    static const char *const files[] = { "file", NULL };
    switch (driver) {
    case BLOCKDEV_DRIVER_COPY_BEFORE_WRITE:
        return is_in(targets, name, length);
    case BLOCKDEV_DRIVER_BLKLOGWRITES:
        return is_in(logs, name, length);
    case BLOCKDEV_DRIVER_SNAPSHOT_ACCESS:
        return is_in(files, name, length);
    default:
        return false;
    }
}

static const void *find_child(const struct blockdev_options *options, const char *name, size_t length,
                              const struct type_descriptor **type_of_ref)
{
    const struct type_descriptor *type = &blockdev_options_descriptor;
    const char *object = (const char *)options;
    while (type) {
        for (uint32_t i = 0; i < type->object.count; i++) {
            const struct member_descriptor *member = &type->object.members[i];
            if (is_ref(member->type) && member->name_length == length && strncmp(member->name, name, length) == 0) {
                *type_of_ref = member->type;
                return value_pointer(member_place(member, object));
            }
        }
        const struct type_descriptor *branch = union_branch(type, object);
        object += type->object.branch_offset;
        type = branch;
    }
    return NULL;
}

static bool can_be_reopened(const struct blockdev_options *now, const struct blockdev_options *then,
                            struct arena *arena);

/* @path leads to, or into, a child. Only a node that is there can become another child; one that is described inside
 * stays, with other options. */
static bool child_can_change(const struct blockdev_options *now, const struct blockdev_options *then, const char *path,
                             size_t length, struct arena *arena)
{
    const struct type_descriptor *type = NULL;
    const void *before = find_child(now, path, length, &type);
    const void *after = find_child(then, path, length, &type);
    if (!type || !after || is_fixed_child(now->driver, path, length))
        return false;
    const struct type_descriptor *branch = type->alternate.branches[value_enum(after)].type;
    if (branch->kind != VALUE_OBJECT)
        return true;
    if (!before || value_enum(before) != value_enum(after))
        return false;
    return can_be_reopened(value_pointer((const char *)before + type->alternate.branch_offset),
                           value_pointer((const char *)after + type->alternate.branch_offset), arena);
}

static bool can_be_reopened(const struct blockdev_options *now, const struct blockdev_options *then,
                            struct arena *arena)
{
    /* What the graph itself does. */
    static const char *const settings[] = { "discard",   "cache",          "active",      "detect-zeroes",
                                            "read-only", "auto-read-only", "force-share", NULL };
    const struct driver *driver = driver_find(blockdev_driver_name(now->driver));
    struct value_changes changes = { 0 };
    CLEANUP(error_free)
    struct error *err = plan_changes(&blockdev_options_descriptor, now, then, arena, &changes);
    if (err || now->driver != then->driver || !driver || !driver->reopen_prepare)
        return !err && !changes.count;
    for (size_t i = 0; i < changes.count; i++) {
        const char *path = changes.paths[i];
        size_t length = strcspn(path, ".[");
        if (!is_in(settings, path, length) && !is_in(driver->reopenable, path, length) &&
            !child_can_change(now, then, path, length, arena))
            return false;
    }
    return true;
}

static void take_step(struct planning *planning, enum plan_phase phase, enum config_action action,
                      const struct blockdev_options *now, const struct blockdev_options *then, const char *path,
                      const char *what)
{
    const char *name = then ? then->node_name : now->node_name;
    plan_add_step(planning, phase,
                  &(struct plan_step){
                      .action = action,
                      .item = CONFIG_ITEM_NODE,
                      .name = name,
                      .text = plan_text(planning, action, CONFIG_ITEM_NODE, name, what),
                      .now = now,
                      .then = then,
                      .path = path,
                  });
}

static struct error *plan_node(struct planning *planning, const struct blockdev_options *wanted, const char *path)
{
    struct thing *thing = plan_find(planning, CONFIG_ITEM_NODE, wanted->node_name);
    struct value_changes changes = { 0 };
    const char *what;
    if (!thing->now) {
        take_step(planning, PHASE_NODES, CONFIG_ACTION_ADD, NULL, wanted, path, NULL);
        return NULL;
    }
    struct error *err = plan_diff(planning, &blockdev_options_descriptor, thing->now, wanted, &changes, &what);
    if (err || !changes.count)
        return err;
    if (can_be_reopened(thing->now, wanted, planning->arena)) {
        take_step(planning, PHASE_NODES_REOPEN, CONFIG_ACTION_REOPEN, thing->now, wanted, path, what);
        return NULL;
    }
    thing->goes = true;
    take_step(planning, PHASE_NODES_REPLACE, CONFIG_ACTION_REPLACE, thing->now, wanted, path, what);
    return NULL;
}

/* Nodes that go ---------------------------------------------------------------------------------------------------- */

struct needed {
    struct hash_link by_name;
};

struct needs {
    struct hash names;
    struct arena *arena;
};

static void need(const char *node_name, void *arg)
{
    struct needs *needs = arg;
    if (hash_find_string(&needs->names, node_name))
        return;
    struct needed *needed = arena_alloc(needs->arena, sizeof(*needed));
    hash_insert_string(&needs->names, &needed->by_name, node_name);
}

/* Their bits are lost with the node, and cannot be put back when a later step fails. */
static void need_nodes_with_bitmaps(const struct planning *planning, struct needs *needs)
{
    const struct cairn_config *now = planning->request->now;
    for (size_t i = 0; i < now->bitmaps_count; i++) {
        if (!now->bitmaps[i].persistent)
            need(now->bitmaps[i].node, needs);
    }
}

/* Those that exports use which stay, or move in the course of things. */
static void need_exported(const struct planning *planning, struct needs *needs)
{
    const struct cairn_config *now = planning->request->now;
    for (size_t i = 0; i < now->exports_count; i++) {
        const struct block_export_options *export = &now->exports[i];
        if (!plan_is_over(planning, CONFIG_ITEM_EXPORT, export->id, true))
            need(export->node_name, needs);
    }
}

/* In the inventory nodes come after those that they stand on; so here it goes from above to below, and a node that
 * stays for a while keeps what is below it for as long. */
static void plan_nodes_that_go(struct planning *planning)
{
    const struct cairn_config *now = planning->request->now;
    struct needs needs = { .arena = planning->arena };
    hash_init(&needs.names);
    need_nodes_with_bitmaps(planning, &needs);
    need_exported(planning, &needs);
    for (size_t i = now->nodes_count; i-- > 0;) {
        const struct blockdev_options *node = &now->nodes[i];
        bool goes = plan_is_over(planning, CONFIG_ITEM_NODE, node->node_name, true);
        bool late = goes && hash_find_string(&needs.names, node->node_name);
        if (!goes || late)
            for_each_ref(node, need, &needs);
        if (!goes)
            continue;
        plan_find(planning, CONFIG_ITEM_NODE, node->node_name)->goes = true;
        take_step(planning, late ? PHASE_NODES_GO_LATE : PHASE_NODES_GO, CONFIG_ACTION_REMOVE, node, NULL, NULL, NULL);
    }
    hash_fini(&needs.names);
}

/* ------------------------------------------------------------------------------------------------------------------ */

struct shaking {
    const struct planning *planning;
    bool found;
};

static void look_below(const char *node_name, void *arg)
{
    struct shaking *shaking = arg;
    shaking->found = shaking->found || plan_is_shaken(shaking->planning, node_name);
}

bool plan_is_shaken(const struct planning *planning, const char *node_name)
{
    struct thing *thing = plan_find(planning, CONFIG_ITEM_NODE, node_name);
    struct shaking shaking = { .planning = planning, .found = thing && thing->goes };
    if (!thing || thing->looked)
        return thing && thing->shaken;
    if (thing->now && !shaking.found)
        for_each_ref(thing->now, look_below, &shaking);
    thing->looked = true;
    thing->shaken = shaking.found;
    return shaking.found;
}

struct error *plan_nodes(struct planning *planning)
{
    const struct cairn_config *wanted = planning->request->wanted;
    struct error *err = NULL;
    for (size_t i = 0; i < wanted->nodes_count && !err; i++)
        err = plan_node(planning, &wanted->nodes[i], arena_printf(planning->arena, "nodes.%zu", i));
    plan_nodes_that_go(planning);
    return err;
}
