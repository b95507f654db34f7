/* luks - a disk that is encrypted as a whole, behind a header of LUKS version 1
 *
 *     file:     | header | slots | data, sector by sector |          header: | header | slots |   file: | data |
 *                                                                         (detached)
 *     luks.c     open, read, write;  resize.c: other lengths;  create.c: new volumes
 *
 * Data is read and written side by side without any lock. Only what makes the volume longer waits for each other: what
 * the file below reads as zeroes would be decrypted to noise, so encrypted zeroes are written first. */
#ifndef CAIRN_DRIVERS_LUKS_PRIVATE_H
#define CAIRN_DRIVERS_LUKS_PRIVATE_H

#include "blockcore/crypto/luks.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/sync.h"

struct luks {
    struct node *node;
    struct child *file;
    struct child *header_child; /* where the header is: file, or a child of its own */
    struct luks_header header;  /* control thread */
    struct cipher *cipher;
    char *secret;           /* id of the one it was opened with */
    struct co_mutex slots;  /* held while they change */
    struct co_mutex growth; /* held by what makes the volume longer or shorter */
};

/* luks.c */

/* Encrypts and writes whole sectors; where the volume ends does not matter. */
int luks_write_data(struct luks *luks, uint64_t offset, const struct iov *iov, unsigned flags) CO_FN;
int luks_write_zeroes(struct luks *luks, struct range range) CO_FN;

/* resize.c */

/* A write that ends past the end, wherever it begins: its last sector is filled up with zeroes. */
int luks_write_growing(struct luks *luks, struct range range, const struct iov *iov, unsigned flags) CO_FN;
int luks_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode) CO_FN;

/* create.c */
struct error *luks_create(const struct blockdev_create_options *all) CO_FN CONTROL_FN MUST_CHECK;

#endif
