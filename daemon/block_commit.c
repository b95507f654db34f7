/* block-commit (schema/block-commit.json). */
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"
#include "blockcore/jobs/chain_copy.h"
#include "blockcore/jobs/commit.h"
#include "blockcore/jobs/job.h"
#include "blockcore/jobs/mirror.h"
#include "schema/cairn_commands.h"

#include <inttypes.h>
#include <string.h>

struct committing {
    const struct block_commit_arguments *arguments;
    struct node *device;
    struct node *top;
    struct node *base;
};

static struct error *find(const char *name, struct node **out)
{
    *out = node_find(name);
    return *out ? NULL : error_new("Cannot find device='' nor node-name='%s'", name);
}

static struct error *find_top(struct committing *committing)
{
    const struct block_commit_arguments *arguments = committing->arguments;
    committing->top = committing->device;
    if (arguments->top_node && arguments->top)
        return error_new("'top-node' and 'top' are mutually exclusive");
    if (arguments->top_node) {
        struct error *err = find(arguments->top_node, &committing->top);
        if (err || chain_contains(committing->device, committing->top))
            return err;
        return error_new("'%s' is not in this backing file chain", arguments->top_node);
    }
    if (!arguments->top || strcmp(node_filename(committing->device), arguments->top) == 0)
        return NULL;
    committing->top = chain_find_file(committing->device, arguments->top);
    return committing->top ? NULL : error_new("Top image file %s not found", arguments->top);
}

/* The last one of the chain. */
static struct error *find_last(struct committing *committing)
{
    struct node *layer = layer_of(committing->top);
    if (!node_backing(layer))
        return error_new("There is no backing image below node '%s'", node_name(committing->top));
    while (node_backing(layer))
        layer = layer_of(child_node(node_backing(layer)));
    committing->base = layer;
    return NULL;
}

static struct error *find_base(struct committing *committing)
{
    const struct block_commit_arguments *arguments = committing->arguments;
    if (arguments->base_node && arguments->base)
        return error_new("'base-node' and 'base' are mutually exclusive");
    if (arguments->base_node) {
        struct error *err = find(arguments->base_node, &committing->base);
        if (err || chain_contains(committing->top, committing->base))
            return err;
        return error_new("'%s' is not in this backing file chain", arguments->base_node);
    }
    if (!arguments->base)
        return find_last(committing);
    committing->base = chain_find_file(committing->top, arguments->base);
    return committing->base ? NULL : error_new("Can't find '%s' in the backing chain", arguments->base);
}

static struct error *find_nodes(struct committing *committing)
{
    committing->device = node_find(committing->arguments->device);
    if (!committing->device)
        return error_set_class(error_new("Device '%s' not found", committing->arguments->device),
                               ERROR_DEVICE_NOT_FOUND);
    struct error *err = find_top(committing);
    if (!err)
        err = find_base(committing);
    if (!err && layer_of(committing->top) == layer_of(committing->base))
        err = error_new("cannot commit an image into itself");
    return err;
}

static struct error *check_arguments(const struct block_commit_arguments *arguments)
{
    if (arguments->has_speed && arguments->speed < 0)
        return error_new("speed: expected a non-negative value, found %" PRId64, arguments->speed);
    return NULL;
}

/* Clients switch on the class of the error for a device that is not there, so that comes first. */
static struct error *check_job_id(const struct block_commit_arguments *arguments)
{
    return arguments->job_id ? NULL : error_new("An explicit job ID is required for this node");
}

static unsigned flags_of(const struct block_commit_arguments *arguments)
{
    return (arguments->auto_finalize ? 0u : JOB_MANUAL_FINALIZE) | (arguments->auto_dismiss ? 0u : JOB_MANUAL_DISMISS);
}

static uint64_t speed_of(const struct block_commit_arguments *arguments)
{
    return arguments->has_speed ? (uint64_t)arguments->speed : 0;
}

static struct error *CO_FN commit_active(const struct committing *committing, bool is_active)
{
    const struct block_commit_arguments *arguments = committing->arguments;
    if (arguments->backing_file)
        return error_new("'backing-file' specified, but 'top' %s",
                         is_active ? "is the active layer" : "has a writer on it");
    const struct mirror_options options = {
        .id = arguments->job_id,
        .flags = flags_of(arguments),
        .source = committing->top,
        .target = committing->base,
        .sync = MIRROR_SYNC_MODE_FULL,
        .copy_mode = MIRROR_COPY_MODE_BACKGROUND,
        .filter_node_name = arguments->filter_node_name,
        .speed = speed_of(arguments),
        .on_source_error = arguments->on_error,
        .on_target_error = arguments->on_error,
        .is_commit = true,
    };
    return mirror_job_start(&options, NULL);
}

static struct error *CO_FN commit_layers(const struct committing *committing)
{
    const struct block_commit_arguments *arguments = committing->arguments;
    const struct commit_options options = {
        .copy = {
            .id = arguments->job_id,
            .flags = flags_of(arguments),
            .backing_file = arguments->backing_file,
            .mask_protocol = arguments->backing_mask_protocol,
            .filter_node_name = arguments->filter_node_name,
            .speed = speed_of(arguments),
            .on_error = arguments->on_error,
        },
        .top = committing->top,
        .base = committing->base,
    };
    return commit_job_start(&options);
}

struct error *handle_block_commit(struct command_context *context, const struct block_commit_arguments *arguments)
{
    (void)context;
    struct committing committing = { .arguments = arguments };
    struct error *err = check_arguments(arguments);
    if (!err)
        err = find_nodes(&committing);
    if (!err)
        err = check_job_id(arguments);
    if (err)
        return err;
    bool is_active = layer_of(committing.top) == layer_of(committing.device);
    if (is_active || (node_permissions_held(committing.top) & PERM_WRITE))
        return commit_active(&committing, is_active);
    return commit_layers(&committing);
}
