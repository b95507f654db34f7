/* Any name: it is refused with a message, or becomes options that can be copied and compared with themselves. */
#include "daemon/image_name.h"

#include "schema/cairn_descriptors.h"
#include "schema/codec/compare.h"
#include "schema/codec/copy.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *name = malloc(size + 1);
    if (!name)
        return 0;
    if (size)
        memcpy(name, data, size);
    name[size] = '\0';
    struct arena arena;
    arena_init(&arena, 1 << 20);
    const struct blockdev_options *options = NULL;
    CLEANUP(error_free) struct error *err = image_name_parse(name, &arena, &options);
    if (!err == !options || (err && !*error_message(err)))
        abort();
    const void *copy = options ? value_copy(&blockdev_options_descriptor, options, &arena) : NULL;
    if (copy && !value_equal(&blockdev_options_descriptor, options, copy))
        abort();
    arena_fini(&arena);
    free(name);
    return 0;
}
