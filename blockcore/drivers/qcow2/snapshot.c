#include "blockcore/drivers/qcow2/snapshot.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/range.h"

#include <inttypes.h>

struct error *qcow2_snapshot_parse(const void *data, uint32_t cluster_bits, struct qcow2_snapshot *out)
{
    const uint8_t *entry = data;
    uint64_t l1_offset = load_be64(entry);
    uint32_t l1_entries = load_be32(entry + 8);
    uint64_t id_bytes = load_be16(entry + 12);
    uint64_t name_bytes = load_be16(entry + 14);
    uint32_t extra_bytes = load_be32(entry + 36);
    uint64_t l1_bytes = l1_entries * sizeof(uint64_t);
    if (l1_bytes > QCOW2_L1_BYTES_MAX)
        return error_new("the L1 table of a snapshot has %" PRIu32 " entries, which is more than 32 MiB", l1_entries);
    if (!is_aligned(l1_offset, UINT64_C(1) << cluster_bits) ||
        !range_inside(range_make(l1_offset, l1_bytes), QCOW2_HOST_OFFSET_END))
        return error_new("the L1 table of a snapshot cannot be at offset %" PRIu64, l1_offset);
    if (extra_bytes > SNAPSHOT_EXTRA_MAX)
        return error_new("a snapshot has %" PRIu32 " bytes of extra data", extra_bytes);
    *out = (struct qcow2_snapshot){
        .l1_offset = l1_offset,
        .l1_entries = l1_entries,
        .entry_bytes = align_up(SNAPSHOT_ENTRY_BYTES + extra_bytes + id_bytes + name_bytes, 8),
    };
    return NULL;
}
