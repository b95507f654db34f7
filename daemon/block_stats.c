/* Statistics, thresholds, and the graph for people who debug (schema/block-stats.json). */
#include "blockcore/base/arena.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/permission.h"
#include "blockcore/graph/stats.h"
#include "blockcore/runtime/coroutine.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#include <stdlib.h>
#include <string.h>

#define NODES_AT_ONCE 64 /* described, before others get a turn */

/* query-blockstats -------------------------------------------------------------------------------------------- */

static void fill(struct block_device_stats *to, const struct node_stats *from)
{
    *to = (struct block_device_stats){
        .rd_bytes = (int64_t)from->bytes[STATS_READ],
        .wr_bytes = (int64_t)from->bytes[STATS_WRITE],
        .unmap_bytes = (int64_t)from->bytes[STATS_UNMAP],
        .rd_operations = (int64_t)from->done[STATS_READ],
        .wr_operations = (int64_t)from->done[STATS_WRITE],
        .flush_operations = (int64_t)from->done[STATS_FLUSH],
        .unmap_operations = (int64_t)from->done[STATS_UNMAP],
        .rd_total_time_ns = (int64_t)from->ns[STATS_READ],
        .wr_total_time_ns = (int64_t)from->ns[STATS_WRITE],
        .flush_total_time_ns = (int64_t)from->ns[STATS_FLUSH],
        .unmap_total_time_ns = (int64_t)from->ns[STATS_UNMAP],
        .wr_highest_offset = (int64_t)from->highest_write,
        .has_idle_time_ns = from->used,
        .idle_time_ns = (int64_t)from->idle_ns,
        .failed_rd_operations = (int64_t)from->failed[STATS_READ],
        .failed_wr_operations = (int64_t)from->failed[STATS_WRITE],
        .failed_flush_operations = (int64_t)from->failed[STATS_FLUSH],
        .failed_unmap_operations = (int64_t)from->failed[STATS_UNMAP],
        .invalid_rd_operations = (int64_t)from->invalid[STATS_READ],
        .invalid_wr_operations = (int64_t)from->invalid[STATS_WRITE],
        .invalid_flush_operations = (int64_t)from->invalid[STATS_FLUSH],
        .invalid_unmap_operations = (int64_t)from->invalid[STATS_UNMAP],
    };
}

/* Where a node's bytes come from: its filtered child, or else its first data child. */
static struct node *storage_of(const struct node *node)
{
    if (node_filtered(node))
        return child_node(node_filtered(node));
    for (struct child *child = node_child_next(node, NULL); child; child = node_child_next(node, child)) {
        if (child_role(child) & CHILD_DATA)
            return child_node(child);
    }
    return NULL;
}

static const struct block_stats_specific *specific_of(struct arena *arena, struct node *node)
{
    const struct driver *driver = node_driver(node);
    struct block_stats_specific *specific = driver->describe_stats ? arena_alloc(arena, sizeof(*specific)) : NULL;
    return specific && driver->describe_stats(node, specific, arena) ? specific : NULL;
}

/* The node and what is below it, without awaits. */
static void describe(struct arena *arena, struct node *node, struct block_stats *stats)
{
    for (;;) {
        struct node_stats counted;
        struct block_device_stats *own = arena_alloc(arena, sizeof(*own));
        node_stats(node, &counted);
        fill(own, &counted);
        stats->node_name = arena_strdup(arena, node_name(node));
        stats->stats = own;
        stats->driver_specific = specific_of(arena, node);
        node = storage_of(node);
        if (!node)
            return;
        struct block_stats *below = arena_alloc(arena, sizeof(*below));
        stats->parent = below;
        stats = below;
    }
}

/* Names first: nodes that vanish while others have their turn are left out. */
static size_t collect_names(struct arena *arena, const char ***names)
{
    size_t count = 0;
    for (struct node *node = node_next(NULL); node; node = node_next(node))
        count++;
    *names = arena_array(arena, count, sizeof(**names));
    count = 0;
    for (struct node *node = node_next(NULL); node; node = node_next(node))
        (*names)[count++] = arena_strdup(arena, node_name(node));
    return count;
}

struct error *handle_query_blockstats(struct command_context *context,
                                      const struct query_blockstats_arguments *arguments,
                                      struct block_stats_list *result)
{
    struct arena *arena = command_arena(context);
    const char **names;
    size_t count = arguments->query_nodes ? collect_names(arena, &names) : 0;
    struct block_stats *items = arena_array(arena, count, sizeof(*items));
    size_t described = 0;
    for (size_t i = 0; i < count; i++) {
        if (i % NODES_AT_ONCE == NODES_AT_ONCE - 1)
            co_yield ();
        struct node *node = node_find(names[i]);
        if (node)
            describe(arena, node, &items[described++]);
    }
    if (described > NODES_AT_ONCE)
        command_expect_large_reply(context);
    *result = (struct block_stats_list){ .items = items, .count = described };
    return NULL;
}

struct error *handle_query_block(struct command_context *context, struct block_info_list *result)
{
    (void)context;
    *result = (struct block_info_list){ 0 };
    return NULL;
}

struct error *handle_block_set_write_threshold(struct command_context *context,
                                               const struct block_set_write_threshold_arguments *arguments)
{
    (void)context;
    struct node *node = node_find(arguments->node_name);
    if (!node)
        return error_new("Device '%s' not found", arguments->node_name);
    node_set_write_threshold(node, arguments->write_threshold);
    return NULL;
}

/* x-debug-query-block-graph ----------------------------------------------------------------------------------- */

struct drawing {
    struct arena *arena;
    struct x_dbg_block_graph_node *points;
    size_t points_count;
    struct x_dbg_block_graph_edge *edges;
    size_t edges_count;
};

static void draw_permissions(struct drawing *drawing, unsigned mask, const enum block_permission **out, size_t *count)
{
    static const struct {
        unsigned bit;
        enum block_permission name;
    } all[] = {
        { PERM_RESIZE, BLOCK_PERMISSION_RESIZE },
        { PERM_WRITE_UNCHANGED, BLOCK_PERMISSION_WRITE_UNCHANGED },
        { PERM_WRITE, BLOCK_PERMISSION_WRITE },
        { PERM_CONSISTENT_READ, BLOCK_PERMISSION_CONSISTENT_READ },
    };
    enum block_permission *list = arena_array(drawing->arena, ARRAY_SIZE(all), sizeof(*list));
    *count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        if (mask & all[i].bit)
            list[(*count)++] = all[i].name;
    }
    *out = list;
}

static void draw_edge(struct drawing *drawing, const struct child *edge, uint64_t parent, uint64_t child)
{
    struct x_dbg_block_graph_edge *drawn = &drawing->edges[drawing->edges_count++];
    drawn->parent = parent;
    drawn->child = child;
    drawn->name = child_parent(edge) ? arena_strdup(drawing->arena, child_name(edge)) : "root";
    draw_permissions(drawing, child_permissions(edge), &drawn->perm, &drawn->perm_count);
    draw_permissions(drawing, child_shared(edge), &drawn->shared_perm, &drawn->shared_perm_count);
}

static uint64_t draw_point(struct drawing *drawing, enum x_dbg_block_graph_node_type type, const char *name)
{
    uint64_t id = drawing->points_count + 1;
    drawing->points[drawing->points_count++] =
        (struct x_dbg_block_graph_node){ .id = id, .type = type, .name = arena_strdup(drawing->arena, name) };
    return id;
}

/* Nodes have the numbers of their order, so that looking one up is cheap: they are sorted by address. */
struct numbered {
    const struct node *node;
    uint64_t id;
};

static int compare_numbered(const void *a, const void *b)
{
    const struct numbered *left = a;
    const struct numbered *right = b;
    return (left->node > right->node) - (left->node < right->node);
}

static uint64_t number_of(const struct numbered *numbers, size_t count, const struct node *node)
{
    struct numbered key = { .node = node };
    const struct numbered *found = bsearch(&key, numbers, count, sizeof(key), compare_numbered);
    return found ? found->id : 0;
}

static void draw_user(struct drawing *drawing, const struct child *edge, uint64_t id)
{
    CLEANUP(free) char *user = child_user(edge);
    bool job = strncmp(user, "job ", 4) == 0;
    uint64_t from = draw_point(
        drawing, job ? X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_JOB : X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_BACKEND, user);
    draw_edge(drawing, edge, from, id);
}

/* An edge whose upper end is being opened or closed leads from nowhere that could be shown. */
static void draw_parents(struct drawing *drawing, const struct numbered *numbers, size_t count, const struct node *node,
                         uint64_t id)
{
    for (struct child *edge = node_parent_next(node, NULL); edge; edge = node_parent_next(node, edge)) {
        uint64_t parent = child_parent(edge) ? number_of(numbers, count, child_parent(edge)) : 0;
        if (!child_parent(edge))
            draw_user(drawing, edge, id);
        else if (parent)
            draw_edge(drawing, edge, parent, id);
    }
}

static size_t count_edges(size_t *nodes)
{
    size_t edges = 0;
    *nodes = 0;
    for (struct node *node = node_next(NULL); node; node = node_next(node)) {
        (*nodes)++;
        for (struct child *edge = node_parent_next(node, NULL); edge; edge = node_parent_next(node, edge))
            edges++;
    }
    return edges;
}

struct error *handle_x_debug_query_block_graph(struct command_context *context, struct x_dbg_block_graph *result)
{
    struct drawing drawing = { .arena = command_arena(context) };
    size_t nodes;
    size_t edges = count_edges(&nodes);
    drawing.points = arena_array(drawing.arena, nodes + edges, sizeof(*drawing.points));
    drawing.edges = arena_array(drawing.arena, edges, sizeof(*drawing.edges));
    struct numbered *numbers = arena_array(drawing.arena, nodes, sizeof(*numbers));
    size_t count = 0;
    for (struct node *node = node_next(NULL); node; node = node_next(node)) {
        uint64_t id = draw_point(&drawing, X_DBG_BLOCK_GRAPH_NODE_TYPE_BLOCK_DRIVER, node_name(node));
        numbers[count++] = (struct numbered){ .node = node, .id = id };
    }
    qsort(numbers, count, sizeof(*numbers), compare_numbered);
    for (struct node *node = node_next(NULL); node; node = node_next(node))
        draw_parents(&drawing, numbers, count, node, number_of(numbers, count, node));
    *result = (struct x_dbg_block_graph){
        .nodes = drawing.points,
        .nodes_count = drawing.points_count,
        .edges = drawing.edges,
        .edges_count = drawing.edges_count,
    };
    return NULL;
}
