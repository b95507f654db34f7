#include "blockcore/drivers/nbd/starttls.h"

#include "blockcore/base/endian.h"

#define MAGIC UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define MAGIC_OPTIONS UINT64_C(0x49484156454f5054)
#define MAGIC_OLD UINT64_C(0x00420281861253)
#define MAGIC_REPLY UINT64_C(0x0003e889045565a9)
#define FLAG_FIXED_NEWSTYLE 1
#define FLAG_NO_ZEROES 2
#define OPTION_STARTTLS 5
#define REPLY_ACK 1
#define REPLY_IS_ERROR (UINT32_C(1) << 31)

struct error *starttls_parse_greeting(const uint8_t greeting[STARTTLS_GREETING_BYTES], uint16_t *flags)
{
    uint64_t style = load_be64(greeting + 8);
    if (load_be64(greeting) != MAGIC || (style != MAGIC_OPTIONS && style != MAGIC_OLD))
        return error_new("what it sends is not the greeting of an NBD server");
    uint16_t offered = load_be16(greeting + 16);
    if (style == MAGIC_OLD || !(offered & FLAG_FIXED_NEWSTYLE))
        return error_new("the server speaks an old form of the protocol, which knows no TLS");
    *flags = offered & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
    return NULL;
}

void starttls_write_greeting(uint8_t greeting[STARTTLS_GREETING_BYTES], uint16_t flags)
{
    store_be64(greeting, MAGIC);
    store_be64(greeting + 8, MAGIC_OPTIONS);
    store_be16(greeting + 16, flags);
}

void starttls_write_request(uint8_t request[STARTTLS_REQUEST_BYTES], uint16_t flags)
{
    store_be32(request, flags);
    store_be64(request + STARTTLS_FLAGS_BYTES, MAGIC_OPTIONS);
    store_be32(request + STARTTLS_FLAGS_BYTES + 8, OPTION_STARTTLS);
    store_be32(request + STARTTLS_FLAGS_BYTES + 12, 0);
}

struct error *starttls_parse_reply(const uint8_t reply[STARTTLS_REPLY_BYTES], bool *accepted, uint32_t *reason_bytes)
{
    uint32_t type = load_be32(reply + 12);
    uint32_t bytes = load_be32(reply + 16);
    if (load_be64(reply) != MAGIC_REPLY || load_be32(reply + 8) != OPTION_STARTTLS)
        return error_new("what it sends is not a reply to STARTTLS");
    if ((type == REPLY_ACK && bytes > 0) || (type != REPLY_ACK && !(type & REPLY_IS_ERROR)) ||
        bytes > STARTTLS_REASON_MAX)
        return error_new("its reply to STARTTLS makes no sense (type %u, %u bytes)", type, bytes);
    *accepted = type == REPLY_ACK;
    *reason_bytes = bytes;
    return NULL;
}
