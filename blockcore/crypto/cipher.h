/* cipher - sectors of a disk, encrypted one by one
 *
 * A disk is encrypted in sectors of 512 bytes, each by itself, so that any of them can be read and written alone. What
 * makes equal sectors look different is the initialization vector, which comes from the number of the sector:
 *
 *     number --plain----> its low 32 bits ---.
 *            --plain64--> all 64 bits -------+--> vector --> cbc or xts, with the key --> 512 bytes
 *            --essiv----> AES(digest(key)) --'               (ecb needs none)
 *
 * One cipher may be used by any number of threads at the same time: each takes a context of its own. Nothing here
 * waits; encrypting a sector takes some hundred nanoseconds.
 *
 * Source: dm-crypt (Linux, Documentation/admin-guide/device-mapper/dm-crypt), whose names these are. */
#ifndef CAIRN_CRYPTO_CIPHER_H
#define CAIRN_CRYPTO_CIPHER_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/cleanup.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stddef.h>
#include <stdint.h>

#define CIPHER_SECTOR_BYTES 512
#define CIPHER_KEY_BYTES_MAX 64 /* AES-256 in mode xts has two keys */

struct cipher;

struct cipher_spec {
    enum q_crypto_cipher_algo algo;
    enum q_crypto_cipher_mode mode;
    enum q_crypto_iv_gen_algo ivgen;
    enum q_crypto_hash_algo ivgen_hash; /* with essiv */
};

enum cipher_direction {
    CIPHER_DECRYPT,
    CIPHER_ENCRYPT,
};

/* Can images be encrypted like that? Names what cannot be. */
struct error *cipher_check(const struct cipher_spec *spec) MUST_CHECK;

/* Bytes of the key; 0 for what cipher_check() refuses. */
size_t cipher_key_bytes(const struct cipher_spec *spec);

/* @key has cipher_key_bytes(); it is copied. Loads libcrypto. Any coroutine. */
struct error *cipher_create(const struct cipher_spec *spec, const uint8_t *key, struct cipher **out) CO_FN MUST_CHECK;

/* The same where libcrypto is loaded already: any thread, does not wait. */
struct error *cipher_new(const struct cipher_spec *spec, const uint8_t *key, struct cipher **out) MUST_CHECK;

/* Nobody uses it any more. NULL is allowed. */
void cipher_free(struct cipher *cipher);
DEFINE_CLEANUP(cipher_free, struct cipher *)

/* Whole sectors, the first of which has the number @sector. @in may be @out; otherwise they do not overlap. 0 or
 * -errno. Any thread. */
int cipher_run(struct cipher *cipher, enum cipher_direction direction, uint64_t sector, const void *in, void *out,
               size_t bytes) MUST_CHECK;

/* AES-256 in mode cbc over all of @data (a multiple of 16 bytes) at once, in place, without padding: what secrets are
 * encrypted with. libcrypto is loaded by it. */
struct error *cipher_decrypt_cbc(const uint8_t key[32], const uint8_t vector[16], void *data, size_t bytes)
    CO_FN MUST_CHECK;

#endif
