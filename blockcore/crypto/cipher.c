#include "blockcore/crypto/cipher.h"

#include "blockcore/base/memory.h"
#include "blockcore/crypto/derive.h"
#include "blockcore/crypto/libcrypto.h"
#include "blockcore/runtime/sync.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define VECTOR_BYTES 16

/* One thread at a time uses it. */
struct context {
    struct context *next;
    EVP_CIPHER_CTX *data;
    EVP_CIPHER_CTX *essiv; /* NULL without essiv */
};

struct cipher {
    struct cipher_spec spec;
    EVP_CIPHER *data;
    EVP_CIPHER *essiv; /* NULL without essiv */
    uint8_t key[CIPHER_KEY_BYTES_MAX];
    uint8_t essiv_key[DIGEST_BYTES_MAX];
    struct spinlock lock;
    struct context *idle[2]; /* by direction; as many as threads were at work at once */
};

/* Bytes of the cipher's own key; 0: not AES. */
static size_t algo_key_bytes(enum q_crypto_cipher_algo algo)
{
    switch (algo) {
    case Q_CRYPTO_CIPHER_ALGO_AES_128:
        return 16;
    case Q_CRYPTO_CIPHER_ALGO_AES_192:
        return 24;
    case Q_CRYPTO_CIPHER_ALGO_AES_256:
        return 32;
    default:
        return 0;
    }
}

struct error *cipher_check(const struct cipher_spec *spec)
{
    const char *algo = q_crypto_cipher_algo_name(spec->algo);
    if (!algo_key_bytes(spec->algo))
        return error_new("cipher '%s' is not supported: OpenSSL has none that suits images but 'aes-128', 'aes-192' "
                         "and 'aes-256'",
                         algo);
    if (spec->mode == Q_CRYPTO_CIPHER_MODE_CTR)
        return error_new("cipher mode 'ctr' is not supported for images");
    if (spec->mode == Q_CRYPTO_CIPHER_MODE_XTS && spec->algo == Q_CRYPTO_CIPHER_ALGO_AES_192)
        return error_new("cipher 'aes-192' does not go with mode 'xts'");
    if (spec->ivgen != Q_CRYPTO_IV_GEN_ALGO_ESSIV)
        return NULL;
    size_t bytes = digest_bytes(spec->ivgen_hash);
    if (bytes != 16 && bytes != 24 && bytes != 32)
        return error_new("digest '%s' of %zu bytes does not go with essiv: it is the key of AES, of 16 or 32 bytes",
                         q_crypto_hash_algo_name(spec->ivgen_hash), bytes);
    return NULL;
}

size_t cipher_key_bytes(const struct cipher_spec *spec)
{
    return algo_key_bytes(spec->algo) * (spec->mode == Q_CRYPTO_CIPHER_MODE_XTS ? 2 : 1);
}

/* Contexts ---------------------------------------------------------------------------------------------------- */

static EVP_CIPHER_CTX *keyed(const EVP_CIPHER *cipher, const uint8_t *key, int encrypt)
{
    EVP_CIPHER_CTX *context = libcrypto.EVP_CIPHER_CTX_new();
    if (!context)
        return NULL;
    static const uint8_t vector[VECTOR_BYTES];
    if (libcrypto.EVP_CipherInit_ex2(context, cipher, key, vector, encrypt, NULL) &&
        libcrypto.EVP_CIPHER_CTX_set_padding(context, 0))
        return context;
    libcrypto.EVP_CIPHER_CTX_free(context);
    return NULL;
}

static void context_free(struct context *context)
{
    libcrypto.EVP_CIPHER_CTX_free(context->data);
    libcrypto.EVP_CIPHER_CTX_free(context->essiv);
    free(context);
}

static struct context *context_new(const struct cipher *cipher, enum cipher_direction direction)
{
    struct context *context = xcalloc(1, sizeof(*context));
    context->data = keyed(cipher->data, cipher->key, direction == CIPHER_ENCRYPT);
    if (cipher->essiv)
        context->essiv = keyed(cipher->essiv, cipher->essiv_key, 1);
    if (context->data && (context->essiv || !cipher->essiv))
        return context;
    context_free(context);
    return NULL;
}

static struct context *context_get(struct cipher *cipher, enum cipher_direction direction)
{
    spinlock_lock(&cipher->lock);
    struct context *context = cipher->idle[direction];
    if (context)
        cipher->idle[direction] = context->next;
    spinlock_unlock(&cipher->lock);
    return context ? context : context_new(cipher, direction);
}

static void context_put(struct cipher *cipher, enum cipher_direction direction, struct context *context)
{
    spinlock_lock(&cipher->lock);
    context->next = cipher->idle[direction];
    cipher->idle[direction] = context;
    spinlock_unlock(&cipher->lock);
}

/* Life -------------------------------------------------------------------------------------------------------- */

static struct error *fetch(enum q_crypto_cipher_algo algo, enum q_crypto_cipher_mode mode, EVP_CIPHER **out)
{
    char name[32];
    snprintf(name, sizeof(name), "%s-%s", q_crypto_cipher_algo_name(algo), q_crypto_cipher_mode_name(mode));
    *out = libcrypto.EVP_CIPHER_fetch(NULL, name, NULL);
    return *out ? NULL : error_new("libcrypto has no cipher '%s'", name);
}

static struct error *prepare_essiv(struct cipher *cipher, const uint8_t *key)
{
    enum q_crypto_hash_algo hash = cipher->spec.ivgen_hash;
    struct iovec piece = { (void *)(uintptr_t)key, cipher_key_bytes(&cipher->spec) };
    int ret = digest_compute(hash, &piece, 1, cipher->essiv_key);
    if (ret < 0)
        return error_errno(-ret, "libcrypto cannot compute digest '%s'", q_crypto_hash_algo_name(hash));
    size_t bytes = digest_bytes(hash);
    enum q_crypto_cipher_algo algo = bytes == 16   ? Q_CRYPTO_CIPHER_ALGO_AES_128
                                     : bytes == 24 ? Q_CRYPTO_CIPHER_ALGO_AES_192
                                                   : Q_CRYPTO_CIPHER_ALGO_AES_256;
    return fetch(algo, Q_CRYPTO_CIPHER_MODE_ECB, &cipher->essiv);
}

/* A key that cannot be used shows now, not at the first request. */
static struct error *try_key(struct cipher *cipher)
{
    for (enum cipher_direction direction = CIPHER_DECRYPT; direction <= CIPHER_ENCRYPT; direction++) {
        struct context *context = context_new(cipher, direction);
        if (!context)
            return error_new("libcrypto refuses the key"); /* both halves of it alike, in mode xts */
        context_put(cipher, direction, context);
    }
    return NULL;
}

struct error *cipher_create(const struct cipher_spec *spec, const uint8_t *key, struct cipher **out)
{
    struct error *err = libcrypto_load();
    return err ? err : cipher_new(spec, key, out);
}

struct error *cipher_new(const struct cipher_spec *spec, const uint8_t *key, struct cipher **out)
{
    struct error *err = cipher_check(spec);
    if (err)
        return err;
    CLEANUP(cipher_free) struct cipher *cipher = xcalloc(1, sizeof(*cipher));
    cipher->spec = *spec;
    spinlock_init(&cipher->lock);
    memcpy(cipher->key, key, cipher_key_bytes(spec));
    err = fetch(spec->algo, spec->mode, &cipher->data);
    if (!err && spec->ivgen == Q_CRYPTO_IV_GEN_ALGO_ESSIV && spec->mode != Q_CRYPTO_CIPHER_MODE_ECB)
        err = prepare_essiv(cipher, key);
    if (!err)
        err = try_key(cipher);
    if (!err)
        *out = steal(&cipher);
    return err;
}

void cipher_free(struct cipher *cipher)
{
    if (!cipher)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(cipher->idle); i++) {
        while (cipher->idle[i]) {
            struct context *context = cipher->idle[i];
            cipher->idle[i] = context->next;
            context_free(context);
        }
    }
    libcrypto.EVP_CIPHER_free(cipher->data);
    libcrypto.EVP_CIPHER_free(cipher->essiv);
    explicit_bzero(cipher, sizeof(*cipher));
    free(cipher);
}

/* Work -------------------------------------------------------------------------------------------------------- */

static int make_vector(const struct cipher *cipher, const struct context *context, uint64_t sector, uint8_t *vector)
{
    uint64_t number = htole64(cipher->spec.ivgen == Q_CRYPTO_IV_GEN_ALGO_PLAIN ? (uint32_t)sector : sector);
    memset(vector, 0, VECTOR_BYTES);
    memcpy(vector, &number, sizeof(number));
    int got;
    if (!context->essiv || libcrypto.EVP_CipherUpdate(context->essiv, vector, &got, vector, VECTOR_BYTES))
        return 0;
    return -EIO;
}

static int run_sector(const struct cipher *cipher, const struct context *context, uint64_t sector, const uint8_t *in,
                      uint8_t *out)
{
    uint8_t vector[VECTOR_BYTES];
    int ret = make_vector(cipher, context, sector, vector);
    if (ret < 0)
        return ret;
    int got;
    if (!libcrypto.EVP_CipherInit_ex2(context->data, NULL, NULL, vector, -1, NULL) ||
        !libcrypto.EVP_CipherUpdate(context->data, out, &got, in, CIPHER_SECTOR_BYTES) || got != CIPHER_SECTOR_BYTES)
        return -EIO;
    return 0;
}

int cipher_run(struct cipher *cipher, enum cipher_direction direction, uint64_t sector, const void *in, void *out,
               size_t bytes)
{
    struct context *context = context_get(cipher, direction);
    if (!context)
        return -ENOMEM;
    int ret = 0;
    for (size_t done = 0; done < bytes && ret == 0; done += CIPHER_SECTOR_BYTES)
        ret = run_sector(cipher, context, sector + done / CIPHER_SECTOR_BYTES, (const uint8_t *)in + done,
                         (uint8_t *)out + done);
    context_put(cipher, direction, context);
    return ret;
}

static bool decrypt_all(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, const uint8_t *key, const uint8_t *vector,
                        void *data, int bytes)
{
    int got;
    return libcrypto.EVP_CipherInit_ex2(context, cipher, key, vector, 0, NULL) &&
           libcrypto.EVP_CIPHER_CTX_set_padding(context, 0) &&
           libcrypto.EVP_CipherUpdate(context, data, &got, data, bytes) && got == bytes;
}

struct error *cipher_decrypt_cbc(const uint8_t key[32], const uint8_t vector[16], void *data, size_t bytes)
{
    EVP_CIPHER *cipher;
    struct error *err = libcrypto_load();
    if (!err)
        err = fetch(Q_CRYPTO_CIPHER_ALGO_AES_256, Q_CRYPTO_CIPHER_MODE_CBC, &cipher);
    if (err)
        return err;
    EVP_CIPHER_CTX *context = libcrypto.EVP_CIPHER_CTX_new();
    if (!context || bytes > INT_MAX || !decrypt_all(context, cipher, key, vector, data, (int)bytes))
        err = error_new("libcrypto cannot decrypt");
    libcrypto.EVP_CIPHER_CTX_free(context);
    libcrypto.EVP_CIPHER_free(cipher);
    return err;
}
