/* block-stream (schema/block-commit.json). */
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"
#include "blockcore/jobs/chain_copy.h"
#include "blockcore/jobs/job.h"
#include "blockcore/jobs/stream.h"
#include "schema/cairn_commands.h"

#include <inttypes.h>

static struct error *find(const char *name, struct node **out)
{
    *out = node_find(name);
    return *out ? NULL : error_new("Cannot find device='%s' nor node-name='%s'", name, name);
}

static struct error *check_arguments(const struct block_stream_arguments *arguments)
{
    if (arguments->base && arguments->base_node)
        return error_new("'base' and 'base-node' cannot be specified at the same time");
    if (arguments->base && arguments->bottom)
        return error_new("'base' and 'bottom' cannot be specified at the same time");
    if (arguments->bottom && arguments->base_node)
        return error_new("'bottom' and 'base-node' cannot be specified at the same time");
    if (!arguments->job_id)
        return error_new("An explicit job ID is required for this node");
    if (arguments->has_speed && arguments->speed < 0)
        return error_new("speed: expected a non-negative value, found %" PRId64, arguments->speed);
    return NULL;
}

static struct error *find_base(const struct block_stream_arguments *arguments, struct node *device, struct node **base)
{
    *base = NULL;
    if (arguments->base) {
        *base = chain_find_file(device, arguments->base);
        if (!*base || *base == layer_of(device))
            return error_new("Can't find '%s' in the backing chain", arguments->base);
    }
    if (arguments->base_node) {
        struct error *err = find(arguments->base_node, base);
        if (err)
            return err;
        if (*base == device || !chain_contains(device, *base) || layer_of(*base) == layer_of(device))
            return error_new("Node '%s' is not a backing image of '%s'", arguments->base_node, arguments->device);
    }
    return NULL;
}

static struct error *find_bottom(const struct block_stream_arguments *arguments, struct node *device,
                                 struct node **bottom)
{
    *bottom = NULL;
    if (arguments->bottom) {
        struct error *err = find(arguments->bottom, bottom);
        if (err)
            return err;
        if (node_driver(*bottom)->kind == DRIVER_FILTER)
            return error_new("Node '%s' is a filter, use a non-filter node as 'bottom'", arguments->bottom);
        if (!chain_contains(device, *bottom))
            return error_new("Node '%s' is not in a chain starting from '%s'", arguments->bottom, arguments->device);
        return NULL;
    }
    struct node *base;
    struct error *err = find_base(arguments, device, &base);
    if (!err && base)
        *bottom = chain_find_overlay(device, layer_of(base));
    return err;
}

struct error *handle_block_stream(struct command_context *context, const struct block_stream_arguments *arguments)
{
    (void)context;
    struct stream_options options = { .copy = {
                                          .id = arguments->job_id,
                                          .flags = (arguments->auto_finalize ? 0u : JOB_MANUAL_FINALIZE) |
                                                   (arguments->auto_dismiss ? 0u : JOB_MANUAL_DISMISS),
                                          .backing_file = arguments->backing_file,
                                          .mask_protocol = arguments->backing_mask_protocol,
                                          .filter_node_name = arguments->filter_node_name,
                                          .speed = arguments->has_speed ? (uint64_t)arguments->speed : 0,
                                          .on_error = arguments->on_error,
                                      } };
    struct error *err = check_arguments(arguments);
    if (!err)
        err = find(arguments->device, &options.device);
    if (!err)
        err = find_bottom(arguments, options.device, &options.bottom);
    if (!err && arguments->backing_file && !(options.bottom && node_backing(options.bottom)))
        err = error_new("backing file specified, but streaming the entire chain");
    return err ? err : stream_job_start(&options);
}
