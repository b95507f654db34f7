/* bitmaps - dirty bitmaps that an export shows to its clients
 *
 * They are busy while they are exported: they go on recording, but no command changes them or takes them away. The
 * nodes that they belong to stay. */
#ifndef CAIRN_EXPORT_NBD_BITMAPS_H
#define CAIRN_EXPORT_NBD_BITMAPS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/export/nbd/contexts.h"

struct block_export_options;
struct dirty_bitmap;
struct handle;
struct node;

struct nbd_bitmaps {
    unsigned count;
    struct nbd_exported_bitmap {
        struct dirty_bitmap *bitmap;
        struct handle *handle; /* on its node, for blockdev-del to see */
        struct node *node;     /* a reference: the handle may be moved to another one */
    } items[NBD_BITMAPS_MAX];
};

/* Takes the bitmaps that @options name for an export of the node of @handle; those without a node are looked for in
 * that one and down its overlay chain. On failure none is taken. */
struct error *nbd_bitmaps_take(const struct handle *handle, const struct block_export_options *options,
                               struct nbd_bitmaps **out) CO_FN CONTROL_FN MUST_CHECK;
/* NULL is allowed. */
void nbd_bitmaps_release(struct nbd_bitmaps *bitmaps) CO_FN CONTROL_FN;

/* Copies; nbd_bitmap_names_fini(). */
struct nbd_bitmap_names nbd_bitmaps_names(const struct nbd_bitmaps *bitmaps) CONTROL_FN;

#endif
