/* status - the answer to BLOCK_STATUS
 *
 * base:allocation says where storage has no data (HOLE) and where zeroes are read (ZERO); nothing about layers.
 * qemu:allocation-depth says which layer of the overlay chain decides: 0 none, 1 the exported one, 2 its backing
 * file... (docs/block-status.md). qemu:dirty-bitmap:NAME says what was written to since the bitmap was cleared. One
 * chunk per context; each goes as far as its number of extents allows. */
#ifndef CAIRN_EXPORT_NBD_STATUS_H
#define CAIRN_EXPORT_NBD_STATUS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/range.h"
#include "blockcore/export/nbd/contexts.h"

#include <stdbool.h>
#include <stddef.h>

struct handle;
struct nbd_bitmaps;

struct nbd_status_query {
    struct handle *handle;
    const struct nbd_bitmaps *bitmaps;
    uint32_t block;         /* bytes: extents begin and end at multiples, the ends of the range excepted */
    struct range range;     /* inside the export, not empty */
    struct nbd_reply_to to; /* chunks are understood */
    uint64_t contexts;      /* set of them, not empty */
    bool one;               /* a single extent is asked for (REQ_ONE) */
};

/* Memory that the reply needs: at most 256 KiB. */
size_t nbd_status_bytes(uint64_t contexts, bool one);

/* Writes all chunks of the reply to @out, of @out_bytes as nbd_status_bytes() said; *used of them. 0 or -errno. */
int nbd_status_reply(const struct nbd_status_query *query, void *out, size_t out_bytes, size_t *used) CO_FN;

#endif
