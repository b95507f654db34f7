/* crypt - images whose guest data is encrypted
 *
 * Tables are not encrypted, nor is what is compressed (QEMU refuses to compress into encrypted images, and so do we).
 * Two ways:
 *
 *     luks   a LUKS header in clusters of its own, which a header extension names; the initialization vector of a
 * sector comes from where it lies in the data file, so a cluster cannot be moved without being encrypted anew aes what
 * qcow2 once had built in: the password is the key, the vector comes from the guest offset
 *
 * Source: the qcow2 specification, "Full disk encryption header pointer" and "Data encryption". */
#ifndef CAIRN_QCOW2_CRYPT_H
#define CAIRN_QCOW2_CRYPT_H

#include "blockcore/base/iov.h"
#include "blockcore/base/range.h"
#include "blockcore/crypto/luks.h"
#include "blockcore/drivers/qcow2/header.h"
#include "blockcore/graph/handle.h"
#include "blockcore/runtime/sync.h"

struct arena;
struct blockdev_amend_options;
struct blockdev_qcow2_encryption;
struct image_info;
struct image_info_specific_q_cow2;
struct qcow2;

/* qcow2->crypt; NULL: not encrypted */
struct qcow2_crypt {
    struct cipher *cipher;
    bool by_guest_offset;    /* aes */
    struct luks_header luks; /* control thread; luks */
    char *secret;            /* id of the one it was opened with */
    struct co_mutex slots;   /* held while they change */
};

/* When the image is opened: makes q->crypt, if what the header and the options (NULL: none) say agrees. */
struct error *qcow2_crypt_open(struct qcow2 *q, const struct blockdev_qcow2_encryption *options)
    CO_FN CONTROL_FN MUST_CHECK;
void qcow2_crypt_close(struct qcow2 *q);
void qcow2_crypt_describe(const struct qcow2 *q, struct image_info *info, struct image_info_specific_q_cow2 *own,
                          struct arena *arena);

/* x-blockdev-amend: the key slots. */
struct error *qcow2_amend(struct node *node, struct handle *handle, const struct blockdev_amend_options *options,
                          bool force) CO_FN CONTROL_FN MUST_CHECK;

/* Guest data in the data file, encrypted or not: all of it goes through these. @guest and @host are where the first
 * byte is; encrypted, both are multiples of a sector, and so are lengths. 0 or -errno. */
int qcow2_read_data(struct qcow2 *q, uint64_t guest, uint64_t host, const struct iov *iov) CO_FN;
int qcow2_write_data(struct qcow2 *q, uint64_t guest, uint64_t host, const struct iov *iov) CO_FN;
int qcow2_write_zero_data(struct qcow2 *q, uint64_t guest, struct range host) CO_FN;

/* A new image ------------------------------------------------------------------------------------------------- */

struct crypt_creation {
    struct luks_header luks;
    struct key_bytes *password; /* NULL: not encrypted */
    uint64_t iter_ms;
    uint64_t bytes; /* of the LUKS header, its slots included */
};

/* @options NULL: not encrypted. The caller calls key_bytes_free(password). */
struct error *crypt_creation_plan(const struct q_crypto_block_create_options *options,
                                  struct crypt_creation *crypt) CONTROL_FN MUST_CHECK;

/* Writes the LUKS header from @offset on. */
struct error *crypt_creation_write(struct crypt_creation *crypt, struct handle *handle, uint64_t offset)
    CO_FN CONTROL_FN MUST_CHECK;

#endif
