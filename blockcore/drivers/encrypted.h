/* encrypted - data of a child that is encrypted sector by sector, for the formats that do so
 *
 * What is written is encrypted into memory of our own; what is read is decrypted where it was read to. All lengths are
 * multiples of CIPHER_SECTOR_BYTES; @sector is the number that goes into the first sector's initialization vector. */
#ifndef CAIRN_DRIVERS_ENCRYPTED_H
#define CAIRN_DRIVERS_ENCRYPTED_H

#include "blockcore/crypto/cipher.h"
#include "blockcore/io/request.h"

/* 0 or -errno. */
int encrypted_preadv(struct child *child, struct cipher *cipher, uint64_t sector, uint64_t offset,
                     const struct iov *iov) CO_FN;
int encrypted_pwritev(struct child *child, struct cipher *cipher, uint64_t sector, uint64_t offset,
                      const struct iov *iov, unsigned flags) CO_FN;

/* Writes encrypted zeroes: what the child reads as zero would be noise. */
int encrypted_pwrite_zeroes(struct child *child, struct cipher *cipher, uint64_t sector, struct range range) CO_FN;

#endif
