/* luks_header - the header of LUKS version 1: from bytes to a struct, and back
 *
 * Pure functions of (bytes, length); they read no file and need no libcrypto. What passes the parser is sane by itself:
 * names are known, slots do not overlap each other, the header or the data, nothing that is computed from it wraps.
 *
 *     | header | slot 0: stripes | slot 1: stripes | ... slot 7 | data
 *
 * Source: LUKS on-disk format specification, version 1.2.3, "The partition header". */
#ifndef CAIRN_CRYPTO_LUKS_HEADER_H
#define CAIRN_CRYPTO_LUKS_HEADER_H

#include "blockcore/crypto/cipher.h"

#include <stdbool.h>

#define LUKS_HEADER_BYTES 592
#define LUKS_SLOTS 8
#define LUKS_STRIPES 4000
#define LUKS_SALT_BYTES 32
#define LUKS_DIGEST_BYTES 20
#define LUKS_UUID_BYTES 40
#define LUKS_SLOT_FIELD_BYTES 48

struct luks_slot {
    bool active;
    uint32_t iterations;
    uint8_t salt[LUKS_SALT_BYTES];
    uint64_t offset; /* of its stripes, in bytes */
};

struct luks_header {
    struct cipher_spec cipher;
    enum q_crypto_hash_algo hash;
    uint64_t payload_offset; /* bytes; 0: the header is in a file of its own */
    uint32_t key_bytes;      /* of the data: cipher_key_bytes() */
    uint8_t digest[LUKS_DIGEST_BYTES];
    uint8_t digest_salt[LUKS_SALT_BYTES];
    uint32_t digest_iterations;
    char uuid[LUKS_UUID_BYTES + 1]; /* printable */
    struct luks_slot slots[LUKS_SLOTS];
};

/* @data     the first bytes of the volume, LUKS_HEADER_BYTES of them
 * @out      untouched on failure */
struct error *luks_header_parse(const void *data, size_t bytes, struct luks_header *out) MUST_CHECK;

/* The places of slots and data, as QEMU lays them out, for a cipher of key_bytes; with @detached the data is
 * elsewhere. */
void luks_header_lay_out(struct luks_header *header, bool detached);

/* Writes LUKS_HEADER_BYTES to @data. */
void luks_header_format(const struct luks_header *header, void *data);

/* Where the field of a slot is in the header, and its LUKS_SLOT_FIELD_BYTES. */
size_t luks_slot_field(unsigned slot);
void luks_slot_format(const struct luks_slot *slot, void *data);

/* Bytes of the stripes of one slot, as they are encrypted: whole sectors. */
size_t luks_stripes_bytes(const struct luks_header *header);

/* Bytes up to the end of the last slot. */
uint64_t luks_header_end(const struct luks_header *header);

#endif
