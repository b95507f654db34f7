#include "blockcore/crypto/antiforensic.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/range.h"
#include "blockcore/crypto/cipher.h"
#include "blockcore/crypto/derive.h"

#include <string.h>
#include <sys/uio.h>

static void xor_into(uint8_t *out, const uint8_t *in, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] ^= in[i];
}

/* Replaces each run as long as a digest by the digest of its number and itself; the last one is cut off. */
static int diffuse(enum q_crypto_hash_algo hash, uint8_t *state, size_t bytes)
{
    size_t run = digest_bytes(hash);
    int ret = 0;
    for (size_t at = 0; at < bytes && ret == 0; at += run) {
        uint8_t number[4];
        uint8_t digest[DIGEST_BYTES_MAX];
        size_t now = (size_t)min_u64(run, bytes - at);
        store_be32(number, (uint32_t)(at / run));
        struct iovec pieces[] = { { number, sizeof(number) }, { state + at, now } };
        ret = digest_compute(hash, pieces, ARRAY_SIZE(pieces), digest);
        memcpy(state + at, digest, now);
        explicit_bzero(digest, sizeof(digest));
    }
    return ret;
}

/* What all stripes but the last come to. */
static int fold(enum q_crypto_hash_algo hash, const uint8_t *stripes, size_t key_bytes, size_t count, uint8_t *state)
{
    int ret = 0;
    memset(state, 0, key_bytes);
    for (size_t i = 0; i + 1 < count && ret == 0; i++) {
        xor_into(state, stripes + i * key_bytes, key_bytes);
        ret = diffuse(hash, state, key_bytes);
    }
    return ret;
}

int antiforensic_split(enum q_crypto_hash_algo hash, const uint8_t *key, size_t key_bytes, size_t count,
                       uint8_t *stripes)
{
    uint8_t *last = stripes + (count - 1) * key_bytes;
    int ret = fold(hash, stripes, key_bytes, count, last);
    xor_into(last, key, key_bytes);
    return ret;
}

int antiforensic_merge(enum q_crypto_hash_algo hash, const uint8_t *stripes, size_t key_bytes, size_t count,
                       uint8_t *key)
{
    int ret = fold(hash, stripes, key_bytes, count, key);
    xor_into(key, stripes + (count - 1) * key_bytes, key_bytes);
    return ret;
}
