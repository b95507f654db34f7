/* The header as bytes, and each way in which it can be damaged. */
#include "blockcore/crypto/luks_header.h"

#include "blockcore/base/endian.h"
#include "tests/unit/base/unit.h"

static struct luks_header example(void)
{
    struct luks_header header = {
        .cipher = { Q_CRYPTO_CIPHER_ALGO_AES_256, Q_CRYPTO_CIPHER_MODE_XTS, Q_CRYPTO_IV_GEN_ALGO_PLAIN64, 0 },
        .hash = Q_CRYPTO_HASH_ALGO_SHA256,
        .key_bytes = 64,
        .digest_iterations = 1000,
        .uuid = "5a5f4f9c-0a1b-4c2d-8e3f-001122334455",
        .slots[3] = { .active = true, .iterations = 2000 },
    };
    luks_header_lay_out(&header, false);
    return header;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct luks_header header = example();
    struct luks_header same;
    uint8_t data[LUKS_HEADER_BYTES];
    luks_header_format(&header, data);
    assert_null(luks_header_parse(data, sizeof(data), &same));
    assert_int_equal(same.cipher.algo, Q_CRYPTO_CIPHER_ALGO_AES_256);
    assert_int_equal(same.cipher.mode, Q_CRYPTO_CIPHER_MODE_XTS);
    assert_int_equal(same.cipher.ivgen, Q_CRYPTO_IV_GEN_ALGO_PLAIN64);
    assert_int_equal(same.hash, Q_CRYPTO_HASH_ALGO_SHA256);
    assert_string_equal(same.uuid, header.uuid);
    assert_true(same.slots[3].active && same.slots[3].iterations == 2000 && !same.slots[4].active);
    /* As QEMU lays it out. */
    assert_int_equal(same.payload_offset, 2068480);
    assert_int_equal(same.slots[1].offset, 4096 + 258048);
    assert_int_equal(luks_header_end(&same), 4096 + 7 * 258048 + 256000);
}

static void essiv_has_a_digest(void **state)
{
    (void)state;
    struct luks_header header = example();
    struct luks_header same;
    uint8_t data[LUKS_HEADER_BYTES];
    header.cipher = (struct cipher_spec){ Q_CRYPTO_CIPHER_ALGO_AES_128, Q_CRYPTO_CIPHER_MODE_CBC,
                                          Q_CRYPTO_IV_GEN_ALGO_ESSIV, Q_CRYPTO_HASH_ALGO_SHA256 };
    header.key_bytes = 16;
    luks_header_lay_out(&header, true);
    luks_header_format(&header, data);
    assert_string_equal((char *)data + 40, "cbc-essiv:sha256");
    assert_null(luks_header_parse(data, sizeof(data), &same));
    assert_int_equal(same.cipher.algo, Q_CRYPTO_CIPHER_ALGO_AES_128);
    assert_int_equal(same.cipher.ivgen, Q_CRYPTO_IV_GEN_ALGO_ESSIV);
    assert_int_equal(same.cipher.ivgen_hash, Q_CRYPTO_HASH_ALGO_SHA256);
    assert_int_equal(same.payload_offset, 0);
}

/* @bytes at @offset instead of what belongs there. */
static void refused(size_t offset, const void *bytes, size_t count, const char *why)
{
    struct luks_header header = example();
    struct luks_header out = { .key_bytes = 77 };
    uint8_t data[LUKS_HEADER_BYTES];
    luks_header_format(&header, data);
    memcpy(data + offset, bytes, count);
    struct error *err = luks_header_parse(data, sizeof(data), &out);
    assert_non_null(err);
    if (!strstr(error_message(err), why))
        fail_msg("\"%s\" does not contain \"%s\"", error_message(err), why);
    assert_int_equal(out.key_bytes, 77);
    error_free(err);
}

static void refused_number(size_t offset, uint32_t value, const char *why)
{
    uint8_t bytes[4];
    store_be32(bytes, value);
    refused(offset, bytes, sizeof(bytes), why);
}

static void refused_text(size_t offset, const char *text, const char *why)
{
    refused(offset, text, strlen(text) + 1, why);
}

static void damaged_headers_are_refused_by_what_is_wrong(void **state)
{
    (void)state;
    enum { SLOT_3 = 208 + 3 * 48, SLOT_5 = 208 + 5 * 48 };
    char endless[40];
    memset(endless, 'a', sizeof(endless));
    refused_text(0, "LUKZ", "not a LUKS volume");
    refused(6, (uint8_t[]){ 0, 2 }, 2, "LUKS version 2 is not supported");
    refused_text(8, "serpent", "cipher 'serpent' is not supported");
    refused(8, endless, 32, "the name of the cipher in the header has no end");
    refused_text(8, "a\nb", "has a byte 0x0a in it");
    refused_text(40, "ctr-plain64", "cipher mode 'ctr' is not supported");
    refused_text(40, "xts-plain65", "initialization vectors of kind 'plain65' are not supported");
    refused_text(40, "xts", "does not say how initialization vectors are made");
    refused_text(40, "cbc-essiv:sha42", "digest 'sha42' is not supported");
    refused_text(72, "whirlpool", "digest 'whirlpool' is not supported");
    refused(168, endless, 40, "the UUID in the header has no end");
    refused_number(108, 40, "a key of 40 bytes is not valid for cipher 'aes' in mode 'xts'");
    refused_number(108, 0xffffffff, "a key of 4294967295 bytes");
    refused_number(104, 1, "the data at offset 512 overlaps the header");
    refused_number(104, 100, "overlaps the data");
    refused_number(164, 0, "0 iterations for the key are not valid");
    refused_number(164, 0x80000000, "2147483648 iterations for the key");
    refused_number(SLOT_3, 1, "key slot 3: its state 0x00000001 is not valid");
    refused_number(SLOT_3 + 4, 0, "key slot 3: 0 iterations are not valid");
    refused_number(SLOT_3 + 44, 4001, "key slot 3: 4001 stripes are not supported");
    refused_number(SLOT_3 + 40, 1, "key slot 3: it overlaps the header");
    refused_number(SLOT_3 + 40, 0xffffffff, "key slot 3: it overlaps the data");
    refused_number(SLOT_5 + 40, 8 + 504 + 499, "key slot 5: it overlaps slot 1");
}

static void a_header_that_is_cut_off_is_none(void **state)
{
    (void)state;
    struct luks_header header = example();
    uint8_t data[LUKS_HEADER_BYTES];
    luks_header_format(&header, data);
    struct error *err = luks_header_parse(data, sizeof(data) - 1, &header);
    assert_string_equal(error_message(err), "not a LUKS volume");
    error_free(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(essiv_has_a_digest),
        cmocka_unit_test(damaged_headers_are_refused_by_what_is_wrong),
        cmocka_unit_test(a_header_that_is_cut_off_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
