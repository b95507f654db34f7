#include "blockcore/crypto/luks.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/crypto/antiforensic.h"
#include "blockcore/crypto/derive.h"
#include "blockcore/crypto/libcrypto.h"

#include <errno.h>
#include <string.h>

/* The key that a password gives for a slot, and what is done with it, on the pool. */
struct slot_work {
    const struct luks_header *header;
    struct luks_slot slot; /* to be made: salt is there, iterations are filled in */
    const struct key_bytes *password;
    uint64_t iter_ms;
    struct key_bytes *stripes; /* luks_stripes_bytes() */
    struct key_bytes *key;
    bool fits;
    struct error *err;
    _Atomic bool stop;
};

static struct error *digest_error(const struct luks_header *header, int ret)
{
    return ret < 0 ? error_errno(-ret, "cannot derive keys with digest '%s'", q_crypto_hash_algo_name(header->hash))
                   : NULL;
}

static struct error *run_stripes(struct slot_work *work, enum cipher_direction direction, const uint8_t *slot_key)
{
    CLEANUP(cipher_free) struct cipher *cipher = NULL;
    struct error *err = cipher_new(&work->header->cipher, slot_key, &cipher);
    if (err)
        return err;
    uint8_t *stripes = work->stripes->data;
    int ret = cipher_run(cipher, direction, 0, stripes, stripes, work->stripes->bytes);
    return ret < 0 ? error_errno(-ret, "cannot encrypt or decrypt a key") : NULL;
}

static int derive_slot_key(const struct slot_work *work, uint8_t *slot_key)
{
    const struct derivation derivation = {
        .hash = work->header->hash,
        .iterations = work->slot.iterations,
        .salt = work->slot.salt,
        .salt_bytes = LUKS_SALT_BYTES,
        .stop = &work->stop,
    };
    return derive_key(&derivation, work->password->data, work->password->bytes, slot_key, work->header->key_bytes);
}

static int derive_digest(const struct luks_header *header, const struct key_bytes *key, const _Atomic bool *stop,
                         uint8_t *out)
{
    const struct derivation derivation = {
        .hash = header->hash,
        .iterations = header->digest_iterations,
        .salt = header->digest_salt,
        .salt_bytes = LUKS_SALT_BYTES,
        .stop = stop,
    };
    return derive_key(&derivation, key->data, key->bytes, out, LUKS_DIGEST_BYTES);
}

/* @fn sets work->err; the pool may have no thread for it. */
static struct error *run_slot_work(struct slot_work *work, int (*fn)(void *arg)) CO_FN CONTROL_FN;

static struct error *run_slot_work(struct slot_work *work, int (*fn)(void *arg))
{
    int ret = derive_on_pool(fn, work, &work->stop);
    return ret < 0 ? error_errno(-ret, "cannot derive a key") : work->err;
}

/* Unlocking --------------------------------------------------------------------------------------------------- */

static struct error *unlock(struct slot_work *work)
{
    const struct luks_header *header = work->header;
    uint8_t slot_key[CIPHER_KEY_BYTES_MAX];
    uint8_t digest[LUKS_DIGEST_BYTES];
    struct error *err = digest_error(header, derive_slot_key(work, slot_key));
    if (!err)
        err = run_stripes(work, CIPHER_DECRYPT, slot_key);
    explicit_bzero(slot_key, sizeof(slot_key));
    if (!err)
        err = digest_error(header, antiforensic_merge(header->hash, work->stripes->data, header->key_bytes,
                                                      LUKS_STRIPES, work->key->data));
    if (!err)
        err = digest_error(header, derive_digest(header, work->key, &work->stop, digest));
    work->fits = !err && memcmp(digest, header->digest, sizeof(digest)) == 0;
    return err;
}

static int unlock_on_pool(void *arg)
{
    struct slot_work *work = arg;
    work->err = unlock(work);
    return 0;
}

struct error *luks_try_slot(const struct luks_io *io, const struct luks_header *header, unsigned slot,
                            const struct key_bytes *password, struct key_bytes **key)
{
    struct error *err = libcrypto_load();
    if (err)
        return err;
    CLEANUP(key_bytes_free) struct key_bytes *stripes = key_bytes_new(luks_stripes_bytes(header));
    CLEANUP(key_bytes_free) struct key_bytes *found = key_bytes_new(header->key_bytes);
    if (!stripes || !found)
        return error_errno(ENOMEM, "cannot read key slot %u", slot);
    int ret = io->read(io->arg, header->slots[slot].offset, stripes->data, stripes->bytes);
    if (ret < 0)
        return error_errno(-ret, "cannot read key slot %u", slot);
    struct slot_work work = {
        .header = header,
        .slot = header->slots[slot],
        .password = password,
        .stripes = stripes,
        .key = found,
    };
    err = run_slot_work(&work, unlock_on_pool);
    if (!err)
        *key = work.fits ? steal(&found) : NULL;
    return err;
}

struct error *luks_unlock(const struct luks_io *io, const struct luks_header *header, const struct key_bytes *password,
                          struct key_bytes **key, unsigned *slot)
{
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        if (!header->slots[i].active)
            continue;
        struct key_bytes *found;
        struct error *err = luks_try_slot(io, header, i, password, &found);
        if (err)
            return err;
        if (found) {
            *key = found;
            *slot = i;
            return NULL;
        }
    }
    return error_new("invalid password, cannot unlock any key slot");
}

struct error *luks_read(const struct luks_io *io, struct luks_header *header)
{
    uint8_t data[LUKS_HEADER_BYTES];
    int ret = io->read(io->arg, 0, data, sizeof(data));
    if (ret < 0)
        return error_errno(-ret, "cannot read the LUKS header");
    return luks_header_parse(data, sizeof(data), header);
}

/* Making slots ------------------------------------------------------------------------------------------------ */

static struct error *lock(struct slot_work *work)
{
    const struct luks_header *header = work->header;
    uint8_t slot_key[CIPHER_KEY_BYTES_MAX];
    int ret = derive_calibrate(header->hash, header->key_bytes, work->iter_ms, &work->slot.iterations);
    if (ret == 0)
        ret = derive_slot_key(work, slot_key);
    if (ret == 0)
        ret = antiforensic_split(header->hash, work->key->data, header->key_bytes, LUKS_STRIPES, work->stripes->data);
    struct error *err = digest_error(header, ret);
    if (!err)
        err = run_stripes(work, CIPHER_ENCRYPT, slot_key);
    explicit_bzero(slot_key, sizeof(slot_key));
    return err;
}

static int lock_on_pool(void *arg)
{
    struct slot_work *work = arg;
    work->err = lock(work);
    return 0;
}

static struct error *write_slot(const struct luks_io *io, const struct luks_slot *slot, unsigned index,
                                const struct key_bytes *stripes)
{
    uint8_t field[LUKS_SLOT_FIELD_BYTES];
    luks_slot_format(slot, field);
    int ret = io->write(io->arg, slot->offset, stripes->data, stripes->bytes);
    if (ret == 0)
        ret = io->flush(io->arg);
    if (ret == 0)
        ret = io->write(io->arg, luks_slot_field(index), field, sizeof(field));
    if (ret == 0)
        ret = io->flush(io->arg);
    return ret < 0 ? error_errno(-ret, "cannot write key slot %u", index) : NULL;
}

struct error *luks_set_slot(const struct luks_io *io, struct luks_header *header, unsigned slot,
                            const struct key_bytes *key, const struct key_bytes *password, uint64_t iter_ms)
{
    CLEANUP(key_bytes_free) struct key_bytes *stripes = key_bytes_new(luks_stripes_bytes(header));
    CLEANUP(key_bytes_free) struct key_bytes *copy = key_bytes_new(key->bytes);
    struct slot_work work = {
        .header = header,
        .slot = { .active = true, .offset = header->slots[slot].offset },
        .password = password,
        .iter_ms = iter_ms,
        .stripes = stripes,
        .key = copy,
    };
    if (!stripes || !copy)
        return error_errno(ENOMEM, "cannot write key slot %u", slot);
    memcpy(copy->data, key->data, key->bytes);
    struct error *err = libcrypto_load();
    if (!err)
        err = random_fill(stripes->data, stripes->bytes);
    if (!err)
        err = random_fill(work.slot.salt, sizeof(work.slot.salt));
    if (err)
        return err;
    err = run_slot_work(&work, lock_on_pool);
    if (!err)
        err = write_slot(io, &work.slot, slot, stripes);
    if (!err)
        header->slots[slot] = work.slot;
    return err;
}

struct error *luks_erase_slot(const struct luks_io *io, struct luks_header *header, unsigned slot)
{
    struct luks_slot erased = { .offset = header->slots[slot].offset };
    CLEANUP(key_bytes_free) struct key_bytes *noise = key_bytes_new(luks_stripes_bytes(header));
    if (!noise)
        return error_errno(ENOMEM, "cannot erase key slot %u", slot);
    struct error *err = random_fill(noise->data, noise->bytes);
    if (!err)
        err = write_slot(io, &erased, slot, noise);
    if (!err)
        header->slots[slot] = erased;
    return err;
}

/* Making volumes ---------------------------------------------------------------------------------------------- */

struct error *luks_choose(const struct q_crypto_block_create_options_luks *options, struct luks_header *header)
{
    header->cipher = (struct cipher_spec){
        .algo = options->cipher_alg,
        .mode = options->cipher_mode,
        .ivgen = options->ivgen_alg,
        .ivgen_hash = options->has_ivgen_hash_alg ? options->ivgen_hash_alg : Q_CRYPTO_HASH_ALGO_SHA256,
    };
    header->hash = options->hash_alg;
    header->key_bytes = (uint32_t)cipher_key_bytes(&header->cipher);
    return cipher_check(&header->cipher);
}

struct digest_work {
    struct luks_header *header;
    const struct key_bytes *key;
    uint64_t iter_ms;
    _Atomic bool stop;
};

/* The key is random, so guessing it is hopeless anyway: it takes an eighth of the time of a password, as others have
 * it. */
#define DIGEST_TIME_DIVISOR 8

static int digest_on_pool(void *arg)
{
    struct digest_work *work = arg;
    struct luks_header *header = work->header;
    int ret = derive_calibrate(header->hash, LUKS_DIGEST_BYTES, work->iter_ms / DIGEST_TIME_DIVISOR,
                               &header->digest_iterations);
    return ret < 0 ? ret : derive_digest(header, work->key, &work->stop, header->digest);
}

static struct error *make_key(struct luks_header *header, uint64_t iter_ms, struct key_bytes *key)
{
    struct error *err = libcrypto_load();
    if (!err)
        err = random_fill(key->data, key->bytes);
    if (!err)
        err = random_fill(header->digest_salt, sizeof(header->digest_salt));
    if (!err)
        err = random_uuid(header->uuid);
    struct digest_work work = { .header = header, .key = key, .iter_ms = iter_ms };
    return err ? err : digest_error(header, derive_on_pool(digest_on_pool, &work, &work.stop));
}

struct error *luks_format(const struct luks_io *io, struct luks_header *header, const struct key_bytes *password,
                          uint64_t iter_ms, struct key_bytes **key)
{
    CLEANUP(key_bytes_free) struct key_bytes *made = key_bytes_new(header->key_bytes);
    if (!made)
        return error_errno(ENOMEM, "cannot make a key");
    struct error *err = make_key(header, iter_ms, made);
    /* What is there loses its header first: half a volume is none. */
    uint8_t data[LUKS_HEADER_BYTES] = { 0 };
    int ret = err ? 0 : io->write(io->arg, 0, data, sizeof(data));
    if (!err && ret == 0)
        err = luks_set_slot(io, header, 0, made, password, iter_ms);
    if (err)
        return err;
    luks_header_format(header, data);
    if (ret == 0)
        ret = io->write(io->arg, 0, data, sizeof(data));
    if (ret == 0)
        ret = io->flush(io->arg);
    if (ret < 0)
        return error_errno(-ret, "cannot write the LUKS header");
    *key = steal(&made);
    return NULL;
}

/* Telling ----------------------------------------------------------------------------------------------------- */

struct q_crypto_block_info_luks luks_describe(const struct luks_header *header, bool detached, struct arena *arena)
{
    struct q_crypto_block_info_luks_slot *slots = arena_array(arena, LUKS_SLOTS, sizeof(*slots));
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        const struct luks_slot *slot = &header->slots[i];
        slots[i] = (struct q_crypto_block_info_luks_slot){
            .active = slot->active,
            .has_iters = slot->active,
            .iters = slot->iterations,
            .has_stripes = slot->active,
            .stripes = LUKS_STRIPES,
            .key_offset = (int64_t)slot->offset,
        };
    }
    return (struct q_crypto_block_info_luks){
        .cipher_alg = header->cipher.algo,
        .cipher_mode = header->cipher.mode,
        .ivgen_alg = header->cipher.ivgen,
        .has_ivgen_hash_alg = header->cipher.ivgen == Q_CRYPTO_IV_GEN_ALGO_ESSIV,
        .ivgen_hash_alg = header->cipher.ivgen_hash,
        .hash_alg = header->hash,
        .detached_header = detached,
        .payload_offset = (int64_t)header->payload_offset,
        .master_key_iters = header->digest_iterations,
        .uuid = arena_strdup(arena, header->uuid),
        .slots = slots,
        .slots_count = LUKS_SLOTS,
    };
}
