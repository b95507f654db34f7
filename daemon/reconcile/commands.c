/* Commands on the configuration as a whole (schema/reconcile.json). */
#include "daemon/reconcile/inventory.h"
#include "daemon/reconcile/reconcile.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#include <stdlib.h>

#define NODES_MANY 64 /* encoding more of them takes so long that others would notice */

struct error *handle_query_config(struct command_context *context, struct config_info *result)
{
    struct inventory inventory;
    inventory_take(&inventory, reconcile_settings(), command_arena(context));
    if (inventory.values.nodes_count > NODES_MANY)
        command_expect_large_reply(context);
    struct cairn_config *config = arena_alloc(command_arena(context), sizeof(*config));
    *config = inventory.values;
    *result = (struct config_info){
        .config = config,
        .left_out = inventory.left_out,
        .left_out_count = inventory.left_out_count,
    };
    return NULL;
}
