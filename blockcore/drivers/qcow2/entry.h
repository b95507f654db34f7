/* entry - what an entry of an L1 or L2 table says
 *
 * Pure functions on values in host byte order. Nothing is trusted: an entry that means nothing is not valid.
 *
 * An L2 entry speaks of units: of the one cluster, or, in images with extended L2 entries, of the 32 subclusters that
 * a cluster is divided into. One form, struct cluster, serves both, so that only this file knows the difference.
 *
 *     standard    | descriptor with zero flag |                              1 unit
 *     extended    | descriptor | zero bits (32) | data bits (32) |          32 units, bit 0 is the first
 *
 * Source: the qcow2 specification, "Cluster mapping" and "Extended L2 Entries". */
#ifndef CAIRN_QCOW2_ENTRY_H
#define CAIRN_QCOW2_ENTRY_H

#include "blockcore/base/range.h"
#include "blockcore/drivers/qcow2/header.h"

#define ENTRY_COPIED (UINT64_C(1) << 63)     /* the refcount is exactly one: may be written in place */
#define ENTRY_COMPRESSED (UINT64_C(1) << 62) /* L2 only */
#define ENTRY_ZERO UINT64_C(1)               /* standard L2 entries of version 3 only: reads as zeroes */
#define ENTRY_OFFSET_MASK UINT64_C(0x00fffffffffffe00)

#define SUBCLUSTERS 32

/* What a unit is. */
enum cluster_kind {
    CLUSTER_ABSENT,          /* the backing file shows through */
    CLUSTER_ABSENT_RESERVED, /* the same, but there is room for it in a host cluster */
    CLUSTER_ZERO,            /* reads as zeroes, no host cluster */
    CLUSTER_ZERO_RESERVED,   /* reads as zeroes, a host cluster with any content is kept for it */
    CLUSTER_DATA,
    CLUSTER_COMPRESSED,
    CLUSTER_INVALID, /* nothing that an image may contain */
};

/* The numbers that all tables of an image depend on. */
struct geometry {
    uint32_t version;
    uint32_t cluster_bits;
    uint32_t l2_entry_bits;  /* bytes of an L2 entry, as a power of two: 3, or 4 when they are extended */
    uint32_t l2_bits;        /* entries of an L2 table, as a power of two */
    uint32_t unit_bits;      /* bytes of a unit, as a power of two */
    uint32_t units;          /* of a cluster: all bits of a mask of units */
    uint32_t refcount_order; /* bits of a refcount, as a power of two */
    uint32_t refblock_bits;  /* entries of a refcount block, as a power of two */
    bool data_file;          /* data lies in a file of its own, each cluster where the guest has it */
};

/* An L2 entry. */
struct l2_entry {
    uint64_t descriptor;
    uint64_t bitmap; /* extended entries only, else 0 */
};

/* The same, taken apart. */
struct cluster {
    bool valid; /* if not, nothing else is said */
    bool compressed;
    bool has_host; /* a host cluster is kept for it */
    bool own;      /* ... and nobody else refers to it */
    uint64_t host; /* with has_host; with a data file always: the only place where it may be */
    uint32_t data; /* units that the host cluster holds */
    uint32_t zero; /* units that read as zeroes; none of those in @data */
};

static inline bool geometry_is_extended(const struct geometry *geometry)
{
    return geometry->l2_entry_bits > 3;
}

static inline struct geometry geometry_of(const struct qcow2_header *header)
{
    bool extended = header->incompatible & QCOW2_EXTENDED_L2;
    uint32_t entry_bits = extended ? 4 : 3;
    return (struct geometry){
        .version = header->version,
        .cluster_bits = header->cluster_bits,
        .l2_entry_bits = entry_bits,
        .l2_bits = header->cluster_bits - entry_bits,
        .unit_bits = header->cluster_bits - (extended ? 5 : 0),
        .units = extended ? UINT32_MAX : 1,
        .refcount_order = header->refcount_order,
        .refblock_bits = header->cluster_bits + 3 - header->refcount_order,
        .data_file = header->incompatible & QCOW2_DATA_FILE,
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

static inline uint64_t unit_bytes(const struct geometry *geometry)
{
    return UINT64_C(1) << geometry->unit_bits;
}

static inline unsigned unit_count(const struct geometry *geometry)
{
    return 1u << (geometry->cluster_bits - geometry->unit_bits);
}

/* Index of the unit that @offset is in, inside of its cluster. */
static inline unsigned unit_of(const struct geometry *geometry, uint64_t offset)
{
    return (unsigned)(in_cluster(geometry, offset) >> geometry->unit_bits);
}

/* The units of the cluster at @cluster that @range touches. */
static inline uint32_t units_in(const struct geometry *geometry, uint64_t cluster, struct range range)
{
    struct range part = range_intersect(range, range_make(cluster, cluster_bytes(geometry)));
    if (part.bytes == 0)
        return 0;
    unsigned first = unit_of(geometry, part.offset);
    unsigned last = unit_of(geometry, range_end(part) - 1);
    return (UINT32_MAX >> (31 - (last - first))) << first;
}

/* Of an L1 entry, a descriptor or a refcount table entry. */
static inline uint64_t entry_offset(uint64_t entry)
{
    return entry & ENTRY_OFFSET_MASK;
}

/* Of an L1 entry: may the table be changed without anybody else seeing it? */
static inline bool entry_is_own(uint64_t entry)
{
    return entry & ENTRY_COPIED;
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

/* Compressed bytes have to end before this offset, or no entry can lead to them. */
static inline uint64_t entry_compressed_end(const struct geometry *geometry)
{
    return min_u64(QCOW2_HOST_OFFSET_END, UINT64_C(1) << (62 - (geometry->cluster_bits - 8)));
}

/* The entry of a cluster whose @bytes compressed bytes (at least 1) begin at @host. */
static inline struct l2_entry entry_compressed(const struct geometry *geometry, uint64_t host, uint64_t bytes)
{
    uint64_t sectors = (host + bytes - 1) / 512 - host / 512;
    return (struct l2_entry){
        .descriptor = ENTRY_COMPRESSED | sectors << (62 - (geometry->cluster_bits - 8)) | host,
    };
}

static inline struct cluster cluster_of_compressed(const struct geometry *geometry, struct l2_entry entry)
{
    struct range range = entry_compressed_range(geometry, entry.descriptor);
    bool valid = !(entry.descriptor & ENTRY_COPIED) && entry.bitmap == 0 && !geometry->data_file &&
                 range.offset >= cluster_bytes(geometry) && range_inside(range, QCOW2_HOST_OFFSET_END);
    return (struct cluster){ .valid = valid, .compressed = true };
}

/* What the entry of the guest cluster at @guest says. */
static inline struct cluster cluster_of_entry(const struct geometry *geometry, struct l2_entry entry, uint64_t guest)
{
    if (entry.descriptor & ENTRY_COMPRESSED)
        return cluster_of_compressed(geometry, entry);
    bool copied = entry.descriptor & ENTRY_COPIED;
    struct cluster cluster = { .valid = true, .own = copied, .host = entry_offset(entry.descriptor) };
    /* Only in a data file is there a cluster at 0, and then the flag has to say so. */
    cluster.has_host = cluster.host || (geometry->data_file && copied);
    if (geometry_is_extended(geometry)) {
        cluster.data = (uint32_t)entry.bitmap;
        cluster.zero = (uint32_t)(entry.bitmap >> 32);
    } else {
        cluster.zero = entry.descriptor & ENTRY_ZERO;
        cluster.data = cluster.has_host && !cluster.zero;
    }
    if (in_cluster(geometry, cluster.host) || (cluster.data & cluster.zero) || (cluster.data && !cluster.has_host) ||
        (copied && !cluster.has_host) || (cluster.zero && geometry->version < 3))
        cluster.valid = false;
    if (geometry->data_file) {
        if (cluster.has_host && cluster.host != guest)
            cluster.valid = false;
        cluster.host = guest;
        cluster.own = true;
    }
    return cluster;
}

/* The reverse, for clusters that are not compressed. */
static inline struct l2_entry entry_of_cluster(const struct geometry *geometry, const struct cluster *cluster)
{
    struct l2_entry entry = { 0 };
    if (cluster->has_host)
        entry.descriptor = cluster->host | (cluster->own ? ENTRY_COPIED : 0);
    if (geometry_is_extended(geometry))
        entry.bitmap = (uint64_t)cluster->zero << 32 | cluster->data;
    else if (cluster->zero)
        entry.descriptor |= ENTRY_ZERO;
    return entry;
}

/* Units of which the image itself says nothing. */
static inline uint32_t cluster_absent(const struct geometry *geometry, const struct cluster *cluster)
{
    return cluster->compressed ? 0 : geometry->units & ~(cluster->data | cluster->zero);
}

static inline enum cluster_kind cluster_unit_kind(const struct cluster *cluster, unsigned unit)
{
    uint32_t bit = UINT32_C(1) << unit;
    if (!cluster->valid)
        return CLUSTER_INVALID;
    if (cluster->compressed)
        return CLUSTER_COMPRESSED;
    if (cluster->data & bit)
        return CLUSTER_DATA;
    if (cluster->zero & bit)
        return cluster->has_host ? CLUSTER_ZERO_RESERVED : CLUSTER_ZERO;
    return cluster->has_host ? CLUSTER_ABSENT_RESERVED : CLUSTER_ABSENT;
}

/* Units from @unit on that are what it is. */
static inline unsigned cluster_units_alike(const struct geometry *geometry, const struct cluster *cluster,
                                           unsigned unit)
{
    uint32_t alike = geometry->units;
    uint32_t bit = UINT32_C(1) << unit;
    if (cluster->valid && !cluster->compressed)
        alike = cluster->data & bit   ? cluster->data
                : cluster->zero & bit ? cluster->zero
                                      : cluster_absent(geometry, cluster);
    uint64_t others = ~(uint64_t)alike >> unit; /* never 0: the upper half is all ones */
    return (unsigned)__builtin_ctzll(others);
}

#endif
