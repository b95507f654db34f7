#include "blockcore/crypto/sha256.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/crypto/libcrypto.h"
#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <stdlib.h>

struct sha256 {
    EVP_MD *digest;
    EVP_MD_CTX *context;
};

/* What the pool is to add. */
struct addition {
    struct sha256 *sha256;
    const void *data;
    size_t bytes;
};

void sha256_free(struct sha256 *sha256)
{
    if (!sha256)
        return;
    libcrypto.EVP_MD_CTX_free(sha256->context);
    libcrypto.EVP_MD_free(sha256->digest);
    free(sha256);
}

struct error *sha256_begin(struct sha256 **out)
{
    struct error *err = libcrypto_load();
    if (err)
        return err;
    CLEANUP(sha256_free) struct sha256 *sha256 = xcalloc(1, sizeof(*sha256));
    sha256->digest = libcrypto.EVP_MD_fetch(NULL, "SHA256", NULL);
    sha256->context = libcrypto.EVP_MD_CTX_new();
    if (!sha256->digest || !sha256->context || !libcrypto.EVP_DigestInit_ex2(sha256->context, sha256->digest, NULL))
        return error_new("OpenSSL cannot compute SHA-256");
    *out = steal(&sha256);
    return NULL;
}

static int add(void *arg)
{
    const struct addition *addition = arg;
    return libcrypto.EVP_DigestUpdate(addition->sha256->context, addition->data, addition->bytes) ? 0 : -EIO;
}

int sha256_add(struct sha256 *sha256, const void *data, size_t bytes)
{
    struct addition addition = { sha256, data, bytes };
    return co_blocking(NULL, add, &addition);
}

int sha256_end(struct sha256 *sha256, uint8_t digest[SHA256_BYTES])
{
    return libcrypto.EVP_DigestFinal_ex(sha256->context, digest, NULL) ? 0 : -EIO;
}
