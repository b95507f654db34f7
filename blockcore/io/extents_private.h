/* extents_private - what the parts of block status share */
#ifndef CAIRN_IO_EXTENTS_PRIVATE_H
#define CAIRN_IO_EXTENTS_PRIVATE_H

#include "blockcore/io/block_status.h"

/* Extents in one step of an answer. */
#define STEP_MAX 8192

/* On the way to an answer: the child (file.child) has still to be asked. */
#define EXTENT_TO_LOCATE 0x80000000u

/* What is asked, and how far down. */
struct walk {
    unsigned ask;
    const struct node *base; /* filters skipped; NULL: whole chain */
    bool include_base;
};

/* The prefix of @range (inside the node) that one step can tell, children asked; @max: how many extents are wanted, a
 * few more may come. */
int located_status(struct node *node, struct range range, const struct walk *walk, size_t max, struct extents *out)
    CO_FN;

/* Asks the children about extents that are to be located. The list may become shorter at its end, never empty; @max:
 * how many extents are wanted, a few more may stay. */
int extents_locate(struct extents *extents, const struct walk *walk, size_t max) CO_FN;

/* More room for what lies in @items, of which there are *@capacity (0: NULL) with @item_bytes each; moves them. Given
 * back with buffer_put(items, capacity * item_bytes). */
void *items_grow(void *items, size_t *capacity, size_t item_bytes);

/* What of @extent was asked for, so that alike is alike whatever the driver told besides. */
struct extent answer_of(struct extent extent, const struct walk *walk);

static inline struct extent extent_make(struct range range, uint32_t flags)
{
    return (struct extent){ .offset = range.offset, .bytes = range.bytes, .flags = flags };
}

static inline struct range extent_range(const struct extent *extent)
{
    return range_make(extent->offset, extent->bytes);
}

/* The part of @extent that lies in @range, mapping moved along. */
struct extent extent_cut(const struct extent *extent, struct range range);

/* Cuts what lies outside @range off. */
void extents_clip(struct extents *extents, struct range range);

/* Extents on their way to boundaries at multiples of @unit: a unit that several share gets the weaker answer of all. */
struct units {
    uint64_t unit;       /* a power of two */
    uint64_t end;        /* the last unit may end here, before its time */
    struct extent begun; /* the part of a unit seen so far; at first of 0 bytes */
    struct extents *out;
};

/* The first extent begins at a unit, each other where the one before it ended; none goes past the end. */
void units_add(struct units *units, const struct extent *extent);

#endif
