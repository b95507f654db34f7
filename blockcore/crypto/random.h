/* random - bytes that nobody can guess, and bytes that nobody shall see afterwards */
#ifndef CAIRN_CRYPTO_RANDOM_H
#define CAIRN_CRYPTO_RANDOM_H

#include "blockcore/base/cleanup.h"
#include "blockcore/base/error.h"

#include <stddef.h>
#include <stdint.h>

/* From the kernel's generator, which is ready long before any daemon runs. Any thread. */
struct error *random_fill(void *data, size_t bytes) MUST_CHECK;

/* The characters of a random UUID (RFC 4122, version 4), with a zero byte behind them. */
#define UUID_TEXT_BYTES 37
struct error *random_uuid(char text[UUID_TEXT_BYTES]) MUST_CHECK;

/* Memory for keys: free it with key_bytes_free(), which overwrites it. */
struct key_bytes {
    size_t bytes;
    uint8_t data[];
};

/* Zeroed; NULL when there is no memory. The bound of @bytes is the caller's to check. */
struct key_bytes *key_bytes_new(size_t bytes);
void key_bytes_free(struct key_bytes *key); /* NULL is allowed */
DEFINE_CLEANUP(key_bytes_free, struct key_bytes *)

#endif
