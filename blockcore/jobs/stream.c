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
    char *backing_file;
    bool mask_protocol;
};

static struct stream *stream_of(struct job *job)
{
    return *(struct stream **)job_state(job);
}

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

static const struct chain_copy_ops ops = {
    .copier = { .plan = plan, .copy = copy_piece },
    .leaves_out = true,
};

static struct error *run(struct job *job)
{
    return chain_copy_run(&stream_of(job)->copy);
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

static struct error *switch_graph(struct stream *stream, struct node *below) CO_FN;

static struct error *switch_graph(struct stream *stream, struct node *below)
{
    struct chain_copy *copy = &stream->copy;
    struct child *backing = node_backing(stream->top);
    struct change *change = change_begin();
    struct error *err = chain_copy_leave(copy, change, child_node(node_filtered(copy->nodes.filter)));
    if (!err && backing && !below)
        err = change_remove(change, backing);
    else if (!err && backing && child_node(backing) != below)
        err = change_edge(change, backing, below);
    if (!err)
        return change_commit(change);
    change_abort(change);
    return err;
}

/* All that the overlay showed is its own now, so it reads the same over what its header names before and after. */
static struct error *let_go_of_layers(struct stream *stream, struct node *below) CO_FN;

static struct error *let_go_of_layers(struct stream *stream, struct node *below)
{
    struct error *err = node_flush_in_use(stream->top, stream->copy.owner);
    if (!err && node_backing(stream->top))
        err = chain_write_backing(stream->top, layer_of(below), stream->backing_file, stream->mask_protocol);
    if (!err)
        err = switch_graph(stream, below);
    stream->copy.switched = !err;
    return err;
}

static struct error *prepare(struct job *job)
{
    struct stream *stream = stream_of(job);
    struct node *below;
    if (!find_below(stream, &below))
        return error_new("the chain of node '%s' was changed meanwhile", node_name(stream->top));
    if (below)
        node_ref(below);
    struct error *err = let_go_of_layers(stream, below);
    node_unref(below);
    return err;
}

static void end(struct stream *stream) CO_FN;

static void end(struct stream *stream)
{
    free(steal(&stream->backing_file));
    chain_copy_end(&stream->copy);
}

static void finish(struct job *job, bool success)
{
    (void)success;
    struct stream *stream = stream_of(job);
    *(struct stream **)job_state(job) = NULL;
    end(stream);
}

static void wake(struct job *job)
{
    if (stream_of(job))
        chain_copy_wake(&stream_of(job)->copy);
}

static void speed_changed(struct job *job)
{
    const struct stream *stream = stream_of(job);
    if (stream && stream->copy.copier)
        copier_set_speed(stream->copy.copier, job_speed(job));
}

static const struct job_driver stream_driver = {
    .type = JOB_TYPE_STREAM,
    .state_size = sizeof(struct stream *),
    .is_block_job = true,
    .run = run,
    .wake = wake,
    .speed_changed = speed_changed,
    .prepare = prepare,
    .finish = finish,
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
    struct error *err = chain_nodes_add(nodes, options->device, below_of(options->bottom));
    if (!err)
        err = writable_make(&nodes->writable, options->device);
    if (!err)
        err = copy_on_read_create(options->filter_node_name, stream->copy.owner, options->device, stream->bottom,
                                  nodes->layers, nodes->layers_count, &nodes->filter);
    if (err)
        return err;
    uint64_t granule = max_u64(node_cluster_bytes(stream->top), GRANULE_MIN);
    return chain_copy_begin(&stream->copy, PERM_ALL, node_length(stream->top), granule, options->speed);
}

struct error *stream_job_start(const struct stream_options *options)
{
    struct job *job;
    struct node *top = layer_of(options->device);
    struct error *err = job_create(&stream_driver, options->id, options->flags, NULL, &job);
    if (err)
        return err;
    struct stream *stream = xcalloc(1, sizeof(*stream));
    chain_copy_init(&stream->copy, &ops, job);
    stream->copy.on_error = options->on_error;
    stream->copy.nodes.place = node_ref(options->device);
    stream->top = top;
    stream->bottom = below_of(options->bottom) ? options->bottom : NULL;
    stream->backing_file = xstrdup_or_null(options->backing_file);
    stream->mask_protocol = options->mask_protocol;
    err = set_up(stream, options);
    if (err) {
        error_free(job_cancel(job, true));
        end(stream);
        return err;
    }
    *(struct stream **)job_state(job) = stream;
    error_free(job_set_speed(job, (int64_t)options->speed));
    job_start(job);
    return NULL;
}
