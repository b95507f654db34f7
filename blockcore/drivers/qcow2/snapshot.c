#include "blockcore/drivers/qcow2/snapshot.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Extra data, as far as its meaning is known. */
enum {
    EXTRA_VM_STATE_BYTES = 0, /* instead of the 32 bits in front */
    EXTRA_DISK_BYTES = 8,
};

static struct error *check_l1(uint64_t offset, uint32_t entries, uint32_t cluster_bits)
{
    uint64_t bytes = entries * sizeof(uint64_t);
    if (bytes > QCOW2_L1_BYTES_MAX)
        return error_new("the L1 table of a snapshot has %" PRIu32 " entries, which is more than 32 MiB", entries);
    if (!is_aligned(offset, UINT64_C(1) << cluster_bits) ||
        !range_inside(range_make(offset, bytes), QCOW2_HOST_OFFSET_END))
        return error_new("the L1 table of a snapshot cannot be at offset %" PRIu64, offset);
    return NULL;
}

struct error *qcow2_snapshot_measure(const void *data, size_t *entry_bytes)
{
    const uint8_t *entry = data;
    uint64_t id_bytes = load_be16(entry + 12);
    uint64_t name_bytes = load_be16(entry + 14);
    uint32_t extra_bytes = load_be32(entry + 36);
    if (extra_bytes > SNAPSHOT_EXTRA_MAX)
        return error_new("a snapshot has %" PRIu32 " bytes of extra data", extra_bytes);
    *entry_bytes = (size_t)align_up(SNAPSHOT_ENTRY_BYTES + extra_bytes + id_bytes + name_bytes, 8);
    return NULL;
}

/* A text that may have zeroes inside ends at the first of them. */
static char *copy_text(const uint8_t *text, size_t bytes)
{
    char *copy = xcalloc(1, bytes + 1);
    memcpy(copy, text, bytes);
    return copy;
}

struct error *qcow2_snapshot_parse(const void *data, size_t bytes, uint32_t cluster_bits, struct qcow2_snapshot *out)
{
    const uint8_t *entry = data;
    size_t needed;
    if (bytes < SNAPSHOT_ENTRY_BYTES)
        return error_new("the snapshot table is cut off");
    struct error *err = qcow2_snapshot_measure(data, &needed);
    if (!err)
        err = needed > bytes ? error_new("the snapshot table is cut off")
                             : check_l1(load_be64(entry), load_be32(entry + 8), cluster_bits);
    if (err)
        return err;
    size_t id_bytes = load_be16(entry + 12);
    size_t name_bytes = load_be16(entry + 14);
    uint32_t extra_bytes = load_be32(entry + 36);
    const uint8_t *extra = entry + SNAPSHOT_ENTRY_BYTES;
    *out = (struct qcow2_snapshot){
        .l1_offset = load_be64(entry),
        .l1_entries = load_be32(entry + 8),
        .id = copy_text(extra + extra_bytes, id_bytes),
        .name = copy_text(extra + extra_bytes + id_bytes, name_bytes),
        .date_sec = load_be32(entry + 16),
        .date_nsec = load_be32(entry + 20),
        .vm_clock_nsec = load_be64(entry + 24),
        .vm_state_bytes =
            extra_bytes >= EXTRA_VM_STATE_BYTES + 8 ? load_be64(extra + EXTRA_VM_STATE_BYTES) : load_be32(entry + 32),
        .has_disk_bytes = extra_bytes >= EXTRA_DISK_BYTES + 8,
        .disk_bytes = extra_bytes >= EXTRA_DISK_BYTES + 8 ? load_be64(extra + EXTRA_DISK_BYTES) : 0,
        .extra = xcalloc(1, extra_bytes + 1),
        .extra_bytes = extra_bytes,
    };
    memcpy(out->extra, extra, extra_bytes);
    return NULL;
}

void qcow2_snapshot_fini(struct qcow2_snapshot *snapshot)
{
    free(snapshot->id);
    free(snapshot->name);
    free(snapshot->extra);
    *snapshot = (struct qcow2_snapshot){ 0 };
}

size_t qcow2_snapshot_bytes(const struct qcow2_snapshot *snapshot)
{
    size_t bytes = SNAPSHOT_ENTRY_BYTES + snapshot->extra_bytes + strlen(snapshot->id) + strlen(snapshot->name);
    return (size_t)align_up(bytes, 8);
}

void qcow2_snapshot_format(const struct qcow2_snapshot *snapshot, void *data)
{
    uint8_t *entry = data;
    size_t id_bytes = strlen(snapshot->id);
    size_t name_bytes = strlen(snapshot->name);
    uint64_t vm_state_bytes = snapshot->vm_state_bytes;
    memset(entry, 0, qcow2_snapshot_bytes(snapshot));
    store_be64(entry, snapshot->l1_offset);
    store_be32(entry + 8, snapshot->l1_entries);
    store_be16(entry + 12, (uint16_t)id_bytes);
    store_be16(entry + 14, (uint16_t)name_bytes);
    store_be32(entry + 16, snapshot->date_sec);
    store_be32(entry + 20, snapshot->date_nsec);
    store_be64(entry + 24, snapshot->vm_clock_nsec);
    store_be32(entry + 32, vm_state_bytes <= UINT32_MAX ? (uint32_t)vm_state_bytes : 0);
    store_be32(entry + 36, snapshot->extra_bytes);
    uint8_t *extra = entry + SNAPSHOT_ENTRY_BYTES;
    memcpy(extra, snapshot->extra, snapshot->extra_bytes);
    if (snapshot->extra_bytes >= EXTRA_VM_STATE_BYTES + 8)
        store_be64(extra + EXTRA_VM_STATE_BYTES, vm_state_bytes);
    if (snapshot->extra_bytes >= EXTRA_DISK_BYTES + 8)
        store_be64(extra + EXTRA_DISK_BYTES, snapshot->disk_bytes);
    memcpy(extra + snapshot->extra_bytes, snapshot->id, id_bytes);
    memcpy(extra + snapshot->extra_bytes + id_bytes, snapshot->name, name_bytes);
}
