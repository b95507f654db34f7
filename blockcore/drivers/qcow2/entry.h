/* entry - what a 64-bit entry of an L1 or L2 table says
 *
 * Pure functions on values in host byte order. Nothing is trusted: an entry that means nothing is CLUSTER_INVALID.
 *
 * Source: the qcow2 specification, "Cluster mapping". */
#ifndef CAIRN_QCOW2_ENTRY_H
#define CAIRN_QCOW2_ENTRY_H

#include "blockcore/base/range.h"
#include "blockcore/drivers/qcow2/header.h"

#define ENTRY_COPIED (UINT64_C(1) << 63)     /* the refcount is exactly one: may be written in place */
#define ENTRY_COMPRESSED (UINT64_C(1) << 62) /* L2 only */
#define ENTRY_ZERO UINT64_C(1)               /* L2 only, version 3: reads as zeroes */
#define ENTRY_OFFSET_MASK UINT64_C(0x00fffffffffffe00)

enum cluster_kind {
    CLUSTER_ABSENT,        /* the backing file shows through */
    CLUSTER_ZERO,          /* reads as zeroes, no host cluster */
    CLUSTER_ZERO_RESERVED, /* reads as zeroes, a host cluster with any content is kept for it */
    CLUSTER_DATA,
    CLUSTER_COMPRESSED,
    CLUSTER_INVALID, /* nothing that an image may contain */
};

/* The numbers that all tables of an image depend on. */
struct geometry {
    uint32_t version;
    uint32_t cluster_bits;
    uint32_t l2_bits;        /* entries of an L2 table, as a power of two */
    uint32_t refcount_order; /* bits of a refcount, as a power of two */
    uint32_t refblock_bits;  /* entries of a refcount block, as a power of two */
};

static inline struct geometry geometry_of(const struct qcow2_header *header)
{
    return (struct geometry){
        .version = header->version,
        .cluster_bits = header->cluster_bits,
        .l2_bits = header->cluster_bits - 3,
        .refcount_order = header->refcount_order,
        .refblock_bits = header->cluster_bits + 3 - header->refcount_order,
    };
}

static inline uint64_t cluster_bytes(const struct geometry *geometry)
{
    return UINT64_C(1) << geometry->cluster_bits;
}

static inline uint64_t in_cluster(const struct geometry *geometry, uint64_t offset)
{
    return offset & (cluster_bytes(geometry) - 1);
}

/* Of an L1 entry, a standard L2 entry or a refcount table entry. */
static inline uint64_t entry_offset(uint64_t entry)
{
    return entry & ENTRY_OFFSET_MASK;
}

/* Where the compressed bytes of a cluster lie in the file: any alignment, at least one byte, may cross clusters. The
 * last sector may belong to the next compressed cluster as well. */
static inline struct range entry_compressed_range(const struct geometry *geometry, uint64_t entry)
{
    uint32_t offset_bits = 62 - (geometry->cluster_bits - 8);
    uint64_t offset = entry & ((UINT64_C(1) << offset_bits) - 1);
    uint64_t sectors = (entry & ~ENTRY_COPIED & ~ENTRY_COMPRESSED) >> offset_bits;
    return range_make(offset, (sectors + 1) * 512 - (offset & 511));
}

static inline enum cluster_kind entry_kind(const struct geometry *geometry, uint64_t entry)
{
    if (entry & ENTRY_COMPRESSED) {
        struct range range = entry_compressed_range(geometry, entry);
        bool valid = !(entry & ENTRY_COPIED) && range.offset >= cluster_bytes(geometry) &&
                     range_inside(range, QCOW2_HOST_OFFSET_END);
        return valid ? CLUSTER_COMPRESSED : CLUSTER_INVALID;
    }
    uint64_t offset = entry_offset(entry);
    if (in_cluster(geometry, offset))
        return CLUSTER_INVALID;
    if ((entry & ENTRY_ZERO) && geometry->version < 3)
        return CLUSTER_INVALID;
    if (offset == 0 && (entry & ENTRY_COPIED))
        return CLUSTER_INVALID; /* only external data files have a guest cluster at 0 */
    if (entry & ENTRY_ZERO)
        return offset ? CLUSTER_ZERO_RESERVED : CLUSTER_ZERO;
    return offset ? CLUSTER_DATA : CLUSTER_ABSENT;
}

/* May the host cluster be written without anybody else seeing it? */
static inline bool entry_is_own(uint64_t entry)
{
    return (entry & ENTRY_COPIED) && !(entry & ENTRY_COMPRESSED);
}

#endif
