/* The part of the plan that is about NBD servers, and about exports, which go with the last server that shows them. */
#include "blockcore/base/memory.h"
#include "daemon/path.h"
#include "daemon/reconcile/plan_private.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/compare.h"

#include <string.h>

/* Servers ---------------------------------------------------------------------------------------------------------- */

static bool object_goes(const struct planning *planning, const char *id)
{
    const struct thing *thing = id ? plan_find(planning, CONFIG_ITEM_OBJECT, id) : NULL;
    return thing && thing->goes && thing->now;
}

static bool server_must_go(const struct planning *planning, const struct nbd_server_options *now)
{
    return object_goes(planning, now->tls_creds) || object_goes(planning, now->tls_authz);
}

/* Where the daemon has left its first directory, a server remembers its path in full. */
static const struct nbd_server_options *adapted(struct planning *planning, const struct nbd_server_options *wanted)
{
    if (wanted->addr->type != SOCKET_ADDRESS_TYPE_UNIX)
        return wanted;
    struct nbd_server_options *server = arena_alloc(planning->arena, sizeof(*server));
    struct socket_address *address = arena_alloc(planning->arena, sizeof(*address));
    *server = *wanted;
    *address = *wanted->addr;
    if (!(address->u.unix_.has_abstract && address->u.unix_.abstract)) {
        CLEANUP(free) char *path = path_for_later(address->u.unix_.path);
        address->u.unix_.path = arena_strdup(planning->arena, path);
    }
    server->addr = address;
    return server;
}

static struct error *plan_server(struct planning *planning, const struct nbd_server_options *wanted, const char *path)
{
    const char *id = plan_server_id(wanted);
    const struct nbd_server_options *now = plan_find(planning, CONFIG_ITEM_NBD_SERVER, id)->now;
    const struct nbd_server_options *then = adapted(planning, wanted);
    struct value_changes changes = { 0 };
    const char *what;
    if (!now) {
        plan_add(planning, PHASE_SERVERS, CONFIG_ITEM_NBD_SERVER, id, then, path);
        return NULL;
    }
    struct error *err = plan_diff(planning, &nbd_server_options_descriptor, now, then, &changes, &what);
    if (!err && (changes.count || server_must_go(planning, now)))
        plan_replace(planning, PHASE_SERVERS_GO, PHASE_SERVERS, CONFIG_ITEM_NBD_SERVER, id, now, then, path,
                     changes.count ? what : "its credentials are replaced");
    return err;
}

static void plan_server_that_goes(struct planning *planning, const struct nbd_server_options *now)
{
    const char *id = plan_server_id(now);
    const struct thing *thing = plan_find(planning, CONFIG_ITEM_NBD_SERVER, id);
    if (thing->wanted)
        return;
    if (plan_is_over(planning, CONFIG_ITEM_NBD_SERVER, id, true))
        plan_remove(planning, PHASE_SERVERS_GO, CONFIG_ITEM_NBD_SERVER, id, now);
    else if (server_must_go(planning, now)) /* a client has made it, and it stays */
        plan_replace(planning, PHASE_SERVERS_GO, PHASE_SERVERS, CONFIG_ITEM_NBD_SERVER, id, now, now, NULL,
                     "its credentials are replaced");
}

struct error *plan_servers(struct planning *planning)
{
    const struct cairn_config *now = planning->request->now;
    const struct cairn_config *wanted = planning->request->wanted;
    struct error *err = NULL;
    if (wanted->nbd_server)
        err = plan_server(planning, wanted->nbd_server, "nbd-server");
    for (size_t i = 0; i < wanted->nbd_servers_count && !err; i++)
        err = plan_server(planning, &wanted->nbd_servers[i], arena_printf(planning->arena, "nbd-servers.%zu", i));
    if (now->nbd_server)
        plan_server_that_goes(planning, now->nbd_server);
    for (size_t i = 0; i < now->nbd_servers_count; i++)
        plan_server_that_goes(planning, &now->nbd_servers[i]);
    return err;
}

/* Exports ---------------------------------------------------------------------------------------------------------- */

static bool server_goes(const struct planning *planning, const struct nbd_server_options *now)
{
    return plan_find(planning, CONFIG_ITEM_NBD_SERVER, plan_server_id(now))->goes;
}

/* An export on all servers goes with the last of them. NULL: one stays, or there is none. */
static const char *last_server_that_goes(const struct planning *planning)
{
    const struct cairn_config *now = planning->request->now;
    const char *last = NULL;
    for (size_t i = 0; i < now->nbd_servers_count; i++) {
        if (!server_goes(planning, &now->nbd_servers[i]))
            return NULL;
        last = plan_server_id(&now->nbd_servers[i]);
    }
    if (!now->nbd_server)
        return last;
    return server_goes(planning, now->nbd_server) ? plan_server_id(now->nbd_server) : NULL;
}

/* NULL: it stays where it is shown. One that names its servers is not shown again by one that comes back. */
static const char *server_that_goes(const struct planning *planning, const struct block_export_options *now)
{
    if (!now->u.nbd.has_servers)
        return last_server_that_goes(planning);
    for (size_t i = 0; i < now->u.nbd.servers_count; i++) {
        const struct thing *server = plan_find(planning, CONFIG_ITEM_NBD_SERVER, now->u.nbd.servers[i]);
        if (server && server->goes)
            return now->u.nbd.servers[i];
    }
    return NULL;
}

/* Why an export that is to stay as it is cannot. Its bitmaps hold their nodes. NULL: it can. */
static const char *why_made_again(struct planning *planning, const struct block_export_options *now)
{
    const char *server = server_that_goes(planning, now);
    if (server)
        return arena_printf(planning->arena, "NBD server '%s' is replaced", server);
    if (now->u.nbd.bitmaps_count && plan_is_shaken(planning, now->node_name))
        return "the node of its bitmaps is replaced";
    return NULL;
}

static struct error *plan_export(struct planning *planning, const struct block_export_options *wanted, const char *path)
{
    const struct block_export_options *now = plan_find(planning, CONFIG_ITEM_EXPORT, wanted->id)->now;
    struct value_changes changes = { 0 };
    const char *what;
    if (!now) {
        plan_add(planning, PHASE_EXPORTS, CONFIG_ITEM_EXPORT, wanted->id, wanted, path);
        return NULL;
    }
    struct error *err = plan_diff(planning, &block_export_options_descriptor, now, wanted, &changes, &what);
    if (err)
        return err;
    const char *why = why_made_again(planning, now);
    bool moves = changes.count == 1 && strcmp(changes.paths[0], "node-name") == 0 && !now->u.nbd.bitmaps_count;
    if (!why && moves && now->u.nbd.name)
        plan_change(planning, PHASE_EXPORTS, CONFIG_ACTION_MOVE, CONFIG_ITEM_EXPORT, wanted->id, now, wanted, path,
                    what);
    else if (why || changes.count)
        plan_replace(planning, PHASE_EXPORTS_GO, PHASE_EXPORTS, CONFIG_ITEM_EXPORT, wanted->id, now, wanted, path,
                     changes.count ? what : why);
    return NULL;
}

/* Not described: removed, or a client's, which stays. */
static struct error *plan_export_besides(struct planning *planning, const struct block_export_options *now)
{
    if (plan_find(planning, CONFIG_ITEM_EXPORT, now->id)->wanted)
        return NULL;
    if (plan_is_over(planning, CONFIG_ITEM_EXPORT, now->id, true)) {
        plan_remove(planning, PHASE_EXPORTS_GO, CONFIG_ITEM_EXPORT, now->id, now);
        return NULL;
    }
    const char *server = server_that_goes(planning, now);
    const char *why = why_made_again(planning, now);
    if (server && plan_is_over(planning, CONFIG_ITEM_NBD_SERVER, server, true))
        return error_new(
            "NBD server '%s' cannot be removed: export '%s', which no configuration described, is shown by it", server,
            now->id);
    if (why)
        plan_replace(planning, PHASE_EXPORTS_GO, PHASE_EXPORTS, CONFIG_ITEM_EXPORT, now->id, now, now, NULL, why);
    return NULL;
}

struct error *plan_exports(struct planning *planning)
{
    const struct cairn_config *now = planning->request->now;
    const struct cairn_config *wanted = planning->request->wanted;
    struct error *err = NULL;
    for (size_t i = 0; i < wanted->exports_count && !err; i++)
        err = plan_export(planning, &wanted->exports[i], arena_printf(planning->arena, "exports.%zu", i));
    for (size_t i = 0; i < now->exports_count && !err; i++)
        err = plan_export_besides(planning, &now->exports[i]);
    return err;
}
