#include "blockcore/export/nbd/wire.h"

#include "blockcore/base/endian.h"

#include <errno.h>
#include <string.h>

/* What is left of a message; each take checks that it is there. */
struct reader {
    const uint8_t *at;
    size_t left;
};

static bool take_be16(struct reader *reader, uint16_t *out)
{
    if (reader->left < 2)
        return false;
    *out = load_be16(reader->at);
    reader->at += 2;
    reader->left -= 2;
    return true;
}

static bool take_be32(struct reader *reader, uint32_t *out)
{
    if (reader->left < 4)
        return false;
    *out = load_be32(reader->at);
    reader->at += 4;
    reader->left -= 4;
    return true;
}

static bool take_string(struct reader *reader, size_t bytes, struct nbd_string *out)
{
    if (bytes > NBD_STRING_MAX || bytes > reader->left)
        return false;
    if (bytes > 0 && memchr(reader->at, 0, bytes))
        return false;
    *out = (struct nbd_string){ (const char *)reader->at, (uint32_t)bytes };
    reader->at += bytes;
    reader->left -= bytes;
    return true;
}

/* With its length in front. */
static bool take_counted_string(struct reader *reader, struct nbd_string *out)
{
    uint32_t bytes;
    return take_be32(reader, &bytes) && take_string(reader, bytes, out);
}

bool nbd_string_is(struct nbd_string string, const char *text)
{
    return string.bytes == strlen(text) && memcmp(string.data, text, string.bytes) == 0;
}

/* Bytes of the character that begins here; 0 if none does. Long forms, surrogates and what is beyond U+10FFFF are none:
 * the second byte tells (Unicode, table 3-7). */
static size_t character_bytes(const uint8_t *at, size_t left)
{
    static const struct {
        uint8_t first, last; /* of the first byte */
        uint8_t low, high;   /* of the second one */
        uint8_t bytes;
    } forms[] = {
        { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
        { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    if (at[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (at[0] < forms[i].first || at[0] > forms[i].last)
            continue;
        if (left < forms[i].bytes || at[1] < forms[i].low || at[1] > forms[i].high)
            return 0;
        for (size_t k = 2; k < forms[i].bytes; k++) {
            if ((at[k] & 0xc0) != 0x80)
                return 0;
        }
        return forms[i].bytes;
    }
    return 0;
}

void nbd_string_show(struct nbd_string string, char *out, size_t bytes)
{
    size_t length = 0;
    for (size_t at = 0; at < string.bytes;) {
        const uint8_t *begin = (const uint8_t *)string.data + at;
        size_t character = character_bytes(begin, string.bytes - at);
        size_t shown = character ? character : 1;
        if (length + shown >= bytes)
            break;
        if (character > 1 || (*begin >= 0x20 && *begin < 0x7f))
            memcpy(out + length, begin, shown);
        else
            out[length] = '?';
        length += shown;
        at += shown;
    }
    out[length] = '\0';
}

bool nbd_parse_option(const uint8_t *bytes, struct nbd_option_header *out)
{
    if (load_be64(bytes) != NBD_OPTION_MAGIC)
        return false;
    *out = (struct nbd_option_header){ load_be32(bytes + 8), load_be32(bytes + 12) };
    return true;
}

bool nbd_parse_name(const uint8_t *data, size_t bytes, struct nbd_string *out)
{
    struct reader reader = { data, bytes };
    return take_string(&reader, bytes, out);
}

bool nbd_parse_info_query(const uint8_t *data, size_t bytes, struct nbd_info_query *out)
{
    struct reader reader = { data, bytes };
    struct nbd_info_query query;
    if (!take_counted_string(&reader, &query.name) || !take_be16(&reader, &query.info_count))
        return false;
    if (reader.left != (size_t)query.info_count * 2)
        return false;
    query.infos = reader.at;
    *out = query;
    return true;
}

bool nbd_info_query_wants(const struct nbd_info_query *query, uint16_t info)
{
    for (size_t i = 0; i < query->info_count; i++) {
        if (load_be16(query->infos + 2 * i) == info)
            return true;
    }
    return false;
}

bool nbd_parse_context_query(const uint8_t *data, size_t bytes, struct nbd_context_query *out)
{
    struct reader reader = { data, bytes };
    struct nbd_context_query query;
    if (!take_counted_string(&reader, &query.name) || !take_be32(&reader, &query.count))
        return false;
    query.at = reader.at;
    for (uint32_t i = 0; i < query.count; i++) {
        struct nbd_string ignored;
        if (!take_counted_string(&reader, &ignored))
            return false;
    }
    if (reader.left != 0)
        return false;
    *out = query;
    return true;
}

bool nbd_context_query_next(struct nbd_context_query *query, struct nbd_string *out)
{
    if (query->count == 0)
        return false;
    uint32_t bytes = load_be32(query->at);
    *out = (struct nbd_string){ (const char *)query->at + 4, bytes };
    query->at += 4 + bytes;
    query->count--;
    return true;
}

size_t nbd_put_greeting(uint8_t *out, uint16_t flags)
{
    store_be64(out, NBD_MAGIC);
    store_be64(out + 8, NBD_OPTION_MAGIC);
    store_be16(out + 16, flags);
    return NBD_GREETING_BYTES;
}

size_t nbd_put_option_reply(uint8_t *out, uint32_t option, uint32_t type, uint32_t bytes)
{
    store_be64(out, NBD_OPTION_REPLY_MAGIC);
    store_be32(out + 8, option);
    store_be32(out + 12, type);
    store_be32(out + 16, bytes);
    return NBD_OPTION_REPLY_BYTES;
}

size_t nbd_put_export_name_reply(uint8_t *out, uint64_t length, uint16_t flags, bool zeroes)
{
    store_be64(out, length);
    store_be16(out + 8, flags);
    if (!zeroes)
        return NBD_EXPORT_NAME_REPLY_BYTES;
    memset(out + NBD_EXPORT_NAME_REPLY_BYTES, 0, NBD_EXPORT_NAME_ZEROES);
    return NBD_EXPORT_NAME_REPLY_BYTES + NBD_EXPORT_NAME_ZEROES;
}

size_t nbd_put_info_export(uint8_t *out, uint64_t length, uint16_t flags)
{
    store_be16(out, NBD_INFO_EXPORT);
    store_be64(out + 2, length);
    store_be16(out + 10, flags);
    return NBD_INFO_EXPORT_BYTES;
}

size_t nbd_put_info_block_size(uint8_t *out, uint32_t minimum, uint32_t preferred, uint32_t maximum)
{
    store_be16(out, NBD_INFO_BLOCK_SIZE);
    store_be32(out + 2, minimum);
    store_be32(out + 6, preferred);
    store_be32(out + 10, maximum);
    return NBD_INFO_BLOCK_SIZE_BYTES;
}

bool nbd_parse_request(const uint8_t *bytes, enum nbd_mode mode, struct nbd_request_header *out)
{
    bool extended = mode == NBD_MODE_EXTENDED;
    if (load_be32(bytes) != (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC))
        return false;
    *out = (struct nbd_request_header){
        .flags = load_be16(bytes + 4),
        .type = load_be16(bytes + 6),
        .cookie = load_be64(bytes + 8),
        .offset = load_be64(bytes + 16),
        .bytes = extended ? load_be64(bytes + 24) : load_be32(bytes + 24),
    };
    return true;
}

uint64_t nbd_request_payload(const struct nbd_request_header *header, enum nbd_mode mode)
{
    bool follows = mode == NBD_MODE_EXTENDED ? header->flags & NBD_CMD_FLAG_PAYLOAD_LEN : header->type == NBD_CMD_WRITE;
    return follows ? header->bytes : 0;
}

bool nbd_parse_status_filter(const uint8_t *data, size_t bytes, uint64_t contexts, struct nbd_status_filter *out)
{
    if (bytes < NBD_STATUS_FILTER_BYTES_MIN || bytes % 4 != 0)
        return false;
    struct nbd_status_filter filter = { .bytes = load_be64(data) };
    for (size_t at = 8; at < bytes; at += 4) {
        uint32_t id = load_be32(data + at);
        if (id >= 64 || !(contexts & ~filter.contexts & UINT64_C(1) << id))
            return false;
        filter.contexts |= UINT64_C(1) << id;
    }
    *out = filter;
    return true;
}

size_t nbd_put_simple_reply(uint8_t *out, const struct nbd_reply_to *to, uint32_t error)
{
    store_be32(out, NBD_SIMPLE_REPLY_MAGIC);
    store_be32(out + 4, error);
    store_be64(out + 8, to->cookie);
    return NBD_SIMPLE_REPLY_BYTES;
}

size_t nbd_put_chunk(uint8_t *out, const struct nbd_reply_to *to, bool done, uint16_t type, uint32_t bytes)
{
    bool extended = to->mode == NBD_MODE_EXTENDED;
    store_be32(out, extended ? NBD_EXTENDED_CHUNK_MAGIC : NBD_CHUNK_MAGIC);
    store_be16(out + 4, done ? NBD_REPLY_FLAG_DONE : 0);
    store_be16(out + 6, type);
    store_be64(out + 8, to->cookie);
    if (!extended) {
        store_be32(out + 16, bytes);
        return NBD_CHUNK_BYTES;
    }
    store_be64(out + 16, to->offset);
    store_be64(out + 24, bytes);
    return NBD_EXTENDED_CHUNK_BYTES;
}

size_t nbd_put_data_chunk(uint8_t *out, const struct nbd_reply_to *to, bool done, uint64_t offset, uint32_t bytes)
{
    size_t head = nbd_put_chunk(out, to, done, NBD_REPLY_TYPE_OFFSET_DATA, bytes + 8);
    store_be64(out + head, offset);
    return head + 8;
}

size_t nbd_put_hole_chunk(uint8_t *out, const struct nbd_reply_to *to, bool done, uint64_t offset, uint32_t bytes)
{
    size_t head = nbd_put_chunk(out, to, done, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
    store_be64(out + head, offset);
    store_be32(out + head + 8, bytes);
    return head + 12;
}

size_t nbd_put_error_chunk(uint8_t *out, const struct nbd_reply_to *to, uint32_t error, uint16_t message_bytes,
                           bool has_offset)
{
    uint16_t type = has_offset ? NBD_REPLY_TYPE_ERROR_OFFSET : NBD_REPLY_TYPE_ERROR;
    size_t head = nbd_put_chunk(out, to, true, type, 6 + message_bytes + (has_offset ? 8u : 0u));
    store_be32(out + head, error);
    store_be16(out + head + 4, message_bytes);
    return head + 6;
}

uint32_t nbd_error_of(const struct nbd_request_header *header, int ret)
{
    switch (-ret) {
    case 0:
        return NBD_SUCCESS;
    case EPERM:
    case EACCES:
    case EROFS:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
        return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case EOVERFLOW: /* a read too long not to be cut into pieces; from elsewhere it would say that, too */
        return header->type == NBD_CMD_READ && header->flags & NBD_CMD_FLAG_DF && header->bytes > NBD_PAYLOAD_MAX
                   ? NBD_EOVERFLOW
                   : NBD_EINVAL;
    case EOPNOTSUPP: /* the same number as ENOTSUP: zeroes that cannot be written fast */
        return header->type == NBD_CMD_WRITE_ZEROES && header->flags & NBD_CMD_FLAG_FAST_ZERO ? NBD_ENOTSUP
                                                                                              : NBD_EINVAL;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}
