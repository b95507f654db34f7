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
        nbd_parse_request(data, NBD_MODE_STRUCTURED, &request);
    if (bytes >= NBD_EXTENDED_REQUEST_BYTES)
        nbd_parse_request(data, NBD_MODE_EXTENDED, &request);
}

/* What passes asks for something, and for nothing that was not negotiated. */
static void parse_filter(const uint8_t *data, size_t bytes)
{
    struct nbd_status_filter filter;
    uint64_t contexts = data[0];
    if (!nbd_parse_status_filter(data, bytes, contexts, &filter))
        return;
    size_t ids = (bytes - 8) / 4;
    if ((filter.contexts & ~contexts) || (size_t)__builtin_popcountll(filter.contexts) != ids)
        abort();
}

/* Messages show any bytes as whole characters. */
static void show(struct nbd_string string)
{
    char once[64], twice[64];
    nbd_string_show(string, once, sizeof(once));
    nbd_string_show((struct nbd_string){ once, (uint32_t)strlen(once) }, twice, sizeof(twice));
    if (strcmp(once, twice) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct nbd_string name;
    struct nbd_info_query info;
    struct nbd_context_query contexts;
    if (bytes == 0)
        return 0;
    parse_fixed(data, bytes);
    parse_filter(data, bytes);
    show((struct nbd_string){ (const char *)data, (uint32_t)bytes });
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
