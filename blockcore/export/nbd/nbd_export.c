#include "blockcore/export/nbd/nbd_export.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/export/export_kind.h"
#include "blockcore/export/nbd/bitmaps.h"
#include "blockcore/export/nbd/budget.h"
#include "blockcore/export/nbd/connection.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/export/nbd/shelf.h"
#include "blockcore/graph/handle.h"

#include <string.h>

#define PREFERRED_BLOCK_MIN 4096
#define MINIMUM_BLOCK_MAX 65536 /* NBD protocol, "Block size constraints" */

struct nbd_export {
    struct export *export;
    char *name;
    char *description; /* or NULL */
    bool writable;
    bool writethrough;
    bool allocation_depth;
    struct nbd_account account;
    struct nbd_bitmaps *bitmaps;
    uint64_t number;
    bool everywhere;    /* shown by all servers, those that start later included */
    struct list places; /* on their shelves; none when it is shutting down */
    struct list link;
    struct list connections;
};

static struct {
    struct list all; /* but those that are shutting down */
    uint64_t last_number;
} exports = { .all = LIST_INIT(exports.all) };

const char *nbd_export_name(const struct nbd_export *export)
{
    return export->name;
}

const char *nbd_export_id(const struct nbd_export *export)
{
    return export_id(export->export);
}

uint64_t nbd_export_number(const struct nbd_export *export)
{
    return export->number;
}

static uint16_t flags_of(const struct nbd_export *export, bool single)
{
    unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;
    if (export->writable)
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    else
        flags |= NBD_FLAG_READ_ONLY;
    /* All connections share the node and whatever it caches, so a flush of one covers the writes of all. */
    if (!single)
        flags |= NBD_FLAG_CAN_MULTI_CONN;
    return (uint16_t)flags;
}

/* The node's alignment, unless its length is no multiple of that. Smaller requests work too; they cost more. */
static uint32_t minimum_block(const struct node *node)
{
    uint32_t block = node_limits(node)->request_alignment;
    while (block > MINIMUM_BLOCK_MAX || !is_aligned(node_length(node), block))
        block /= 2;
    return block;
}

static uint32_t preferred_block(const struct node *node, uint32_t minimum)
{
    uint64_t optimal = node_limits(node)->optimal_transfer;
    if (optimal < PREFERRED_BLOCK_MIN || optimal > NBD_PAYLOAD_MAX || !is_power_of_two(optimal))
        optimal = PREFERRED_BLOCK_MIN;
    return (uint32_t)max_u64(optimal, minimum);
}

/* What the node takes in one piece. A request may be longer, up to NBD_PAYLOAD_MAX; then it is cut. */
static uint32_t maximum_block(const struct node *node, uint32_t minimum, uint32_t preferred)
{
    uint64_t limit = node_limits(node)->max_transfer;
    if (limit == 0 || limit > NBD_PAYLOAD_MAX)
        return NBD_PAYLOAD_MAX;
    return (uint32_t)max_u64(align_down(limit, minimum), preferred);
}

static uint64_t contexts_of(const struct nbd_export *export)
{
    uint64_t contexts = nbd_context_bit(NBD_CONTEXT_ALLOCATION);
    if (export->allocation_depth)
        contexts |= nbd_context_bit(NBD_CONTEXT_DEPTH);
    for (unsigned i = 0; i < export->bitmaps->count; i++)
        contexts |= nbd_context_bit(NBD_CONTEXT_BITMAPS + i);
    return contexts;
}

struct nbd_offer nbd_export_offer(const struct nbd_export *export, bool single)
{
    const struct node *node = export_node(export->export);
    uint32_t minimum = minimum_block(node);
    uint32_t preferred = preferred_block(node, minimum);
    return (struct nbd_offer){
        .number = export->number,
        .name = xstrdup(export->name),
        .description = xstrdup_or_null(export->description),
        .bytes = node_length(node),
        .flags = flags_of(export, single),
        .block_minimum = minimum,
        .block_preferred = preferred,
        .block_maximum = maximum_block(node, minimum, preferred),
        .contexts = contexts_of(export),
        .bitmaps = nbd_bitmaps_names(export->bitmaps),
    };
}

struct nbd_export_access nbd_export_attach(struct nbd_export *export, struct list *link)
{
    list_append(&export->connections, link);
    export_enter(export->export);
    return (struct nbd_export_access){
        .handle = export_handle(export->export),
        .writable = export->writable,
        .writethrough = export->writethrough,
        .account = &export->account,
        .block = minimum_block(export_node(export->export)),
        .bitmaps = export->bitmaps,
        .id = export_id(export->export),
    };
}

void nbd_export_detach(struct nbd_export *export, struct list *link)
{
    list_remove(link);
    export_leave(export->export);
}

/* Does @server show an export with these options? Only those that run at the time are asked. */
static bool is_for(const struct block_export_options_nbd *nbd, const struct nbd_server *server)
{
    for (size_t i = 0; i < nbd->servers_count; i++) {
        if (strcmp(nbd->servers[i], nbd_server_id(server)) == 0)
            return true;
    }
    return !nbd->has_servers;
}

static struct error *check_servers(const struct block_export_options_nbd *nbd)
{
    if (nbd->has_servers && nbd->servers_count == 0)
        return error_new("'servers' is empty: nobody would see the export");
    for (size_t i = 0; i < nbd->servers_count; i++) {
        if (!nbd_server_find(nbd->servers[i]))
            return nbd_server_not_running(nbd->servers[i]);
    }
    return nbd_server_next(NULL) ? NULL : nbd_server_not_running(NBD_SERVER_DEFAULT_ID);
}

static struct error *check_name(const struct block_export_options_nbd *nbd, const char *name)
{
    for (struct nbd_server *server = nbd_server_next(NULL); server; server = nbd_server_next(server)) {
        if (is_for(nbd, server) && nbd_shelf_has(nbd_server_shelf(server), name))
            return error_new("NBD server already has export named '%s'", name);
    }
    return NULL;
}

static void show(struct nbd_export *export, const struct block_export_options_nbd *nbd)
{
    for (struct nbd_server *server = nbd_server_next(NULL); server; server = nbd_server_next(server)) {
        if (is_for(nbd, server))
            nbd_shelf_put(nbd_server_shelf(server), export, &export->places);
    }
}

void nbd_exports_fill(struct nbd_shelf *shelf)
{
    struct nbd_export *export;
    list_for_each (export, &exports.all, link) {
        if (export->everywhere)
            nbd_shelf_put(shelf, export, &export->places);
    }
}

static bool is_unseen(const void *state)
{
    const struct nbd_export *export = state;
    return list_empty(&export->places);
}

void nbd_exports_remove_unseen(void)
{
    export_del_all(BLOCK_EXPORT_TYPE_NBD, is_unseen);
}

static struct error *start(struct export *common, const struct block_export_options *options, void **state)
{
    const struct block_export_options_nbd *nbd = &options->u.nbd;
    const char *name = nbd->name ? nbd->name : options->node_name;
    struct nbd_bitmaps *bitmaps;
    struct error *err = nbd_bitmaps_take(export_handle(common), options, &bitmaps);
    if (err)
        return err;
    err = check_servers(nbd);
    if (!err)
        err = check_name(nbd, name);
    if (err) {
        nbd_bitmaps_release(bitmaps);
        return err;
    }

    struct nbd_export *export = xcalloc(1, sizeof(*export));
    export->export = common;
    export->name = xstrdup(name);
    handle_set_entrance(export_handle(common), name);
    export->description = xstrdup_or_null(nbd->description);
    export->writable = options->has_writable && options->writable;
    export->writethrough = options->has_writethrough && options->writethrough;
    export->allocation_depth = nbd->has_allocation_depth && nbd->allocation_depth;
    export->bitmaps = bitmaps;
    export->number = ++exports.last_number;
    export->everywhere = !nbd->has_servers;
    list_init(&export->connections);
    list_init(&export->places);
    list_append(&exports.all, &export->link);
    show(export, nbd);
    *state = export;
    return NULL;
}

/* The name is free again from here on. */
static void shut_down(void *state)
{
    struct nbd_export *export = state;
    list_remove(&export->link);
    nbd_shelves_withdraw(&export->places);
    nbd_export_connections_dismiss(&export->connections);
}

static void destroy(void *state)
{
    struct nbd_export *export = state;
    nbd_bitmaps_release(export->bitmaps);
    free(export->description);
    free(export->name);
    free(export);
}

static void describe_clients(const void *state, struct arena *arena, const struct export_client_statistics **clients,
                             size_t *count)
{
    const struct nbd_export *export = state;
    nbd_export_connections_describe(&export->connections, arena, clients, count);
}

const struct export_kind nbd_export_kind = {
    .type = BLOCK_EXPORT_TYPE_NBD,
    .start = start,
    .describe_clients = describe_clients,
    .shut_down = shut_down,
    .destroy = destroy,
};
