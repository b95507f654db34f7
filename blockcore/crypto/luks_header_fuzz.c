/* Any bytes at all: the parser must neither crash nor believe them. */
#include "blockcore/crypto/luks_header.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct luks_header header;
    CLEANUP(error_free) struct error *err = luks_header_parse(data, bytes, &header);
    if (err)
        return 0;
    /* What was parsed, written by us and parsed again, is the same. */
    uint8_t again[LUKS_HEADER_BYTES];
    struct luks_header same;
    luks_header_format(&header, again);
    CLEANUP(error_free) struct error *impossible = luks_header_parse(again, sizeof(again), &same);
    if (impossible || same.payload_offset != header.payload_offset || same.key_bytes != header.key_bytes ||
        strcmp(same.uuid, header.uuid) != 0 || luks_header_end(&same) != luks_header_end(&header) ||
        luks_stripes_bytes(&header) > LUKS_STRIPES * CIPHER_KEY_BYTES_MAX)
        abort();
    return 0;
}
