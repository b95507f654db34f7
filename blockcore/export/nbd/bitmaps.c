#include "blockcore/export/nbd/bitmaps.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/node.h"
#include "schema/cairn_types.h"

#include <string.h>

static bool is_writable(const struct block_export_options *options)
{
    return options->has_writable && options->writable;
}

/* In the node or a layer below it. Texts are QEMU's. */
static struct error *find_local(struct node *node, const char *name, bool writable, struct dirty_bitmap **out)
{
    struct dirty_bitmap *bitmap = NULL;
    while (node && !(bitmap = dirty_bitmap_find(node, name))) {
        struct child *below = node_filtered(node) ? node_filtered(node) : node_backing(node);
        node = below ? child_node(below) : NULL;
    }
    if (!bitmap)
        return error_new("Bitmap '%s' is not found", name);
    /* It would change under a client that has been promised that nothing does. */
    if (!writable && !node_is_read_only(node) && dirty_bitmap_is_enabled(bitmap))
        return error_new("Enabled bitmap '%s' incompatible with readonly export", name);
    *out = bitmap;
    return NULL;
}

static struct error *find_external(const struct block_dirty_bitmap *ref, struct dirty_bitmap **out)
{
    struct node *node = node_find(ref->node);
    if (!node)
        return error_new("Node '%s' not found", ref->node);
    struct dirty_bitmap *bitmap = dirty_bitmap_find(node, ref->name);
    if (!bitmap)
        return error_new("Dirty bitmap '%s' not found", ref->name);
    *out = bitmap;
    return NULL;
}

static struct error *find(struct node *node, const struct block_export_options *options, size_t index,
                          struct dirty_bitmap **out)
{
    const struct block_dirty_bitmap_or_str *ref = &options->u.nbd.bitmaps[index];
    struct error *err = ref->kind == BLOCK_DIRTY_BITMAP_OR_STR_KIND_LOCAL
                            ? find_local(node, ref->u.local, is_writable(options), out)
                            : find_external(ref->u.external, out);
    return err ? err : dirty_bitmap_check(*out, DIRTY_BITMAP_BUSY | DIRTY_BITMAP_INCONSISTENT);
}

static struct error *check_name(const struct nbd_bitmaps *bitmaps, const char *name)
{
    for (unsigned i = 0; i < bitmaps->count; i++) {
        if (strcmp(dirty_bitmap_name(bitmaps->items[i].bitmap), name) == 0)
            return error_new("two bitmaps named '%s' cannot be told apart by clients of one export", name);
    }
    return NULL;
}

/* The bitmap may be gone when the handle is there, so it is busy first. */
static struct error *take(struct nbd_bitmaps *bitmaps, struct dirty_bitmap *bitmap, const char *user)
{
    struct error *err = check_name(bitmaps, dirty_bitmap_name(bitmap));
    if (err)
        return err;
    struct nbd_exported_bitmap taken = { .bitmap = bitmap, .node = node_ref(dirty_bitmap_node(bitmap)) };
    dirty_bitmap_set_busy(bitmap, true);
    err = handle_open(taken.node, user, 0, PERM_ALL, &taken.handle);
    if (err) {
        dirty_bitmap_set_busy(bitmap, false);
        node_unref(taken.node);
        return err;
    }
    bitmaps->items[bitmaps->count++] = taken;
    return NULL;
}

struct error *nbd_bitmaps_take(const struct handle *handle, const struct block_export_options *options,
                               struct nbd_bitmaps **out)
{
    CLEANUP(free) char *user = xasprintf("a bitmap of export '%s'", options->id);
    size_t count = options->u.nbd.bitmaps_count;
    struct dirty_bitmap *bitmap = NULL;
    if (count > NBD_BITMAPS_MAX)
        return error_new("an export has at most %d bitmaps", NBD_BITMAPS_MAX);
    struct nbd_bitmaps *bitmaps = xcalloc(1, sizeof(*bitmaps));
    struct error *err = NULL;
    for (size_t i = 0; !err && i < count; i++) {
        err = find(handle_node(handle), options, i, &bitmap);
        if (!err)
            err = take(bitmaps, bitmap, user);
    }
    if (err) {
        nbd_bitmaps_release(bitmaps);
        return err;
    }
    *out = bitmaps;
    return NULL;
}

void nbd_bitmaps_release(struct nbd_bitmaps *bitmaps)
{
    for (unsigned i = 0; bitmaps && i < bitmaps->count; i++) {
        struct nbd_exported_bitmap *taken = &bitmaps->items[i];
        dirty_bitmap_set_busy(taken->bitmap, false);
        handle_close(taken->handle);
        node_unref(taken->node);
    }
    free(bitmaps);
}

struct nbd_bitmap_names nbd_bitmaps_names(const struct nbd_bitmaps *bitmaps)
{
    struct nbd_bitmap_names names = { .count = bitmaps->count };
    names.items = xcalloc(names.count, sizeof(char *));
    for (unsigned i = 0; i < names.count; i++)
        names.items[i] = xstrdup(dirty_bitmap_name(bitmaps->items[i].bitmap));
    return names;
}
