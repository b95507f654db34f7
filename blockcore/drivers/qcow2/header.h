/* header - the first cluster of an image: from bytes to a struct, and back
 *
 * Pure functions of (bytes, length); they read no file. What passes the parser is sane by itself: offsets are aligned
 * and cannot wrap, tables are bounded. Whether tables lie inside the file is for the caller to check.
 *
 *     | header | extensions ... end | backing file name |       all of it in the first cluster
 *
 * Source: the qcow2 specification (QEMU, docs/interop/qcow2), "Header" and "Header extensions". */
#ifndef CAIRN_QCOW2_HEADER_H
#define CAIRN_QCOW2_HEADER_H

#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_V2_HEADER_BYTES 72
#define QCOW2_V3_HEADER_BYTES_MIN 104
#define QCOW2_HEADER_BYTES 112 /* what we write for version 3: up to and with the compression type and its padding */

/* Implementation limits, the same as QEMU's so that images go both ways. */
#define QCOW2_CLUSTER_BITS_MIN 9
#define QCOW2_CLUSTER_BITS_MAX 21
#define QCOW2_EXTENDED_CLUSTER_BITS_MIN 14 /* with extended L2 entries: subclusters of a sector */
#define QCOW2_L1_BYTES_MAX (32u * 1024 * 1024)
#define QCOW2_REFTABLE_BYTES_MAX (8u * 1024 * 1024)
#define QCOW2_SNAPSHOTS_MAX 65536u
#define QCOW2_BACKING_NAME_MAX 1023
/* What a disk writes as a whole or not at all, whatever it calls a sector. Whoever changes a header in use relies on no
 * more than that (README.md, "The header"). */
#define QCOW2_SECTOR_BYTES 512
#define QCOW2_HOST_OFFSET_END (UINT64_C(1) << 56) /* L1 and L2 entries cannot point beyond */

enum qcow2_incompatible {
    QCOW2_DIRTY = 1 << 0,     /* refcounts may be wrong */
    QCOW2_CORRUPT = 1 << 1,   /* must not be written */
    QCOW2_DATA_FILE = 1 << 2, /* guest data lies in a file of its own */
    QCOW2_COMPRESSION = 1 << 3,
    QCOW2_EXTENDED_L2 = 1 << 4,
    QCOW2_INCOMPATIBLE_KNOWN = 0x1f,
};

enum qcow2_compatible {
    QCOW2_LAZY_REFCOUNTS = 1 << 0,
};

enum qcow2_autoclear {
    QCOW2_BITMAPS = 1 << 0,
    QCOW2_DATA_FILE_RAW = 1 << 1,
};

enum qcow2_crypt_method {
    QCOW2_CRYPT_NONE = 0,
    QCOW2_CRYPT_AES = 1,
    QCOW2_CRYPT_LUKS = 2,
};

enum qcow2_compression {
    QCOW2_DEFLATE = 0,
    QCOW2_ZSTD = 1,
};

/* Where fields lie that are changed in place. */
enum qcow2_header_field {
    QCOW2_FIELD_BACKING = 8, /* backing_file_offset (8 bytes), backing_file_size (4 bytes) */
    QCOW2_FIELD_SIZE = 24,
    QCOW2_FIELD_L1 = 36,        /* l1_size (4 bytes), l1_table_offset (8 bytes) */
    QCOW2_FIELD_REFTABLE = 48,  /* refcount_table_offset (8 bytes), refcount_table_clusters (4 bytes) */
    QCOW2_FIELD_SNAPSHOTS = 60, /* nb_snapshots (4 bytes), snapshots_offset (8 bytes) */
    QCOW2_FIELD_INCOMPATIBLE = 72,
    QCOW2_FIELD_AUTOCLEAR = 88,
};

/* A header extension as it is in the image. */
struct qcow2_extension {
    uint32_t type;
    size_t bytes;
    uint8_t *data;
};

struct qcow2_header {
    uint32_t version; /* 2 or 3 */
    uint32_t cluster_bits;
    uint64_t size;         /* of the virtual disk, bytes; at most INT64_MAX */
    uint32_t crypt_method; /* enum qcow2_crypt_method */
    uint32_t l1_entries;   /* enough for size */
    uint64_t l1_offset;
    uint64_t reftable_offset;
    uint32_t reftable_clusters;
    uint32_t snapshot_count;
    uint64_t snapshots_offset;
    uint64_t incompatible; /* enum qcow2_incompatible, no other bits */
    uint64_t compatible;
    uint64_t autoclear;
    uint32_t refcount_order; /* a refcount has 1 << order bits */
    uint32_t header_bytes;
    uint8_t compression; /* enum qcow2_compression */

    char *backing_file;   /* NULL: none. As in the header: nothing is known about its form */
    char *backing_format; /* NULL: the image does not say */
    char *data_file;      /* NULL: the image does not say */
    bool has_bitmaps;     /* the bitmaps extension is there */
    uint32_t bitmap_count;
    uint64_t bitmap_directory_offset;
    uint64_t bitmap_directory_bytes;
    bool has_crypto; /* the extension that leads to the LUKS header is there */
    uint64_t crypto_offset;
    uint64_t crypto_bytes;

    /* What is written again as it was found: extensions that are not made from the fields above, known or not, and the
     * bytes of a header that is longer than what we know. */
    struct qcow2_extension *kept;
    size_t kept_count;
    uint8_t *tail; /* header_bytes - QCOW2_HEADER_BYTES of them, if that is more than 0 */
};

/* How many bytes the caller has to read for qcow2_header_parse: the first cluster. @data are the first @bytes bytes of
 * the file, at least QCOW2_V2_HEADER_BYTES of them unless the file is shorter. */
struct error *qcow2_header_measure(const void *data, size_t bytes, size_t *cluster_bytes) MUST_CHECK;

/* @data    the first cluster, or all of the file where that is shorter
 * @out     filled in on success; the caller calls qcow2_header_fini. Untouched on failure.
 * An unknown incompatible feature is refused by the name that the image gives it. */
struct error *qcow2_header_parse(const void *data, size_t bytes, struct qcow2_header *out) MUST_CHECK;

void qcow2_header_fini(struct qcow2_header *header);
static inline void qcow2_header_fini_cleanup(struct qcow2_header *header)
{
    qcow2_header_fini(header);
}

/* Where the LUKS header of a new image is, for qcow2_header_format. */
void qcow2_header_set_crypto(struct qcow2_header *header, uint64_t offset, uint64_t bytes);

/* Writes a header with its extensions and the backing file name into @cluster, which has one cluster's bytes and is
 * overwritten; the first *@used of them mean something (may be NULL). What was parsed is written again, all that is
 * unknown included. Fails when it does not fit. */
struct error *qcow2_header_format(const struct qcow2_header *header, void *cluster, size_t *used) MUST_CHECK;

/* Is the extension that leads to the bitmap directory there, or can it be added (qcow2_header_set_bitmaps)? */
bool qcow2_header_has_room_for_bitmaps(const struct qcow2_header *header);

/* The first QCOW2_SECTOR_BYTES of a header that means the same, all of whose extensions end inside of them: without the
 * table of names of features, which is only for people. The name of the backing file begins at @name_at, where the
 * caller puts what does not lie in these bytes. False: they do not fit. @cluster is untouched then. */
bool qcow2_header_format_short(const struct qcow2_header *header, size_t name_at, void *cluster) MUST_CHECK;

/* header_edit.c: the change to another backing file name and format (NULL: none) of the first cluster of an image, in
 * steps, each of which changes the first sector, or anything but the first sector. */
struct qcow2_header_change {
    size_t bytes;      /* of the cluster */
    uint8_t *now;      /* as it is in the file */
    uint8_t *next;     /* as the next step leaves it */
    uint8_t *goal;     /* as it shall be */
    size_t goal_bytes; /* that mean something */
    uint8_t *meantime; /* first sector of a header that means the same as now, and needs nothing else */
    size_t name_at;    /* where the name that was there lies meanwhile */
    size_t name_bytes;
    unsigned step;
};

/* @old: the cluster, @bytes long. What is unknown is kept. Fails when it cannot be done in such steps. The caller calls
 * qcow2_header_change_fini() in any case. */
struct error *qcow2_header_change_plan(struct qcow2_header_change *change, const void *old, size_t bytes,
                                       const char *file, const char *format) MUST_CHECK;
void qcow2_header_change_fini(struct qcow2_header_change *change);
static inline void qcow2_header_change_fini_cleanup(struct qcow2_header_change *change)
{
    qcow2_header_change_fini(change);
}
/* Makes change->next. Once that is stable in the file the caller calls it again. False: it is all done. */
bool qcow2_header_change_next(struct qcow2_header_change *change);

/* L1 entries that a disk of @size bytes needs in an image with these clusters and L2 entries; may be more than the
 * limit. */
uint64_t qcow2_l1_entries_for(const struct qcow2_header *header, uint64_t size);

#endif
