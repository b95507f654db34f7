/* query-named-block-nodes (schema/block-core.json). */
#include "blockcore/base/arena.h"
#include "blockcore/base/hash.h"
#include "blockcore/base/memory.h"
#include "blockcore/filters/throttle.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/stats.h"
#include "blockcore/runtime/coroutine.h"
#include "daemon/bitmap.h"
#include "daemon/size_survey.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#include <stdlib.h>

#define NODES_AT_ONCE 64 /* described, before others get a turn */

/* A node in the making of the answer; the node itself may be gone by then, its name is what counts. */
struct entry {
    struct hash_link by_name;
    const char *below; /* name of the layer below it, or NULL */
    struct image_info *image;
};

struct listing {
    struct arena *arena;
    const char **names;
    size_t names_count;
    struct entry *entries;
    struct block_device_info *infos;
    size_t count; /* of entries and infos */
    struct hash by_name;
};

/* What shows through. Filters are layers of their own in this command, as in QEMU. */
static const struct node *layer_below(const struct node *node)
{
    const struct child *below = node_filtered(node) ? node_filtered(node) : node_backing(node);
    return below ? child_node(below) : NULL;
}

static int64_t layers_below(const struct node *node)
{
    int64_t count = 0;
    while ((node = layer_below(node)))
        count++;
    return count;
}

static void describe_children(struct arena *arena, const struct node *node, struct block_device_info *info)
{
    size_t count = 0;
    for (struct child *child = node_child_next(node, NULL); child; child = node_child_next(node, child))
        count++;
    struct blockdev_child *children = arena_array(arena, count, sizeof(*children));
    count = 0;
    for (struct child *child = node_child_next(node, NULL); child; child = node_child_next(node, child)) {
        children[count++] = (struct blockdev_child){
            .child = arena_strdup(arena, child_name(child)),
            .node_name = arena_strdup(arena, node_name(child_node(child))),
        };
    }
    info->children = children;
    info->children_count = count;
}

static struct image_info *describe_image(struct arena *arena, struct node *node, const char *filename)
{
    const struct driver *driver = node_driver(node);
    struct image_info *image = arena_alloc(arena, sizeof(*image));
    image->filename = filename;
    image->format = driver->name;
    image->virtual_size = (int64_t)node_length(node);
    if (driver->describe)
        driver->describe(node, image, arena);
    return image;
}

static const struct blockdev_cache_info *describe_cache(struct arena *arena, const struct node *node)
{
    struct blockdev_cache_info *cache = arena_alloc(arena, sizeof(*cache));
    cache->writeback = true;
    cache->direct = node_cache_direct(node);
    cache->no_flush = node_cache_no_flush(node);
    return cache;
}

static enum blockdev_detect_zeroes_options detect_zeroes_of(const struct node *node)
{
    static const enum blockdev_detect_zeroes_options names[] = {
        [DETECT_ZEROES_OFF] = BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF,
        [DETECT_ZEROES_ON] = BLOCKDEV_DETECT_ZEROES_OPTIONS_ON,
        [DETECT_ZEROES_UNMAP] = BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP,
    };
    return names[node_detect_zeroes(node)];
}

/* These members of QEMU's speak of "rd" and "wr", those of limits of "read" and "write". */
#define SET_LIMIT(of_info, of_limits)                                                                                  \
    do {                                                                                                               \
        info->of_info = limits.of_limits;                                                                              \
        info->has_##of_info##_max = info->has_##of_info##_max_length = true;                                           \
        info->of_info##_max = limits.of_limits##_max;                                                                  \
        info->of_info##_max_length = limits.of_limits##_max_length;                                                    \
    } while (0)

static void describe_limits(struct arena *arena, const struct node *node, struct block_device_info *info)
{
    struct throttle_limits limits = { 0 };
    const char *group = throttle_node_limits(node, &limits);
    if (!group)
        return;
    info->group = arena_strdup(arena, group);
    SET_LIMIT(bps, bps_total);
    SET_LIMIT(bps_rd, bps_read);
    SET_LIMIT(bps_wr, bps_write);
    SET_LIMIT(iops, iops_total);
    SET_LIMIT(iops_rd, iops_read);
    SET_LIMIT(iops_wr, iops_write);
    info->has_iops_size = true;
    info->iops_size = limits.iops_size;
}

static void describe_node(struct listing *listing, struct node *node, const char *name)
{
    struct arena *arena = listing->arena;
    struct entry *entry = &listing->entries[listing->count];
    struct block_device_info *info = &listing->infos[listing->count++];
    const struct node *below = layer_below(node);
    const char *filename = arena_strdup(arena, node_filename(node));

    entry->image = describe_image(arena, node, filename);
    entry->below = below ? arena_strdup(arena, node_name(below)) : NULL;
    hash_insert_string(&listing->by_name, &entry->by_name, name);
    *info = (struct block_device_info){
        .file = filename,
        .node_name = name,
        .ro = node_is_read_only(node),
        .drv = node_driver(node)->name,
        .backing_file = node_backing(node) ? arena_strdup(arena, node_filename(below)) : NULL,
        .backing_file_depth = layers_below(node),
        .active = !node_is_inactive(node),
        .encrypted = entry->image->encrypted,
        .image = entry->image,
        .cache = describe_cache(arena, node),
        .detect_zeroes = detect_zeroes_of(node),
        .write_threshold = (int64_t)node_write_threshold(node),
    };
    describe_children(arena, node, info);
    describe_limits(arena, node, info);
    describe_bitmaps(arena, node, info);
}

static void collect_names(struct listing *listing)
{
    size_t count = 0;
    for (struct node *node = node_next(NULL); node; node = node_next(node))
        count++;
    listing->names = arena_array(listing->arena, count, sizeof(*listing->names));
    listing->entries = arena_array(listing->arena, count, sizeof(*listing->entries));
    listing->infos = arena_array(listing->arena, count, sizeof(*listing->infos));
    for (struct node *node = node_next(NULL); node; node = node_next(node))
        listing->names[listing->names_count++] = arena_strdup(listing->arena, node_name(node));
}

/* Nodes that vanish meanwhile are left out. */
static void CO_FN describe_nodes(struct listing *listing)
{
    for (size_t i = 0; i < listing->names_count; i++) {
        if (i % NODES_AT_ONCE == NODES_AT_ONCE - 1)
            co_yield ();
        struct node *node = node_find(listing->names[i]);
        if (node)
            describe_node(listing, node, listing->names[i]);
    }
}

static void CO_FN add_sizes(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        listing->names[i] = listing->infos[i].node_name;
    int64_t *sizes = arena_array(listing->arena, listing->count, sizeof(*sizes));
    size_survey(listing->names, sizes, listing->count);
    for (size_t i = 0; i < listing->count; i++) {
        listing->entries[i].image->has_actual_size = sizes[i] != SIZE_UNKNOWN;
        listing->entries[i].image->actual_size = sizes[i];
    }
}

/* Nodes were described one after the other while others changed the graph: what was seen need not be without cycles. */
static bool chain_has(const struct image_info *chain, const struct image_info *image)
{
    while (chain && chain != image)
        chain = chain->backing_image;
    return chain;
}

static void link_backing_images(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++) {
        struct entry *entry = &listing->entries[i];
        struct hash_link *link = entry->below ? hash_find_string(&listing->by_name, entry->below) : NULL;
        const struct image_info *below = link ? hash_entry(link, struct entry, by_name)->image : NULL;
        if (!chain_has(below, entry->image))
            entry->image->backing_image = below;
    }
}

struct error *handle_query_named_block_nodes(struct command_context *context,
                                             const struct query_named_block_nodes_arguments *arguments,
                                             struct block_device_info_list *result)
{
    struct listing listing = { .arena = command_arena(context) };
    hash_init(&listing.by_name);
    collect_names(&listing);
    describe_nodes(&listing);
    add_sizes(&listing);
    if (!arguments->has_flat || !arguments->flat)
        link_backing_images(&listing);
    hash_fini(&listing.by_name);
    if (listing.count > NODES_AT_ONCE)
        command_expect_large_reply(context);
    *result = (struct block_device_info_list){ .items = listing.infos, .count = listing.count };
    return NULL;
}
