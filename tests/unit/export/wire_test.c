/* Bytes of the NBD protocol to structs and back: every length is checked against what is there. */
#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/wire.h"
#include "tests/unit/base/unit.h"

#include <errno.h>

/* A message under construction. */
struct message {
    uint8_t bytes[16384];
    size_t length;
};

static void add16(struct message *message, uint16_t value)
{
    store_be16(message->bytes + message->length, value);
    message->length += 2;
}

static void add32(struct message *message, uint32_t value)
{
    store_be32(message->bytes + message->length, value);
    message->length += 4;
}

static void add_text(struct message *message, const char *text)
{
    add32(message, (uint32_t)strlen(text));
    memcpy(message->bytes + message->length, text, strlen(text));
    message->length += strlen(text);
}

static void an_option_has_a_magic(void **state)
{
    (void)state;
    uint8_t bytes[NBD_OPTION_BYTES];
    struct nbd_option_header header;
    store_be64(bytes, NBD_OPTION_MAGIC);
    store_be32(bytes + 8, NBD_OPT_GO);
    store_be32(bytes + 12, 0xfffffff0);
    assert_true(nbd_parse_option(bytes, &header));
    assert_int_equal(header.option, NBD_OPT_GO);
    assert_int_equal(header.bytes, 0xfffffff0);
    bytes[7] ^= 1;
    assert_false(nbd_parse_option(bytes, &header));
}

static void a_name_is_short_and_without_nul(void **state)
{
    (void)state;
    static uint8_t data[NBD_STRING_MAX + 1];
    struct nbd_string name;
    memset(data, 'n', sizeof(data));
    assert_true(nbd_parse_name(data, 0, &name));
    assert_int_equal(name.bytes, 0);
    assert_true(nbd_parse_name(data, NBD_STRING_MAX, &name));
    assert_int_equal(name.bytes, NBD_STRING_MAX);
    assert_false(nbd_parse_name(data, NBD_STRING_MAX + 1, &name));
    data[3] = 0;
    assert_false(nbd_parse_name(data, 4, &name));
    assert_true(nbd_parse_name(data, 3, &name));
    assert_true(nbd_string_is(name, "nnn"));
    assert_false(nbd_string_is(name, "nnnn"));
}

static void an_info_query_names_an_export_and_infos(void **state)
{
    (void)state;
    struct message message = { .length = 0 };
    struct nbd_info_query query;
    add_text(&message, "disk");
    add16(&message, 2);
    add16(&message, NBD_INFO_BLOCK_SIZE);
    add16(&message, 0x1234);
    assert_true(nbd_parse_info_query(message.bytes, message.length, &query));
    assert_true(nbd_string_is(query.name, "disk"));
    assert_true(nbd_info_query_wants(&query, NBD_INFO_BLOCK_SIZE));
    assert_true(nbd_info_query_wants(&query, 0x1234));
    assert_false(nbd_info_query_wants(&query, NBD_INFO_NAME));
}

/* Whatever is cut off or added, the length does not fit any more. */
static void an_info_query_of_any_other_length_is_malformed(void **state)
{
    (void)state;
    struct message message = { .length = 0 };
    struct nbd_info_query query;
    add_text(&message, "disk");
    add16(&message, 1);
    add16(&message, NBD_INFO_NAME);
    for (size_t length = 0; length < message.length + 4; length++)
        assert_int_equal(nbd_parse_info_query(message.bytes, length, &query), length == message.length);
    store_be32(message.bytes, 0xffffffff);
    assert_false(nbd_parse_info_query(message.bytes, message.length, &query));
}

static void a_context_query_lists_queries(void **state)
{
    (void)state;
    struct message message = { .length = 0 };
    struct nbd_context_query query;
    struct nbd_string one;
    add_text(&message, "disk");
    add32(&message, 2);
    add_text(&message, "base:allocation");
    add_text(&message, "");
    assert_true(nbd_parse_context_query(message.bytes, message.length, &query));
    assert_true(nbd_string_is(query.name, "disk"));
    assert_true(nbd_context_query_next(&query, &one));
    assert_true(nbd_string_is(one, "base:allocation"));
    assert_true(nbd_context_query_next(&query, &one));
    assert_int_equal(one.bytes, 0);
    assert_false(nbd_context_query_next(&query, &one));
}

static void a_context_query_of_any_other_length_is_malformed(void **state)
{
    (void)state;
    struct message message = { .length = 0 };
    struct nbd_context_query query;
    add_text(&message, "disk");
    add32(&message, 2);
    add_text(&message, "base:allocation");
    add_text(&message, "qemu:");
    for (size_t length = 0; length < message.length + 4; length++)
        assert_int_equal(nbd_parse_context_query(message.bytes, length, &query), length == message.length);
    store_be32(message.bytes + 8, 0xffffffff);
    assert_false(nbd_parse_context_query(message.bytes, message.length, &query));
}

static void a_request_is_28_bytes(void **state)
{
    (void)state;
    static const uint8_t bytes[NBD_REQUEST_BYTES] = { 0x25, 0x60, 0x95, 0x13, 0,  1,  0,  7,  1,  2,  3,  4,  5,  6,
                                                      7,    8,    9,    10,   11, 12, 13, 14, 15, 16, 17, 18, 19, 20 };
    struct nbd_request_header header;
    assert_true(nbd_parse_request(bytes, NBD_MODE_SIMPLE, &header));
    assert_int_equal(header.flags, NBD_CMD_FLAG_FUA);
    assert_int_equal(header.type, NBD_CMD_BLOCK_STATUS);
    assert_int_equal(header.cookie, 0x0102030405060708);
    assert_int_equal(header.offset, 0x090a0b0c0d0e0f10);
    assert_int_equal(header.bytes, 0x11121314);
    uint8_t wrong[NBD_REQUEST_BYTES];
    memcpy(wrong, bytes, sizeof(wrong));
    wrong[0] = 0;
    assert_false(nbd_parse_request(wrong, NBD_MODE_SIMPLE, &header));
}

static void an_extended_request_is_32_bytes(void **state)
{
    (void)state;
    static const uint8_t bytes[NBD_EXTENDED_REQUEST_BYTES] = { 0x21, 0xe4, 0x1c, 0x71, 0,  0x20, 0,  7,  1,  2,  3,
                                                               4,    5,    6,    7,    8,  9,    10, 11, 12, 13, 14,
                                                               15,   16,   17,   18,   19, 20,   21, 22, 23, 24 };
    struct nbd_request_header header;
    assert_int_equal(nbd_request_bytes(NBD_MODE_EXTENDED), sizeof(bytes));
    assert_true(nbd_parse_request(bytes, NBD_MODE_EXTENDED, &header));
    assert_int_equal(header.flags, NBD_CMD_FLAG_PAYLOAD_LEN);
    assert_int_equal(header.type, NBD_CMD_BLOCK_STATUS);
    assert_int_equal(header.cookie, 0x0102030405060708);
    assert_int_equal(header.offset, 0x090a0b0c0d0e0f10);
    assert_int_equal(header.bytes, 0x1112131415161718);
    assert_false(nbd_parse_request(bytes, NBD_MODE_STRUCTURED, &header));
}

/* A flag says so with extended headers, else the command does. */
static void a_payload_follows_what_says_so(void **state)
{
    (void)state;
    struct nbd_request_header write = { .type = NBD_CMD_WRITE, .bytes = 512 };
    struct nbd_request_header read = { .type = NBD_CMD_READ, .bytes = 512 };
    assert_int_equal(nbd_request_payload(&write, NBD_MODE_SIMPLE), 512);
    assert_int_equal(nbd_request_payload(&write, NBD_MODE_EXTENDED), 0);
    assert_int_equal(nbd_request_payload(&read, NBD_MODE_STRUCTURED), 0);
    write.flags = read.flags = NBD_CMD_FLAG_PAYLOAD_LEN;
    assert_int_equal(nbd_request_payload(&write, NBD_MODE_EXTENDED), 512);
    assert_int_equal(nbd_request_payload(&read, NBD_MODE_EXTENDED), 512);
    assert_int_equal(nbd_request_payload(&read, NBD_MODE_STRUCTURED), 0);
}

static void a_status_filter_names_contexts_once(void **state)
{
    (void)state;
    struct message message = { .length = 0 };
    struct nbd_status_filter filter;
    add32(&message, 1);
    add32(&message, 2);
    assert_false(nbd_parse_status_filter(message.bytes, message.length, 0xf, &filter));
    add32(&message, 3);
    add32(&message, 0);
    for (size_t length = 0; length < message.length + 4; length++) {
        bool complete = length == message.length || length == message.length - 4;
        assert_int_equal(nbd_parse_status_filter(message.bytes, length, 0xf, &filter), complete);
    }
    assert_true(nbd_parse_status_filter(message.bytes, message.length, 0xf, &filter));
    assert_int_equal(filter.bytes, 0x100000002);
    assert_int_equal(filter.contexts, 9);
    assert_false(nbd_parse_status_filter(message.bytes, message.length, 7, &filter)); /* 3 was not negotiated */
    store_be32(message.bytes + 12, 3);
    assert_false(nbd_parse_status_filter(message.bytes, message.length, 0xf, &filter)); /* twice */
    store_be32(message.bytes + 12, 64);
    assert_false(nbd_parse_status_filter(message.bytes, message.length, UINT64_MAX, &filter));
}

/* Replies -------------------------------------------------------------------------------------------------------- */

static const struct nbd_reply_to structured = { NBD_MODE_STRUCTURED, 9, 4 };
static const struct nbd_reply_to extended = { NBD_MODE_EXTENDED, 9, 4 };

/* Magic, flags, type, cookie, length; with extended headers, the request's offset before the length. */
#define COMPACT(flags, type_high, type_low, bytes)                                                                     \
    0x66, 0x8e, 0x33, 0xef, 0, flags, type_high, type_low, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, bytes
#define EXTENDED(flags, type_high, type_low, bytes)                                                                    \
    0x6e, 0x8a, 0x27, 0x8c, 0, flags, type_high, type_low, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, \
        0, 0, 0, bytes

#define expect_bytes(count, ...)                                                                                       \
    do {                                                                                                               \
        static const uint8_t expected[] = { __VA_ARGS__ };                                                             \
        assert_int_equal(count, sizeof(expected));                                                                     \
        assert_memory_equal(out, expected, sizeof(expected));                                                          \
    } while (0)

static void simple_replies_are_what_the_protocol_says(void **state)
{
    (void)state;
    uint8_t out[256];
    expect_bytes(nbd_put_simple_reply(out, &structured, NBD_EINVAL), 0x67, 0x44, 0x66, 0x98, 0, 0, 0, 22, 0, 0, 0, 0, 0,
                 0, 0, 9);
    assert_int_equal(nbd_put_export_name_reply(out, 1, 2, false), 10);
    assert_int_equal(nbd_put_export_name_reply(out, 1, 2, true), 134);
}

static void structured_chunks_are_what_the_protocol_says(void **state)
{
    (void)state;
    uint8_t out[NBD_CHUNK_HEAD_MAX];
    expect_bytes(nbd_put_chunk(out, &structured, true, NBD_REPLY_TYPE_NONE, 0), COMPACT(1, 0, 0, 0));
    expect_bytes(nbd_put_data_chunk(out, &structured, true, 7, 100), COMPACT(1, 0, 1, 108), 0, 0, 0, 0, 0, 0, 0, 7);
    expect_bytes(nbd_put_hole_chunk(out, &structured, false, 7, 512), COMPACT(0, 0, 2, 12), 0, 0, 0, 0, 0, 0, 0, 7, 0,
                 0, 2, 0);
    expect_bytes(nbd_put_error_chunk(out, &structured, NBD_EIO, 3, false), COMPACT(1, 0x80, 1, 9), 0, 0, 0, 5, 0, 3);
    expect_bytes(nbd_put_error_chunk(out, &structured, NBD_EIO, 3, true), COMPACT(1, 0x80, 2, 17), 0, 0, 0, 5, 0, 3);
}

static void extended_chunks_are_what_the_protocol_says(void **state)
{
    (void)state;
    uint8_t out[NBD_CHUNK_HEAD_MAX];
    expect_bytes(nbd_put_chunk(out, &extended, true, NBD_REPLY_TYPE_NONE, 0), EXTENDED(1, 0, 0, 0));
    expect_bytes(nbd_put_data_chunk(out, &extended, false, 7, 100), EXTENDED(0, 0, 1, 108), 0, 0, 0, 0, 0, 0, 0, 7);
    expect_bytes(nbd_put_hole_chunk(out, &extended, true, 7, 512), EXTENDED(1, 0, 2, 12), 0, 0, 0, 0, 0, 0, 0, 7, 0, 0,
                 2, 0);
    expect_bytes(nbd_put_error_chunk(out, &extended, NBD_EIO, 0, false), EXTENDED(1, 0x80, 1, 6), 0, 0, 0, 5, 0, 0);
    expect_bytes(nbd_put_error_chunk(out, &extended, NBD_EIO, 3, true), EXTENDED(1, 0x80, 2, 17), 0, 0, 0, 5, 0, 3);
}

/* "Error values": nothing else may be sent. */
static void errors_have_numbers_of_their_own_on_the_wire(void **state)
{
    (void)state;
    static const struct {
        int ret;
        uint32_t expected;
    } table[] = {
        { 0, 0 },
        { -EPERM, NBD_EPERM },
        { -EACCES, NBD_EPERM },
        { -EROFS, NBD_EPERM },
        { -EIO, NBD_EIO },
        { -ETIMEDOUT, NBD_EIO },
        { -ENOMEDIUM, NBD_EIO },
        { -ENOMEM, NBD_ENOMEM },
        { -EINVAL, NBD_EINVAL },
        { -ENOSPC, NBD_ENOSPC },
        { -EDQUOT, NBD_ENOSPC },
        { -EFBIG, NBD_ENOSPC },
        { -ESHUTDOWN, NBD_ESHUTDOWN },
        { -ENOTSUP, NBD_EINVAL },   /* unless... */
        { -EOVERFLOW, NBD_EINVAL }, /* as below */
    };
    struct nbd_request_header read = { .type = NBD_CMD_READ };
    struct nbd_request_header zero = { .type = NBD_CMD_WRITE_ZEROES };
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(nbd_error_of(&read, table[i].ret), table[i].expected);
        assert_int_equal(nbd_error_of(&zero, table[i].ret), table[i].expected);
    }
    read.flags = NBD_CMD_FLAG_DF;
    read.bytes = NBD_PAYLOAD_MAX;
    assert_int_equal(nbd_error_of(&read, -EOVERFLOW), NBD_EINVAL);
    read.bytes = NBD_PAYLOAD_MAX + 1;
    zero.flags = NBD_CMD_FLAG_FAST_ZERO;
    assert_int_equal(nbd_error_of(&read, -EOVERFLOW), NBD_EOVERFLOW);
    assert_int_equal(nbd_error_of(&zero, -ENOTSUP), NBD_ENOTSUP);
}

static void what_is_shown_is_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *given;
        const char *shown;
    } table[] = {
        { "disk", "disk" },
        { "", "" },
        { "a\tb\x7f", "a?b?" },
        { "\xc3\xa9\xe2\x82\xac\xf0\x9f\x92\xbe", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x92\xbe" },
        { "\xc3", "?" },
        { "\xc0\xaf", "??" },           /* a long form */
        { "\xed\xa0\x80", "???" },      /* half of a pair */
        { "\xf4\x90\x80\x80", "????" }, /* beyond the last one */
        { "0123456789abcde", "0123456789a" } /* as much as there is room for */,
        { "0123456789\xc3\xa9", "0123456789" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char out[16];
        size_t room = i < ARRAY_SIZE(table) - 2 ? sizeof(out) : 12;
        nbd_string_show((struct nbd_string){ table[i].given, (uint32_t)strlen(table[i].given) }, out, room);
        assert_string_equal(out, table[i].shown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_option_has_a_magic),
        cmocka_unit_test(a_name_is_short_and_without_nul),
        cmocka_unit_test(an_info_query_names_an_export_and_infos),
        cmocka_unit_test(an_info_query_of_any_other_length_is_malformed),
        cmocka_unit_test(a_context_query_lists_queries),
        cmocka_unit_test(a_context_query_of_any_other_length_is_malformed),
        cmocka_unit_test(a_request_is_28_bytes),
        cmocka_unit_test(an_extended_request_is_32_bytes),
        cmocka_unit_test(a_payload_follows_what_says_so),
        cmocka_unit_test(a_status_filter_names_contexts_once),
        cmocka_unit_test(simple_replies_are_what_the_protocol_says),
        cmocka_unit_test(structured_chunks_are_what_the_protocol_says),
        cmocka_unit_test(extended_chunks_are_what_the_protocol_says),
        cmocka_unit_test(what_is_shown_is_utf8),
        cmocka_unit_test(errors_have_numbers_of_their_own_on_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
