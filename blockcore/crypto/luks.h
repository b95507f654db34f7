/* luks - a volume whose header holds its key eight times, each time behind another password
 *
 *     password --PBKDF2--> key of the slot --decrypts--> stripes --merge--> key of the data --> cipher
 *                                                                             '--PBKDF2--> digest in the header: right?
 *
 * Where the header lies is the caller's business (the begin of a file, a file of its own, clusters of a qcow2 image):
 * it is read and written through struct luks_io. Deriving keys runs on threads of its own; the caller waits.
 *
 * A header in memory belongs to one caller at a time. */
#ifndef CAIRN_CRYPTO_LUKS_H
#define CAIRN_CRYPTO_LUKS_H

#include "blockcore/crypto/luks_header.h"
#include "blockcore/crypto/random.h"

/* Offsets are from the begin of the header. 0 or -errno. What is read past the end of a file is zero. */
struct luks_io {
    int (*read)(void *arg, uint64_t offset, void *data, size_t bytes) CO_FN;
    int (*write)(void *arg, uint64_t offset, const void *data, size_t bytes) CO_FN;
    int (*flush)(void *arg) CO_FN;
    void *arg;
};

/* How a new volume is encrypted, from the options that describe it. */
struct error *luks_choose(const struct q_crypto_block_create_options_luks *options,
                          struct luks_header *header) MUST_CHECK;

struct error *luks_read(const struct luks_io *io, struct luks_header *header) CO_FN CONTROL_FN MUST_CHECK;

/* The key of the data. Tries the password at each active slot, which takes as long as their iterations say; *@slot is
 * the one that fits. Error: it fits none. */
struct error *luks_unlock(const struct luks_io *io, const struct luks_header *header, const struct key_bytes *password,
                          struct key_bytes **key, unsigned *slot) CO_FN CONTROL_FN MUST_CHECK;

/* The same with one slot: *@key is NULL when the password does not fit. */
struct error *luks_try_slot(const struct luks_io *io, const struct luks_header *header, unsigned slot,
                            const struct key_bytes *password, struct key_bytes **key) CO_FN CONTROL_FN MUST_CHECK;

/* Makes a key and a header with the password in slot 0, and writes both; what luks_choose() and luks_header_lay_out()
 * filled in is the rest of the header. @iter_ms: how long trying a password shall take. The header is written last and
 * flushed. */
struct error *luks_format(const struct luks_io *io, struct luks_header *header, const struct key_bytes *password,
                          uint64_t iter_ms, struct key_bytes **key) CO_FN CONTROL_FN MUST_CHECK;

/* Puts the key into a slot behind a password: first the stripes, then the entry of the header. */
struct error *luks_set_slot(const struct luks_io *io, struct luks_header *header, unsigned slot,
                            const struct key_bytes *key, const struct key_bytes *password, uint64_t iter_ms)
    CO_FN CONTROL_FN MUST_CHECK;

/* Overwrites the stripes of a slot, then says in the header that it is free. Whether others are left is the caller's
 * business. */
struct error *luks_erase_slot(const struct luks_io *io, struct luks_header *header, unsigned slot)
    CO_FN CONTROL_FN MUST_CHECK;

/* What clients are told; strings and slots from @arena. */
struct arena;
struct q_crypto_block_info_luks luks_describe(const struct luks_header *header, bool detached, struct arena *arena);

#endif
