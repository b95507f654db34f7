/* snapshot - entries of the table of internal snapshots: from bytes to a struct, and back
 *
 * Pure functions of (bytes, length). What passes the parser is sane by itself; whether the L1 table lies inside of the
 * file is for the caller to check.
 *
 *     | 40 bytes | extra data | id | name | up to a multiple of 8 |        one after the other, in an order of no
 * meaning
 *
 * Source: the qcow2 specification, "Snapshots". */
#ifndef CAIRN_QCOW2_SNAPSHOT_H
#define CAIRN_QCOW2_SNAPSHOT_H

#include "blockcore/drivers/qcow2/header.h"

#define SNAPSHOT_ENTRY_BYTES 40 /* the part of an entry whose length does not vary */
#define SNAPSHOT_EXTRA_MAX 1024
#define SNAPSHOT_TABLE_BYTES_MAX (64u * 1024 * 1024)

struct qcow2_snapshot {
    uint64_t l1_offset;
    uint32_t l1_entries; /* at most QCOW2_L1_BYTES_MAX */
    char *id;            /* unique in the image */
    char *name;
    uint32_t date_sec; /* since 1970 */
    uint32_t date_nsec;
    uint64_t vm_clock_nsec;  /* how long the machine had been running */
    uint64_t vm_state_bytes; /* saved behind the end of the disk; 0: none */
    bool has_disk_bytes;     /* the image says: */
    uint64_t disk_bytes;     /* length of the disk at that time */
    uint8_t *extra;          /* as it was found, so that what nobody knows is kept */
    uint32_t extra_bytes;
};

/* How long the entry is that begins at @data, of which there are SNAPSHOT_ENTRY_BYTES bytes; at most 132 KiB. */
struct error *qcow2_snapshot_measure(const void *data, size_t *entry_bytes) MUST_CHECK;

/* @data has @bytes bytes, an entry as long as qcow2_snapshot_measure() said. @out is filled in on success; the caller
 * calls qcow2_snapshot_fini. Untouched on failure. */
struct error *qcow2_snapshot_parse(const void *data, size_t bytes, uint32_t cluster_bits,
                                   struct qcow2_snapshot *out) MUST_CHECK;

void qcow2_snapshot_fini(struct qcow2_snapshot *snapshot);

/* The length of the entry in the file. */
size_t qcow2_snapshot_bytes(const struct qcow2_snapshot *snapshot);
/* Writes as many bytes to @data. */
void qcow2_snapshot_format(const struct qcow2_snapshot *snapshot, void *data);

#endif
