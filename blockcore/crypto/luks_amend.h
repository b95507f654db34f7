/* luks_amend - passwords of a volume that is in use: more of them, or fewer
 *
 * The last password is never erased by mistake, and a slot in use is never overwritten: @force says that it is meant.
 */
#ifndef CAIRN_CRYPTO_LUKS_AMEND_H
#define CAIRN_CRYPTO_LUKS_AMEND_H

#include "blockcore/crypto/luks.h"

struct luks_amendment {
    const struct q_crypto_block_amend_options_luks *options;
    const struct key_bytes *unlock;       /* a password of the volume; to activate */
    const struct key_bytes *new_password; /* to activate */
    const struct key_bytes *old_password; /* to deactivate; NULL: by keyslot */
    bool force;
};

/* Do the options go together? */
struct error *luks_amend_check(const struct q_crypto_block_amend_options_luks *options) MUST_CHECK;

/* @options passed luks_amend_check(). One at a time per header. */
struct error *luks_amend(const struct luks_io *io, struct luks_header *header, const struct luks_amendment *amendment)
    CO_FN CONTROL_FN MUST_CHECK;

#endif
