/* antiforensic - a key made so long that it can be erased
 *
 * A disk may keep what was overwritten in a sector that it has replaced. So a key is stored as thousands of stripes,
 * all of which are needed to get it back: one that is really gone is enough.
 *
 *     split: random stripes, and a last one that makes all of them together give the key
 *     merge: state = digest(state xor stripe) for all but the last; key = state xor the last
 *
 * Pure functions of memory with libcrypto loaded; a split takes a millisecond, so they run on the pool.
 * Source: LUKS on-disk format specification 1.2, "Anti-forensic stripes". */
#ifndef CAIRN_CRYPTO_ANTIFORENSIC_H
#define CAIRN_CRYPTO_ANTIFORENSIC_H

#include "schema/cairn_types.h"

#include <stddef.h>
#include <stdint.h>

/* @stripes  key_bytes * count bytes, the first count - 1 of them random already: fills in the last one.
 * @key_bytes at most CIPHER_KEY_BYTES_MAX. 0 or -errno as in digest_compute(). */
int antiforensic_split(enum q_crypto_hash_algo hash, const uint8_t *key, size_t key_bytes, size_t count,
                       uint8_t *stripes);
int antiforensic_merge(enum q_crypto_hash_algo hash, const uint8_t *stripes, size_t key_bytes, size_t count,
                       uint8_t *key);

#endif
