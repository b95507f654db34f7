/* transfer - the data of a request, encrypted or decrypted
 *
 * Small requests are done in place, on the loop: they take less time than a way to the pool and back. Large ones are
 * cut into pieces that several threads of the pool do at the same time, while the loop serves others.
 *
 * Source of the limits: docs/performance.md. */
#ifndef CAIRN_CRYPTO_TRANSFER_H
#define CAIRN_CRYPTO_TRANSFER_H

#include "blockcore/base/iov.h"
#include "blockcore/crypto/cipher.h"

/* Decrypts the view in place; whole sectors, wherever the memory is cut. 0 or -errno. */
int transfer_decrypt(struct cipher *cipher, uint64_t sector, const struct iov *iov) CO_FN MUST_CHECK;

/* Encrypts the view into @out, which has iov->bytes; the view is left as it is. */
int transfer_encrypt(struct cipher *cipher, uint64_t sector, const struct iov *iov, void *out) CO_FN MUST_CHECK;

#endif
