/* bitmap - entries of the bitmap directory: from bytes to structs, and back
 *
 * Pure functions of (bytes, length). What passes the parser is sane by itself: tables are aligned and bounded, names
 * are unique. An entry that we do not know how to use, or that another program is to understand, is kept as it is.
 *
 * Source: the qcow2 specification (QEMU, docs/interop/qcow2), "Bitmaps". */
#ifndef CAIRN_QCOW2_BITMAP_H
#define CAIRN_QCOW2_BITMAP_H

#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits, the same as QEMU's so that images go both ways. */
#define QCOW2_BITMAPS_MAX 65535u
#define QCOW2_BITMAP_DIRECTORY_BYTES_MAX (QCOW2_BITMAPS_MAX * 1024u)
#define QCOW2_BITMAP_TABLE_ENTRIES_MAX 0x8000000u
#define QCOW2_BITMAP_BYTES_MAX (UINT64_C(512) << 20) /* of one bitmap's bits */
#define QCOW2_BITMAP_NAME_MAX 1023
#define QCOW2_BITMAP_GRANULARITY_BITS_MIN 9
#define QCOW2_BITMAP_GRANULARITY_BITS_MAX 31

#define QCOW2_BITMAP_ENTRY_BYTES 24 /* without name and extra data */
#define QCOW2_BITMAP_FLAGS_OFFSET 12

enum qcow2_bitmap_flags {
    QCOW2_BITMAP_IN_USE = 1, /* writes may be missing */
    QCOW2_BITMAP_AUTO = 2,   /* records writes */
    QCOW2_BITMAP_EXTRA_COMPATIBLE = 4,
};

struct qcow2_bitmap {
    uint64_t table_offset;
    uint32_t table_entries;
    uint32_t flags;
    uint8_t type;
    uint8_t granularity_bits;
    char *name; /* as it is there, name_bytes long, with a zero behind */
    uint16_t name_bytes;
    uint8_t *extra;
    uint32_t extra_bytes;
    bool marked;  /* as in use, when writing began last */
    bool usable;  /* a bitmap that we know how to use; else it is left as it is */
    bool damaged; /* its table or bits cannot be what they should: not usable, and what it leads to is nobody's business
                   */
};

/* All entries of a directory. @count: as the header has it. The caller frees *@out with qcow2_bitmaps_free(). */
struct error *qcow2_bitmaps_parse(const void *data, size_t bytes, uint32_t count, uint32_t cluster_bits,
                                  struct qcow2_bitmap **out) MUST_CHECK;
void qcow2_bitmaps_free(struct qcow2_bitmap *list, uint32_t count);
void qcow2_bitmap_fini(struct qcow2_bitmap *bitmap);
struct qcow2_bitmap qcow2_bitmap_copy(const struct qcow2_bitmap *bitmap);

size_t qcow2_bitmap_entry_bytes(const struct qcow2_bitmap *bitmap);
/* @out has room for the entries. */
void qcow2_bitmaps_format(const struct qcow2_bitmap *list, uint32_t count, void *out);

/* Clusters of bits, and entries of the table, of a bitmap of a disk of this length; at least 1. */
uint64_t qcow2_bitmap_table_entries(uint64_t disk_bytes, uint32_t granularity_bits, uint32_t cluster_bits);

#endif
