/* Any sequence of options, against a catalogue of two exports, of which one has bitmaps; with TLS and without. */
#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/haggle.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct nbd_offer offer_of(const char *name, const char *description)
{
    struct nbd_offer offer = {
        .number = name[0] ? 1 : 2,
        .name = xstrdup(name),
        .description = xstrdup_or_null(description),
        .bytes = 1 << 20,
        .flags = NBD_FLAG_HAS_FLAGS,
        .block_minimum = 1,
        .block_preferred = 4096,
        .block_maximum = 65536,
        .contexts = 1,
    };
    if (description) {
        offer.contexts = 0xf;
        offer.bitmaps.count = 2;
        offer.bitmaps.items = xcalloc(2, sizeof(char *));
        offer.bitmaps.items[0] = xstrdup("b");
        offer.bitmaps.items[1] = xstrdup("b:c");
    }
    return offer;
}

struct world {
    bool ended;
    bool encrypted;
};

static int find(void *arg, struct nbd_string name, bool attach, struct nbd_offer *offer)
{
    (void)arg;
    (void)attach;
    if (nbd_string_is(name, "stopping"))
        return -ESHUTDOWN;
    if (!nbd_string_is(name, "a") && name.bytes > 0)
        return -ENOENT;
    *offer = name.bytes > 0 ? offer_of("a", "first") : offer_of("", NULL);
    return 0;
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
    const struct world *world = arg;
    if (world->ended)
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

static bool start_tls(void *arg)
{
    struct world *world = arg;
    if (world->encrypted)
        abort();
    world->encrypted = true;
    return true;
}

static const struct nbd_catalogue catalogue = { .find = find, .list = list, .send = send, .start_tls = start_tls };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct world world = { .ended = false };
    if (bytes < NBD_CLIENT_FLAGS_BYTES)
        return 0;
    struct nbd_haggle *haggle = nbd_haggle_create(&catalogue, &world, load_be32(data) & 0x7fffffff, data[0] & 0x80);
    data += NBD_CLIENT_FLAGS_BYTES;
    bytes -= NBD_CLIENT_FLAGS_BYTES;
    while (haggle && !world.ended && bytes >= 6) {
        /* Short headers (option 16 bits, length 32 bits), so that inputs are not mostly magic. */
        uint32_t option = load_be16(data);
        uint32_t length = load_be32(data + 2);
        data += 6;
        bytes -= 6;
        if (length > NBD_OPTION_DATA_MAX) {
            world.ended = nbd_haggle_oversized(haggle, option) != NBD_HAGGLE_ON;
            continue;
        }
        if (length > bytes)
            break;
        world.ended = nbd_haggle_option(haggle, option, data, length) != NBD_HAGGLE_ON;
        data += length;
        bytes -= length;
    }
    nbd_haggle_destroy(haggle);
    return 0;
}
