#include "blockcore/crypto/derive.h"

#include "blockcore/base/range.h"
#include "blockcore/crypto/libcrypto.h"
#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#define DOMAIN_THREADS 4
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

int derive_key(const struct derivation *derivation, const uint8_t *password, size_t password_bytes, uint8_t *out,
               size_t out_bytes)
{
    if (derivation->iterations > INT_MAX || password_bytes > INT_MAX)
        return -EOVERFLOW;
    EVP_MD *digest = fetch(derivation->hash);
    if (!digest)
        return -ENOTSUP;
    int ok = libcrypto.PKCS5_PBKDF2_HMAC((const char *)password, (int)password_bytes, derivation->salt,
                                         (int)derivation->salt_bytes, (int)derivation->iterations, digest,
                                         (int)out_bytes, out);
    libcrypto.EVP_MD_free(digest);
    return ok ? 0 : -EIO;
}

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
    struct derivation trial = { hash, 4096, salt, sizeof(salt) };
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

struct pool_domain *derive_domain(void)
{
    static struct pool_domain *domain; /* stays until the process ends */
    if (!domain)
        domain = pool_domain_create("passwords", DOMAIN_THREADS);
    return domain;
}
