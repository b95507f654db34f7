/* Any bytes at all: the parser of snapshot entries must neither crash nor believe them. */
#include "blockcore/drivers/qcow2/snapshot.h"

#include "blockcore/base/memory.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What was parsed, written by us and parsed again, is the same snapshot. */
static void round_trip(const struct qcow2_snapshot *snapshot)
{
    size_t bytes = qcow2_snapshot_bytes(snapshot);
    CLEANUP(free) void *entry = xmalloc(bytes);
    qcow2_snapshot_format(snapshot, entry);
    struct qcow2_snapshot again;
    CLEANUP(error_free) struct error *err = qcow2_snapshot_parse(entry, bytes, 16, &again);
    if (err || again.l1_offset != snapshot->l1_offset || strcmp(again.id, snapshot->id) != 0 ||
        strcmp(again.name, snapshot->name) != 0 || again.disk_bytes != snapshot->disk_bytes)
        abort();
    qcow2_snapshot_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct qcow2_snapshot snapshot;
    CLEANUP(error_free) struct error *err = qcow2_snapshot_parse(data, bytes, 16, &snapshot);
    if (err)
        return 0;
    round_trip(&snapshot);
    qcow2_snapshot_fini(&snapshot);
    return 0;
}
