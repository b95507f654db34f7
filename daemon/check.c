#include "daemon/check.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/hash.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/graph/node.h"
#include "blockcore/objects/object.h"
#include "daemon/chardev.h"
#include "daemon/config.h"
#include "daemon/monitor.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/value.h"

#include <stdlib.h>
#include <string.h>

struct check {
    struct arena arena; /* of paths and names */
    struct hash objects;
    struct hash nodes;
    struct hash exports;
    struct hash export_names; /* "SERVER/NAME" */
    struct hash nbd_servers;
    struct hash bitmaps; /* "NODE/NAME" */
    struct hash chardevs;
    struct hash monitors;
    const char *path; /* of what is looked at, in its file, where there is one; else "" */
};

struct name {
    struct hash_link link;
};

struct check *check_create(void)
{
    struct check *check = xcalloc(1, sizeof(*check));
    arena_init(&check->arena, SIZE_MAX);
    hash_init(&check->objects);
    hash_init(&check->nodes);
    hash_init(&check->exports);
    hash_init(&check->export_names);
    hash_init(&check->nbd_servers);
    hash_init(&check->bitmaps);
    hash_init(&check->chardevs);
    hash_init(&check->monitors);
    return check;
}

void check_destroy(struct check *check)
{
    hash_fini(&check->objects);
    hash_fini(&check->nodes);
    hash_fini(&check->exports);
    hash_fini(&check->export_names);
    hash_fini(&check->nbd_servers);
    hash_fini(&check->bitmaps);
    hash_fini(&check->chardevs);
    hash_fini(&check->monitors);
    arena_fini(&check->arena);
    free(check);
}

/* False when it was there before. */
static bool take_name(struct check *check, struct hash *names, const char *name)
{
    if (hash_find_string(names, name))
        return false;
    struct name *entry = arena_alloc(&check->arena, sizeof(*entry));
    hash_insert_string(names, &entry->link, arena_strdup(&check->arena, name));
    return true;
}

/* Nodes ------------------------------------------------------------------------------------------------------- */

static struct error *walk(struct check *check, const struct type_descriptor *type, const void *value);

/* The same, one step further along the path; where there is an error, check->path stays as its place. */
static struct error *walk_into(struct check *check, const char *step, const struct type_descriptor *type,
                               const void *value)
{
    const char *outer = check->path;
    check->path = arena_printf(&check->arena, "%s%s%s", outer, *outer ? "." : "", step);
    struct error *err = walk(check, type, value);
    if (!err)
        check->path = outer;
    return err;
}

static struct error *check_node_name(struct check *check, const char *name)
{
    if (!take_name(check, &check->nodes, name))
        return error_new("Duplicate nodes with node-name='%s'", name);
    return NULL;
}

static struct error *walk_members(struct check *check, const struct type_descriptor *type, const void *object)
{
    for (uint32_t i = 0; i < type->object.count; i++) {
        const struct member_descriptor *member = &type->object.members[i];
        bool leads_on = member->type->kind == VALUE_OBJECT || member->type->kind == VALUE_ALTERNATE;
        if (!leads_on || !member_present(member, object))
            continue;
        struct error *err = walk_into(check, member->name, member->type, value_pointer(member_place(member, object)));
        if (err)
            return err;
    }
    return NULL;
}

static struct error *check_throttle_group(struct check *check, const char *id)
{
    return hash_find_string(&check->objects, id) ? NULL : error_new("Throttle group '%s' does not exist", id);
}

static struct error *walk_object(struct check *check, const struct type_descriptor *type, const void *object)
{
    const struct blockdev_options *node = type == &blockdev_options_descriptor ? object : NULL;
    while (type) {
        struct error *err = walk_members(check, type, object);
        if (err)
            return err;
        const struct type_descriptor *branch = union_branch(type, object);
        object = (const char *)object + type->object.branch_offset;
        type = branch;
    }
    if (node && node->driver == BLOCKDEV_DRIVER_THROTTLE) {
        struct error *err = check_throttle_group(check, node->u.throttle.throttle_group);
        if (err)
            return err;
    }
    /* A node's children are made before it. */
    return node && node->node_name ? check_node_name(check, node->node_name) : NULL;
}

static struct error *walk_alternate(struct check *check, const struct type_descriptor *type, const void *value)
{
    const struct type_descriptor *branch = type->alternate.branches[value_enum(value)].type;
    const void *content = value_pointer((const char *)value + type->alternate.branch_offset);
    bool names_node = type == &blockdev_ref_descriptor || type == &blockdev_ref_or_null_descriptor;
    if (branch->kind == VALUE_OBJECT)
        return walk(check, branch, content);
    if (!names_node || branch->kind != VALUE_STRING)
        return NULL;
    const char *name = content; /* the empty one stands for no node */
    return !*name || hash_find_string(&check->nodes, name) ? NULL : node_not_found(name);
}

static struct error *walk(struct check *check, const struct type_descriptor *type, const void *value)
{
    return type->kind == VALUE_ALTERNATE ? walk_alternate(check, type, value) : walk_object(check, type, value);
}

static struct error *check_root(struct check *check, const struct blockdev_options *options)
{
    if (!options->node_name)
        return error_new("'node-name' must be specified for the root node");
    return walk(check, &blockdev_options_descriptor, options);
}

struct error *check_blockdev(struct check *check, const struct blockdev_options *options)
{
    check->path = "";
    struct error *err = check_root(check, options);
    return *check->path ? error_wrap(err, "%s", check->path) : err;
}

/* The rest ---------------------------------------------------------------------------------------------------- */

struct error *check_object(struct check *check, const struct object_options *options)
{
    struct error *err = object_check(options);
    if (!err && !take_name(check, &check->objects, options->id))
        err = error_new("attempt to add duplicate property '%s' to object (type 'container')", options->id);
    return err;
}

struct error *check_chardev(struct check *check, const struct chardev_options *options)
{
    struct error *err = chardev_check(options);
    if (!err && !take_name(check, &check->chardevs, options->id))
        err = error_new("Duplicate ID '%s' for chardev", options->id);
    return err;
}

struct error *check_monitor(struct check *check, const struct monitor_options *options)
{
    struct error *err = monitor_check(options);
    if (!err && !hash_find_string(&check->chardevs, options->chardev))
        err = error_new("chardev \"%s\" not found", options->chardev);
    if (!err && !take_name(check, &check->monitors, options->chardev))
        err = error_new("Device '%s' is in use", options->chardev);
    return err;
}

struct error *check_nbd_server(struct check *check, const struct nbd_server_options *options)
{
    const char *id = options->id ? options->id : NBD_SERVER_DEFAULT_ID;
    if (options->tls_creds && !hash_find_string(&check->objects, options->tls_creds))
        return error_new("No TLS credentials with id '%s'", options->tls_creds);
    if (options->tls_authz && !options->tls_creds)
        return error_new("tls-authz needs tls-creds");
    if (options->tls_authz && !hash_find_string(&check->objects, options->tls_authz))
        return error_new("tls-authz: object '%s' not found", options->tls_authz);
    return take_name(check, &check->nbd_servers, id) ? NULL : nbd_server_already_running(id);
}

static struct error *check_shown_name(struct check *check, const char *server, const char *name)
{
    if (!take_name(check, &check->export_names, arena_printf(&check->arena, "%s/%s", server, name)))
        return error_new("NBD server already has export named '%s'", name);
    return NULL;
}

static struct error *check_nbd_export(struct check *check, const struct block_export_options *options)
{
    const struct block_export_options_nbd *nbd = &options->u.nbd;
    const char *name = nbd->name ? nbd->name : options->node_name;
    struct error *err = NULL;
    if (check->nbd_servers.count == 0)
        return nbd_server_not_running(NULL);
    for (size_t i = 0; i < nbd->servers_count && !err; i++) {
        if (!hash_find_string(&check->nbd_servers, nbd->servers[i]))
            return nbd_server_not_running(nbd->servers[i]);
        err = check_shown_name(check, nbd->servers[i], name);
    }
    if (nbd->has_servers)
        return err;
    for (struct hash_link *link = hash_next(&check->nbd_servers, NULL); link && !err;
         link = hash_next(&check->nbd_servers, link))
        err = check_shown_name(check, link->key.string, name);
    return err;
}

struct error *check_export(struct check *check, const struct block_export_options *options)
{
    if (!take_name(check, &check->exports, options->id))
        return error_new("Block export id '%s' is already in use", options->id);
    if (!hash_find_string(&check->nodes, options->node_name))
        return node_not_found(options->node_name);
    if (options->iothread && !hash_find_string(&check->objects, options->iothread))
        return error_new("iothread \"%s\" not found", options->iothread);
    return check_nbd_export(check, options);
}

void check_know(struct check *check, enum config_item item, const char *name)
{
    if (item == CONFIG_ITEM_OBJECT)
        (void)take_name(check, &check->objects, name);
    else if (item == CONFIG_ITEM_NODE)
        (void)take_name(check, &check->nodes, name);
    else if (item == CONFIG_ITEM_NBD_SERVER)
        (void)take_name(check, &check->nbd_servers, name);
    else if (item == CONFIG_ITEM_EXPORT)
        (void)take_name(check, &check->exports, name);
}

static struct error *check_config_objects(struct check *check, const struct config *config,
                                          const struct cairn_config *values)
{
    for (size_t i = 0; i < values->objects_count; i++) {
        struct error *err = check_object(check, &values->objects[i]);
        if (err)
            return config_error(config, arena_printf(&check->arena, "objects.%zu", i), err);
    }
    return NULL;
}

static struct error *check_config_nodes(struct check *check, const struct config *config,
                                        const struct cairn_config *values)
{
    for (size_t i = 0; i < values->nodes_count; i++) {
        check->path = arena_printf(&check->arena, "nodes.%zu", i);
        struct error *err = check_root(check, &values->nodes[i]);
        if (err)
            return config_error(config, check->path, err);
    }
    return NULL;
}

static struct error *check_bitmap(struct check *check, const struct block_dirty_bitmap_add *options)
{
    if (!hash_find_string(&check->nodes, options->node))
        return node_not_found(options->node);
    if (!take_name(check, &check->bitmaps, arena_printf(&check->arena, "%s/%s", options->node, options->name)))
        return error_new("Bitmap already exists: %s", options->name);
    return NULL;
}

static struct error *check_config_bitmaps(struct check *check, const struct config *config,
                                          const struct cairn_config *values)
{
    for (size_t i = 0; i < values->bitmaps_count; i++) {
        struct error *err = check_bitmap(check, &values->bitmaps[i]);
        if (err)
            return config_error(config, arena_printf(&check->arena, "bitmaps.%zu", i), err);
    }
    return NULL;
}

static struct error *check_config_servers(struct check *check, const struct config *config,
                                          const struct cairn_config *values)
{
    if (values->nbd_server) {
        struct error *err = check_nbd_server(check, values->nbd_server);
        if (err)
            return config_error(config, "nbd-server", err);
    }
    for (size_t i = 0; i < values->nbd_servers_count; i++) {
        struct error *err = check_nbd_server(check, &values->nbd_servers[i]);
        if (err)
            return config_error(config, arena_printf(&check->arena, "nbd-servers.%zu", i), err);
    }
    return NULL;
}

static struct error *check_config_exports(struct check *check, const struct config *config,
                                          const struct cairn_config *values)
{
    for (size_t i = 0; i < values->exports_count; i++) {
        struct error *err = check_export(check, &values->exports[i]);
        if (err)
            return config_error(config, arena_printf(&check->arena, "exports.%zu", i), err);
    }
    return NULL;
}

struct error *check_config(struct check *check, const struct config *config)
{
    const struct cairn_config *values = config_values(config);
    struct error *err = check_config_objects(check, config, values);
    if (!err)
        err = check_config_nodes(check, config, values);
    if (!err)
        err = check_config_bitmaps(check, config, values);
    if (!err)
        err = check_config_servers(check, config, values);
    if (!err)
        err = check_config_exports(check, config, values);
    return err;
}
