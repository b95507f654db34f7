/* Sectors against vectors that others have computed, and requests whose memory is cut anywhere. */
#include "blockcore/crypto/cipher.h"
#include "blockcore/crypto/transfer.h"

#include "tests/unit/drivers/nodes.h"

static const struct cipher_spec xts = { Q_CRYPTO_CIPHER_ALGO_AES_256, Q_CRYPTO_CIPHER_MODE_XTS,
                                        Q_CRYPTO_IV_GEN_ALGO_PLAIN64, Q_CRYPTO_HASH_ALGO_SHA256 };
static const struct cipher_spec essiv = { Q_CRYPTO_CIPHER_ALGO_AES_128, Q_CRYPTO_CIPHER_MODE_CBC,
                                          Q_CRYPTO_IV_GEN_ALGO_ESSIV, Q_CRYPTO_HASH_ALGO_SHA256 };

static struct cipher *make(const struct cipher_spec *spec)
{
    uint8_t key[CIPHER_KEY_BYTES_MAX];
    for (size_t i = 0; i < sizeof(key); i++)
        key[i] = (uint8_t)(i * 7);
    struct cipher *cipher;
    expect_success(cipher_create(spec, key, &cipher));
    return cipher;
}

static void fill(uint8_t *data, size_t bytes)
{
    uint64_t random = 1;
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)next_random(&random);
}

/* IEEE 1619-2007, annex B, vector 10: AES-256, data unit 0xff, the bytes 0 to 255 twice. */
CO_TEST(xts_is_that_of_the_standard)
{
    static const uint8_t key[] = {
        0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60, 0x28, 0x74, 0x71, 0x35, 0x26,
        0x62, 0x49, 0x77, 0x57, 0x24, 0x70, 0x93, 0x69, 0x99, 0x59, 0x57, 0x49, 0x66, 0x96, 0x76, 0x27,
        0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95,
        0x02, 0x88, 0x41, 0x97, 0x16, 0x93, 0x99, 0x37, 0x51, 0x05, 0x82, 0x09, 0x74, 0x94, 0x45, 0x92,
    };
    static const uint8_t expected[] = { 0x1c, 0x3b, 0x3a, 0x10, 0x2f, 0x77, 0x03, 0x86,
                                        0xe4, 0x83, 0x6c, 0x99, 0xe3, 0x70, 0xcf, 0x9b };
    struct cipher *cipher;
    uint8_t data[512];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)i;
    expect_success(cipher_create(&xts, key, &cipher));
    expect_int(cipher_run(cipher, CIPHER_ENCRYPT, 0xff, data, data, sizeof(data)), 0);
    expect(memcmp(data, expected, sizeof(expected)) == 0);
    expect_int(cipher_run(cipher, CIPHER_DECRYPT, 0xff, data, data, sizeof(data)), 0);
    expect(data[0] == 0 && data[255] == 255 && data[511] == 255);
    cipher_free(cipher);
}

static void expect_same_vectors(const struct cipher_spec *spec, uint64_t a, uint64_t b, bool same)
{
    struct cipher *cipher = make(spec);
    uint8_t first[512] = { 0 };
    uint8_t second[512] = { 0 };
    expect_int(cipher_run(cipher, CIPHER_ENCRYPT, a, first, first, sizeof(first)), 0);
    expect_int(cipher_run(cipher, CIPHER_ENCRYPT, b, second, second, sizeof(second)), 0);
    expect_int(memcmp(first, second, sizeof(first)) == 0, same);
    cipher_free(cipher);
}

CO_TEST(equal_sectors_look_different_unless_the_vector_is_the_same)
{
    uint64_t high = UINT64_C(1) << 32;
    struct cipher_spec plain = xts;
    plain.ivgen = Q_CRYPTO_IV_GEN_ALGO_PLAIN;
    expect_same_vectors(&xts, 5, 6, false);
    expect_same_vectors(&xts, 5, 5 + high, false);
    expect_same_vectors(&plain, 5, 6, false);
    expect_same_vectors(&plain, 5, 5 + high, true);
    expect_same_vectors(&essiv, 5, 6, false);
    expect_same_vectors(&essiv, 5, 5 + high, false);
    struct cipher_spec ecb = essiv;
    ecb.mode = Q_CRYPTO_CIPHER_MODE_ECB;
    expect_same_vectors(&ecb, 5, 6, true);
}

CO_TEST(each_cipher_gives_back_what_it_was_given)
{
    static uint8_t data[4096];
    static uint8_t there[4096];
    static uint8_t back[4096];
    fill(data, sizeof(data));
    for (unsigned algo = Q_CRYPTO_CIPHER_ALGO_AES_128; algo <= Q_CRYPTO_CIPHER_ALGO_AES_256; algo++) {
        for (unsigned mode = 0; mode < Q_CRYPTO_CIPHER_MODE_CTR; mode++) {
            for (unsigned ivgen = 0; ivgen < Q_CRYPTO_IV_GEN_ALGO__MAX; ivgen++) {
                struct cipher_spec spec = { algo, mode, ivgen, Q_CRYPTO_HASH_ALGO_SHA256 };
                if (!cipher_key_bytes(&spec) || (algo == Q_CRYPTO_CIPHER_ALGO_AES_192 && mode == 2))
                    continue;
                struct cipher *cipher = make(&spec);
                expect_int(cipher_run(cipher, CIPHER_ENCRYPT, 3, data, there, sizeof(data)), 0);
                expect(memcmp(data, there, sizeof(data)) != 0);
                expect_int(cipher_run(cipher, CIPHER_DECRYPT, 3, there, back, sizeof(data)), 0);
                expect(memcmp(data, back, sizeof(data)) == 0);
                cipher_free(cipher);
            }
        }
    }
}

CO_TEST(what_cannot_be_done_is_named)
{
    static const uint8_t key[CIPHER_KEY_BYTES_MAX];
    struct cipher *cipher;
    struct cipher_spec spec = xts;
    spec.algo = Q_CRYPTO_CIPHER_ALGO_SERPENT_256;
    expect_error(cipher_create(&spec, key, &cipher), "cipher 'serpent-256' is not supported");
    spec.algo = Q_CRYPTO_CIPHER_ALGO_AES_192;
    expect_error(cipher_create(&spec, key, &cipher), "cipher 'aes-192' does not go with mode 'xts'");
    spec.mode = Q_CRYPTO_CIPHER_MODE_CTR;
    expect_error(cipher_create(&spec, key, &cipher), "cipher mode 'ctr' is not supported");
    spec = essiv;
    spec.ivgen_hash = Q_CRYPTO_HASH_ALGO_SHA1;
    expect_error(cipher_create(&spec, key, &cipher), "digest 'sha1' of 20 bytes does not go with essiv");
    /* Halves that are alike make xts worthless, and libcrypto knows it. */
    expect_error(cipher_create(&xts, key, &cipher), "refuses the key");
}

/* Pieces of memory of random lengths, which add up to @bytes. */
static size_t cut(uint8_t *data, size_t bytes, struct iovec *vec, size_t max, uint64_t *random)
{
    size_t count = 0;
    for (size_t at = 0; at < bytes; count++) {
        size_t now = count + 1 == max ? bytes - at : 1 + next_random(random) % (bytes / 8);
        now = now < bytes - at ? now : bytes - at;
        vec[count] = (struct iovec){ data + at, now };
        at += now;
    }
    return count;
}

/* Small ones in place, large ones spread over the pool: the bytes are the same. */
CO_TEST(requests_give_the_bytes_of_sectors_wherever_memory_is_cut)
{
    static uint8_t data[1536 * KIB];
    static uint8_t expected[sizeof(data)];
    static uint8_t there[sizeof(data)];
    uint64_t random = 1;
    struct cipher *cipher = make(&xts);
    fill(data, sizeof(data));
    size_t sizes[] = { 512, 4096, 64 * KIB, 128 * KIB, 128 * KIB + 512, 300 * KIB, sizeof(data) - 512, sizeof(data) };
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct iovec vec[20];
        expect_int(cipher_run(cipher, CIPHER_ENCRYPT, i, data, expected, sizes[i]), 0);
        struct iov iov = iov_of_vec(vec, cut(data, sizes[i], vec, ARRAY_SIZE(vec), &random));
        expect_int(transfer_encrypt(cipher, i, &iov, there), 0);
        expect(memcmp(there, expected, sizes[i]) == 0);
        iov = iov_of_vec(vec, cut(there, sizes[i], vec, ARRAY_SIZE(vec), &random));
        expect_int(transfer_decrypt(cipher, i, &iov), 0);
        expect(memcmp(there, data, sizes[i]) == 0);
    }
    cipher_free(cipher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xts_is_that_of_the_standard),
        cmocka_unit_test(equal_sectors_look_different_unless_the_vector_is_the_same),
        cmocka_unit_test(each_cipher_gives_back_what_it_was_given),
        cmocka_unit_test(what_cannot_be_done_is_named),
        cmocka_unit_test(requests_give_the_bytes_of_sectors_wherever_memory_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
