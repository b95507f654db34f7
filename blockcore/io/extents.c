#include "blockcore/io/extents_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/buffer.h"

#include <string.h>

#define ITEMS_BYTES_MIN 4096

/* The loop keeps the memory for the next question, so that one that is asked with every request costs no allocation. */
void *items_grow(void *items, size_t *capacity, size_t item_bytes)
{
    size_t used = *capacity * item_bytes;
    size_t wanted = max_u64(2 * used, ITEMS_BYTES_MIN);
    size_t bytes = (size_t)1 << (64 - __builtin_clzll(wanted - 1)); /* as buffers are */
    void *grown = buffer_get(bytes);
    if (!grown)
        out_of_memory(bytes);
    if (used > 0)
        memcpy(grown, items, used);
    buffer_put(items, used);
    *capacity = bytes / item_bytes;
    return grown;
}

void extents_init(struct extents *extents, size_t max)
{
    *extents = (struct extents){ .max = max ? max : 1 };
}

void extents_fini(struct extents *extents)
{
    buffer_put(extents->items, extents->capacity * sizeof(struct extent));
    extents->items = NULL;
    extents->count = 0;
    extents->capacity = 0;
}

bool extents_alike(const struct extent *a, const struct extent *b)
{
    if (a->flags != b->flags || a->depth != b->depth || a->layer != b->layer)
        return false;
    if (!(a->flags & EXTENT_MAPPED))
        return true;
    return a->file.node == b->file.node && a->file_offset + a->bytes == b->file_offset;
}

void extents_append(struct extents *extents, const struct extent *extent)
{
    if (extent->bytes == 0)
        return;
    if (extents->count > 0) {
        struct extent *last = &extents->items[extents->count - 1];
        if (last->offset + last->bytes == extent->offset && extents_alike(last, extent)) {
            last->bytes += extent->bytes;
            return;
        }
    }
    if (extents->count == extents->capacity)
        extents_make_room(extents);
    extents->items[extents->count++] = *extent;
}

void extents_make_room(struct extents *extents)
{
    if (extents->count == extents->capacity)
        extents->items = items_grow(extents->items, &extents->capacity, sizeof(struct extent));
}

bool extents_full(const struct extents *extents)
{
    return extents->count >= extents->max;
}

struct extent extent_cut(const struct extent *extent, struct range range)
{
    struct extent cut = *extent;
    struct range part = range_intersect(extent_range(extent), range);
    cut.offset = part.offset;
    cut.bytes = part.bytes;
    if (cut.flags & EXTENT_MAPPED)
        cut.file_offset += part.offset - extent->offset;
    return cut;
}

void extents_clip(struct extents *extents, struct range range)
{
    size_t kept = 0;
    for (size_t i = 0; i < extents->count; i++) {
        struct extent part = extent_cut(&extents->items[i], range);
        if (part.bytes > 0)
            extents->items[kept++] = part;
    }
    extents->count = kept;
}
