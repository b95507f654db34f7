/* pack - one cluster made smaller
 *
 * A pure function of memory, slow enough to belong on the pool: co_blocking(NULL, qcow2_pack, &job). */
#ifndef CAIRN_QCOW2_PACK_H
#define CAIRN_QCOW2_PACK_H

#include "blockcore/drivers/qcow2/header.h"

struct packing {
    enum qcow2_compression compression;
    const uint8_t *plain;
    size_t plain_bytes;
    uint8_t *packed;
    size_t packed_max;
    size_t packed_bytes; /* result, at most packed_max */
};

/* @arg: struct packing. 0; -E2BIG when it does not fit into packed_max; -ENOMEM. */
int qcow2_pack(void *arg);

#endif
