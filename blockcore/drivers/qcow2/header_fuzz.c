/* Any bytes at all: the header parser must neither crash nor believe them. */
#include "blockcore/drivers/qcow2/header.h"

#include "blockcore/base/memory.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What was parsed, written by us and parsed again, is the same image. */
static void round_trip(const struct qcow2_header *header)
{
    size_t cluster_bytes = (size_t)1 << header->cluster_bits;
    CLEANUP(free) void *cluster = xmalloc(cluster_bytes);
    CLEANUP(error_free) struct error *does_not_fit = qcow2_header_format(header, cluster, NULL);
    if (does_not_fit)
        return;
    struct qcow2_header again;
    CLEANUP(error_free) struct error *err = qcow2_header_parse(cluster, cluster_bytes, &again);
    if (err || again.size != header->size || again.l1_offset != header->l1_offset ||
        again.kept_count < header->kept_count || again.has_bitmaps != header->has_bitmaps)
        abort();
    qcow2_header_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct qcow2_header header;
    CLEANUP(error_free) struct error *err = qcow2_header_parse(data, bytes, &header);
    if (err)
        return 0;
    round_trip(&header);
    qcow2_header_fini(&header);
    return 0;
}
