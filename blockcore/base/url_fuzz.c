/* Any text as an address: what is shown of it is the address without a part in its middle. */
#include "blockcore/base/memory.h"
#include "blockcore/base/url.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *url = strndup((const char *)data, bytes);
    if (!url)
        abort();
    char *shown = url_without_user(url);
    size_t shown_bytes = strlen(shown);
    size_t same = 0;
    while (same < shown_bytes && shown[same] == url[same])
        same++;
    const char *rest = url + strlen(url) - shown_bytes + same;
    if (shown_bytes > strlen(url) || strcmp(shown + same, rest) != 0)
        abort();
    free(shown);
    free(url);
    return 0;
}
