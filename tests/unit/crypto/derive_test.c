#include "blockcore/crypto/antiforensic.h"
#include "blockcore/crypto/cipher.h"
#include "blockcore/crypto/derive.h"
#include "blockcore/crypto/libcrypto.h"

#include "tests/unit/drivers/nodes.h"

#include <time.h>

static void expect_hex(const uint8_t *data, size_t bytes, const char *hex)
{
    char text[256];
    for (size_t i = 0; i < bytes; i++)
        sprintf(text + 2 * i, "%02x", data[i]);
    expect_text(text, hex);
}

/* RFC 6070. */
CO_TEST(keys_are_those_of_the_rfc)
{
    expect_success(libcrypto_load());
    uint8_t out[25];
    struct derivation derivation = {
        .hash = Q_CRYPTO_HASH_ALGO_SHA1, .iterations = 1, .salt = (const uint8_t *)"salt", .salt_bytes = 4
    };
    expect_int(derive_key(&derivation, (const uint8_t *)"password", 8, out, 20), 0);
    expect_hex(out, 20, "0c60c80f961f0e71f3a9b524af6012062fe037a6");
    derivation.iterations = 4096;
    expect_int(derive_key(&derivation, (const uint8_t *)"password", 8, out, 20), 0);
    expect_hex(out, 20, "4b007901b765489abead49d926f721d065a429c1");
    derivation.salt = (const uint8_t *)"saltSALTsaltSALTsaltSALTsaltSALTsalt";
    derivation.salt_bytes = 36;
    expect_int(derive_key(&derivation, (const uint8_t *)"passwordPASSWORDpassword", 24, out, 25), 0);
    expect_hex(out, 25, "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038");
}

/* As Python's hashlib has them. */
CO_TEST(passwords_of_any_length)
{
    expect_success(libcrypto_load());
    uint8_t out[100];
    uint8_t password[100];
    memset(password, 'x', sizeof(password));
    struct derivation derivation = {
        .hash = Q_CRYPTO_HASH_ALGO_SHA256, .iterations = 1000, .salt = (const uint8_t *)"NaCl", .salt_bytes = 4
    };
    expect_int(derive_key(&derivation, password, 100, out, 64), 0);
    expect_hex(out, 64,
               "78a17750cf7a2cb60802967f2013b5da9bb57cb4112b684a3a4120cf08615e69"
               "d1964e1c5dd4d5a9cfed7dce6fc2911fa39f425a6e6716c4e5512e1ff751449b");
    derivation.hash = Q_CRYPTO_HASH_ALGO_SHA512;
    derivation.iterations = 3;
    expect_int(derive_key(&derivation, password, 0, out, 100), 0);
    expect_hex(out, 100,
               "24acf5f2c7197d447677b595cfebe06dbda79734315ac816200364368aa28796f99fac42181f0e45"
               "fefc4dd5b382e1339476ce18163a9714edc0f6366cb2deeafcf6b2ff6cf35e546795dd196b2c74ab"
               "330b3ff2b34f4fbf755b60b46d16a5308e075c1e");
}

struct endless {
    _Atomic bool stop;
    struct derive_waiter waiter;
    int ret;
    struct co_event done;
};

static int derive_endlessly(void *arg)
{
    struct endless *endless = arg;
    uint8_t out[64] = { 0 };
    struct derivation derivation = {
        .hash = Q_CRYPTO_HASH_ALGO_SHA512, .iterations = INT32_MAX, .salt = out, .stop = &endless->stop
    };
    return derive_key(&derivation, out, 0, out, sizeof(out));
}

static void endless_entry(void *arg)
{
    struct endless *endless = arg;
    derive_waiter_begin(&endless->waiter);
    endless->ret = derive_on_pool(derive_endlessly, endless, &endless->stop);
    if (endless->waiter.cancelled) { /* what comes next does not even begin */
        atomic_store(&endless->stop, false);
        expect_int(derive_on_pool(derive_endlessly, endless, &endless->stop), -ECANCELED);
    }
    derive_waiter_end(&endless->waiter);
    co_event_set(&endless->done);
}

static void start_endless(struct endless *endless)
{
    *endless = (struct endless){ 0 };
    co_event_init(&endless->done);
    co_start("endless", endless_entry, endless);
}

/* More of them than threads that others might share. */
CO_TEST(what_takes_for_ever_is_stopped_and_costs_nobody_else)
{
    expect_success(libcrypto_load());
    struct endless some[20];
    for (size_t i = 0; i < ARRAY_SIZE(some); i++)
        start_endless(&some[i]);
    struct endless stopped;
    start_endless(&stopped);
    derive_cancel(&stopped.waiter);
    co_event_wait(&stopped.done, "test");
    expect_int(stopped.ret, -ECANCELED);
    for (size_t i = 0; i < ARRAY_SIZE(some); i++)
        expect(!co_event_is_set(&some[i].done));
    derive_give_up();
    for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
        co_event_wait(&some[i].done, "test");
        expect_int(some[i].ret, -ECANCELED);
    }
    expect_int(derive_endlessly(&stopped), -ECANCELED);
}

CO_TEST(digests_of_several_pieces)
{
    expect_success(libcrypto_load());
    uint8_t out[DIGEST_BYTES_MAX];
    struct iovec pieces[] = { { (char[]){ "a" }, 1 }, { (char[]){ "bc" }, 2 } };
    expect_int(digest_compute(Q_CRYPTO_HASH_ALGO_SHA256, pieces, 2, out), 0);
    expect_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect_int(digest_compute(Q_CRYPTO_HASH_ALGO_MD5, pieces, 2, out), 0);
    expect_hex(out, 16, "900150983cd24fb0d6963f7d28e17f72");
}

/* Within a factor of two: the machine may be busy, but the clock is that of the thread. */
CO_TEST(iterations_take_the_time_that_was_asked_for)
{
    expect_success(libcrypto_load());
    uint32_t iterations;
    expect_int(derive_calibrate(Q_CRYPTO_HASH_ALGO_SHA256, 32, 200, &iterations), 0);
    uint8_t out[32];
    struct derivation derivation = { .hash = Q_CRYPTO_HASH_ALGO_SHA256, .iterations = iterations, .salt = out };
    clock_t begin = clock();
    expect_int(derive_key(&derivation, (const uint8_t *)"x", 1, out, 32), 0);
    double ms = (double)(clock() - begin) * 1000 / CLOCKS_PER_SEC;
    if (ms < 100 || ms > 400)
        print_error("%u iterations took %f ms\n", iterations, ms);
    expect(ms >= 100 && ms <= 400);
    expect_int(derive_calibrate(Q_CRYPTO_HASH_ALGO_SHA256, 32, 0, &iterations), 0);
    expect_int(iterations, 1000);
}

CO_TEST(a_key_comes_back_from_all_of_its_stripes_only)
{
    expect_success(libcrypto_load());
    enum { STRIPES = 50 };
    uint8_t key[CIPHER_KEY_BYTES_MAX];
    uint8_t back[CIPHER_KEY_BYTES_MAX];
    uint8_t stripes[STRIPES * CIPHER_KEY_BYTES_MAX];
    uint64_t random = 1;
    /* Digests that divide the key and such that do not, and one that is longer. */
    enum q_crypto_hash_algo hashes[] = { Q_CRYPTO_HASH_ALGO_SHA256, Q_CRYPTO_HASH_ALGO_SHA1,
                                         Q_CRYPTO_HASH_ALGO_SHA512 };
    for (size_t i = 0; i < ARRAY_SIZE(hashes); i++) {
        for (size_t bytes = 16; bytes <= sizeof(key); bytes += 16) {
            for (size_t k = 0; k < sizeof(stripes); k++)
                stripes[k] = (uint8_t)next_random(&random);
            memset(key, (int)(bytes + i), sizeof(key));
            expect_int(antiforensic_split(hashes[i], key, bytes, STRIPES, stripes), 0);
            expect_int(antiforensic_merge(hashes[i], stripes, bytes, STRIPES, back), 0);
            expect(memcmp(key, back, bytes) == 0);
            stripes[7 * bytes] ^= 1;
            expect_int(antiforensic_merge(hashes[i], stripes, bytes, STRIPES, back), 0);
            expect(memcmp(key, back, bytes) != 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_those_of_the_rfc),
        cmocka_unit_test(passwords_of_any_length),
        cmocka_unit_test(digests_of_several_pieces),
        cmocka_unit_test(iterations_take_the_time_that_was_asked_for),
        cmocka_unit_test(a_key_comes_back_from_all_of_its_stripes_only),
        cmocka_unit_test(what_takes_for_ever_is_stopped_and_costs_nobody_else), /* and nothing is derived afterwards */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
