#include "blockcore/jobs/stream.h"

#include "blockcore/base/memory.h"
#include "blockcore/filters/cluster.h"
#include "blockcore/filters/copy_on_read.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/flush.h"
#include "blockcore/jobs/chain_copy.h"

#include <errno.h>

#define GRANULE_MIN (64u * 1024)

struct stream {
    struct chain_copy copy;
    struct node *top;    /* the overlay; one of the layers, which keep it, as is the next */
    struct node *bottom; /* NULL: nothing is below what is copied */
    struct node *below;  /* what the overlay is about to be put on; weak */
};

/* Copying -------------------------------------------------------------------------------------------------------- */

static int plan(void *arg, struct range range, struct extents *plan)
{
    struct stream *stream = arg;
    struct chain_copy *copy = &stream->copy;
    int ret = handle_block_status_entered(copy->handle, range, ASK_ALLOCATED | ASK_ZERO, stream->bottom, true, plan);
    for (size_t i = 0; i < plan->count && ret == 0; i++) {
        struct extent *extent = &plan->items[i];
        bool ours = copy_on_read_copies(copy->nodes.filter, extent);
        extent->flags = (ours ? EXTENT_ALLOCATED : 0u) | (extent->flags & EXTENT_ZERO);
    }
    return ret;
}

static int copy_piece(void *arg, struct copier_piece *piece)
{
    struct stream *stream = arg;
    return copy_on_read_populate(stream->copy.nodes.filter, piece->range, &piece->write_failed);
}

/* The end -------------------------------------------------------------------------------------------------------- */

/* What is below the layers that go; false: somebody has changed the chain. */
static bool find_below(const struct stream *stream, struct node **below)
{
    *below = NULL;
    if (!stream->bottom)
        return true;
    *below = node_backing(stream->bottom) ? child_node(node_backing(stream->bottom)) : NULL;
    return chain_contains(stream->top, stream->bottom);
}

/* A job further down may have put something else there, or have taken it away. */
static struct error *check_chain(struct chain_copy *copy)
{
    const struct stream *stream = CONTAINER_OF(copy, struct stream, copy);
    struct node *below;
    if (find_below(stream, &below) && below == stream->below)
        return NULL;
    return error_errno(EAGAIN, "the chain of node '%s' was changed meanwhile", node_name(stream->top));
}

static struct error *switch_graph(struct stream *stream, struct node *below) CO_FN;

static struct error *switch_graph(struct stream *stream, struct node *below)
{
    struct chain_copy *copy = &stream->copy;
    struct child *backing = node_backing(stream->top);
    struct change *change = change_begin();
    struct error *err = NULL;
    if (backing && !below)
        err = change_remove(change, backing);
    else if (backing && child_node(backing) != below)
        err = change_edge(change, backing, below);
    if (!err)
        return chain_copy_switch(copy, change, child_node(node_filtered(copy->nodes.filter)));
    change_abort(change);
    return err;
}

/* All that the overlay showed is its own now, so it reads the same over what its header names before and after. */
static struct error *let_go_of_layers(struct stream *stream, struct node *below) CO_FN;

static struct error *let_go_of_layers(struct stream *stream, struct node *below)
{
    const struct chain_copy *copy = &stream->copy;
    struct error *err = node_flush_in_use(stream->top, copy->owner);
    if (!err && chain_copy_is_over(copy))
        err = error_new("the job was cancelled");
    bool writes = !err && node_backing(stream->top);
    if (writes)
        err = chain_write_backing(stream->top, layer_of(below), copy->backing_file, copy->mask_protocol);
    if (!err)
        err = check_chain(&stream->copy);
    if (!err)
        err = switch_graph(stream, below);
    if (err && writes)
        chain_restore_backing(stream->top, copy->mask_protocol);
    return err;
}

static struct error *switch_over(struct chain_copy *copy)
{
    struct stream *stream = CONTAINER_OF(copy, struct stream, copy);
    struct node *below;
    if (!find_below(stream, &below))
        return error_new("the chain of node '%s' was changed meanwhile", node_name(stream->top));
    if (below)
        node_ref(below);
    stream->below = below;
    struct error *err = let_go_of_layers(stream, below);
    node_unref(below);
    return err;
}

static void let_guests_go(struct chain_copy *copy)
{
    copy_on_read_end(copy->nodes.filter);
}

static const struct chain_copy_ops ops = {
    .driver = {
        .type = JOB_TYPE_STREAM,
        .state_size = sizeof(struct chain_copy *),
        .is_block_job = true,
        .run = chain_copy_run,
        .wake = chain_copy_wake,
        .speed_changed = chain_copy_speed_changed,
        .prepare = chain_copy_prepare,
        .finish = chain_copy_finish,
    },
    .size = sizeof(struct stream),
    .copier = { .plan = plan, .copy = copy_piece },
    .leaves_out = true,
    .switch_over = switch_over,
    .check_chain = check_chain,
    .let_guests_go = let_guests_go,
};

/* Starting ------------------------------------------------------------------------------------------------------- */

static struct node *below_of(const struct node *bottom)
{
    return bottom && node_backing(bottom) ? child_node(node_backing(bottom)) : NULL;
}

static struct error *set_up(struct stream *stream, const struct stream_options *options) CO_FN;

static struct error *set_up(struct stream *stream, const struct stream_options *options)
{
    struct chain_copy_nodes *nodes = &stream->copy.nodes;
    struct node *below = below_of(options->bottom);
    struct error *err = chain_nodes_add(nodes, options->device, below);
    if (!err && below && !options->copy.backing_file) /* better now than when all is copied */
        err = chain_check_name(layer_of(below));
    if (!err)
        err = writable_make(&nodes->writable, options->device);
    if (!err)
        err = copy_on_read_create(options->copy.filter_node_name, stream->copy.owner, options->device, stream->bottom,
                                  nodes->layers, nodes->layers_count, &nodes->filter);
    if (err)
        return err;
    chain_nodes_freeze(nodes, options->device, options->bottom, stream->copy.owner);
    uint64_t granule = max_u64(node_cluster_bytes(stream->top), GRANULE_MIN);
    return chain_copy_begin(&stream->copy, PERM_ALL, node_length(stream->top), granule);
}

struct error *stream_job_start(const struct stream_options *options)
{
    struct chain_copy *copy;
    struct error *err = chain_copy_create(&ops, &options->copy, options->device, &copy);
    if (err)
        return err;
    struct stream *stream = CONTAINER_OF(copy, struct stream, copy);
    stream->top = layer_of(options->device);
    stream->bottom = below_of(options->bottom) ? options->bottom : NULL;
    return chain_copy_start(copy, set_up(stream, options));
}
