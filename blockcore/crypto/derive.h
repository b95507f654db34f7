/* derive - keys out of passwords (PBKDF2, RFC 8018)
 *
 * Deriving is made slow on purpose: each guess of a password costs what the owner's right one costs. So nothing of this
 * runs on a loop's thread: derive_key() and derive_calibrate() are for functions that run on the pool, with libcrypto
 * loaded. How slow it is, a header says, which may be a stranger's: so it can be stopped at any moment. */
#ifndef CAIRN_CRYPTO_DERIVE_H
#define CAIRN_CRYPTO_DERIVE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/list.h"
#include "schema/cairn_types.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define DIGEST_BYTES_MAX 64
#define DERIVE_SALT_BYTES_MAX 64

struct coroutine;
struct key_bytes;

/* Bytes of a digest. */
size_t digest_bytes(enum q_crypto_hash_algo hash);

/* The digest of @count pieces in a row; @out has digest_bytes(). 0, -ENOTSUP when libcrypto cannot do it, -ENOMEM. */
int digest_compute(enum q_crypto_hash_algo hash, const struct iovec *pieces, size_t count, uint8_t *out);

struct derivation {
    enum q_crypto_hash_algo hash;
    uint32_t iterations;
    const uint8_t *salt;
    size_t salt_bytes;
    const _Atomic bool *stop; /* true: nobody waits for the result any more; NULL: somebody always does */
};

/* Fills @out. Blocks for as long as the iterations take. 0, -ENOTSUP, -ENOMEM, -ECANCELED. */
int derive_key(const struct derivation *derivation, const uint8_t *password, size_t password_bytes, uint8_t *out,
               size_t out_bytes);

/* How many iterations take @ms milliseconds of this processor for a key of @out_bytes; at least 1000. Blocks for
 * 10 to 200 ms. 0, -ENOTSUP, -ENOMEM. */
int derive_calibrate(enum q_crypto_hash_algo hash, size_t out_bytes, uint64_t ms, uint32_t *iterations);

/* Runs @fn on a thread of the pool that is nobody else's, so that no password waits for another one. @stop: to be
 * passed on to derive_key() by @fn. Returns what it returned. */
int derive_on_pool(int (*fn)(void *arg), void *arg, _Atomic bool *stop) CO_FN CONTROL_FN;

/* A coroutine that may lose its patience: what it derives can be stopped. Embedded in what it works for. */
struct derive_waiter {
    struct list link;
    const struct coroutine *who;
    bool cancelled;
};

/* From now on, and not any more, for the coroutine that calls. @waiter is zeroed at first. */
void derive_waiter_begin(struct derive_waiter *waiter) CONTROL_FN;
void derive_waiter_end(struct derive_waiter *waiter) CONTROL_FN;

/* Stops what it derives now and whatever it begins to derive later. Also before begin and after end: nothing then. */
void derive_cancel(struct derive_waiter *waiter) CONTROL_FN;

/* The process is about to end: stops everything, and what is begun later. */
void derive_give_up(void) CONTROL_FN;

#endif
