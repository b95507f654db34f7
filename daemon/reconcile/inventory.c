#include "daemon/reconcile/inventory.h"

#include "blockcore/base/memory.h"
#include "blockcore/export/export.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/node.h"
#include "blockcore/objects/object.h"
#include "daemon/full_path.h"
#include "daemon/monitor.h"
#include "daemon/reconcile/inventory_private.h"
#include "schema/cairn_descriptors.h"

#include <string.h>

void *inventory_copy(struct inventory *inventory, const struct type_descriptor *type, const void *value,
                     struct arena *arena)
{
    void *copy = full_path_copy(type, value, arena);
    inventory->incomplete = inventory->incomplete || !copy;
    return copy;
}

void inventory_leave_out(struct inventory *inventory, struct arena *arena, const char *sentence)
{
    if (inventory->left_out_count == inventory->left_out_room) {
        size_t room = 2 * inventory->left_out_room + 8;
        const char **longer = arena_array(arena, room, sizeof(*longer));
        if (inventory->left_out_count)
            memcpy(longer, inventory->left_out, inventory->left_out_count * sizeof(*longer));
        inventory->left_out = longer;
        inventory->left_out_room = room;
    }
    inventory->left_out[inventory->left_out_count++] = sentence;
}

static void take_objects(struct inventory *inventory, struct arena *arena)
{
    size_t count = 0;
    for (struct object *object = object_next(NULL); object; object = object_next(object))
        count++;
    struct object_options *objects = arena_array(arena, count, sizeof(*objects));
    count = 0;
    for (struct object *object = object_next(NULL); object; object = object_next(object)) {
        const struct object_options *given = object_options(object);
        if (given && given->qom_type == OBJECT_TYPE_SECRET && !given->u.secret.file) {
            inventory_leave_out(inventory, arena,
                                arena_printf(arena, "secret '%s': its content is not in a file", given->id));
            continue;
        }
        struct object_options *copy =
            given ? inventory_copy(inventory, &object_options_descriptor, given, arena) : NULL;
        if (!copy)
            continue;
        copy->has_if_absent = copy->if_absent = false;
        objects[count++] = *copy;
    }
    inventory->values.has_objects = count > 0;
    inventory->values.objects = objects;
    inventory->values.objects_count = count;
}

static void take_monitors(struct inventory *inventory, struct arena *arena)
{
    size_t count = 0;
    for (struct monitor *monitor = monitor_next(NULL); monitor; monitor = monitor_next(monitor))
        count++;
    struct monitor_config *monitors = arena_array(arena, count, sizeof(*monitors));
    count = 0;
    for (struct monitor *monitor = monitor_next(NULL); monitor; monitor = monitor_next(monitor)) {
        const struct monitor_config *given = monitor_config_of(monitor);
        const struct monitor_config *copy =
            given ? inventory_copy(inventory, &monitor_config_descriptor, given, arena) : NULL;
        if (copy)
            monitors[count++] = *copy;
        else if (!given)
            inventory_leave_out(inventory, arena,
                                arena_printf(arena, "%s: is not of a configuration", monitor_name(monitor)));
    }
    inventory->values.has_monitors = count > 0;
    inventory->values.monitors = monitors;
    inventory->values.monitors_count = count;
}

/* Bitmaps ---------------------------------------------------------------------------------------------------------- */

static size_t count_bitmaps(void)
{
    size_t count = 0;
    for (struct node *node = node_next(NULL); node; node = node_next(node)) {
        for (struct dirty_bitmap *bitmap = dirty_bitmap_next(node, NULL); bitmap;
             bitmap = dirty_bitmap_next(node, bitmap))
            count++;
    }
    return count;
}

static bool can_be_described(struct inventory *inventory, struct arena *arena, const struct node *node,
                             const struct dirty_bitmap *bitmap)
{
    if (*node_name(node) != '#' && !dirty_bitmap_is_inconsistent(bitmap))
        return true;
    /* It is in its image, and comes with it. */
    if (!dirty_bitmap_is_persistent(bitmap))
        inventory_leave_out(inventory, arena,
                            arena_printf(arena, "bitmap '%s' of node '%s', which has no name of its own",
                                         dirty_bitmap_name(bitmap), node_name(node)));
    return false;
}

/* A node has its newest first. */
static size_t take_bitmaps_of(struct inventory *inventory, struct arena *arena, const struct node *node,
                              struct block_dirty_bitmap_add *out)
{
    size_t count = 0;
    for (struct dirty_bitmap *bitmap = dirty_bitmap_next(node, NULL); bitmap;
         bitmap = dirty_bitmap_next(node, bitmap)) {
        if (!can_be_described(inventory, arena, node, bitmap))
            continue;
        memmove(out + 1, out, count * sizeof(*out));
        *out = (struct block_dirty_bitmap_add){
            .node = arena_strdup(arena, node_name(node)),
            .name = arena_strdup(arena, dirty_bitmap_name(bitmap)),
            .has_granularity = true,
            .granularity = dirty_bitmap_granularity(bitmap),
            .has_persistent = dirty_bitmap_is_persistent(bitmap),
            .persistent = dirty_bitmap_is_persistent(bitmap),
            .has_disabled = !dirty_bitmap_is_enabled(bitmap),
            .disabled = !dirty_bitmap_is_enabled(bitmap),
        };
        count++;
    }
    return count;
}

static void take_bitmaps(struct inventory *inventory, struct arena *arena)
{
    struct block_dirty_bitmap_add *bitmaps = arena_array(arena, count_bitmaps(), sizeof(*bitmaps));
    size_t count = 0;
    for (struct node *node = node_next(NULL); node; node = node_next(node)) {
        if (dirty_bitmap_next(node, NULL))
            count += take_bitmaps_of(inventory, arena, node, &bitmaps[count]);
    }
    inventory->values.has_bitmaps = count > 0;
    inventory->values.bitmaps = bitmaps;
    inventory->values.bitmaps_count = count;
}

/* Servers and exports ---------------------------------------------------------------------------------------------- */

static void take_servers(struct inventory *inventory, struct arena *arena)
{
    size_t count = 0;
    for (struct nbd_server *server = nbd_server_next(NULL); server; server = nbd_server_next(server))
        count++;
    struct nbd_server_options *servers = arena_array(arena, count, sizeof(*servers));
    count = 0;
    for (struct nbd_server *server = nbd_server_next(NULL); server; server = nbd_server_next(server)) {
        const struct nbd_server_options *given = nbd_server_options(server);
        struct nbd_server_options *copy =
            given ? inventory_copy(inventory, &nbd_server_options_descriptor, given, arena) : NULL;
        if (copy && strcmp(nbd_server_id(server), NBD_SERVER_DEFAULT_ID) == 0)
            inventory->values.nbd_server = copy;
        else if (copy)
            servers[count++] = *copy;
    }
    inventory->values.has_nbd_servers = count > 0;
    inventory->values.nbd_servers = servers;
    inventory->values.nbd_servers_count = count;
}

static void take_exports(struct inventory *inventory, struct arena *arena)
{
    size_t count = 0;
    for (struct export *export = export_next(NULL); export; export = export_next(export))
        count++;
    struct block_export_options *exports = arena_array(arena, count, sizeof(*exports));
    count = 0;
    for (struct export *export = export_next(NULL); export; export = export_next(export)) {
        const struct block_export_options *given = export_given_options(export);
        if (!given || !export_node(export) || export_is_shutting_down(export))
            continue;
        struct block_export_options *now = inventory_copy(inventory, &block_export_options_descriptor, given, arena);
        if (!now)
            continue;
        now->node_name = arena_strdup(arena, node_name(inventory_look_through(export_node(export))));
        now->has_if_absent = now->if_absent = false;
        exports[count++] = *now;
    }
    inventory->values.has_exports = count > 0;
    inventory->values.exports = exports;
    inventory->values.exports_count = count;
}

void inventory_take(struct inventory *out, const struct cairn_config *settings, struct arena *arena)
{
    *out = (struct inventory){ .values = *settings };
    inventory_nodes(out, arena);
    take_objects(out, arena);
    take_monitors(out, arena);
    take_bitmaps(out, arena);
    take_servers(out, arena);
    take_exports(out, arena);
}
