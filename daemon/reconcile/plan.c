#include "daemon/reconcile/plan_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/objects/object.h"
#include "daemon/config.h"
#include "daemon/reconcile/difference.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/compare.h"
#include "schema/codec/value.h"

#include <stdlib.h>
#include <string.h>

/* Things ----------------------------------------------------------------------------------------------------------- */

const char *plan_key(struct arena *arena, enum config_item item, const char *name)
{
    return arena_printf(arena, "%s/%s", config_item_name(item), name);
}

const char *plan_server_id(const struct nbd_server_options *server)
{
    return server->id ? server->id : NBD_SERVER_DEFAULT_ID;
}

static const char *bitmap_name(struct arena *arena, const struct block_dirty_bitmap_add *bitmap)
{
    return arena_printf(arena, "%s/%s", bitmap->node, bitmap->name);
}

static void for_each_setting(const struct cairn_config *config,
                             void (*visit)(enum config_item item, const char *name, void *arg), void *arg)
{
    for (uint32_t i = 0; i < cairn_config_descriptor.object.count; i++) {
        const struct member_descriptor *member = &cairn_config_descriptor.object.members[i];
        if (config_is_setting(member) && member_present(member, config))
            visit(CONFIG_ITEM_SETTING, member->name, arg);
    }
}

void plan_for_each(const struct cairn_config *config, struct arena *arena,
                   void (*visit)(enum config_item item, const char *name, void *arg), void *arg)
{
    for_each_setting(config, visit, arg);
    for (size_t i = 0; i < config->objects_count; i++)
        visit(CONFIG_ITEM_OBJECT, config->objects[i].id, arg);
    for (size_t i = 0; i < config->monitors_count; i++)
        visit(CONFIG_ITEM_MONITOR, config->monitors[i].path, arg);
    for (size_t i = 0; i < config->nodes_count; i++)
        visit(CONFIG_ITEM_NODE, config->nodes[i].node_name, arg);
    for (size_t i = 0; i < config->bitmaps_count; i++)
        visit(CONFIG_ITEM_BITMAP, bitmap_name(arena, &config->bitmaps[i]), arg);
    if (config->nbd_server)
        visit(CONFIG_ITEM_NBD_SERVER, plan_server_id(config->nbd_server), arg);
    for (size_t i = 0; i < config->nbd_servers_count; i++)
        visit(CONFIG_ITEM_NBD_SERVER, plan_server_id(&config->nbd_servers[i]), arg);
    for (size_t i = 0; i < config->exports_count; i++)
        visit(CONFIG_ITEM_EXPORT, config->exports[i].id, arg);
}

static struct thing *find_key(const struct planning *planning, const char *key)
{
    struct hash_link *link = hash_find_string(&planning->things, key);
    return link ? hash_entry(link, struct thing, by_key) : NULL;
}

struct thing *plan_find(const struct planning *planning, enum config_item item, const char *name)
{
    CLEANUP(free) char *key = xasprintf("%s/%s", config_item_name(item), name);
    return find_key(planning, key);
}

static struct thing *take_thing(struct planning *planning, enum config_item item, const char *name)
{
    const char *key = plan_key(planning->arena, item, name);
    struct thing *thing = find_key(planning, key);
    if (!thing) {
        thing = arena_alloc(planning->arena, sizeof(*thing));
        *thing = (struct thing){ 0 };
        hash_insert_string(&planning->things, &thing->by_key, key);
    }
    return thing;
}

#define TAKE_LIST(item, list, name)                                                                                    \
    for (size_t i = 0; i < now->list##_count; i++)                                                                     \
        take_thing(planning, item, name(planning->arena, &now->list[i]))->now = &now->list[i];                         \
    for (size_t i = 0; i < wanted->list##_count; i++)                                                                  \
        take_thing(planning, item, name(planning->arena, &wanted->list[i]))->wanted = &wanted->list[i];

#define OBJECT_NAME(arena, object) (object)->id
#define NODE_NAME(arena, node) (node)->node_name
#define MONITOR_NAME(arena, monitor) (monitor)->path
#define EXPORT_NAME(arena, export) (export)->id
#define SERVER_NAME(arena, server) plan_server_id(server)

static void take_things(struct planning *planning)
{
    const struct cairn_config *now = planning->request->now;
    const struct cairn_config *wanted = planning->request->wanted;
    TAKE_LIST(CONFIG_ITEM_OBJECT, objects, OBJECT_NAME)
    TAKE_LIST(CONFIG_ITEM_NODE, nodes, NODE_NAME)
    TAKE_LIST(CONFIG_ITEM_MONITOR, monitors, MONITOR_NAME)
    TAKE_LIST(CONFIG_ITEM_BITMAP, bitmaps, bitmap_name)
    TAKE_LIST(CONFIG_ITEM_NBD_SERVER, nbd_servers, SERVER_NAME)
    TAKE_LIST(CONFIG_ITEM_EXPORT, exports, EXPORT_NAME)
    if (now->nbd_server)
        take_thing(planning, CONFIG_ITEM_NBD_SERVER, plan_server_id(now->nbd_server))->now = now->nbd_server;
    if (wanted->nbd_server)
        take_thing(planning, CONFIG_ITEM_NBD_SERVER, plan_server_id(wanted->nbd_server))->wanted = wanted->nbd_server;
}

bool plan_is_over(const struct planning *planning, enum config_item item, const char *name, bool may_prune)
{
    const struct thing *thing = plan_find(planning, item, name);
    if (thing && thing->wanted)
        return false;
    CLEANUP(free) char *key = xasprintf("%s/%s", config_item_name(item), name);
    return (may_prune && planning->request->prune) || hash_find_string(planning->request->described, key);
}

/* Steps ------------------------------------------------------------------------------------------------------------ */

void plan_add_step(struct planning *planning, enum plan_phase phase, const struct plan_step *step)
{
    struct phase_steps *steps = &planning->phases[phase];
    if (steps->count == steps->room) {
        steps->room = 2 * steps->room + 8;
        steps->steps = xrealloc_array(steps->steps, steps->room, sizeof(*steps->steps));
    }
    steps->steps[steps->count++] = *step;
}

const char *plan_item_text(enum config_item item)
{
    static const char *const items[] = {
        [CONFIG_ITEM_OBJECT] = "object",         [CONFIG_ITEM_NODE] = "node",     [CONFIG_ITEM_BITMAP] = "bitmap",
        [CONFIG_ITEM_NBD_SERVER] = "NBD server", [CONFIG_ITEM_EXPORT] = "export", [CONFIG_ITEM_MONITOR] = "monitor",
        [CONFIG_ITEM_SETTING] = "setting",
    };
    return items[item];
}

const char *plan_text(struct planning *planning, enum config_action action, enum config_item item, const char *name,
                      const char *changes)
{
    bool any = changes && *changes;
    return arena_printf(planning->arena, "%s %s '%s'%s%s", config_action_name(action), plan_item_text(item), name,
                        any ? ": " : "", any ? changes : "");
}

struct error *plan_changes(const struct type_descriptor *type, const void *now, const void *then, struct arena *arena,
                           struct value_changes *changes)
{
    struct value_changes all = { 0 };
    struct error *err = value_diff(type, now, then, arena, &all);
    if (err)
        return err;
    const char **paths = arena_array(arena, all.count, sizeof(*paths));
    *changes = (struct value_changes){ .paths = paths };
    for (size_t i = 0; i < all.count; i++) {
        if (strcmp(all.paths[i], "if-absent") != 0)
            paths[changes->count++] = all.paths[i];
    }
    return NULL;
}

struct error *plan_diff(struct planning *planning, const struct type_descriptor *type, const void *now,
                        const void *then, struct value_changes *changes, const char **text)
{
    struct error *err = plan_changes(type, now, then, planning->arena, changes);
    *text = err || !changes->count ? "" : difference_text(type, now, then, changes, planning->arena);
    return err;
}

void plan_add(struct planning *planning, enum plan_phase phase, enum config_item item, const char *name,
              const void *wanted, const char *path)
{
    plan_add_step(planning, phase,
                  &(struct plan_step){
                      .action = CONFIG_ACTION_ADD,
                      .item = item,
                      .name = name,
                      .text = plan_text(planning, CONFIG_ACTION_ADD, item, name, NULL),
                      .then = wanted,
                      .path = path,
                  });
}

void plan_remove(struct planning *planning, enum plan_phase phase, enum config_item item, const char *name,
                 const void *now)
{
    plan_find(planning, item, name)->goes = true;
    plan_add_step(planning, phase,
                  &(struct plan_step){
                      .action = CONFIG_ACTION_REMOVE,
                      .item = item,
                      .name = name,
                      .text = plan_text(planning, CONFIG_ACTION_REMOVE, item, name, NULL),
                      .now = now,
                  });
}

/* In two steps. */
void plan_replace(struct planning *planning, enum plan_phase first, enum plan_phase second, enum config_item item,
                  const char *name, const void *now, const void *wanted, const char *path, const char *why)
{
    const char *text = plan_text(planning, CONFIG_ACTION_REPLACE, item, name, why);
    plan_find(planning, item, name)->goes = true;
    plan_add_step(
        planning, first,
        &(struct plan_step){
            .action = CONFIG_ACTION_REMOVE, .item = item, .name = name, .text = text, .now = now, .untold = true });
    plan_add_step(
        planning, second,
        &(struct plan_step){
            .action = CONFIG_ACTION_REPLACE, .item = item, .name = name, .text = text, .then = wanted, .path = path });
}

void plan_change(struct planning *planning, enum plan_phase phase, enum config_action action, enum config_item item,
                 const char *name, const void *now, const void *then, const char *path, const char *what)
{
    plan_add_step(planning, phase,
                  &(struct plan_step){
                      .action = action,
                      .item = item,
                      .name = name,
                      .text = plan_text(planning, action, item, name, what),
                      .now = now,
                      .then = then,
                      .path = path,
                  });
}

/* Objects ---------------------------------------------------------------------------------------------------------- */

static struct error *plan_object(struct planning *planning, const struct object_options *wanted, const char *path)
{
    const struct object_options *now = plan_find(planning, CONFIG_ITEM_OBJECT, wanted->id)->now;
    struct value_changes changes = { 0 };
    const char *what;
    if (!now) {
        plan_add(planning, PHASE_OBJECTS, CONFIG_ITEM_OBJECT, wanted->id, wanted, path);
        return NULL;
    }
    struct error *err = plan_diff(planning, &object_options_descriptor, now, wanted, &changes, &what);
    if (err || !changes.count)
        return err;
    if (now->qom_type == wanted->qom_type && object_kinds[now->qom_type]->change)
        plan_change(planning, PHASE_OBJECTS, CONFIG_ACTION_CHANGE, CONFIG_ITEM_OBJECT, wanted->id, now, wanted, path,
                    what);
    else
        plan_replace(planning, PHASE_OBJECTS_GO, PHASE_OBJECTS, CONFIG_ITEM_OBJECT, wanted->id, now, wanted, path,
                     what);
    return NULL;
}

/* Who uses another one was made after it. */
static void plan_objects_that_go(struct planning *planning)
{
    const struct cairn_config *now = planning->request->now;
    for (size_t i = now->objects_count; i-- > 0;) {
        const struct object_options *object = &now->objects[i];
        if (plan_is_over(planning, CONFIG_ITEM_OBJECT, object->id, true))
            plan_remove(planning, PHASE_OBJECTS_GO_LATE, CONFIG_ITEM_OBJECT, object->id, object);
    }
}

static struct error *plan_objects(struct planning *planning)
{
    const struct cairn_config *wanted = planning->request->wanted;
    struct error *err = NULL;
    for (size_t i = 0; i < wanted->objects_count && !err; i++)
        err = plan_object(planning, &wanted->objects[i], arena_printf(planning->arena, "objects.%zu", i));
    plan_objects_that_go(planning);
    return err;
}

/* Bitmaps ---------------------------------------------------------------------------------------------------------- */

static struct error *plan_bitmap(struct planning *planning, const struct block_dirty_bitmap_add *wanted,
                                 const char *path)
{
    const char *name = bitmap_name(planning->arena, wanted);
    const struct thing *node = plan_find(planning, CONFIG_ITEM_NODE, wanted->node);
    const struct block_dirty_bitmap_add *now = plan_find(planning, CONFIG_ITEM_BITMAP, name)->now;
    if (!now || (node && node->goes)) {
        plan_add(planning, PHASE_BITMAPS, CONFIG_ITEM_BITMAP, name, wanted, path);
        return NULL;
    }
    if (now->persistent != wanted->persistent || (wanted->has_granularity && now->granularity != wanted->granularity))
        return error_new("bitmap '%s' cannot change: it has the granularity %u and is %spersistent; remove it first, "
                         "and what it knows with it",
                         name, now->granularity, now->persistent ? "" : "not ");
    if (now->disabled != wanted->disabled)
        plan_change(planning, PHASE_BITMAPS, CONFIG_ACTION_CHANGE, CONFIG_ITEM_BITMAP, name, now, wanted, path,
                    wanted->disabled ? "disabled: false -> true" : "disabled: true -> false");
    return NULL;
}

static struct error *plan_bitmaps(struct planning *planning)
{
    const struct cairn_config *now = planning->request->now;
    const struct cairn_config *wanted = planning->request->wanted;
    struct error *err = NULL;
    for (size_t i = 0; i < wanted->bitmaps_count && !err; i++)
        err = plan_bitmap(planning, &wanted->bitmaps[i], arena_printf(planning->arena, "bitmaps.%zu", i));
    for (size_t i = 0; i < now->bitmaps_count && !err; i++) {
        const char *name = bitmap_name(planning->arena, &now->bitmaps[i]);
        const struct thing *node = plan_find(planning, CONFIG_ITEM_NODE, now->bitmaps[i].node);
        if (!(node && node->goes) && plan_is_over(planning, CONFIG_ITEM_BITMAP, name, false))
            plan_remove(planning, PHASE_BITMAPS_GO, CONFIG_ITEM_BITMAP, name, &now->bitmaps[i]);
    }
    return err;
}

/* Monitors and settings -------------------------------------------------------------------------------------------- */

static struct error *plan_monitor(struct planning *planning, const struct monitor_config *wanted, const char *path)
{
    const struct monitor_config *now = plan_find(planning, CONFIG_ITEM_MONITOR, wanted->path)->now;
    struct value_changes changes = { 0 };
    const char *what;
    if (!now) {
        plan_add(planning, PHASE_MONITORS, CONFIG_ITEM_MONITOR, wanted->path, wanted, path);
        return NULL;
    }
    struct error *err = plan_diff(planning, &monitor_config_descriptor, now, wanted, &changes, &what);
    if (!err && changes.count)
        plan_replace(planning, PHASE_MONITORS_GO, PHASE_MONITORS_GO, CONFIG_ITEM_MONITOR, wanted->path, now, wanted,
                     path, what);
    return err;
}

static struct error *plan_monitors(struct planning *planning)
{
    const struct cairn_config *now = planning->request->now;
    const struct cairn_config *wanted = planning->request->wanted;
    struct error *err = NULL;
    for (size_t i = 0; i < wanted->monitors_count && !err; i++)
        err = plan_monitor(planning, &wanted->monitors[i], arena_printf(planning->arena, "monitors.%zu", i));
    for (size_t i = 0; i < now->monitors_count && !err; i++) {
        if (plan_is_over(planning, CONFIG_ITEM_MONITOR, now->monitors[i].path, false))
            plan_remove(planning, PHASE_MONITORS_GO, CONFIG_ITEM_MONITOR, now->monitors[i].path, &now->monitors[i]);
    }
    return err;
}

/* One that is described no more counts while it was described at the start. */
static bool setting_counts(const struct planning *planning, const char *path, char **name)
{
    *name = xstrndup(path, strcspn(path, ".["));
    for (uint32_t i = 0; i < cairn_config_descriptor.object.count; i++) {
        const struct member_descriptor *member = &cairn_config_descriptor.object.members[i];
        if (strcmp(member->name, *name) == 0)
            return member_present(member, planning->request->wanted) ||
                   plan_is_over(planning, CONFIG_ITEM_SETTING, *name, false);
    }
    return false;
}

static struct error *plan_settings(struct planning *planning)
{
    struct cairn_config now = { 0 };
    struct cairn_config wanted = { 0 };
    struct value_changes changes = { 0 };
    config_take_settings(planning->request->now, &now, planning->arena);
    config_take_settings(planning->request->wanted, &wanted, planning->arena);
    struct error *err = value_diff(&cairn_config_descriptor, &now, &wanted, planning->arena, &changes);
    for (size_t i = 0; i < changes.count && !err; i++) {
        CLEANUP(free) char *name = NULL;
        struct value_changes one = { .paths = &changes.paths[i], .count = 1 };
        if (!setting_counts(planning, changes.paths[i], &name))
            continue;
        const char *what = difference_text(&cairn_config_descriptor, &now, &wanted, &one, planning->arena);
        plan_add_step(planning, PHASE_SETTINGS,
                      &(struct plan_step){
                          .action = CONFIG_ACTION_RESTART,
                          .item = CONFIG_ITEM_SETTING,
                          .name = arena_strdup(planning->arena, name),
                          .text = arena_printf(planning->arena, "needs a restart: %s", what),
                      });
    }
    return err;
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void gather(struct planning *planning, struct plan *plan)
{
    plan->count = 0;
    for (unsigned i = 0; i < PHASES; i++)
        plan->count += planning->phases[i].count;
    plan->steps = arena_array(planning->arena, plan->count, sizeof(*plan->steps));
    size_t at = 0;
    for (unsigned i = 0; i < PHASES; i++) {
        const struct phase_steps *steps = &planning->phases[i];
        if (steps->count)
            memcpy(&plan->steps[at], steps->steps, steps->count * sizeof(*plan->steps));
        at += steps->count;
    }
}

struct error *plan_make(const struct plan_request *request, struct arena *arena, struct plan *plan)
{
    struct planning planning = { .request = request, .arena = arena };
    hash_init(&planning.things);
    take_things(&planning);
    struct error *err = plan_objects(&planning);
    if (!err)
        err = plan_nodes(&planning);
    if (!err)
        err = plan_servers(&planning);
    if (!err)
        err = plan_exports(&planning);
    if (!err)
        err = plan_bitmaps(&planning);
    if (!err)
        err = plan_monitors(&planning);
    if (!err)
        err = plan_settings(&planning);
    if (!err)
        gather(&planning, plan);
    for (unsigned i = 0; i < PHASES; i++)
        free(planning.phases[i].steps);
    hash_fini(&planning.things);
    return err;
}
