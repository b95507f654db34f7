/* Any sequence of options, against a catalogue of two exports. */
#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/haggle.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct nbd_offer offer_of(const char *name, const char *description)
{
    return (struct nbd_offer){
        .name = xstrdup(name),
        .description = xstrdup_or_null(description),
        .bytes = 1 << 20,
        .flags = NBD_FLAG_HAS_FLAGS,
        .block_minimum = 1,
        .block_preferred = 4096,
        .contexts = 3,
    };
}

static bool find(void *arg, struct nbd_string name, bool attach, struct nbd_offer *offer)
{
    (void)arg;
    (void)attach;
    if (!nbd_string_is(name, "a") && name.bytes > 0)
        return false;
    *offer = offer_of("a", "first");
    return true;
}

static unsigned list(void *arg, uint64_t *cursor, struct nbd_offer offers[NBD_LIST_BATCH])
{
    (void)arg;
    if ((*cursor)++ > 0)
        return 0;
    offers[0] = offer_of("a", "first");
    offers[1] = offer_of("", NULL);
    return 2;
}

/* What is sent is well-formed: replies one after the other. */
static int send(void *arg, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    bool *ended = arg;
    if (*ended)
        abort();
    while (bytes >= NBD_OPTION_REPLY_BYTES && load_be64(at) == NBD_OPTION_REPLY_MAGIC) {
        size_t length = NBD_OPTION_REPLY_BYTES + load_be32(at + 16);
        if (length > bytes)
            abort();
        at += length;
        bytes -= length;
    }
    if (bytes > 0 && bytes != NBD_EXPORT_NAME_REPLY_BYTES &&
        bytes != NBD_EXPORT_NAME_REPLY_BYTES + NBD_EXPORT_NAME_ZEROES)
        abort();
    return 0;
}

static const struct nbd_catalogue catalogue = { .find = find, .list = list, .send = send };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    bool ended = false;
    if (bytes < NBD_CLIENT_FLAGS_BYTES)
        return 0;
    struct nbd_haggle *haggle = nbd_haggle_create(&catalogue, &ended, load_be32(data));
    data += NBD_CLIENT_FLAGS_BYTES;
    bytes -= NBD_CLIENT_FLAGS_BYTES;
    while (haggle && !ended && bytes >= 6) {
        /* Short headers (option 16 bits, length 32 bits), so that inputs are not mostly magic. */
        uint32_t option = load_be16(data);
        uint32_t length = load_be32(data + 2);
        data += 6;
        bytes -= 6;
        if (length > NBD_OPTION_DATA_MAX) {
            ended = nbd_haggle_oversized(haggle, option) != NBD_HAGGLE_ON;
            continue;
        }
        if (length > bytes)
            break;
        ended = nbd_haggle_option(haggle, option, data, length) != NBD_HAGGLE_ON;
        data += length;
        bytes -= length;
    }
    nbd_haggle_destroy(haggle);
    return 0;
}
