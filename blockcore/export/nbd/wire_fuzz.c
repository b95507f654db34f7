/* Any bytes, to every parser. */
#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_string(const uint8_t *data, size_t bytes, struct nbd_string string)
{
    const uint8_t *begin = (const uint8_t *)string.data;
    if (begin < data || begin + string.bytes > data + bytes || string.bytes > NBD_STRING_MAX)
        abort();
    if (memchr(string.data, 0, string.bytes))
        abort();
}

static void parse_fixed(const uint8_t *data, size_t bytes)
{
    struct nbd_option_header option;
    struct nbd_request_header request;
    if (bytes >= NBD_OPTION_BYTES)
        nbd_parse_option(data, &option);
    if (bytes >= NBD_REQUEST_BYTES)
        nbd_parse_request(data, &request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct nbd_string name;
    struct nbd_info_query info;
    struct nbd_context_query contexts;
    if (bytes == 0)
        return 0;
    parse_fixed(data, bytes);
    if (nbd_parse_name(data, bytes, &name))
        check_string(data, bytes, name);
    if (nbd_parse_info_query(data, bytes, &info)) {
        check_string(data, bytes, info.name);
        nbd_info_query_wants(&info, NBD_INFO_BLOCK_SIZE);
    }
    if (nbd_parse_context_query(data, bytes, &contexts)) {
        check_string(data, bytes, contexts.name);
        while (nbd_context_query_next(&contexts, &name))
            check_string(data, bytes, name);
    }
    return 0;
}
