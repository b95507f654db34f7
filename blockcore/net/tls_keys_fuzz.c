/* Any file of keys: it is refused with a message, or its users can be looked up. */
#include "blockcore/net/tls_keys.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char user[TLS_USER_BYTES_MAX + 1] = "";
    CLEANUP(tls_keys_free) struct tls_keys *keys = NULL;
    CLEANUP(error_free) struct error *err = tls_keys_parse((const char *)data, size, &keys);
    if (!err == !keys || (err && !*error_message(err)))
        abort();
    const uint8_t *colon = size ? memchr(data, ':', size) : NULL;
    if (!keys || !colon || (size_t)(colon - data) > TLS_USER_BYTES_MAX)
        return 0;
    size_t bytes = 0;
    memcpy(user, data, (size_t)(colon - data));
    if (tls_keys_find(keys, user, &bytes) && (bytes < TLS_KEY_BYTES_MIN || bytes > TLS_KEY_BYTES_MAX))
        abort();
    return 0;
}
