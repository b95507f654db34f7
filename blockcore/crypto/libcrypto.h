/* libcrypto - OpenSSL's ciphers and digests, loaded when something encrypted is first opened
 *
 * Whoever uses a function of the table has seen libcrypto_load() succeed before. For crypto/ only. */
#ifndef CAIRN_CRYPTO_LIBCRYPTO_H
#define CAIRN_CRYPTO_LIBCRYPTO_H

#include "blockcore/base/late_library.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define LIBCRYPTO_FUNCTIONS(F)                                                                                         \
    F(EVP_CIPHER_CTX_free)                                                                                             \
    F(EVP_CIPHER_CTX_new)                                                                                              \
    F(EVP_CIPHER_CTX_set_padding)                                                                                      \
    F(EVP_CIPHER_fetch)                                                                                                \
    F(EVP_CIPHER_free)                                                                                                 \
    F(EVP_CipherFinal_ex)                                                                                              \
    F(EVP_CipherInit_ex2)                                                                                              \
    F(EVP_CipherUpdate)                                                                                                \
    F(EVP_DigestFinal_ex)                                                                                              \
    F(EVP_DigestInit_ex2)                                                                                              \
    F(EVP_DigestUpdate)                                                                                                \
    F(EVP_MD_CTX_copy_ex)                                                                                              \
    F(EVP_MD_CTX_free)                                                                                                 \
    F(EVP_MD_CTX_new)                                                                                                  \
    F(EVP_MD_fetch)                                                                                                    \
    F(EVP_MD_free)                                                                                                     \
    F(EVP_MD_get_block_size)                                                                                           \
    F(EVP_MD_get_size)                                                                                                 \
    F(OPENSSL_init_crypto)

struct libcrypto {
    LIBCRYPTO_FUNCTIONS(LATE_MEMBER)
};

extern struct libcrypto libcrypto;

/* Any coroutine. */
struct error *libcrypto_load(void) CO_FN MUST_CHECK;

#endif
