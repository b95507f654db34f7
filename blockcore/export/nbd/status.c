#include "blockcore/export/nbd/status.h"

#include "blockcore/base/endian.h"
#include "blockcore/export/nbd/haggle.h"
#include "blockcore/io/block_status.h"

#include <errno.h>

#define CHUNK_BYTES (64 * 1024) /* of one context: some 8000 extents */
#define CHUNK_ONE_BYTES 64

/* Extents asked for at a time, and how often: what differs below may look alike here, so that many of them become one.
 */
#define ASK_EXTENTS 8192
#define ASK_EXTENTS_ONE 16
#define ASKS_MAX 64

/* A chunk under construction. */
struct chunk {
    uint8_t *at;
    size_t bytes;     /* so far, header included */
    uint64_t covered; /* of the range */
    size_t extents;
    size_t extents_max;
};

size_t nbd_status_bytes(uint64_t contexts, bool one)
{
    return (size_t)__builtin_popcountll(contexts) * (one ? CHUNK_ONE_BYTES : CHUNK_BYTES);
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
} contexts[NBD_CONTEXT_BITMAPS] = {
    [NBD_CONTEXT_ALLOCATION] = { ASK_ZERO | ASK_MAP, allocation_flags },
    [NBD_CONTEXT_DEPTH] = { ASK_ALLOCATED, depth_flags },
};

/* False when it needs an extent of its own and there is no room for one. Lengths fit: a request has at most 4 GiB. */
static bool chunk_append(struct chunk *chunk, uint64_t bytes, uint32_t flags)
{
    uint8_t *last = chunk->at + chunk->bytes - NBD_EXTENT_BYTES;
    if (chunk->extents > 0 && load_be32(last + 4) == flags) {
        store_be32(last, (uint32_t)(load_be32(last) + bytes));
    } else if (chunk->extents < chunk->extents_max) {
        store_be32(last + NBD_EXTENT_BYTES, (uint32_t)bytes);
        store_be32(last + NBD_EXTENT_BYTES + 4, flags);
        chunk->bytes += NBD_EXTENT_BYTES;
        chunk->extents++;
    } else {
        return false;
    }
    chunk->covered += bytes;
    return true;
}

/* 1 when there is room for more. */
static int append_next(struct chunk *chunk, const struct nbd_status_query *query, unsigned context)
{
    struct range left = range_between(query->range.offset + chunk->covered, range_end(query->range));
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, query->one ? ASK_EXTENTS_ONE : ASK_EXTENTS);
    int ret = handle_block_status(query->handle, left, contexts[context].ask, NULL, false, &extents);
    if (ret < 0)
        return ret;
    for (size_t i = 0; i < extents.count; i++) {
        const struct extent *extent = &extents.items[i];
        if (!chunk_append(chunk, extent->bytes, contexts[context].flags(extent)))
            return 0;
    }
    return chunk->covered < query->range.bytes;
}

static int fill_chunk(struct chunk *chunk, const struct nbd_status_query *query, unsigned context)
{
    int ret = 1;
    for (unsigned i = 0; i < ASKS_MAX && ret == 1; i++)
        ret = append_next(chunk, query, context);
    return ret < 0 ? ret : 0;
}

int nbd_status_reply(const struct nbd_status_query *query, void *out, size_t out_bytes, size_t *used)
{
    size_t room = out_bytes / (size_t)__builtin_popcountll(query->contexts);
    uint8_t *at = out;
    for (unsigned context = 0; context < NBD_CONTEXT_BITMAPS; context++) {
        if (!(query->contexts & nbd_context_bit(context)))
            continue;
        struct chunk chunk = { .at = at, .bytes = NBD_CHUNK_BYTES + 4 };
        chunk.extents_max = query->one ? 1 : (room - chunk.bytes) / NBD_EXTENT_BYTES;
        int ret = fill_chunk(&chunk, query, context);
        if (ret < 0)
            return ret;
        bool last = query->contexts >> (context + 1) == 0;
        nbd_put_chunk(at, last ? NBD_REPLY_FLAG_DONE : 0, NBD_REPLY_TYPE_BLOCK_STATUS, query->cookie,
                      (uint32_t)(chunk.bytes - NBD_CHUNK_BYTES));
        store_be32(at + NBD_CHUNK_BYTES, context);
        at += chunk.bytes;
    }
    *used = (size_t)(at - (uint8_t *)out);
    return 0;
}
