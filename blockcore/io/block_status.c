#include "blockcore/io/block_status.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/layout.h"
#include "blockcore/io/extents_private.h"
#include "blockcore/io/sweep.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* How an answer comes about
 *
 *     sweep_chain(n, window)
 *         driver's extents of n over the window, own layer only;
 *         of its backing node over the hull of what is absent; of its backing node over what is absent there; ...
 *         all of it is laid over one another (sweep.h)
 *     extents_locate()
 *         for extents that lie in a data child, of whichever layer: the child's zero and mapping (locate.c)
 *
 * Children are asked last, about what made it into the answer, since each question may cost a system call. Filters are
 * stepped over before. Depth and deciding layer are absolute from the start, so what a layer decides is put into the
 * answer as it is: the cost of a deep chain is that of the extents that its layers have. Windows shrink to what one
 * step can hold (STEP_MAX extents), so memory is bounded too. */

#define WINDOW_UNIT (UINT64_C(1) << 20) /* bytes: no window is smaller */

static int status_in_units(struct node *node, struct range range, uint64_t unit, const struct walk *walk,
                           uint32_t depth, size_t max, struct extents *out) CO_FN;

/* The node that decides for @node: filters are transparent. */
static struct node *skip_filters(const struct node *node)
{
    while (node->driver->kind == DRIVER_FILTER && node->filtered)
        node = node->filtered->node;
    return (struct node *)(uintptr_t)node;
}

bool chain_contains(const struct node *top, const struct node *node)
{
    const struct node *wanted = skip_filters(node);
    for (const struct node *layer = skip_filters(top); layer; layer = skip_filters(layer->backing->node)) {
        if (layer == wanted)
            return true;
        if (!layer->backing)
            break;
    }
    return false;
}

static uint64_t extents_end(const struct extents *extents)
{
    const struct extent *last = &extents->items[extents->count - 1];
    return last->offset + last->bytes;
}

/* The driver's words about its own layer. What they rest on, an image perhaps, the driver has checked. */
static int own_status(struct node *node, struct range range, unsigned ask, struct extents *own)
{
    const struct driver *driver = node->driver;
    if (driver->block_status) {
        int ret = driver->block_status(node, range, ask, own);
        if (ret < 0)
            return ret;
        assert(own->count > 0 && own->items[0].offset == range.offset && extents_end(own) <= range_end(range));
        return 0;
    }
    struct extent everything = extent_make(range, EXTENT_ALLOCATED | EXTENT_DATA);
    if (driver->kind == DRIVER_PROTOCOL) {
        everything.flags |= EXTENT_MAPPED;
        everything.file_offset = range.offset;
    }
    extents_append(own, &everything);
    return 0;
}

struct extent answer_of(struct extent extent, const struct walk *walk)
{
    bool known = !(extent.flags & EXTENT_TO_LOCATE);
    if (known && !(walk->ask & ASK_MAP))
        extent.flags &= ~(uint32_t)(EXTENT_DATA | EXTENT_MAPPED | EXTENT_COMPRESSED);
    if (!(extent.flags & EXTENT_MAPPED)) {
        extent.file.node = NULL;
        extent.file_offset = 0;
    }
    if (known && !(walk->ask & ASK_ZERO))
        extent.flags &= ~(uint32_t)EXTENT_ZERO;
    if (!(walk->ask & ASK_ALLOCATED)) {
        extent.flags &= ~(uint32_t)(EXTENT_ALLOCATED | EXTENT_PRESENT);
        extent.depth = 0;
        extent.layer = NULL;
    }
    return extent;
}

static bool needs_child(const struct extent *own, unsigned ask)
{
    if (!(own->flags & EXTENT_MAPPED) || !own->file.child)
        return false;
    if (ask & ASK_MAP)
        return true;
    return (ask & ASK_ZERO) && !(own->flags & EXTENT_ZERO);
}

/* Below own extents ------------------------------------------------------------------------------------------- */

/* From the first absent byte to the last; empty when nothing is absent. */
static struct range absent_hull(const struct extents *own)
{
    uint64_t begin = UINT64_MAX;
    uint64_t end = 0;
    for (size_t i = 0; i < own->count; i++) {
        const struct extent *extent = &own->items[i];
        if (extent->flags & EXTENT_ALLOCATED)
            continue;
        begin = min_u64(begin, extent->offset);
        end = extent->offset + extent->bytes;
    }
    return begin == UINT64_MAX ? range_make(0, 0) : range_between(begin, end);
}

/* Nobody in the chain has an entry: the bottom layer decides that it is zero. */
static struct extent absent_zero(struct range range, struct node *layer, uint32_t depth)
{
    struct extent extent = extent_make(range, EXTENT_ALLOCATED | EXTENT_ZERO);
    extent.depth = depth;
    extent.layer = layer;
    return extent;
}

/* Steps from @node through filters to the layer that decides, and lets them interfere on the way (tests make them).
 * @unit: the largest of the units that are met; the others divide it. */
static int pass_filters(struct node **node, struct range range, unsigned ask, uint64_t *unit)
{
    int ret = 0;
    *unit = (*node)->limits.request_alignment;
    while ((*node)->driver->kind == DRIVER_FILTER && (*node)->filtered && ret == 0) {
        if ((*node)->driver->block_status)
            ret = (*node)->driver->block_status(*node, range, ask, NULL);
        *node = (*node)->filtered->node;
        *unit = max_u64(*unit, (*node)->limits.request_alignment);
    }
    return ret;
}

/* The driver's extents that decide, as an answer. */
static void keep_decided(struct node *node, struct extents *own, const struct walk *walk, uint32_t depth)
{
    size_t kept = 0;
    for (size_t i = 0; i < own->count; i++) {
        struct extent extent = own->items[i];
        if (!(extent.flags & EXTENT_ALLOCATED))
            continue;
        extent.flags |= EXTENT_PRESENT;
        if (needs_child(&extent, walk->ask))
            extent.flags |= EXTENT_TO_LOCATE;
        else if ((extent.flags & EXTENT_MAPPED) && extent.file.child)
            extent.flags &= ~(uint32_t)EXTENT_MAPPED; /* not asked for */
        else if (extent.flags & EXTENT_MAPPED)
            extent.file.node = node;
        extent.depth = depth;
        extent.layer = node;
        own->items[kept++] = answer_of(extent, walk);
    }
    own->count = kept;
}

/* Adds what @node itself decides of @range; *@absent becomes what the layers below have to be asked about. */
static int sweep_layer(struct sweep *sweep, struct node *node, struct range range, const struct walk *walk,
                       uint32_t depth, size_t max, struct range *absent)
{
    struct extents own;
    extents_init(&own, max);
    int ret = own_status(node, range, walk->ask, &own);
    if (ret == 0) {
        sweep_shorten(sweep, extents_end(&own));
        *absent = absent_hull(&own);
        keep_decided(node, &own, walk, depth);
        sweep_add(sweep, &own);
        *absent = range_intersect(*absent, sweep->window);
    }
    extents_fini(&own);
    return ret;
}

/* Past the end of the backing node of @node. */
static void sweep_past_end(struct sweep *sweep, struct node *node, struct range past, const struct walk *walk,
                           uint32_t depth)
{
    struct node *backing = skip_filters(node->backing->node);
    bool looked_at = !(backing == walk->base && !walk->include_base);
    struct extent zero = looked_at ? answer_of(absent_zero(past, backing, depth + 1), walk) : extent_make(past, 0);
    sweep_add_one(sweep, &zero);
}

/* A layer with units: what it and those below it say is put together first. */
static int sweep_units(struct sweep *sweep, struct node *node, struct range range, uint64_t unit,
                       const struct walk *walk, uint32_t depth, size_t max)
{
    struct extents below;
    extents_init(&below, max);
    int ret = status_in_units(node, range, unit, walk, depth, max, &below);
    if (ret == 0) {
        if (extents_end(&below) < range_end(range))
            sweep_shorten(sweep, extents_end(&below));
        sweep_add(sweep, &below);
    }
    extents_fini(&below);
    return ret;
}

/* From @node, which is no filter and has no units, down to the layer behind which nothing shows through any more. */
static int sweep_chain(struct sweep *sweep, struct node *node, const struct walk *walk, uint32_t depth, size_t max)
{
    struct range range = sweep->window;
    for (;; depth++) {
        struct range absent;
        int ret = sweep_layer(sweep, node, range, walk, depth, max, &absent);
        if (ret < 0 || absent.bytes == 0)
            return ret;
        if (!node->backing || node == walk->base) {
            /* Without a backing node also when it is the base: there is nobody else to decide. */
            struct extent rest =
                node->backing ? extent_make(absent, 0) : answer_of(absent_zero(absent, node, depth), walk);
            sweep_add_one(sweep, &rest);
            return 0;
        }
        uint64_t length = node_length(node->backing->node);
        sweep_past_end(sweep, node, range_between(max_u64(absent.offset, length), range_end(absent)), walk, depth);
        range = range_between(absent.offset, min_u64(range_end(absent), length));
        node = node->backing->node;
        uint64_t unit;
        ret = range.bytes > 0 ? pass_filters(&node, range, walk->ask, &unit) : 0;
        if (ret < 0 || range.bytes == 0)
            return ret;
        if (node == walk->base && !walk->include_base) {
            struct extent below_base = extent_make(range, 0);
            sweep_add_one(sweep, &below_base);
            return 0;
        }
        if (unit != 1)
            return sweep_units(sweep, node, range, unit, walk, depth + 1, max);
    }
}

static int exact_status(struct node *node, struct range range, const struct walk *walk, uint32_t depth, size_t max,
                        struct extents *out)
{
    struct sweep sweep;
    sweep_init(&sweep, range);
    int ret = sweep_chain(&sweep, node, walk, depth, max);
    if (ret == 0)
        sweep_finish(&sweep, max, out);
    sweep_fini(&sweep);
    return ret;
}

/* Units ------------------------------------------------------------------------------------------------------- */

/* In units. A step that does not reach the end of the first unit is followed by another. */
static int status_in_units(struct node *node, struct range range, uint64_t unit, const struct walk *walk,
                           uint32_t depth, size_t max, struct extents *out)
{
    uint64_t length = node_length(node);
    struct range left = range_align_out(range, unit);
    left = range_between(left.offset, min_u64(range_end(left), max_u64(length, range_end(range))));
    struct units units = { .unit = unit, .end = range_end(left), .out = out };
    int ret = 0;
    while (out->count == 0 && ret == 0) {
        struct extents step;
        extents_init(&step, max);
        ret = exact_status(node, left, walk, depth, max, &step);
        if (ret == 0)
            ret = extents_locate(&step, walk, max);
        for (size_t i = 0; i < step.count && ret == 0; i++)
            units_add(&units, &step.items[i]);
        if (ret == 0)
            left = range_between(extents_end(&step), range_end(left));
        extents_fini(&step);
    }
    extents_clip(out, range);
    return ret;
}

/* The prefix of @range (inside the node) that one step can tell, children not yet asked; @max: how many extents are
 * wanted, a few more may come. */
static int layer_status(struct node *node, struct range range, const struct walk *walk, uint32_t depth, size_t max,
                        struct extents *out)
{
    uint64_t unit;
    int ret = pass_filters(&node, range, walk->ask, &unit);
    if (ret < 0)
        return ret;
    if (node == walk->base && !walk->include_base) {
        struct extent below_base = extent_make(range, 0);
        extents_append(out, &below_base);
        return 0;
    }
    return unit == 1 ? exact_status(node, range, walk, depth, max, out)
                     : status_in_units(node, range, unit, walk, depth, max, out);
}

/* Moves from @part to @out as many as fit; false when one did not. */
static bool take(struct extents *out, const struct extents *part)
{
    for (size_t i = 0; i < part->count; i++) {
        if (extents_full(out) && !extents_alike(&out->items[out->count - 1], &part->items[i]))
            return false;
        extents_append(out, &part->items[i]);
    }
    return true;
}

int located_status(struct node *node, struct range range, const struct walk *walk, size_t max, struct extents *out)
{
    int ret = layer_status(node, range, walk, 0, max, out);
    return ret < 0 ? ret : extents_locate(out, walk, max);
}

/* Each layer tells of the whole window, of which only what one step can hold is used. So the window follows what the
 * last step could tell. */
static uint64_t next_window(uint64_t window, struct range told, size_t count)
{
    if (told.bytes < window)
        return align_up(told.bytes, WINDOW_UNIT);
    return count < STEP_MAX / 2 && window < UINT64_MAX / 2 ? window * 2 : window;
}

static int status(struct node *node, struct range range, const struct walk *walk, struct extents *out)
{
    uint64_t end = range_end(range);
    uint64_t window = range.bytes;
    int ret = 0;
    bool room = true;
    while (range.bytes > 0 && room && ret == 0) {
        size_t left = out->max > out->count ? out->max - out->count : 1;
        struct range asked = range_make(range.offset, min_u64(range.bytes, window));
        struct extents part;
        extents_init(&part, STEP_MAX);
        ret = located_status(node, asked, walk, left < STEP_MAX ? left + 1 : STEP_MAX, &part);
        if (ret == 0) {
            room = take(out, &part);
            window = next_window(asked.bytes, range_between(range.offset, extents_end(&part)), part.count);
            range = range_between(extents_end(&part), end);
        }
        extents_fini(&part);
    }
    if (ret < 0)
        out->count = 0;
    return ret;
}

int handle_block_status_entered(struct handle *handle, struct range range, unsigned ask, struct node *base,
                                bool include_base, struct extents *extents)
{
    struct node *node = handle->edge.node;
    if (range.bytes == 0 || !range_inside(range, node_length(node)) || (base && !chain_contains(node, base)))
        return -EINVAL;
    struct walk walk = { .ask = ask, .base = base ? skip_filters(base) : NULL, .include_base = include_base };
    return status(node, range, &walk, extents);
}

int handle_block_status(struct handle *handle, struct range range, unsigned ask, struct node *base, bool include_base,
                        struct extents *extents)
{
    handle_enter(handle);
    int ret = handle_block_status_entered(handle, range, ask, base, include_base, extents);
    handle_leave(handle);
    return ret;
}

int child_block_status(struct child *child, struct range range, unsigned ask, struct extents *extents)
{
    if (range.bytes == 0 || !range_inside(range, node_length(child->node)))
        return -EINVAL;
    struct walk walk = { .ask = ask };
    return status(child->node, range, &walk, extents);
}
