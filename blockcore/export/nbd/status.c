#include "blockcore/export/nbd/status.h"

#include "blockcore/base/endian.h"
#include "blockcore/export/nbd/bitmaps.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/io/block_status.h"

#include <assert.h>
#include <errno.h>

#define REPLY_BYTES (256 * 1024) /* of all contexts together */
#define CHUNK_BYTES (64 * 1024)  /* of one context: some 8000 extents, or 4000 with extended headers */
#define CHUNK_ONE_BYTES 64

_Static_assert(REPLY_BYTES / NBD_CONTEXTS_MAX >= CHUNK_ONE_BYTES, "each context has room for an extent");

/* Extents asked for at a time, and how often: what differs below may look alike here, so that many of them become one.
 */
#define ASK_EXTENTS 8192
#define ASK_EXTENTS_ONE 16
#define ASKS_MAX 64

/* A chunk under construction. */
struct chunk {
    uint8_t *at;
    size_t bytes;           /* so far, header included */
    uint64_t covered;       /* of the range */
    uint64_t partial_bytes; /* behind that: of a block whose rest is not known yet */
    uint32_t partial_flags;
    size_t extents;
    size_t extents_max;
    bool extended;
    uint64_t last_bytes; /* of the last extent */
    uint32_t last_flags;
};

static size_t room_for_one(uint64_t contexts, bool one)
{
    size_t share = REPLY_BYTES / (size_t)__builtin_popcountll(contexts);
    return one ? CHUNK_ONE_BYTES : (size_t)min_u64(share, CHUNK_BYTES);
}

size_t nbd_status_bytes(uint64_t contexts, bool one)
{
    return (size_t)__builtin_popcountll(contexts) * room_for_one(contexts, one);
}

static size_t extent_bytes(bool extended)
{
    return extended ? NBD_EXTENDED_EXTENT_BYTES : NBD_EXTENT_BYTES;
}

static void store_extent(uint8_t *at, bool extended, uint64_t bytes, uint32_t flags)
{
    if (extended) {
        store_be64(at, bytes);
        store_be64(at + 8, flags);
    } else {
        store_be32(at, (uint32_t)bytes);
        store_be32(at + 4, flags);
    }
}

/* False when it needs an extent of its own and there is no room for one. Lengths fit: a request that does not have 64
 * bits for its length is not longer than what has 32. */
static bool chunk_append(struct chunk *chunk, uint64_t bytes, uint32_t flags)
{
    bool merge = chunk->extents > 0 && chunk->last_flags == flags;
    if (!merge && chunk->extents == chunk->extents_max)
        return false;
    if (!merge) {
        chunk->bytes += extent_bytes(chunk->extended);
        chunk->extents++;
        chunk->last_bytes = 0;
        chunk->last_flags = flags;
    }
    chunk->last_bytes += bytes;
    chunk->covered += bytes;
    uint8_t *last = chunk->at + chunk->bytes - extent_bytes(chunk->extended);
    store_extent(last, chunk->extended, chunk->last_bytes, flags);
    return true;
}

/* The flags of a block that has both. */
static uint32_t join_allocation(uint32_t one, uint32_t other)
{
    return one & other;
}

/* The upper one of the layers. */
static uint32_t join_depth(uint32_t one, uint32_t other)
{
    if (one == 0 || other == 0)
        return one | other;
    return (uint32_t)min_u64(one, other);
}

static uint32_t allocation_flags(const struct extent *extent)
{
    return (extent->flags & EXTENT_DATA ? 0 : NBD_STATE_HOLE) | (extent->flags & EXTENT_ZERO ? NBD_STATE_ZERO : 0);
}

static uint32_t depth_flags(const struct extent *extent)
{
    return extent->flags & EXTENT_PRESENT ? extent->depth + 1 : 0;
}

static const struct {
    unsigned ask;
    uint32_t (*flags)(const struct extent *extent);
    uint32_t (*join)(uint32_t one, uint32_t other);
} layers[NBD_CONTEXT_BITMAPS] = {
    [NBD_CONTEXT_ALLOCATION] = { ASK_ZERO | ASK_MAP, allocation_flags, join_allocation },
    [NBD_CONTEXT_DEPTH] = { ASK_ALLOCATED, depth_flags, join_depth },
};

static uint64_t end_of_known(const struct chunk *chunk, const struct nbd_status_query *query)
{
    return query->range.offset + chunk->covered + chunk->partial_bytes;
}

/* As chunk_append(), in whole blocks. The graph may have changed since the client was told the block, so that what it
 * says now ends inside of one. */
static bool append_in_blocks(struct chunk *chunk, const struct nbd_status_query *query, unsigned context,
                             uint64_t bytes, uint32_t flags)
{
    while (bytes > 0) {
        uint64_t at = end_of_known(chunk, query);
        uint64_t whole = align_down(at + bytes, query->block);
        bool begins = chunk->partial_bytes == 0;
        uint64_t piece = begins && whole > at ? whole - at : min_u64(bytes, align_up(at + 1, query->block) - at);
        chunk->partial_flags = begins ? flags : layers[context].join(chunk->partial_flags, flags);
        chunk->partial_bytes += piece;
        bytes -= piece;
        at += piece;
        if (!is_aligned(at, query->block) && at < range_end(query->range))
            continue;
        if (!chunk_append(chunk, chunk->partial_bytes, chunk->partial_flags))
            return false;
        chunk->partial_bytes = 0;
    }
    return true;
}

/* 1 when there is room for more. */
static int append_next(struct chunk *chunk, const struct nbd_status_query *query, unsigned context)
{
    struct range left = range_between(end_of_known(chunk, query), range_end(query->range));
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, query->one ? ASK_EXTENTS_ONE : ASK_EXTENTS);
    int ret = handle_block_status(query->handle, left, layers[context].ask, NULL, false, &extents);
    if (ret < 0)
        return ret;
    for (size_t i = 0; i < extents.count; i++) {
        const struct extent *extent = &extents.items[i];
        if (!append_in_blocks(chunk, query, context, extent->bytes, layers[context].flags(extent)))
            return 0;
    }
    return chunk->covered < query->range.bytes;
}

static int fill_from_layers(struct chunk *chunk, const struct nbd_status_query *query, unsigned context)
{
    int ret = 1;
    for (unsigned i = 0; (i < ASKS_MAX || chunk->extents == 0) && ret == 1; i++)
        ret = append_next(chunk, query, context);
    return ret < 0 ? ret : 0;
}

/* A block that is dirty in part is dirty. What lies behind the end of the bitmap's own node was never written there. */
static void fill_from_bitmap(struct chunk *chunk, const struct nbd_status_query *query, struct dirty_bitmap *bitmap)
{
    uint64_t end = range_end(query->range);
    bool room = true;
    for (uint64_t at = query->range.offset; room && at < end; at = query->range.offset + chunk->covered) {
        uint64_t dirty = dirty_bitmap_next_dirty(bitmap, at);
        uint64_t clean = dirty_bitmap_next_clean(bitmap, dirty);
        dirty = clean > dirty ? max_u64(align_down(dirty, query->block), at) : end;
        clean = min_u64(align_up(clean, query->block), end);
        room = dirty > at ? chunk_append(chunk, min_u64(dirty, end) - at, 0)
                          : chunk_append(chunk, clean - at, NBD_STATE_DIRTY);
    }
}

static int fill_chunk(struct chunk *chunk, const struct nbd_status_query *query, unsigned context)
{
    if (context < NBD_CONTEXT_BITMAPS)
        return fill_from_layers(chunk, query, context);
    assert(context - NBD_CONTEXT_BITMAPS < query->bitmaps->count);
    fill_from_bitmap(chunk, query, query->bitmaps->items[context - NBD_CONTEXT_BITMAPS].bitmap);
    return 0;
}

/* Its head, now that its length is known. */
static void finish_chunk(const struct chunk *chunk, const struct nbd_status_query *query, unsigned context, bool last)
{
    uint16_t type = chunk->extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
    size_t fixed = chunk->extended ? NBD_EXTENDED_CHUNK_BYTES : NBD_CHUNK_BYTES;
    size_t head = nbd_put_chunk(chunk->at, &query->to, last, type, (uint32_t)(chunk->bytes - fixed));
    store_be32(chunk->at + head, context);
    if (chunk->extended)
        store_be32(chunk->at + head + 4, (uint32_t)chunk->extents);
}

static int put_chunk(uint8_t *at, size_t room, const struct nbd_status_query *query, unsigned context, size_t *used)
{
    bool extended = query->to.mode == NBD_MODE_EXTENDED;
    struct chunk chunk = { .at = at, .extended = extended };
    chunk.bytes = extended ? NBD_EXTENDED_CHUNK_BYTES + 8 : NBD_CHUNK_BYTES + 4;
    chunk.extents_max = query->one ? 1 : (room - chunk.bytes) / extent_bytes(extended);
    int ret = fill_chunk(&chunk, query, context);
    if (ret < 0)
        return ret;
    bool last = context == NBD_CONTEXTS_MAX - 1 || query->contexts >> (context + 1) == 0;
    finish_chunk(&chunk, query, context, last);
    *used += chunk.bytes;
    return 0;
}

int nbd_status_reply(const struct nbd_status_query *query, void *out, size_t out_bytes, size_t *used)
{
    size_t room = room_for_one(query->contexts, query->one);
    size_t bytes = 0;
    assert(out_bytes >= nbd_status_bytes(query->contexts, query->one));
    for (unsigned context = 0; context < NBD_CONTEXTS_MAX; context++) {
        if (!(query->contexts & nbd_context_bit(context)))
            continue;
        int ret = put_chunk((uint8_t *)out + bytes, room, query, context, &bytes);
        if (ret < 0)
            return ret;
    }
    *used = bytes;
    return 0;
}
