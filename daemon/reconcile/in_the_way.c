/* Who is in the way of a plan: users of nodes who are no part of it, and would keep a step from being taken. */
#include "daemon/reconcile/in_the_way.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/export.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/inner.h"
#include "blockcore/graph/node.h"
#include "daemon/monitor.h"
#include "daemon/reconcile/apply.h"

#include <stdlib.h>
#include <string.h>

/* What the plan does something with, by plan_key(). */
struct concerned {
    struct hash keys;
    struct arena arena;
};

struct entry {
    struct hash_link by_key;
};

static void collect(struct concerned *concerned, const struct plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        const char *key = plan_key(&concerned->arena, plan->steps[i].item, plan->steps[i].name);
        if (!plan->steps[i].now || hash_find_string(&concerned->keys, key))
            continue;
        struct entry *entry = arena_alloc(&concerned->arena, sizeof(*entry));
        hash_insert_string(&concerned->keys, &entry->by_key, key);
    }
}

static bool is_concerned(struct concerned *concerned, enum config_item item, const char *name)
{
    return hash_find_string(&concerned->keys, plan_key(&concerned->arena, item, name));
}

/* The node whose options describe @node, however deep inside. */
static struct node *outermost(struct node *node)
{
    struct child *edge = node_parent_next(node, NULL);
    while (edge) {
        struct node *parent = child_parent(edge);
        bool inside = parent && node_is_described_by(node, parent);
        if (inside)
            node = parent;
        edge = inside ? node_parent_next(node, NULL) : node_parent_next(node, edge);
    }
    return node;
}

/* An export says who it is in the words "export 'ID'". NULL: it is none. The caller frees it. */
static char *export_of(const struct child *edge)
{
    static const char begin[] = "export '";
    CLEANUP(free) char *user = child_user(edge);
    size_t length = strlen(user);
    bool is_export = !child_parent(edge) && length > sizeof(begin) && strncmp(user, begin, sizeof(begin) - 1) == 0;
    return is_export ? xstrndup(user + sizeof(begin) - 1, length - sizeof(begin)) : NULL;
}

static bool steps_aside(struct concerned *concerned, const struct child *edge)
{
    if (child_parent(edge))
        return is_concerned(concerned, CONFIG_ITEM_NODE, node_name(outermost(child_parent(edge))));
    CLEANUP(free) char *export = export_of(edge);
    return export && is_concerned(concerned, CONFIG_ITEM_EXPORT, export);
}

static struct error *in_use(const char *user)
{
    return error_new("it is in use by %s", user);
}

static struct error *check_removal(struct concerned *concerned, const struct node *node)
{
    for (struct child *edge = node_parent_next(node, NULL); edge; edge = node_parent_next(node, edge)) {
        if (steps_aside(concerned, edge))
            continue;
        CLEANUP(free) char *user = child_user(edge);
        return in_use(user);
    }
    return NULL;
}

/* Nodes that its options describe go with it. Who uses one of them beside it, would keep it, and its name and its
 * image. */
static struct error *check_inside(const struct node *node)
{
    struct error *err = NULL;
    for (struct child *edge = node_child_next(node, NULL); edge && !err; edge = node_child_next(node, edge)) {
        const struct node *inside = child_node(edge);
        if (!node_is_described_by(inside, node))
            continue;
        for (struct child *use = node_parent_next(inside, NULL); use && !err; use = node_parent_next(inside, use)) {
            CLEANUP(free) char *user = child_user(use);
            if (child_parent(use) != node)
                err = error_new("node '%s' inside of it is in use by %s", node_name(inside), user);
        }
        if (!err)
            err = check_inside(inside);
    }
    return err;
}

/* Its users stay and get the new node; of those, jobs have made up their minds about this one. */
static struct error *check_replacement(const struct node *node)
{
    for (struct child *edge = node_parent_next(node, NULL); edge; edge = node_parent_next(node, edge)) {
        CLEANUP(free) char *user = child_user(edge);
        CLEANUP(free) char *export = export_of(edge);
        if (!child_parent(edge) && !export)
            return in_use(user);
    }
    for (struct dirty_bitmap *bitmap = dirty_bitmap_next(node, NULL); bitmap;
         bitmap = dirty_bitmap_next(node, bitmap)) {
        if (!dirty_bitmap_is_persistent(bitmap))
            return error_new("its bitmap '%s', which is not in the image, would be lost: remove it first",
                             dirty_bitmap_name(bitmap));
    }
    return NULL;
}

struct error *in_the_way_of_others(const struct node *node)
{
    if (node_options(node) || !node_filtered(node))
        return NULL;
    CLEANUP(free) char *user = child_user(node_filtered(node));
    return in_use(user);
}

static struct error *check_children(const struct node *node)
{
    struct error *err = NULL;
    for (struct child *edge = node_child_next(node, NULL); edge && !err; edge = node_child_next(node, edge))
        err = in_the_way_of_others(child_node(edge));
    return err;
}

/* NULL: nobody. */
static struct error *check_inner_user(const struct node *node)
{
    const char *inner = node_inner_user(node);
    return inner ? in_use(inner) : NULL;
}

struct error *in_the_way_of_renewal(const struct node *node)
{
    struct error *err = check_inner_user(node);
    if (!err)
        err = check_children(node);
    if (!err)
        err = check_replacement(node);
    return err ? err : check_inside(node);
}

static struct error *in_the_way_of_removal(struct concerned *concerned, const struct node *node)
{
    struct error *err = check_inner_user(node);
    if (!err)
        err = check_removal(concerned, node);
    return err ? err : check_inside(node);
}

static struct error *check_node(struct concerned *concerned, const struct plan_step *step)
{
    const struct node *node = node_find(step->name);
    if (!node)
        return error_wrap(node_not_found(step->name), "%s", step->text);
    struct error *err;
    if (step->action == CONFIG_ACTION_REOPEN)
        err = check_children(node);
    else
        err = step->then ? in_the_way_of_renewal(node) : in_the_way_of_removal(concerned, node);
    return error_wrap(err, "%s", step->text);
}

static struct error *check_export(const struct plan_step *step)
{
    const struct export *export = export_find(step->name);
    bool comes_back = step->then || step->untold;
    if (!export || !export_node(export) || !comes_back)
        return NULL;
    return error_wrap(in_the_way_of_others(export_node(export)), "%s", step->text);
}

static struct error *check_monitor(const struct apply_request *request, const struct plan_step *step)
{
    if (!monitor_brought(step->name, request->asker))
        return NULL;
    return error_new("%s: this command came in by it; use another monitor", step->text);
}

static struct error *check_step(const struct apply_request *request, struct concerned *concerned,
                                const struct plan_step *step)
{
    if (!step->now)
        return NULL;
    if (step->item == CONFIG_ITEM_NODE)
        return check_node(concerned, step);
    if (step->item == CONFIG_ITEM_EXPORT)
        return check_export(step);
    return step->item == CONFIG_ITEM_MONITOR ? check_monitor(request, step) : NULL;
}

struct error *apply_check(const struct apply_request *request)
{
    struct concerned concerned;
    hash_init(&concerned.keys);
    arena_init(&concerned.arena, SIZE_MAX);
    collect(&concerned, request->plan);
    struct error *err = NULL;
    for (size_t i = 0; i < request->plan->count && !err; i++)
        err = check_step(request, &concerned, &request->plan->steps[i]);
    hash_fini(&concerned.keys);
    arena_fini(&concerned.arena);
    return err;
}
