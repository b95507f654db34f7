/* contexts - what block status can be about, by number and by name
 *
 *     number   name                       a flag or a number for each extent
 *     0        base:allocation            HOLE, ZERO
 *     1        qemu:allocation-depth      layers down to the one that decides; 0: none does
 *     2...     qemu:dirty-bitmap:NAME     1: dirty
 *
 * Numbers are the ids on the wire and bits of a set; those of bitmaps belong to one export. Sources: NBD protocol,
 * "Metadata querying"; QEMU, docs/interop/nbd.txt. */
#ifndef CAIRN_EXPORT_NBD_CONTEXTS_H
#define CAIRN_EXPORT_NBD_CONTEXTS_H

#include "blockcore/export/nbd/wire.h"

#define NBD_CONTEXT_ALLOCATION 0
#define NBD_CONTEXT_DEPTH 1
#define NBD_CONTEXT_BITMAPS 2 /* the first of them; they follow each other */
#define NBD_CONTEXTS_MAX 64
#define NBD_BITMAPS_MAX (NBD_CONTEXTS_MAX - NBD_CONTEXT_BITMAPS)

#define NBD_CONTEXT_NAME_MAX (NBD_STRING_MAX + 1) /* with the NUL at its end */

static inline uint64_t nbd_context_bit(unsigned context)
{
    return UINT64_C(1) << context;
}

/* Names of the bitmaps that have the numbers from NBD_CONTEXT_BITMAPS on. */
struct nbd_bitmap_names {
    char **items;
    unsigned count; /* at most NBD_BITMAPS_MAX */
};

/* Writes the name of a context with its NUL and returns its length. */
size_t nbd_context_name(const struct nbd_bitmap_names *bitmaps, unsigned context, char out[NBD_CONTEXT_NAME_MAX]);

/* The contexts, of the set @offered, that a query means: the one of that name; when @listing, also all that begin with
 * "base:", "qemu:" or "qemu:dirty-bitmap:". */
uint64_t nbd_contexts_meant(const struct nbd_bitmap_names *bitmaps, uint64_t offered, struct nbd_string query,
                            bool listing);

#endif
