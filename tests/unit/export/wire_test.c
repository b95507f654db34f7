/* Bytes of the NBD protocol to structs and back: every length is checked against what is there. */
#include "blockcore/base/endian.h"
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
    assert_true(nbd_parse_request(bytes, &header));
    assert_int_equal(header.flags, NBD_CMD_FLAG_FUA);
    assert_int_equal(header.type, NBD_CMD_BLOCK_STATUS);
    assert_int_equal(header.cookie, 0x0102030405060708);
    assert_int_equal(header.offset, 0x090a0b0c0d0e0f10);
    assert_int_equal(header.bytes, 0x11121314);
    uint8_t wrong[NBD_REQUEST_BYTES];
    memcpy(wrong, bytes, sizeof(wrong));
    wrong[0] = 0;
    assert_false(nbd_parse_request(wrong, &header));
}

static void replies_are_what_the_protocol_says(void **state)
{
    (void)state;
    uint8_t out[256];
    static const uint8_t simple[] = { 0x67, 0x44, 0x66, 0x98, 0, 0, 0, 22, 0, 0, 0, 0, 0, 0, 0, 9 };
    assert_int_equal(nbd_put_simple_reply(out, NBD_EINVAL, 9), sizeof(simple));
    assert_memory_equal(out, simple, sizeof(simple));

    static const uint8_t data[] = { 0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0,
                                    0,    9,    0,    0,    2, 8, 0, 0, 0, 0, 0, 0, 0, 7 };
    assert_int_equal(nbd_put_data_chunk(out, 9, 7, 512), sizeof(data));
    assert_memory_equal(out, data, sizeof(data));

    static const uint8_t error[] = { 0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1, 0, 0, 0, 0, 0,
                                     0,    0,    9,    0,    0, 0, 6,    0, 0, 0, 5, 0, 0 };
    assert_int_equal(nbd_put_error_chunk(out, 9, NBD_EIO), sizeof(error));
    assert_memory_equal(out, error, sizeof(error));

    assert_int_equal(nbd_put_export_name_reply(out, 1, 2, false), 10);
    assert_int_equal(nbd_put_export_name_reply(out, 1, 2, true), 134);
}

static void errors_have_numbers_of_their_own_on_the_wire(void **state)
{
    (void)state;
    assert_int_equal(nbd_error_of(0), 0);
    assert_int_equal(nbd_error_of(-EACCES), NBD_EPERM);
    assert_int_equal(nbd_error_of(-EROFS), NBD_EPERM);
    assert_int_equal(nbd_error_of(-EDQUOT), NBD_ENOSPC);
    assert_int_equal(nbd_error_of(-EFBIG), NBD_ENOSPC);
    assert_int_equal(nbd_error_of(-ENOTSUP), NBD_ENOTSUP);
    assert_int_equal(nbd_error_of(-ENOMEM), NBD_ENOMEM);
    assert_int_equal(nbd_error_of(-EIO), NBD_EIO);
    assert_int_equal(nbd_error_of(-ETIMEDOUT), NBD_EIO);
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
        cmocka_unit_test(replies_are_what_the_protocol_says),
        cmocka_unit_test(errors_have_numbers_of_their_own_on_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
