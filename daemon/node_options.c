#include "daemon/node_options.h"

#include "blockcore/graph/options.h"
#include "daemon/full_path.h"
#include "daemon/image_name.h"
#include "schema/cairn_descriptors.h"
#include "schema/cairn_types.h"
#include "schema/codec/compare.h"
#include "schema/codec/overlay.h"

#include <errno.h>

static struct blockdev_options *copy(const struct blockdev_options *options, struct arena *arena)
{
    return full_path_copy_for_later(&blockdev_options_descriptor, options, arena);
}

static struct block_export_options *copy_export(const struct block_export_options *options, struct arena *arena)
{
    return full_path_copy_for_later(&block_export_options_descriptor, options, arena);
}

static struct nbd_server_options *copy_server(const struct nbd_server_options *options, struct arena *arena)
{
    return full_path_copy_for_later(&nbd_server_options_descriptor, options, arena);
}

/* What is secret is not even copied: nobody would overwrite it. */
static struct object_options *copy_object(const struct object_options *options, struct arena *arena)
{
    struct object_options shown = *options;
    if (shown.qom_type == OBJECT_TYPE_SECRET)
        shown.u.secret.data = NULL;
    shown.has_if_absent = shown.if_absent = false;
    return full_path_copy_for_later(&object_options_descriptor, &shown, arena);
}

static struct object_options *overlay_object(const struct object_options *options, const struct object_options *over,
                                             struct arena *arena)
{
    return value_overlay(&object_options_descriptor, options, over, arena);
}

static struct error *diff(const struct blockdev_options *a, const struct blockdev_options *b, struct arena *arena,
                          const char *const **paths, size_t *count)
{
    struct value_changes changes = { 0 };
    const void *full_a = full_path_copy(&blockdev_options_descriptor, a, arena);
    const void *full_b = full_path_copy(&blockdev_options_descriptor, b, arena);
    if (!full_a || !full_b)
        return error_errno(ENOMEM, "comparing options");
    struct error *err = value_diff(&blockdev_options_descriptor, full_a, full_b, arena, &changes);
    *paths = changes.paths;
    *count = changes.count;
    return err;
}

void node_options_begin(void)
{
    static const struct options_service service = {
        .copy = copy,
        .copy_export = copy_export,
        .copy_server = copy_server,
        .copy_object = copy_object,
        .overlay_object = overlay_object,
        .diff = diff,
        .from_name = image_name_parse,
    };
    options_set_service(&service);
}
