#include "blockcore/drivers/amend_luks.h"

#include "blockcore/crypto/luks_amend.h"
#include "blockcore/objects/secret.h"

/* The header's own functions, as requests that a drain waits for; deriving keys in between holds nobody up. */
struct guarded {
    struct handle *handle;
    const struct luks_io *io;
};

static int read_guarded(void *arg, uint64_t offset, void *data, size_t bytes)
{
    const struct guarded *guarded = arg;
    handle_enter(guarded->handle);
    int ret = guarded->io->read(guarded->io->arg, offset, data, bytes);
    handle_leave(guarded->handle);
    return ret;
}

static int write_guarded(void *arg, uint64_t offset, const void *data, size_t bytes)
{
    const struct guarded *guarded = arg;
    handle_enter(guarded->handle);
    int ret = guarded->io->write(guarded->io->arg, offset, data, bytes);
    handle_leave(guarded->handle);
    return ret;
}

static int flush_guarded(void *arg)
{
    const struct guarded *guarded = arg;
    handle_enter(guarded->handle);
    int ret = guarded->io->flush(guarded->io->arg);
    handle_leave(guarded->handle);
    return ret;
}

static struct error *get(const char *member, const char *id, struct key_bytes **out)
{
    return id ? error_wrap(secret_get(id, out), "%s", member) : NULL;
}

struct error *amend_luks(struct handle *handle, const struct luks_io *io, struct luks_header *header,
                         const struct q_crypto_block_amend_options_luks *options, const char *secret, bool force)
{
    CLEANUP(key_bytes_free) struct key_bytes *unlock = NULL;
    CLEANUP(key_bytes_free) struct key_bytes *new_password = NULL;
    CLEANUP(key_bytes_free) struct key_bytes *old_password = NULL;
    bool activate = options->state == Q_CRYPTO_BLOCK_LUKS_KEYSLOT_STATE_ACTIVE;
    struct error *err = luks_amend_check(options);
    if (!err && activate)
        err = get("secret", options->secret ? options->secret : secret, &unlock);
    if (!err)
        err = get("new-secret", options->new_secret, &new_password);
    if (!err)
        err = get("old-secret", options->old_secret, &old_password);
    if (err)
        return err;
    struct guarded guarded = { handle, io };
    struct luks_io through = { read_guarded, write_guarded, flush_guarded, &guarded };
    struct luks_amendment amendment = { options, unlock, new_password, old_password, force };
    return luks_amend(&through, header, &amendment);
}
