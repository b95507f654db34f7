/* snapshot - entries of the table of internal snapshots
 *
 * Pure functions of bytes. Of what an entry says only the place of its L1 table is needed so far: so that nothing is
 * written there.
 *
 * Source: the qcow2 specification, "Snapshots". */
#ifndef CAIRN_QCOW2_SNAPSHOT_H
#define CAIRN_QCOW2_SNAPSHOT_H

#include "blockcore/drivers/qcow2/header.h"

#define SNAPSHOT_ENTRY_BYTES 40 /* the part of an entry whose length does not vary */
#define SNAPSHOT_EXTRA_MAX 1024

struct qcow2_snapshot {
    uint64_t l1_offset;
    uint32_t l1_entries;  /* at most QCOW2_L1_BYTES_MAX */
    uint64_t entry_bytes; /* from this entry to the next */
};

/* @data has SNAPSHOT_ENTRY_BYTES bytes. */
struct error *qcow2_snapshot_parse(const void *data, uint32_t cluster_bits, struct qcow2_snapshot *out) MUST_CHECK;

#endif
