/* Commands for exports and the NBD server (schema/block-export.json). */
#include "blockcore/export/export.h"

#include "blockcore/base/arena.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/graph/node.h"
#include "daemon/socket_address.h"
#include "schema/cairn_commands.h"

#include <ctype.h>
#include <string.h>

#define ID_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

struct error *handle_nbd_server_start(struct command_context *context,
                                      const struct nbd_server_start_arguments *arguments)
{
    (void)context;
    if (arguments->if_absent && nbd_server_find(arguments->id))
        return NULL;
    struct socket_address address = socket_address_of_legacy(arguments->addr);
    return nbd_server_start(&(struct nbd_server_options){
        .id = arguments->id,
        .addr = &address,
        .has_handshake_max_seconds = arguments->has_handshake_max_seconds,
        .handshake_max_seconds = arguments->handshake_max_seconds,
        .tls_creds = arguments->tls_creds,
        .tls_authz = arguments->tls_authz,
        .has_max_connections = arguments->has_max_connections,
        .max_connections = arguments->max_connections,
    });
}

struct error *handle_nbd_server_stop(struct command_context *context, const struct nbd_server_stop_arguments *arguments)
{
    (void)context;
    return arguments->if_present && !nbd_server_find(arguments->id) ? NULL : nbd_server_stop(arguments->id);
}

struct error *handle_query_nbd_servers(struct command_context *context, struct nbd_server_info_list *result)
{
    struct arena *arena = command_arena(context);
    size_t count = 0;
    for (struct nbd_server *server = nbd_server_next(NULL); server; server = nbd_server_next(server))
        count++;
    result->items = arena_array(arena, count, sizeof(*result->items));
    result->count = 0;
    for (struct nbd_server *server = nbd_server_next(NULL); server; server = nbd_server_next(server))
        nbd_server_describe(server, arena, &result->items[result->count++]);
    return NULL;
}

static bool is_there(const struct block_export_options *wanted)
{
    const struct export *export = export_find(wanted->id);
    return export && export_type(export) == wanted->type && !export_is_shutting_down(export) &&
           strcmp(export_node_name(export), wanted->node_name) == 0;
}

struct error *handle_block_export_add(struct command_context *context, const struct block_export_options *arguments)
{
    (void)context;
    if (arguments->if_absent && is_there(arguments))
        return NULL;
    return export_add(arguments);
}

struct error *handle_block_export_del(struct command_context *context,
                                      const struct block_export_del_arguments *arguments)
{
    (void)context;
    return arguments->if_present && !export_find(arguments->id) ? NULL : export_del(arguments->id, arguments->mode);
}

struct error *handle_query_block_exports(struct command_context *context, struct block_export_info_list *result)
{
    struct arena *arena = command_arena(context);
    size_t count = 0;
    for (struct export *export = export_next(NULL); export; export = export_next(export))
        count++;
    struct block_export_info *infos = arena_array(arena, count, sizeof(*infos));
    count = 0;
    for (struct export *export = export_next(NULL); export; export = export_next(export)) {
        infos[count++] = (struct block_export_info){
            .id = arena_strdup(arena, export_id(export)),
            .type = export_type(export),
            .node_name = arena_strdup(arena, export_node_name(export)),
            .shutting_down = export_is_shutting_down(export),
        };
    }
    *result = (struct block_export_info_list){ .items = infos, .count = count };
    return NULL;
}

/* The older commands ------------------------------------------------------------------------------------------- */

/* An id is what the schema takes for one. */
static struct error *check_id(const char *id)
{
    size_t length = strlen(id);
    bool is_id = isalpha((unsigned char)*id) && strspn(id, ID_CHARACTERS) == length;
    return is_id ? NULL : error_new("Invalid block export id '%s'", id);
}

struct error *handle_nbd_server_add(struct command_context *context, const struct nbd_server_add_options *arguments)
{
    (void)context;
    if (!nbd_server_find(NULL))
        return nbd_server_not_running(NULL);
    const char *name = arguments->name ? arguments->name : arguments->device;
    struct error *err = check_id(name);
    if (err)
        return err;
    const struct node *node = node_find(arguments->device);
    struct block_dirty_bitmap_or_str bitmap = {
        .kind = BLOCK_DIRTY_BITMAP_OR_STR_KIND_LOCAL,
        .u.local = arguments->bitmap,
    };
    struct block_export_options options = {
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = name,
        .node_name = arguments->device,
        .has_writable = true,
        .writable = arguments->has_writable && arguments->writable && node && !node_is_read_only(node),
    };
    options.u.nbd.name = name;
    options.u.nbd.description = arguments->description;
    options.u.nbd.has_bitmaps = arguments->bitmap;
    options.u.nbd.bitmaps = &bitmap;
    options.u.nbd.bitmaps_count = arguments->bitmap ? 1 : 0;
    return export_add(&options);
}

struct error *handle_nbd_server_remove(struct command_context *context,
                                       const struct nbd_server_remove_arguments *arguments)
{
    (void)context;
    return nbd_server_find(NULL) ? export_del(arguments->name, arguments->mode) : nbd_server_not_running(NULL);
}
