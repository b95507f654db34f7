#include "blockcore/crypto/luks_amend.h"

#include <inttypes.h>

#define ITER_TIME_MS_DEFAULT 2000

struct error *luks_amend_check(const struct q_crypto_block_amend_options_luks *options)
{
    bool active = options->state == Q_CRYPTO_BLOCK_LUKS_KEYSLOT_STATE_ACTIVE;
    if (active && !options->new_secret)
        return error_new("new-secret: is missing; an active slot needs a password");
    if (active && options->old_secret)
        return error_new("old-secret: goes with state 'inactive' only");
    if (!active && options->new_secret)
        return error_new("new-secret: goes with state 'active' only");
    if (!active && options->has_iter_time)
        return error_new("iter-time: goes with state 'active' only");
    if (!active && !options->old_secret && !options->has_keyslot)
        return error_new("keyslot or old-secret: one is needed to say what is to be erased");
    return NULL;
}

static unsigned count_active(const struct luks_header *header)
{
    unsigned count = 0;
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        count += header->slots[i].active;
    return count;
}

/* Activating ---------------------------------------------------------------------------------------------------- */

static struct error *choose_slot(const struct luks_header *header, const struct luks_amendment *amendment,
                                 unsigned *slot)
{
    const struct q_crypto_block_amend_options_luks *options = amendment->options;
    if (options->has_keyslot) {
        *slot = (unsigned)options->keyslot;
        if (header->slots[*slot].active && !amendment->force)
            return error_new("keyslot: slot %u is active; it has to be erased first", *slot);
        return NULL;
    }
    for (*slot = 0; *slot < LUKS_SLOTS; (*slot)++) {
        if (!header->slots[*slot].active)
            return NULL;
    }
    return error_new("all key slots are in use");
}

static struct error *activate(const struct luks_io *io, struct luks_header *header,
                              const struct luks_amendment *amendment)
{
    const struct q_crypto_block_amend_options_luks *options = amendment->options;
    uint64_t iter_ms = options->has_iter_time ? (uint64_t)options->iter_time : ITER_TIME_MS_DEFAULT;
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    unsigned used;
    unsigned slot;
    struct error *err = choose_slot(header, amendment, &slot);
    if (!err)
        err = luks_unlock(io, header, amendment->unlock, &key, &used);
    return err ? err : luks_set_slot(io, header, slot, key, amendment->new_password, iter_ms);
}

/* Deactivating -------------------------------------------------------------------------------------------------- */

static struct error *find_matching(const struct luks_io *io, const struct luks_header *header,
                                   const struct key_bytes *password, bool matches[LUKS_SLOTS])
{
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
        struct error *err = header->slots[i].active ? luks_try_slot(io, header, i, password, &key) : NULL;
        if (err)
            return err;
        matches[i] = key != NULL;
    }
    return NULL;
}

static struct error *choose_slots(const struct luks_io *io, const struct luks_header *header,
                                  const struct luks_amendment *amendment, bool slots[LUKS_SLOTS])
{
    const struct q_crypto_block_amend_options_luks *options = amendment->options;
    struct error *err = NULL;
    if (amendment->old_password)
        err = find_matching(io, header, amendment->old_password, slots);
    if (err || !options->has_keyslot)
        return err;
    int64_t wanted = options->keyslot;
    if (amendment->old_password && !slots[wanted])
        return error_new("old-secret: is not the password of slot %" PRId64, wanted);
    if (!header->slots[wanted].active && !amendment->force)
        return error_new("keyslot: slot %" PRId64 " is not active", wanted);
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        slots[i] = i == wanted;
    return NULL;
}

static struct error *deactivate(const struct luks_io *io, struct luks_header *header,
                                const struct luks_amendment *amendment)
{
    bool slots[LUKS_SLOTS] = { false };
    struct error *err = choose_slots(io, header, amendment, slots);
    unsigned count = 0;
    unsigned active = 0;
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        count += slots[i];
        active += slots[i] && header->slots[i].active;
    }
    if (!err && count == 0)
        err = error_new("old-secret: is the password of no slot");
    if (!err && active == count_active(header) && !amendment->force)
        err = error_new("no password would be left, and the data be lost for good");
    for (unsigned i = 0; i < LUKS_SLOTS && !err; i++) {
        if (slots[i])
            err = luks_erase_slot(io, header, i);
    }
    return err;
}

struct error *luks_amend(const struct luks_io *io, struct luks_header *header, const struct luks_amendment *amendment)
{
    return amendment->options->state == Q_CRYPTO_BLOCK_LUKS_KEYSLOT_STATE_ACTIVE ? activate(io, header, amendment)
                                                                                 : deactivate(io, header, amendment);
}
