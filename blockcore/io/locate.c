/* What the children say of extents that lie in them: hole or data, and where. Each child is asked in the order of its
 * own offsets, window by window, so that each part of it is asked about once. */
#include "blockcore/io/extents_private.h"

#include "blockcore/runtime/buffer.h"

#include <stdlib.h>

/* Pieces that may be found before it is known how many of them the answer has room for. */
#define FOUND_MAX (2 * STEP_MAX)

/* A child is asked for as many pieces as are wanted still, but for some, since not all that lies in it is. */
#define LOAD_MIN 32

/* One extent that has to be looked up in a child. */
struct lookup {
    const struct extent *own;
    size_t first; /* what was found: items [first, first + count) of the found list */
    size_t count;
};

struct located {
    struct lookup *lookups;
    size_t lookups_count;
    size_t lookups_capacity;
    size_t done;          /* lookups that were made: the others come too late to be of use */
    struct extent *found; /* offsets are the parent's */
    size_t found_count;
    size_t found_capacity;
};

static void located_fini(struct located *located)
{
    buffer_put(located->lookups, located->lookups_capacity * sizeof(struct lookup));
    buffer_put(located->found, located->found_capacity * sizeof(struct extent));
}

static void forget_found(struct located *located)
{
    located->found_count = 0;
    located->done = 0;
    for (size_t i = 0; i < located->lookups_count; i++)
        located->lookups[i].count = 0;
}

static void located_add(struct located *located, const struct extent *extent)
{
    if (located->found_count == located->found_capacity)
        located->found = items_grow(located->found, &located->found_capacity, sizeof(struct extent));
    located->found[located->found_count++] = *extent;
}

static int lookup_order(const void *a, const void *b)
{
    const struct extent *x = ((const struct lookup *)a)->own;
    const struct extent *y = ((const struct lookup *)b)->own;
    if (x->file.child != y->file.child)
        return (uintptr_t)x->file.child < (uintptr_t)y->file.child ? -1 : 1;
    return x->file_offset < y->file_offset ? -1 : x->file_offset > y->file_offset;
}

static int own_order(const void *a, const void *b)
{
    const struct extent *x = ((const struct lookup *)a)->own;
    const struct extent *y = ((const struct lookup *)b)->own;
    return x < y ? -1 : x > y;
}

/* Most images were filled from begin to end: then the order is right as it is. */
static bool in_order(const struct located *located)
{
    for (size_t i = 1; i < located->lookups_count; i++) {
        if (lookup_order(&located->lookups[i - 1], &located->lookups[i]) > 0)
            return false;
    }
    return true;
}

/* What the parent's extent becomes where its child says @child. */
static struct extent combine(const struct extent *own, const struct extent *child)
{
    struct extent result = *own;
    result.offset = own->offset + (child->offset - own->file_offset);
    result.bytes = child->bytes;
    result.flags = own->flags & ~(uint32_t)(EXTENT_MAPPED | EXTENT_TO_LOCATE);
    result.flags |= child->flags & (EXTENT_MAPPED | EXTENT_ZERO | EXTENT_COMPRESSED);
    if (!(own->flags & (EXTENT_DATA | EXTENT_ZERO)))
        result.flags |= child->flags & EXTENT_DATA;
    if (own->flags & EXTENT_ZERO)
        result.flags &= ~(uint32_t)EXTENT_COMPRESSED; /* the bytes below are not the answer */
    result.file.node = child->file.node;
    result.file_offset = child->file_offset;
    return result;
}

/* What a child is known to say; asked in windows as lookups come by in ascending order. */
struct child_view {
    struct child *child;
    struct extents known;
    size_t at; /* first known extent that does not end before the last lookup's begin */
};

/* Past the end a child has nothing: zeroes without a mapping. @pieces: more than those will not be of use. */
static int view_load(struct child_view *view, struct range wanted, uint64_t hull_end, unsigned ask, size_t pieces)
{
    view->known.count = 0;
    view->at = 0;
    uint64_t length = node_length(child_node(view->child));
    if (wanted.offset >= length) {
        struct extent nothing =
            extent_make(range_between(wanted.offset, max_u64(hull_end, range_end(wanted))), EXTENT_ZERO);
        extents_append(&view->known, &nothing);
        return 0;
    }
    struct walk walk = { .ask = ask & ~(unsigned)ASK_ALLOCATED };
    struct range window = range_between(wanted.offset, min_u64(hull_end, length));
    return located_status(child_node(view->child), window, &walk, min_u64(max_u64(pieces, LOAD_MIN), STEP_MAX),
                          &view->known);
}

/* Stops after @max pieces. @enough: of this and all later lookups. */
static int view_lookup(struct child_view *view, struct lookup *lookup, uint64_t hull_end, unsigned ask, size_t max,
                       size_t enough, struct located *located)
{
    const struct extent *own = lookup->own;
    struct range left = range_make(own->file_offset, own->bytes);
    lookup->first = located->found_count;
    while (left.bytes > 0 && lookup->count < max) {
        while (view->at < view->known.count && range_end(extent_range(&view->known.items[view->at])) <= left.offset)
            view->at++;
        if (view->at == view->known.count || view->known.items[view->at].offset > left.offset) {
            int ret = view_load(view, left, hull_end, ask, enough - min_u64(located->found_count, enough) + 1);
            if (ret < 0)
                return ret;
        }
        struct extent part = extent_cut(&view->known.items[view->at], left);
        struct extent result = combine(own, &part);
        located_add(located, &result);
        lookup->count = located->found_count - lookup->first;
        left = range_between(left.offset + part.bytes, range_end(left));
    }
    return 0;
}

/* The end of what will be asked of the child of lookup @i: where its last lookup ends. */
static uint64_t hull_end_of(const struct located *located, size_t i)
{
    const struct child *child = located->lookups[i].own->file.child;
    uint64_t end = 0;
    for (; i < located->lookups_count && located->lookups[i].own->file.child == child; i++)
        end = max_u64(end, located->lookups[i].own->file_offset + located->lookups[i].own->bytes);
    return end;
}

/* Ends early when there are @enough pieces. @ascending: lookups come in the order of the child's offsets, so what lies
 * between this one and the last will be wanted too. */
static int locate_all(struct located *located, unsigned ask, size_t max, size_t enough, bool ascending)
{
    struct child_view view = { 0 };
    uint64_t hull_end = 0;
    int ret = 0;
    extents_init(&view.known, STEP_MAX);
    for (size_t i = 0; i < located->lookups_count && ret == 0 && located->found_count < enough; i++) {
        struct lookup *lookup = &located->lookups[i];
        if (lookup->own->file.child != view.child) {
            view.child = lookup->own->file.child;
            view.known.count = 0;
            view.at = 0;
            hull_end = hull_end_of(located, i);
        }
        if (!ascending)
            hull_end = lookup->own->file_offset + lookup->own->bytes;
        ret = view_lookup(&view, lookup, hull_end, ask, max, enough, located);
        located->done = i + 1;
    }
    extents_fini(&view.known);
    return ret;
}

static void collect_lookups(const struct extents *list, struct located *located)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!(list->items[i].flags & EXTENT_TO_LOCATE))
            continue;
        if (located->lookups_count == located->lookups_capacity)
            located->lookups = items_grow(located->lookups, &located->lookups_capacity, sizeof(struct lookup));
        located->lookups[located->lookups_count++] = (struct lookup){ .own = &list->items[i] };
    }
}

static int locate(const struct extents *list, size_t count, const struct walk *walk, size_t max,
                  struct located *located)
{
    collect_lookups(list, located);
    if (in_order(located))
        return locate_all(located, walk->ask, max, max, true);
    qsort(located->lookups, count, sizeof(struct lookup), lookup_order);
    int ret = locate_all(located, walk->ask, max, FOUND_MAX, true);
    qsort(located->lookups, count, sizeof(struct lookup), own_order);
    if (ret < 0 || located->done == count)
        return ret;
    /* More than memory shall hold. In the order of the answer it can end where the answer does. */
    forget_found(located);
    return locate_all(located, walk->ask, max, max, false);
}

/* False when not all of it was found out: the answer ends here. */
static bool append_found(const struct located *located, size_t i, const struct walk *walk, struct extents *out)
{
    if (i >= located->done)
        return false;
    const struct lookup *lookup = &located->lookups[i];
    uint64_t bytes = 0;
    for (size_t n = 0; n < lookup->count; n++) {
        const struct extent *found = &located->found[lookup->first + n];
        struct extent answer = answer_of(*found, walk);
        extents_append(out, &answer);
        bytes += found->bytes;
    }
    return bytes == lookup->own->bytes;
}

int extents_locate(struct extents *extents, const struct walk *walk, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < extents->count; i++)
        count += !!(extents->items[i].flags & EXTENT_TO_LOCATE);
    if (count == 0)
        return 0;
    struct located located = { 0 };
    struct extents out;
    extents_init(&out, extents->max);
    int ret = locate(extents, count, walk, max, &located);
    size_t next = 0;
    bool whole = true;
    for (size_t i = 0; i < extents->count && ret == 0 && whole && out.count < max; i++) {
        if (extents->items[i].flags & EXTENT_TO_LOCATE)
            whole = append_found(&located, next++, walk, &out);
        else
            extents_append(&out, &extents->items[i]);
    }
    located_fini(&located);
    extents_fini(ret == 0 ? extents : &out);
    if (ret == 0)
        *extents = out;
    return ret;
}
