#include "blockcore/io/extents_private.h"

/* What can be said of a unit whose parts are @a and @b: the weaker of each. */
static struct extent weaker(const struct extent *a, const struct extent *b)
{
    struct extent result = *a;
    uint32_t any = EXTENT_ALLOCATED | EXTENT_DATA | EXTENT_COMPRESSED | EXTENT_PRESENT;
    result.flags = ((a->flags | b->flags) & any) | (a->flags & b->flags & EXTENT_ZERO);
    result.file.node = NULL;
    result.file_offset = 0;
    /* The layer nearest to the top that decides a part of it. */
    bool b_decides = (b->flags & EXTENT_ALLOCATED) && (!(a->flags & EXTENT_ALLOCATED) || b->depth < a->depth);
    if (b_decides) {
        result.depth = b->depth;
        result.layer = b->layer;
    }
    return result;
}

/* Adds of @extent what belongs to the unit that is begun; returns the rest. */
static struct extent units_complete(struct units *units, const struct extent *extent)
{
    struct extent *begun = &units->begun;
    if (begun->bytes == 0)
        return *extent;
    uint64_t unit_end = min_u64(align_up(begun->offset + begun->bytes, units->unit), units->end);
    struct extent part = extent_cut(extent, range_between(extent->offset, unit_end));
    uint64_t bytes = begun->bytes + part.bytes;
    *begun = weaker(begun, &part);
    begun->bytes = bytes;
    if (begun->offset + bytes == unit_end) {
        extents_append(units->out, begun);
        begun->bytes = 0;
    }
    return extent_cut(extent, range_between(part.offset + part.bytes, UINT64_MAX));
}

void units_add(struct units *units, const struct extent *extent)
{
    struct extent rest = units_complete(units, extent);
    if (rest.bytes == 0)
        return;
    uint64_t rest_end = rest.offset + rest.bytes;
    uint64_t whole_end = rest_end == units->end ? rest_end : align_down(rest_end, units->unit);
    if (whole_end > rest.offset) {
        struct extent whole = extent_cut(&rest, range_between(rest.offset, whole_end));
        extents_append(units->out, &whole);
        rest = extent_cut(&rest, range_between(whole_end, UINT64_MAX));
    }
    units->begun = rest;
}
