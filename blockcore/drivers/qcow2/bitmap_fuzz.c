/* Any bytes at all: the parser of bitmap directories must neither crash nor believe them. The first two bytes are the
 * number of bitmaps. */
#include "blockcore/drivers/qcow2/bitmap.h"

#include "blockcore/base/memory.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What was parsed, written by us and parsed again, is the same directory. */
static void round_trip(const struct qcow2_bitmap *list, uint32_t count, size_t bytes)
{
    CLEANUP(free) void *directory = xmalloc(bytes);
    qcow2_bitmaps_format(list, count, directory);
    struct qcow2_bitmap *again;
    CLEANUP(error_free) struct error *err = qcow2_bitmaps_parse(directory, bytes, count, 16, &again);
    if (err)
        abort();
    for (uint32_t i = 0; i < count; i++) {
        if (again[i].table_offset != list[i].table_offset || again[i].flags != list[i].flags ||
            memcmp(again[i].name, list[i].name, list[i].name_bytes) != 0 || again[i].usable != list[i].usable)
            abort();
    }
    qcow2_bitmaps_free(again, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct qcow2_bitmap *list;
    if (bytes < 2)
        return 0;
    uint32_t count = data[0] | (uint32_t)data[1] << 8;
    CLEANUP(error_free) struct error *err = qcow2_bitmaps_parse(data + 2, bytes - 2, count, 16, &list);
    if (err)
        return 0;
    round_trip(list, count, bytes - 2);
    qcow2_bitmaps_free(list, count);
    return 0;
}
