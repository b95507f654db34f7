/* block_status - what is known about the bytes of a range
 *
 * Three questions that must not be mixed (docs/block-status.md): which layer of the overlay chain decides a byte, is it
 * guaranteed to read as zero, and where does it lie. A caller says which it asks; what is not asked is not computed.
 *
 *     handle --> overlay [own: allocated | absent | zero ...]      driver->block_status: only its own layer
 *                   '--> backing [...]                              io/: walks down, merges lists, linear in extents
 *
 * A driver's answer (driver_extent flags below) speaks of its own layer only. The generic layer follows children. */
#ifndef CAIRN_IO_BLOCK_STATUS_H
#define CAIRN_IO_BLOCK_STATUS_H

#include "blockcore/base/range.h"
#include "blockcore/graph/handle.h"

#include <stddef.h>

enum ask {
    ASK_ALLOCATED = 0x1, /* EXTENT_ALLOCATED and depth */
    ASK_ZERO = 0x2,      /* EXTENT_ZERO */
    ASK_MAP = 0x4,       /* EXTENT_DATA, EXTENT_MAPPED, EXTENT_COMPRESSED, file and file_offset */
    ASK_ALL = 0x7,
};

enum extent_flags {
    EXTENT_ALLOCATED = 0x1,   /* decided in the chain that was looked at: above or at the base */
    EXTENT_ZERO = 0x2,        /* reads as zero, for sure */
    EXTENT_DATA = 0x4,        /* storage below holds bytes for the range */
    EXTENT_MAPPED = 0x8,      /* file and file_offset are valid */
    EXTENT_COMPRESSED = 0x10, /* stored compressed */
    EXTENT_PRESENT = 0x20,    /* some layer has an entry of its own for it; without: absent from the whole chain.
                                 Set by the generic layer wherever a driver says EXTENT_ALLOCATED */
};

/* In the answer of a driver: bytes are found in @file (a child of the node) from file_offset on; the generic layer
 * asks that child (@child NULL: the node itself is the storage). With EXTENT_ZERO the driver itself is sure (the
 * mapping stays, but is not read). Without it and without EXTENT_MAPPED, EXTENT_DATA says: bytes of its own that lie
 * nowhere raw. With EXTENT_MAPPED, EXTENT_DATA says that there is data whatever the child says (a qcow2 cluster over a
 * hole); without it the child's answer holds (raw). No EXTENT_ALLOCATED: the backing child shows through (or zeroes
 * where it ends or is missing). */
struct extent {
    uint64_t offset;
    uint64_t bytes;
    uint64_t file_offset;
    union {
        struct child *child; /* in a driver's answer: where the bytes are */
        struct node *node; /* in the generic answer: the protocol node; weak, valid while the handle holds the graph */
    } file;
    struct node
        *layer;     /* generic answer: the node that decides (never a filter); NULL when not asked or absent; weak */
    uint32_t depth; /* backing edges crossed */
    uint32_t flags; /* enum extent_flags */
};

/* An ordered list without gaps or overlaps, each longer than 0 bytes. Neighbours that are alike are merged. */
struct extents {
    struct extent *items;
    size_t count;
    size_t capacity;
    size_t max; /* a driver may stop once count reaches it, at an extent's end; at least 1 */
};

/* @max: the most extents that are wanted, at least 1. */
void extents_init(struct extents *extents, size_t max);
void extents_fini(struct extents *extents);
static inline void extents_fini_cleanup(struct extents *extents)
{
    extents_fini(extents);
}

/* Room for some tens of extents: for who appends on a thread of the pool, where no memory is kept. */
void extents_make_room(struct extents *extents);

/* Appends at the end of the list: extent->offset is where the list ends. Merges with the last one when alike
 * (same flags, depth, layer, and contiguous mapping). Extents of 0 bytes are ignored. */
void extents_append(struct extents *extents, const struct extent *extent);

/* Would the two be one extent, if they were neighbours? */
bool extents_alike(const struct extent *a, const struct extent *b);

/* Room for no more: count reached max. Merging may still lengthen the last one. */
bool extents_full(const struct extents *extents);

/* @range     any alignment, inside the node, not empty
 * @ask       enum ask; what is not asked is absent from the flags
 * @base      stop the walk down the overlay chain at this node (NULL: whole chain); it counts when @include_base. Bytes
 *            decided below read as absent: no flag is set. Only meaningful with ASK_ALLOCATED; zero and map then speak
 * of what the layers looked at decide.
 * @extents   initialised, empty; begins at range.offset, at least one; may end before the range when max is reached.
 *            Untouched on failure.
 * Returns 0, -EINVAL outside the node or when @base is not in the chain, or the driver's -errno. A snapshot: writes
 * that end later may change it. */
int handle_block_status(struct handle *handle, struct range range, unsigned ask, struct node *base, bool include_base,
                        struct extents *extents) CO_FN;

/* The same for a caller that is inside handle_enter() and handle_leave() already, because it looks at the nodes that
 * the extents name. */
int handle_block_status_entered(struct handle *handle, struct range range, unsigned ask, struct node *base,
                                bool include_base, struct extents *extents) CO_FN;

/* For drivers, about a child: the whole chain below, in the child's own offsets. */
int child_block_status(struct child *child, struct range range, unsigned ask, struct extents *extents) CO_FN;

/* Is @node in the overlay chain of @top (filters are transparent, data children are never followed)? */
bool chain_contains(const struct node *top, const struct node *node);

#endif
