/* sweep - what each layer of a chain decides, laid over one another
 *
 * A layer's list has gaps where the layer below shows through. Lists are laid over one another two by two, and what
 * came of that again, so that n extents in d layers cost n log d steps, not n times d:
 *
 *     top       ..AA....   .
 *     middle    .B......   |--> .BAA....  .
 *                                         |--> CBAACDDC
 *     lower     .....DD.   .              |
 *     bottom    CCCCCCCC   |--> CCCCCDDC  '
 *
 * All of it speaks of the same window. A layer that could tell only of a part of it makes the window shorter. */
#ifndef CAIRN_IO_SWEEP_H
#define CAIRN_IO_SWEEP_H

#include "blockcore/io/block_status.h"

/* Extents of all layers together; with more of them the window becomes shorter. */
#define SWEEP_MAX 65536

struct sweep {
    struct range window;
    struct extents *layers; /* from the top down */
    size_t layers_count;
    size_t layers_capacity;
    size_t count; /* extents in all of them */
};

void sweep_init(struct sweep *sweep, struct range window);
void sweep_fini(struct sweep *sweep);

/* The window ends at @end, if it ended behind it. */
void sweep_shorten(struct sweep *sweep, uint64_t end);

/* The next layer: in order, with gaps, none of it before the window. Takes what @layer holds and leaves it empty. */
void sweep_add(struct sweep *sweep, struct extents *layer);
void sweep_add_one(struct sweep *sweep, const struct extent *extent);

/* Fills @out, which is empty, from the begin of the window to its end or until there are more than @max extents. The
 * layers have left no gap in the window. They are used up. */
void sweep_finish(struct sweep *sweep, size_t max, struct extents *out);

#endif
