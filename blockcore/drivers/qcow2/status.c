/* What the image itself knows of a range: one run of like clusters after the other. Nothing but L2 tables is read. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/io/block_status.h"

static struct extent extent_of(const struct qcow2 *q, uint64_t offset, const struct mapping *mapping)
{
    struct extent extent = { .offset = offset, .bytes = mapping->bytes };
    switch (mapping->kind) {
    case CLUSTER_ZERO:
        extent.flags = EXTENT_ALLOCATED | EXTENT_ZERO;
        break;
    case CLUSTER_ZERO_RESERVED:
        extent.flags = EXTENT_ALLOCATED | EXTENT_ZERO | EXTENT_MAPPED;
        break;
    case CLUSTER_DATA:
        /* A raw data file knows itself where it has holes; a cluster of the image is data whatever lies below. */
        extent.flags = EXTENT_ALLOCATED | EXTENT_MAPPED | (q->raw_data ? 0 : EXTENT_DATA);
        break;
    case CLUSTER_COMPRESSED:
        extent.flags = EXTENT_ALLOCATED | EXTENT_DATA | EXTENT_COMPRESSED;
        break;
    default:
        break;
    }
    if (q->crypt)
        extent.flags &= ~(uint32_t)EXTENT_MAPPED;
    if (extent.flags & EXTENT_MAPPED) {
        extent.file.child = q->data;
        extent.file_offset = mapping->host;
    }
    return extent;
}

static int fill_extents(struct qcow2 *q, struct range range, struct extents *extents)
{
    while (range.bytes > 0 && !extents_full(extents)) {
        struct mapping mapping;
        int ret = map_lookup(q, range, FOR_READING, &mapping);
        if (ret < 0)
            return ret;
        struct extent extent = extent_of(q, range.offset, &mapping);
        extents_append(extents, &extent);
        range = range_make(range.offset + mapping.bytes, range.bytes - mapping.bytes);
    }
    return 0;
}

/* In an epoch like any request that loads tables: one that was given up meanwhile must not come into the cache after
 * its cluster is used for something else. */
int qcow2_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    (void)ask; /* the entry that answers one question answers all */
    struct qcow2 *q = node_state(node);
    unsigned epoch = freed_epoch_enter(q);
    int ret = fill_extents(q, range, extents);
    freed_epoch_leave(q, epoch);
    return ret;
}
