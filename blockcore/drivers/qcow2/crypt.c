#include "blockcore/drivers/qcow2/crypt.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/amend_luks.h"
#include "blockcore/drivers/encrypted.h"
#include "blockcore/drivers/qcow2/qcow2_private.h"
#include "blockcore/objects/secret.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <string.h>

/* The LUKS header ------------------------------------------------------------------------------------------------ */

static int read_header(void *arg, uint64_t offset, void *data, size_t bytes)
{
    const struct qcow2 *q = arg;
    if (!range_inside(range_make(offset, bytes), q->header.crypto_bytes))
        return -EINVAL;
    return child_pread(q->file, q->header.crypto_offset + offset, data, bytes);
}

static int write_header(void *arg, uint64_t offset, const void *data, size_t bytes)
{
    const struct qcow2 *q = arg;
    if (!range_inside(range_make(offset, bytes), q->header.crypto_bytes))
        return -EINVAL;
    return child_pwrite(q->file, q->header.crypto_offset + offset, data, bytes, 0);
}

static int flush_header(void *arg)
{
    const struct qcow2 *q = arg;
    return child_flush(q->file);
}

static struct error *open_luks(struct qcow2 *q, const struct key_bytes *password)
{
    struct luks_io io = { read_header, write_header, flush_header, q };
    struct luks_header *luks = &q->crypt->luks;
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    unsigned slot;
    if (!q->header.has_crypto)
        return error_new("the header does not say where the LUKS header is");
    struct error *err = luks_read(&io, luks);
    if (!err && luks_header_end(luks) > q->header.crypto_bytes)
        err = error_new("key slots lie behind the end of the LUKS header");
    if (!err)
        err = luks_unlock(&io, luks, password, &key, &slot);
    return err ? err : cipher_create(&luks->cipher, key->data, &q->crypt->cipher);
}

/* The first 16 bytes of the password are the key; nothing tells whether it is the right one. */
static struct error *open_aes(struct qcow2 *q, const struct key_bytes *password)
{
    static const struct cipher_spec spec = {
        .algo = Q_CRYPTO_CIPHER_ALGO_AES_128,
        .mode = Q_CRYPTO_CIPHER_MODE_CBC,
        .ivgen = Q_CRYPTO_IV_GEN_ALGO_PLAIN64,
    };
    uint8_t key[16] = { 0 };
    memcpy(key, password->data, min_u64(password->bytes, sizeof(key)));
    q->crypt->by_guest_offset = true;
    struct error *err = cipher_create(&spec, key, &q->crypt->cipher);
    explicit_bzero(key, sizeof(key));
    return err;
}

/* Opening ------------------------------------------------------------------------------------------------------- */

static struct error *check_agreement(const struct qcow2 *q, const struct blockdev_qcow2_encryption *options)
{
    uint32_t method = q->header.crypt_method;
    const char *name = method == QCOW2_CRYPT_AES ? "aes" : "luks";
    if (!method)
        return options ? error_new("encrypt: the image is not encrypted") : NULL;
    if (!options)
        return error_new("encrypt: is missing; the image is encrypted with format '%s'", name);
    if (options->format !=
        (method == QCOW2_CRYPT_AES ? BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES : BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS))
        return error_new("encrypt.format: the image is encrypted with format '%s'", name);
    if (q->header.size % CIPHER_SECTOR_BYTES)
        return error_new("the disk of an encrypted image ends inside a sector");
    if (q->raw_data)
        return error_new("a raw data file cannot be encrypted");
    return NULL;
}

struct error *qcow2_crypt_open(struct qcow2 *q, const struct blockdev_qcow2_encryption *options)
{
    struct error *err = check_agreement(q, options);
    if (err || !options)
        return err;
    const char *secret = options->format == BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES ? options->u.aes.key_secret
                                                                                 : options->u.luks.key_secret;
    CLEANUP(key_bytes_free) struct key_bytes *password = NULL;
    if (!secret)
        return error_new("encrypt.key-secret: is missing");
    err = error_wrap(secret_get(secret, &password), "encrypt.key-secret");
    if (err)
        return err;
    q->crypt = xcalloc(1, sizeof(*q->crypt));
    q->crypt->secret = xstrdup(secret);
    co_mutex_init(&q->crypt->slots);
    return q->header.crypt_method == QCOW2_CRYPT_AES ? open_aes(q, password) : open_luks(q, password);
}

void qcow2_crypt_close(struct qcow2 *q)
{
    if (!q->crypt)
        return;
    cipher_free(q->crypt->cipher);
    co_mutex_fini(&q->crypt->slots);
    free(q->crypt->secret);
    free(steal(&q->crypt));
}

void qcow2_crypt_describe(const struct qcow2 *q, struct image_info *info, struct image_info_specific_q_cow2 *own,
                          struct arena *arena)
{
    if (!q->crypt)
        return;
    struct image_info_specific_q_cow2_encryption *encrypt = arena_alloc(arena, sizeof(*encrypt));
    info->has_encrypted = true;
    info->encrypted = true;
    own->encrypt = encrypt;
    if (q->crypt->by_guest_offset) {
        encrypt->format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES;
        return;
    }
    encrypt->format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS;
    encrypt->u.luks = luks_describe(&q->crypt->luks, false, arena);
}

struct error *qcow2_amend(struct node *node, struct handle *handle, const struct blockdev_amend_options *options,
                          bool force)
{
    struct qcow2 *q = node_state(node);
    const struct q_crypto_block_amend_options *encrypt = options->u.qcow2.encrypt;
    if (!encrypt)
        return NULL;
    if (q->header.crypt_method != QCOW2_CRYPT_LUKS || encrypt->format != Q_CRYPTO_BLOCK_FORMAT_LUKS)
        return error_new("encrypt: only key slots of format 'luks' can be amended, in an image that has them");
    struct luks_io io = { read_header, write_header, flush_header, q };
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&q->crypt->slots);
    return error_wrap(amend_luks(handle, &io, &q->crypt->luks, &encrypt->u.luks, q->crypt->secret, force), "encrypt");
}

/* Requests ------------------------------------------------------------------------------------------------------ */

static uint64_t sector_of(const struct qcow2_crypt *crypt, uint64_t guest, uint64_t host)
{
    return (crypt->by_guest_offset ? guest : host) / CIPHER_SECTOR_BYTES;
}

int qcow2_read_data(struct qcow2 *q, uint64_t guest, uint64_t host, const struct iov *iov)
{
    if (likely(!q->crypt))
        return child_preadv(q->data, range_make(host, iov->bytes), iov, 0);
    return encrypted_preadv(q->data, q->crypt->cipher, sector_of(q->crypt, guest, host), host, iov);
}

int qcow2_write_data(struct qcow2 *q, uint64_t guest, uint64_t host, const struct iov *iov)
{
    if (likely(!q->crypt))
        return child_pwritev(q->data, range_make(host, iov->bytes), iov, 0);
    return encrypted_pwritev(q->data, q->crypt->cipher, sector_of(q->crypt, guest, host), host, iov, 0);
}

int qcow2_write_zero_data(struct qcow2 *q, uint64_t guest, struct range host)
{
    if (likely(!q->crypt))
        return child_pwrite_zeroes(q->data, host, 0);
    return encrypted_pwrite_zeroes(q->data, q->crypt->cipher, sector_of(q->crypt, guest, host.offset), host);
}

/* A new image --------------------------------------------------------------------------------------------------- */

struct place {
    struct handle *handle;
    uint64_t offset;
};

static int read_place(void *arg, uint64_t offset, void *data, size_t bytes)
{
    const struct place *place = arg;
    struct iovec piece;
    struct iov iov = iov_of(&piece, data, bytes);
    return handle_preadv(place->handle, range_make(place->offset + offset, bytes), &iov);
}

static int write_place(void *arg, uint64_t offset, const void *data, size_t bytes)
{
    const struct place *place = arg;
    struct iovec piece;
    struct iov iov = iov_of(&piece, (void *)(uintptr_t)data, bytes);
    return handle_pwritev(place->handle, range_make(place->offset + offset, bytes), &iov, 0);
}

static int flush_place(void *arg)
{
    const struct place *place = arg;
    return handle_flush(place->handle);
}

struct error *crypt_creation_plan(const struct q_crypto_block_create_options *options, struct crypt_creation *crypt)
{
    if (!options)
        return NULL;
    if (options->format == Q_CRYPTO_BLOCK_FORMAT_QCOW)
        return error_new("encrypt.format: 'qcow' is unsafe and only for old images; use 'luks'");
    const struct q_crypto_block_create_options_luks *luks = &options->u.luks;
    if (!luks->key_secret)
        return error_new("encrypt.key-secret: is missing");
    struct error *err = error_wrap(luks_choose(luks, &crypt->luks), "encrypt");
    if (!err)
        err = error_wrap(secret_get(luks->key_secret, &crypt->password), "encrypt.key-secret");
    if (err)
        return err;
    luks_header_lay_out(&crypt->luks, false);
    crypt->bytes = crypt->luks.payload_offset;
    crypt->iter_ms = (uint64_t)luks->iter_time;
    return NULL;
}

struct error *crypt_creation_write(struct crypt_creation *crypt, struct handle *handle, uint64_t offset)
{
    struct place place = { handle, offset };
    struct luks_io io = { read_place, write_place, flush_place, &place };
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    return luks_format(&io, &crypt->luks, crypt->password, crypt->iter_ms, &key);
}
