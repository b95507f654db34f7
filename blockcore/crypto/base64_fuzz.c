/* Any bytes as base64. */
#include "blockcore/crypto/base64.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    size_t room = base64_bytes_max(bytes);
    uint8_t *apart = malloc(room);
    uint8_t *in_place = malloc(bytes > room ? bytes : room);
    size_t count = 0;
    size_t again = 0;
    if (!apart || !in_place)
        abort();
    memcpy(in_place, data, bytes);
    bool good = base64_decode(data, bytes, apart, &count);
    if (good != base64_decode(in_place, bytes, in_place, &again))
        abort();
    if (good && (count > room || count != again || memcmp(apart, in_place, count) != 0))
        abort();
    free(apart);
    free(in_place);
    return 0;
}
