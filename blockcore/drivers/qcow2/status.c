/* What the image itself knows of a range: one run of like clusters after the other. Nothing but L2 tables is read. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/io/block_status.h"

#define RUNS 64 /* looked up at a time */

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

static int fill_extents(struct qcow2 *q, struct range range, struct map_scan *scan, struct extents *extents)
{
    while (range.bytes > 0 && !extents_full(extents)) {
        struct mapping runs[RUNS];
        size_t count;
        int ret = map_scan_next(q, range, scan, runs, min_u64(RUNS, extents->max - extents->count), &count);
        if (ret < 0)
            return ret;
        for (size_t i = 0; i < count; i++) {
            struct extent extent = extent_of(q, range.offset, &runs[i]);
            extents_append(extents, &extent);
            range = range_make(range.offset + runs[i].bytes, range.bytes - runs[i].bytes);
        }
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
    struct map_scan scan;
    map_scan_begin(q, range, &scan);
    int ret = fill_extents(q, range, &scan, extents);
    map_scan_end(&scan);
    freed_epoch_leave(q, epoch);
    return ret;
}
