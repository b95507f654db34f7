#include "blockcore/filters/cluster.h"

#include "blockcore/base/arena.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "schema/cairn_types.h"

uint64_t node_cluster_bytes(struct node *node)
{
    while (node_filtered(node))
        node = child_node(node_filtered(node));
    if (!node_driver(node)->describe)
        return 0;
    struct image_info info = { 0 };
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    node_driver(node)->describe(node, &info, &arena);
    arena_fini(&arena);
    return info.has_cluster_size && info.cluster_size > 0 ? (uint64_t)info.cluster_size : 0;
}
