#include "daemon/node_options.h"

#include "blockcore/graph/options.h"
#include "daemon/image_name.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/compare.h"
#include "schema/codec/copy.h"

static struct blockdev_options *copy(const struct blockdev_options *options, struct arena *arena)
{
    return value_copy(&blockdev_options_descriptor, options, arena);
}

static struct error *diff(const struct blockdev_options *a, const struct blockdev_options *b, struct arena *arena,
                          const char *const **paths, size_t *count)
{
    struct value_changes changes = { 0 };
    struct error *err = value_diff(&blockdev_options_descriptor, a, b, arena, &changes);
    *paths = changes.paths;
    *count = changes.count;
    return err;
}

void node_options_begin(void)
{
    static const struct options_service service = { .copy = copy, .diff = diff, .from_name = image_name_parse };
    options_set_service(&service);
}
