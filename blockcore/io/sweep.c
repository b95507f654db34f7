#include "blockcore/io/sweep.h"

#include "blockcore/io/extents_private.h"
#include "blockcore/runtime/buffer.h"

void sweep_init(struct sweep *sweep, struct range window)
{
    *sweep = (struct sweep){ .window = window };
}

void sweep_fini(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->layers_count; i++)
        extents_fini(&sweep->layers[i]);
    buffer_put(sweep->layers, sweep->layers_capacity * sizeof(struct extents));
}

/* Adding ------------------------------------------------------------------------------------------------------ */

static void drop_behind(struct sweep *sweep, struct extents *layer)
{
    uint64_t end = range_end(sweep->window);
    while (layer->count > 0 && layer->items[layer->count - 1].offset >= end) {
        layer->count--;
        sweep->count--;
    }
}

void sweep_shorten(struct sweep *sweep, uint64_t end)
{
    sweep->window = range_between(sweep->window.offset, min_u64(end, range_end(sweep->window)));
}

static void bound_memory(struct sweep *sweep)
{
    while (sweep->count > SWEEP_MAX && sweep->window.bytes > 1) {
        sweep_shorten(sweep, sweep->window.offset + sweep->window.bytes / 2);
        for (size_t i = 0; i < sweep->layers_count; i++)
            drop_behind(sweep, &sweep->layers[i]);
    }
}

void sweep_add(struct sweep *sweep, struct extents *layer)
{
    if (layer->count == 0)
        return;
    if (sweep->layers_count == sweep->layers_capacity)
        sweep->layers = items_grow(sweep->layers, &sweep->layers_capacity, sizeof(struct extents));
    sweep->layers[sweep->layers_count++] = *layer;
    sweep->count += layer->count;
    extents_init(layer, layer->max);
    bound_memory(sweep);
}

void sweep_add_one(struct sweep *sweep, const struct extent *extent)
{
    struct extents layer;
    extents_init(&layer, 1);
    extents_append(&layer, extent);
    sweep_add(sweep, &layer);
    extents_fini(&layer);
}

/* Laying over one another ------------------------------------------------------------------------------------- */

struct overlay {
    const struct extents *lower;
    size_t next;  /* first extent of @lower that does not end before what was laid so far */
    uint64_t end; /* nothing from here on */
    size_t max;   /* enough when there are more */
    struct extents *out;
};

static bool overlay_is_full(const struct overlay *overlay)
{
    return overlay->out->count > overlay->max;
}

/* What shows of the lower layer in a gap of the upper one. */
static void show_lower(struct overlay *overlay, struct range gap)
{
    const struct extents *lower = overlay->lower;
    while (overlay->next < lower->count && !overlay_is_full(overlay)) {
        const struct extent *extent = &lower->items[overlay->next];
        if (extent->offset >= range_end(gap))
            return;
        struct extent part = extent_cut(extent, gap);
        extents_append(overlay->out, &part);
        if (extent->offset + extent->bytes > range_end(gap))
            return;
        overlay->next++;
    }
}

static void lay_over(struct overlay *overlay, const struct extents *upper, uint64_t begin)
{
    uint64_t at = begin;
    for (size_t i = 0; i < upper->count && at < overlay->end && !overlay_is_full(overlay); i++) {
        struct extent extent = upper->items[i];
        show_lower(overlay, range_between(at, min_u64(extent.offset, overlay->end)));
        if (extent.offset >= overlay->end || overlay_is_full(overlay))
            return;
        extent.bytes = min_u64(extent.bytes, overlay->end - extent.offset);
        extents_append(overlay->out, &extent);
        at = extent.offset + extent.bytes;
    }
    show_lower(overlay, range_between(at, overlay->end));
}

/* Half as many layers, the last one left alone if it has no partner. */
static void lay_pairs(struct sweep *sweep)
{
    size_t count = 0;
    for (size_t i = 0; i < sweep->layers_count; i += 2) {
        struct extents both = sweep->layers[i];
        if (i + 1 < sweep->layers_count) {
            extents_init(&both, SIZE_MAX);
            struct overlay overlay = {
                .lower = &sweep->layers[i + 1],
                .end = range_end(sweep->window),
                .max = SIZE_MAX,
                .out = &both,
            };
            lay_over(&overlay, &sweep->layers[i], sweep->window.offset);
            extents_fini(&sweep->layers[i]);
            extents_fini(&sweep->layers[i + 1]);
        }
        sweep->layers[count++] = both;
    }
    sweep->layers_count = count;
}

void sweep_finish(struct sweep *sweep, size_t max, struct extents *out)
{
    static const struct extents nothing;
    while (sweep->layers_count > 2)
        lay_pairs(sweep);
    struct overlay overlay = {
        .lower = sweep->layers_count > 1 ? &sweep->layers[1] : &nothing,
        .end = range_end(sweep->window),
        .max = max,
        .out = out,
    };
    lay_over(&overlay, &sweep->layers[0], sweep->window.offset);
}
