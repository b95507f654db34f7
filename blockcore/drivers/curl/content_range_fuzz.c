/* Any bytes as lines of a reply's header. */
#include "blockcore/drivers/curl/content_range.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct content_range told = { 0 };
    while (bytes > 0) {
        const uint8_t *end = memchr(data, '\n', bytes);
        size_t length = end ? (size_t)(end - data) + 1 : bytes;
        content_range_read_line(&told, (const char *)data, length);
        data += length;
        bytes -= length;
    }
    if (told.total > INT64_MAX || (told.total_is_known && !range_inside(told.range, told.total)))
        abort();
    return 0;
}
