/* Every claim about every byte is proven by reading, by asking otherwise, or by walking down the graph. */
#include "tests/unit/property/world.h"

#include "blockcore/base/range.h"

#define EXTENTS_MANY 1000000

static struct extents ask(struct handle *handle, unsigned what, struct node *base, bool include_base)
{
    struct extents extents;
    extents_init(&extents, EXTENTS_MANY);
    struct range all = range_make(0, node_length(handle_node(handle)));
    expect_int(handle_block_status(handle, all, what, base, include_base, &extents), 0);
    return extents;
}

/* In order, without gaps, none empty, neighbours joined; boundaries are multiples of the unit, the end excepted. */
static void prove_form(const struct extents *extents, const struct node *node)
{
    uint64_t at = 0;
    for (size_t i = 0; i < extents->count; i++) {
        const struct extent *extent = &extents->items[i];
        expect_int(extent->offset, at);
        expect(extent->bytes > 0);
        expect(i == 0 || !extents_alike(extent - 1, extent));
        expect_int(at % node_limits(node)->request_alignment, 0);
        at += extent->bytes;
    }
    expect_int(at, node_length(node));
}

/* The same question in many pieces. */
static void prove_pieces(struct world *world, struct handle *handle, const struct extents *whole)
{
    CLEANUP(extents_fini) struct extents pieces;
    extents_init(&pieces, EXTENTS_MANY);
    uint64_t length = node_length(handle_node(handle));
    uint64_t most = chance(world, 2) ? length : length / 8 + 1;
    for (uint64_t at = 0; at < length;) {
        CLEANUP(extents_fini) struct extents part;
        extents_init(&part, 1 + choose(world, 20));
        struct range range = range_make(at, min_u64(1 + choose(world, most), length - at));
        expect_int(handle_block_status(handle, range, ASK_ALL, NULL, false, &part), 0);
        expect(part.count >= 1 && part.count <= part.max);
        for (size_t i = 0; i < part.count; i++) {
            expect_int(part.items[i].offset, at);
            at += part.items[i].bytes;
            expect(at <= range_end(range));
            extents_append(&pieces, &part.items[i]);
        }
    }
    expect_int(pieces.count, whole->count);
    for (size_t i = 0; i < whole->count; i++) {
        const struct extent *piece = &pieces.items[i];
        const struct extent *all = &whole->items[i];
        expect_int(piece->bytes, all->bytes);
        expect_int(piece->flags, all->flags);
        expect_int(piece->depth, all->depth);
        expect(piece->layer == all->layer);
        if (all->flags & EXTENT_MAPPED)
            expect(piece->file.node == all->file.node && piece->file_offset == all->file_offset);
    }
}

/* Reading --------------------------------------------------------------------------------------------------------- */

static void expect_same(struct node *node, uint64_t offset, const unsigned char *expected, uint64_t bytes)
{
    struct handle *handle;
    unsigned char *data = xmalloc(bytes);
    expect_success(handle_open(node, "proof", READ, PERM_ALL, &handle));
    expect_int(get_bytes(handle, offset, data, bytes), 0);
    if (memcmp(data, expected, bytes) != 0) {
        print_error("node '%s' has other bytes at %llu+%llu\n", node_name(node), (unsigned long long)offset,
                    (unsigned long long)bytes);
        abort();
    }
    free(data);
    handle_close(handle);
}

static bool is_zero(const unsigned char *bytes, uint64_t count)
{
    return count == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0);
}

/* The storage holds the bytes where the map says. What is zero because a table says so need not be read. */
static void prove_map(const struct extent *extent, const unsigned char *content)
{
    if (extent->flags & EXTENT_COMPRESSED)
        expect(extent->flags & EXTENT_DATA && !(extent->flags & EXTENT_MAPPED));
    if (!(extent->flags & EXTENT_MAPPED))
        return;
    struct node *file = extent->file.node;
    expect_int(node_driver(file)->kind, DRIVER_PROTOCOL);
    if (extent->flags & EXTENT_DATA || !(extent->flags & EXTENT_ZERO))
        expect_same(file, extent->file_offset, content, extent->bytes);
}

/* A question by itself is answered as it is among others. Only a unit whose parts differ in what was not asked may have
 * a place, which is true then. */
static void prove_single(struct handle *handle, const struct extents *whole, unsigned what, unsigned flags,
                         const unsigned char *content)
{
    CLEANUP(extents_fini) struct extents extents = ask(handle, what, NULL, false);
    prove_form(&extents, handle_node(handle));
    size_t i = 0;
    for (size_t j = 0; j < extents.count; j++) {
        const struct extent *single = &extents.items[j];
        for (; i < whole->count && whole->items[i].offset < single->offset + single->bytes; i++) {
            const struct extent *all = &whole->items[i];
            uint32_t placed = what == ASK_MAP && !(all->flags & EXTENT_MAPPED) ? single->flags & EXTENT_MAPPED : 0;
            if (placed)
                prove_map(single, content + single->offset);
            if ((single->flags & flags) != ((all->flags & flags) | placed))
                print_error("at %llu+%llu: flags 0x%x by themselves, 0x%x among all\n", (unsigned long long)all->offset,
                            (unsigned long long)all->bytes, single->flags, all->flags);
            expect_int(single->flags & flags, (all->flags & flags) | placed);
            expect(what != ASK_ALLOCATED || (single->depth == all->depth && single->layer == all->layer));
            expect(all->offset + all->bytes <= single->offset + single->bytes);
        }
    }
}

/* The layer that decides is in the chain, as deep as is said, no filter, holds the bytes, and says itself that it
 * decides them. */
static void prove_layer(struct node *top, const struct extent *extent, const unsigned char *content)
{
    uint32_t depth = 0;
    struct node *node = top;
    expect(extent->flags & EXTENT_ALLOCATED);
    for (; node != extent->layer; depth += !node_filtered(node),
                                  node = child_node(node_filtered(node) ? node_filtered(node) : node_backing(node)))
        expect(node_filtered(node) || node_backing(node));
    expect_int(extent->depth, depth);
    expect(!node_filtered(node));
    uint64_t inside =
        extent->offset >= node_length(node) ? 0 : min_u64(extent->bytes, node_length(node) - extent->offset);
    if (inside)
        expect_same(node, extent->offset, content, inside);
    expect(is_zero(content + inside, extent->bytes - inside));
}

/* What is decided down to a layer is what the layers down to it decide. */
static void prove_base(struct world *world, struct handle *handle, const struct extents *whole)
{
    struct node *base = whole->items[choose(world, whole->count)].layer;
    uint32_t depth = 0;
    for (size_t i = 0; i < whole->count; i++)
        if (whole->items[i].layer == base)
            depth = whole->items[i].depth;
    bool include = chance(world, 2);
    CLEANUP(extents_fini)
    struct extents extents = ask(handle, ASK_ALLOCATED, base, include);
    size_t i = 0;
    for (size_t j = 0; j < extents.count; j++)
        for (; i < whole->count && whole->items[i].offset < extents.items[j].offset + extents.items[j].bytes; i++) {
            bool decided = include ? whole->items[i].depth <= depth : whole->items[i].depth < depth;
            expect_int((extents.items[j].flags & EXTENT_ALLOCATED) != 0, decided);
        }
}

static void prove_content(struct handle *handle, const struct extents *extents, const unsigned char *content)
{
    for (size_t i = 0; i < extents->count; i++) {
        const struct extent *extent = &extents->items[i];
        const unsigned char *bytes = content + extent->offset;
        if (extent->flags & EXTENT_ZERO && !is_zero(bytes, extent->bytes)) {
            print_error("not zero at %llu+%llu of '%s'\n", (unsigned long long)extent->offset,
                        (unsigned long long)extent->bytes, node_name(handle_node(handle)));
            abort();
        }
        expect(extent->flags & (EXTENT_PRESENT | EXTENT_ZERO)); /* absent from the whole chain is zero */
        prove_map(extent, bytes);
        prove_layer(handle_node(handle), extent, bytes);
    }
}

static void prove_node(struct world *world, struct node *node)
{
    struct handle *handle;
    if (node_length(node) == 0)
        return;
    expect_success(handle_open(node, "proof", READ, PERM_ALL, &handle));
    /* First of all, since what is read through copy-on-read is allocated afterwards. */
    CLEANUP(free) unsigned char *content = xmalloc(node_length(node));
    expect_int(get_bytes(handle, 0, content, node_length(node)), 0);
    CLEANUP(extents_fini)
    struct extents whole = ask(handle, ASK_ALL, NULL, false);
    prove_form(&whole, node);
    prove_pieces(world, handle, &whole);
    prove_single(handle, &whole, ASK_ALLOCATED, EXTENT_ALLOCATED | EXTENT_PRESENT, content);
    prove_single(handle, &whole, ASK_ZERO, EXTENT_ZERO, content);
    prove_single(handle, &whole, ASK_MAP, EXTENT_DATA | EXTENT_MAPPED | EXTENT_COMPRESSED, content);
    prove_content(handle, &whole, content);
    prove_base(world, handle, &whole);
    handle_close(handle);
}

void prove_status(struct world *world)
{
    prove_node(world, handle_node(world->disk));
    struct node *other = node_find(world->parts[choose(world, world->count)].name);
    if (other)
        prove_node(world, other);
    if (world->snapshot)
        prove_node(world, handle_node(world->snapshot));
}
