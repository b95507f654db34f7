#include "blockcore/crypto/derive.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/list.h"
#include "blockcore/base/range.h"
#include "blockcore/crypto/libcrypto.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#define ITERATIONS_MIN 1000
/* A trial is long enough that the clock's grain and a cold processor do not matter, but no longer than what is asked.
 */
#define TRIAL_NS_MIN 5000000
#define TRIAL_NS_MAX 50000000

static const struct {
    const char *name; /* of libcrypto */
    size_t bytes;
} digests[Q_CRYPTO_HASH_ALGO__MAX] = {
    [Q_CRYPTO_HASH_ALGO_MD5] = { "MD5", 16 },       [Q_CRYPTO_HASH_ALGO_SHA1] = { "SHA1", 20 },
    [Q_CRYPTO_HASH_ALGO_SHA224] = { "SHA224", 28 }, [Q_CRYPTO_HASH_ALGO_SHA256] = { "SHA256", 32 },
    [Q_CRYPTO_HASH_ALGO_SHA384] = { "SHA384", 48 }, [Q_CRYPTO_HASH_ALGO_SHA512] = { "SHA512", 64 },
    [Q_CRYPTO_HASH_ALGO_SM3] = { "SM3", 32 },       [Q_CRYPTO_HASH_ALGO_RIPEMD160] = { "RIPEMD160", 20 },
};

size_t digest_bytes(enum q_crypto_hash_algo hash)
{
    return digests[hash].bytes;
}

static EVP_MD *fetch(enum q_crypto_hash_algo hash)
{
    return libcrypto.EVP_MD_fetch(NULL, digests[hash].name, NULL);
}

static int compute(EVP_MD_CTX *context, const EVP_MD *digest, const struct iovec *pieces, size_t count, uint8_t *out)
{
    int ok = libcrypto.EVP_DigestInit_ex2(context, digest, NULL);
    for (size_t i = 0; i < count && ok; i++)
        ok = libcrypto.EVP_DigestUpdate(context, pieces[i].iov_base, pieces[i].iov_len);
    return ok && libcrypto.EVP_DigestFinal_ex(context, out, NULL) ? 0 : -EIO;
}

int digest_compute(enum q_crypto_hash_algo hash, const struct iovec *pieces, size_t count, uint8_t *out)
{
    EVP_MD *digest = fetch(hash);
    if (!digest)
        return -ENOTSUP;
    EVP_MD_CTX *context = libcrypto.EVP_MD_CTX_new();
    int ret = context ? compute(context, digest, pieces, count, out) : -ENOMEM;
    libcrypto.EVP_MD_CTX_free(context);
    libcrypto.EVP_MD_free(digest);
    return ret;
}

/* PBKDF2 -------------------------------------------------------------------------------------------------------- */

#define BLOCK_BYTES_MAX 144     /* that a digest works on at once */
#define ITERATIONS_AT_ONCE 1024 /* between two looks at whether anybody still waits: below a millisecond */

/* HMAC with one password (RFC 2104): digests that have taken the key already, which are copied for each message. */
struct hmac {
    EVP_MD *digest;
    size_t bytes;
    EVP_MD_CTX *inner;
    EVP_MD_CTX *outer;
    EVP_MD_CTX *work;
};

static bool take_key(EVP_MD_CTX *context, const EVP_MD *digest, const uint8_t *key, size_t bytes, uint8_t pad)
{
    uint8_t padded[BLOCK_BYTES_MAX];
    for (size_t i = 0; i < bytes; i++)
        padded[i] = key[i] ^ pad;
    bool ok = libcrypto.EVP_DigestInit_ex2(context, digest, NULL) && libcrypto.EVP_DigestUpdate(context, padded, bytes);
    explicit_bzero(padded, sizeof(padded));
    return ok;
}

/* A password that is longer than a block is replaced by its digest. */
static int hmac_set_key(struct hmac *hmac, enum q_crypto_hash_algo hash, const uint8_t *password, size_t bytes)
{
    uint8_t key[BLOCK_BYTES_MAX] = { 0 };
    size_t block = (size_t)libcrypto.EVP_MD_get_block_size(hmac->digest);
    int ret = block <= sizeof(key) && hmac->bytes <= block ? 0 : -ENOTSUP;
    if (ret == 0 && bytes > block)
        ret = digest_compute(hash, &(struct iovec){ (void *)(uintptr_t)password, bytes }, 1, key);
    else if (ret == 0 && bytes > 0)
        memcpy(key, password, bytes);
    if (ret == 0 && !(take_key(hmac->inner, hmac->digest, key, block, 0x36) &&
                      take_key(hmac->outer, hmac->digest, key, block, 0x5c)))
        ret = -EIO;
    explicit_bzero(key, sizeof(key));
    return ret;
}

static void hmac_fini(struct hmac *hmac)
{
    libcrypto.EVP_MD_CTX_free(hmac->inner);
    libcrypto.EVP_MD_CTX_free(hmac->outer);
    libcrypto.EVP_MD_CTX_free(hmac->work);
    libcrypto.EVP_MD_free(hmac->digest);
}

/* hmac_fini() also after an error. */
static int hmac_init(struct hmac *hmac, enum q_crypto_hash_algo hash, const uint8_t *password, size_t bytes)
{
    *hmac = (struct hmac){ .digest = fetch(hash), .bytes = digest_bytes(hash) };
    if (!hmac->digest)
        return -ENOTSUP;
    hmac->inner = libcrypto.EVP_MD_CTX_new();
    hmac->outer = libcrypto.EVP_MD_CTX_new();
    hmac->work = libcrypto.EVP_MD_CTX_new();
    return hmac->inner && hmac->outer && hmac->work ? hmac_set_key(hmac, hash, password, bytes) : -ENOMEM;
}

/* @out may be @message. */
static bool hmac_run(const struct hmac *hmac, const void *message, size_t bytes, uint8_t *out)
{
    EVP_MD_CTX *work = hmac->work;
    return libcrypto.EVP_MD_CTX_copy_ex(work, hmac->inner) && libcrypto.EVP_DigestUpdate(work, message, bytes) &&
           libcrypto.EVP_DigestFinal_ex(work, out, NULL) && libcrypto.EVP_MD_CTX_copy_ex(work, hmac->outer) &&
           libcrypto.EVP_DigestUpdate(work, out, hmac->bytes) && libcrypto.EVP_DigestFinal_ex(work, out, NULL);
}

static _Atomic bool given_up;

static bool is_stopped(const struct derivation *derivation)
{
    return atomic_load_explicit(&given_up, memory_order_relaxed) ||
           (derivation->stop && atomic_load_explicit(derivation->stop, memory_order_relaxed));
}

/* Adds one to the sum after the other, which begins with @link; both have hmac->bytes. */
static int iterate(const struct derivation *derivation, const struct hmac *hmac, uint8_t *link, uint8_t *sum)
{
    for (uint32_t i = 1; i < derivation->iterations; i++) {
        if (i % ITERATIONS_AT_ONCE == 0 && is_stopped(derivation))
            return -ECANCELED;
        if (!hmac_run(hmac, link, hmac->bytes, link))
            return -EIO;
        for (size_t byte = 0; byte < hmac->bytes; byte++)
            sum[byte] ^= link[byte];
    }
    return 0;
}

/* Block @number of the result, counted from 1. */
static int derive_block(const struct derivation *derivation, const struct hmac *hmac, uint32_t number, uint8_t *sum)
{
    uint8_t message[DERIVE_SALT_BYTES_MAX + 4];
    uint8_t link[DIGEST_BYTES_MAX];
    memcpy(message, derivation->salt, derivation->salt_bytes);
    store_be32(message + derivation->salt_bytes, number);
    if (!hmac_run(hmac, message, derivation->salt_bytes + 4, link))
        return -EIO;
    memcpy(sum, link, hmac->bytes);
    int ret = iterate(derivation, hmac, link, sum);
    explicit_bzero(link, sizeof(link));
    return ret;
}

int derive_key(const struct derivation *derivation, const uint8_t *password, size_t password_bytes, uint8_t *out,
               size_t out_bytes)
{
    struct hmac hmac;
    uint8_t sum[DIGEST_BYTES_MAX];
    if (derivation->salt_bytes > DERIVE_SALT_BYTES_MAX)
        return -EOVERFLOW;
    int ret = is_stopped(derivation) ? -ECANCELED : 0;
    if (ret < 0)
        return ret;
    ret = hmac_init(&hmac, derivation->hash, password, password_bytes);
    uint32_t number = 1;
    for (size_t done = 0; done < out_bytes && ret == 0; done += hmac.bytes) {
        ret = derive_block(derivation, &hmac, number++, sum);
        if (ret == 0)
            memcpy(out + done, sum, min_u64(hmac.bytes, out_bytes - done));
    }
    explicit_bzero(sum, sizeof(sum));
    hmac_fini(&hmac);
    return ret;
}

/* How long it takes ---------------------------------------------------------------------------------------------- */

/* Of this thread alone: what others do at the same time must not make passwords weaker. */
static uint64_t processor_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int derive_calibrate(enum q_crypto_hash_algo hash, size_t out_bytes, uint64_t ms, uint32_t *iterations)
{
    uint8_t salt[32] = { 0 };
    uint8_t out[DIGEST_BYTES_MAX];
    struct derivation trial = { .hash = hash, .iterations = 4096, .salt = salt, .salt_bytes = sizeof(salt) };
    uint64_t enough = max_u64(min_u64(ms * 1000000, TRIAL_NS_MAX), TRIAL_NS_MIN);
    for (;; trial.iterations *= 2) {
        uint64_t begin = processor_ns();
        int ret = derive_key(&trial, salt, sizeof(salt), out, min_u64(out_bytes, sizeof(out)));
        uint64_t took = processor_ns() - begin;
        if (ret < 0)
            return ret;
        if (took < enough && trial.iterations < INT_MAX / 2)
            continue;
        double wanted = (double)trial.iterations * (double)ms * 1e6 / (double)took;
        *iterations = wanted > INT_MAX ? INT_MAX : wanted < ITERATIONS_MIN ? ITERATIONS_MIN : (uint32_t)wanted;
        return 0;
    }
}

/* On the pool ---------------------------------------------------------------------------------------------------- */

struct deriving {
    struct list link;
    const struct coroutine *waiter;
    _Atomic bool *stop;
};

static struct list all = LIST_INIT(all);
static struct list waiters = LIST_INIT(waiters);

static bool is_cancelled(const struct coroutine *who)
{
    const struct derive_waiter *waiter;
    list_for_each (waiter, &waiters, link) {
        if (waiter->who == who && waiter->cancelled)
            return true;
    }
    return false;
}

int derive_on_pool(int (*fn)(void *arg), void *arg, _Atomic bool *stop)
{
    struct deriving deriving = { .waiter = co_self(), .stop = stop };
    if (is_cancelled(deriving.waiter))
        return -ECANCELED;
    struct pool_domain *domain = pool_domain_create("a password", 1);
    list_append(&all, &deriving.link);
    int ret = co_blocking(domain, fn, arg);
    list_remove(&deriving.link);
    pool_domain_unref(domain);
    return ret;
}

void derive_waiter_begin(struct derive_waiter *waiter)
{
    waiter->who = co_self();
    list_append(&waiters, &waiter->link);
}

void derive_waiter_end(struct derive_waiter *waiter)
{
    list_remove(&waiter->link);
    waiter->who = NULL;
}

void derive_cancel(struct derive_waiter *waiter)
{
    struct deriving *deriving;
    waiter->cancelled = true;
    list_for_each (deriving, &all, link) {
        if (deriving->waiter == waiter->who)
            atomic_store(deriving->stop, true);
    }
}

void derive_give_up(void)
{
    atomic_store(&given_up, true);
}
