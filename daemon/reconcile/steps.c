#include "daemon/reconcile/steps.h"

#include "blockcore/base/memory.h"
#include "blockcore/export/export.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/objects/object.h"
#include "blockcore/runtime/coroutine.h"
#include "daemon/bitmap.h"
#include "daemon/config.h"
#include "daemon/monitor.h"
#include "daemon/reconcile/apply.h"
#include "daemon/reconcile/in_the_way.h"
#include "daemon/reconcile/renew.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/copy.h"
#include "schema/codec/value.h"

#include <stdlib.h>
#include <string.h>

/* Each kind of thing goes from one description to another, either of which may be NULL: it is not there. To undo a step
 * is to go the other way. */

/* Objects ---------------------------------------------------------------------------------------------------------- */

/* What is not said of limits is none, which has to be said when they change. */
static void say_all_limits(struct throttle_limits *limits)
{
    for (uint32_t i = 0; i < throttle_limits_descriptor.object.count; i++) {
        const struct member_descriptor *member = &throttle_limits_descriptor.object.members[i];
        char *object = (char *)limits;
        const bool said = true;
        if (member_present(member, object))
            continue;
        memset(object + member->offset, 0, member->type->size);
        if (member->name_length > 7 && strcmp(member->name + member->name_length - 7, "-length") == 0)
            object[member->offset] = 1; /* of a burst, in seconds */
        memcpy(object + member->has_offset, &said, sizeof(said));
    }
}

/* A property that is not described any more gets its default. */
static struct error *say_defaults(struct object_options *given, const struct object_options *from)
{
    const struct type_descriptor *type = object_options_descriptor.object.branches[given->qom_type];
    char *object = (char *)&given->u;
    for (uint32_t i = 0; i < type->object.count; i++) {
        const struct member_descriptor *member = &type->object.members[i];
        const bool said = true;
        if (member_present(member, object) || !member_present(member, &from->u))
            continue;
        if (!member_default(member) || member->has_offset == DESCRIPTOR_NO_OFFSET)
            return error_new("'%s' cannot be taken back", member->name);
        memcpy(object + member->offset, member_default(member), member->type->size);
        memcpy(object + member->has_offset, &said, sizeof(said));
    }
    return NULL;
}

static struct error *change_object(const struct object_options *from, const struct object_options *to)
{
    struct object *object = object_find(to->id);
    if (!object)
        return error_new("object '%s' not found", to->id);
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    struct object_options *given = value_copy(&object_options_descriptor, to, &arena);
    if (given->qom_type == OBJECT_TYPE_THROTTLE_GROUP) {
        struct throttle_limits *limits = arena_alloc(&arena, sizeof(*limits));
        *limits = given->u.throttle_group.limits ? *given->u.throttle_group.limits : (struct throttle_limits){ 0 };
        say_all_limits(limits);
        given->u.throttle_group.limits = limits;
    }
    struct error *err = say_defaults(given, from);
    if (!err)
        err = object_change(object, given, to);
    arena_fini(&arena);
    return err;
}

static struct error *object_goes(const struct plan_step *step, const void *from, const void *to) CO_FN;

static struct error *object_goes(const struct plan_step *step, const void *from, const void *to)
{
    if (!from)
        return object_add(to);
    return to ? change_object(from, to) : object_del(step->name);
}

/* Nodes ------------------------------------------------------------------------------------------------------------ */

static struct error *node_goes(const struct plan_step *step, const void *from, const void *to, struct step_state *state)
    CO_FN;

static struct error *node_goes(const struct plan_step *step, const void *from, const void *to, struct step_state *state)
{
    if (!from)
        return blockdev_add(to);
    if (to)
        return node_renew(from, to, state->wish, &state->lost);
    /* Whose users alone kept it, goes with them. */
    return node_find(step->name) ? blockdev_del(step->name) : NULL;
}

static struct error *reopen(const struct plan_step *steps, size_t count, bool back) CO_FN;

static struct error *reopen(const struct plan_step *steps, size_t count, bool back)
{
    CLEANUP(free) struct blockdev_options *options = xcalloc(count, sizeof(*options));
    for (size_t i = 0; i < count; i++)
        options[i] = *(const struct blockdev_options *)(back ? steps[i].now : steps[i].then);
    return blockdev_reopen(options, count);
}

/* Bitmaps ---------------------------------------------------------------------------------------------------------- */

static struct dirty_bitmap *find_bitmap(const struct block_dirty_bitmap_add *options)
{
    const struct node *node = node_find(options->node);
    return node ? dirty_bitmap_find(node, options->name) : NULL;
}

static struct error *remove_bitmap(const struct block_dirty_bitmap_add *options) CO_FN;

static struct error *remove_bitmap(const struct block_dirty_bitmap_add *options)
{
    return bitmap_remove(&(struct block_dirty_bitmap){ .node = options->node, .name = options->name });
}

static struct error *bitmap_goes(const void *from, const void *to, struct step_state *state) CO_FN;

static struct error *bitmap_goes(const void *from, const void *to, struct step_state *state)
{
    if (!to)
        return remove_bitmap(from);
    const struct dirty_bitmap *there = from ? NULL : find_bitmap(to);
    state->was_there = there;
    state->was_disabled = there && !dirty_bitmap_is_enabled(there);
    return bitmap_ensure(to);
}

/* The one that an image brought along stays, as it was. */
static struct error *bitmap_back(const struct plan_step *step, const struct step_state *state) CO_FN;

static struct error *bitmap_back(const struct plan_step *step, const struct step_state *state)
{
    struct step_state ignored = { 0 };
    if (!state->was_there)
        return bitmap_goes(step->then, step->now, &ignored);
    struct dirty_bitmap *bitmap = find_bitmap(step->then);
    if (bitmap)
        dirty_bitmap_set_enabled(bitmap, !state->was_disabled);
    return NULL;
}

/* Servers, exports, monitors --------------------------------------------------------------------------------------- */

static struct error *server_goes(const struct plan_step *step, const void *to) CO_FN;

static struct error *server_goes(const struct plan_step *step, const void *to)
{
    return to ? nbd_server_add(to) : nbd_server_stop(step->name);
}

static struct error *remove_export(const char *id, struct step_state *state) CO_FN;

static struct error *remove_export(const char *id, struct step_state *state)
{
    struct error *err = export_del(id, BLOCK_EXPORT_REMOVE_MODE_HARD);
    state->lost = !err && export_find(id);
    return state->lost ? error_new("requests of export '%s' have not ended in time; it is gone when they have", id)
                       : err;
}

/* Clients know the length, and cannot be told of another one. */
static struct error *make_again(const struct block_export_options *from, const struct block_export_options *to,
                                struct step_state *state) CO_FN;

static struct error *make_again(const struct block_export_options *from, const struct block_export_options *to,
                                struct step_state *state)
{
    struct error *err = remove_export(from->id, state);
    if (err)
        return err;
    err = export_add(to);
    if (err) {
        struct error *back = export_add(from);
        state->lost = back;
        err = back ? error_wrap(err, "export '%s' is lost (%s)", from->id, error_message(back)) : err;
        error_free(back);
    }
    return err;
}

struct moving {
    struct node *node;
    struct node *other;
    struct handle *handle;
};

static struct error *replace(void *arg) CO_FN;

static struct error *replace(void *arg)
{
    const struct moving *moving = arg;
    return node_replace(moving->node, moving->other, moving->handle);
}

/* As long as its requests do not end, it can be cancelled. */
static struct error *move_handle(struct node *node, struct node *other, struct handle *handle, struct apply_wish *wish)
    CO_FN;

static struct error *move_handle(struct node *node, struct node *other, struct handle *handle, struct apply_wish *wish)
{
    struct moving moving = { .node = node_ref(node), .other = node_ref(other), .handle = handle };
    struct error *err = apply_run(wish, "moving an export", replace, &moving);
    node_unref(other);
    node_unref(node);
    return err;
}

/* Its clients stay, if the other node is as long. */
static struct error *move_export(const struct block_export_options *from, const struct block_export_options *to,
                                 struct step_state *state) CO_FN;

static struct error *move_export(const struct block_export_options *from, const struct block_export_options *to,
                                 struct step_state *state)
{
    struct export *export = export_find(to->id);
    struct handle *handle = export ? export_handle(export) : NULL;
    struct node *node = handle ? export_node(export) : NULL;
    struct node *other = node_find(to->node_name);
    if (!handle)
        return error_new("Export '%s' is not found", to->id);
    if (!other)
        return node_not_found(to->node_name);
    struct error *err = in_the_way_of_others(node); /* since the plan was made */
    if (err)
        return err;
    return node_length(node) == node_length(other) ? move_handle(node, other, handle, state->wish)
                                                   : make_again(from, to, state);
}

static struct error *export_goes(const struct plan_step *step, const void *from, const void *to,
                                 struct step_state *state) CO_FN;

static struct error *export_goes(const struct plan_step *step, const void *from, const void *to,
                                 struct step_state *state)
{
    if (!from)
        return export_add(to);
    return to ? move_export(from, to, state) : remove_export(step->name, state);
}

static struct error *monitor_goes(const struct plan_step *step, const void *to, struct command_context *asker) CO_FN;

static struct error *monitor_goes(const struct plan_step *step, const void *to, struct command_context *asker)
{
    return to ? monitor_add_config(to) : monitor_remove_config(step->name, asker);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static struct error *go(const struct plan_step *step, const void *from, const void *to, struct step_state *state,
                        struct command_context *asker) CO_FN;

static struct error *go(const struct plan_step *step, const void *from, const void *to, struct step_state *state,
                        struct command_context *asker)
{
    switch (step->item) {
    case CONFIG_ITEM_OBJECT:
        return object_goes(step, from, to);
    case CONFIG_ITEM_NODE:
        return node_goes(step, from, to, state);
    case CONFIG_ITEM_BITMAP:
        return bitmap_goes(from, to, state);
    case CONFIG_ITEM_NBD_SERVER:
        return server_goes(step, to);
    case CONFIG_ITEM_EXPORT:
        return export_goes(step, from, to, state);
    case CONFIG_ITEM_MONITOR:
        return monitor_goes(step, to, asker);
    case CONFIG_ITEM_SETTING:
    default:
        return NULL;
    }
}

struct error *steps_take(const struct plan_step *steps, struct step_state *states, size_t count,
                         struct command_context *asker)
{
    if (steps->action == CONFIG_ACTION_REOPEN)
        return reopen(steps, count, false);
    return go(steps, steps->now, steps->then, states, asker);
}

struct error *steps_undo(const struct plan_step *steps, const struct step_state *states, size_t count,
                         struct command_context *asker)
{
    struct step_state ignored = { 0 };
    if (steps->action == CONFIG_ACTION_REOPEN)
        return reopen(steps, count, true);
    if (steps->item == CONFIG_ITEM_BITMAP)
        return bitmap_back(steps, states);
    return go(steps, steps->then, steps->now, &ignored, asker);
}
