/* sha256 - a checksum of bytes that come piece by piece; computed on the pool
 *
 * OpenSSL is loaded when the first one begins. */
#ifndef CAIRN_CRYPTO_SHA256_H
#define CAIRN_CRYPTO_SHA256_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256;

struct error *sha256_begin(struct sha256 **out) CO_FN MUST_CHECK;
/* 0 or -errno. */
int sha256_add(struct sha256 *sha256, const void *data, size_t bytes) CO_FN MUST_CHECK;
int sha256_end(struct sha256 *sha256, uint8_t digest[SHA256_BYTES]) MUST_CHECK;
void sha256_free(struct sha256 *sha256);
static inline void sha256_free_cleanup(struct sha256 *const *sha256)
{
    sha256_free(*sha256);
}

#endif
