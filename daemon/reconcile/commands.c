/* Commands on the configuration as a whole (schema/reconcile.json). */
#include "blockcore/base/memory.h"
#include "blockcore/runtime/pool.h"
#include "daemon/config.h"
#include "daemon/config_files.h"
#include "daemon/reconcile/apply.h"
#include "daemon/reconcile/inventory.h"
#include "daemon/reconcile/reconcile.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MANY 64  /* encoding more of them takes so long that others would notice */
#define STEPS_MANY 256 /* likewise */

struct error *handle_query_config(struct command_context *context, struct config_info *result)
{
    struct inventory inventory;
    inventory_take(&inventory, reconcile_settings(), command_arena(context));
    if (inventory.incomplete)
        return error_new("the configuration is too large for a reply");
    inventory_hide_secrets(&inventory, command_arena(context));
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

/* config-apply ----------------------------------------------------------------------------------------------------- */

struct parsing {
    struct config_source *sources;
    size_t count;
    struct config *config;
    struct error *err;
};

static int parse(void *arg)
{
    struct parsing *parsing = arg;
    parsing->err = config_parse(parsing->sources, parsing->count, &parsing->config);
    return 0;
}

/* On the pool: it may take long. */
static struct error *parse_files(const struct config_text *files, size_t count, struct config **out) CO_FN;

static struct error *parse_files(const struct config_text *files, size_t count, struct config **out)
{
    if (count > CONFIG_FILES_MAX)
        return error_new("more than %d files", CONFIG_FILES_MAX);
    CLEANUP(free) struct config_source *sources = xcalloc(count + 1, sizeof(*sources));
    for (size_t i = 0; i < count; i++)
        sources[i] = (struct config_source){
            .name = files[i].name,
            .text = files[i].text,
            .length = strlen(files[i].text),
        };
    struct parsing parsing = { .sources = sources, .count = count };
    if (co_blocking(NULL, parse, &parsing) < 0)
        return error_errno(ENOMEM, "reading a configuration");
    *out = parsing.config;
    return parsing.err;
}

static struct error *take_config(const struct config_apply_arguments *arguments, struct config **out) CO_FN;

static struct error *take_config(const struct config_apply_arguments *arguments, struct config **out)
{
    if (!!arguments->path + arguments->has_files + !!arguments->config != 1)
        return error_new("one of 'path', 'files' and 'config' must be given");
    if (arguments->path)
        return reconcile_load(&arguments->path, 1, true, out);
    return arguments->has_files ? parse_files(arguments->files, arguments->files_count, out)
                                : config_of_values(arguments->config, out);
}

static void lose_interest(void *arg)
{
    apply_cancel(arg);
}

struct error *handle_config_apply(struct command_context *context, const struct config_apply_arguments *arguments,
                                  struct config_plan *result)
{
    struct apply_wish wish = { 0 };
    struct config *config = NULL;
    command_on_cancel(context, lose_interest, &wish);
    struct error *err = take_config(arguments, &config);
    const struct reconcile_request request = {
        .config = config,
        .dry_run = arguments->dry_run,
        .prune = arguments->prune,
        .asker = context,
        .wish = &wish,
    };
    if (!err)
        err = reconcile_run(&request, command_arena(context), result);
    command_on_cancel(context, NULL, NULL);
    config_destroy(config);
    if (result->steps_count > STEPS_MANY)
        command_expect_large_reply(context);
    return err;
}
