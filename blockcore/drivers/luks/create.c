/* blockdev-create: header and slots are written, the data is as long as was asked for and decrypts to noise. */
#include "blockcore/drivers/luks/luks_private.h"

#include "blockcore/drivers/make_room.h"
#include "blockcore/graph/handle.h"
#include "blockcore/objects/secret.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <inttypes.h>

static int read_through(void *arg, uint64_t offset, void *data, size_t bytes)
{
    struct iovec piece;
    struct iov iov = iov_of(&piece, data, bytes);
    return handle_preadv(arg, range_make(offset, bytes), &iov);
}

static int write_through(void *arg, uint64_t offset, const void *data, size_t bytes)
{
    struct iovec piece;
    struct iov iov = iov_of(&piece, (void *)(uintptr_t)data, bytes);
    return handle_pwritev(arg, range_make(offset, bytes), &iov, 0);
}

static int flush_through(void *arg)
{
    return handle_flush(arg);
}

/* A node to be written, and the handle that does it. */
struct target {
    struct node *node;
    struct handle *handle;
};

static struct error *target_open(const struct blockdev_ref *ref, const char *what, struct target *target)
{
    struct error *err = ref ? node_open_ref(ref, &target->node) : NULL;
    if (!err && target->node)
        err = handle_open_here(target->node, "blockdev-create", PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
                               PERM_CONSISTENT_READ, &target->handle);
    return error_wrap(err, "%s", what);
}

static void target_close(struct target *target)
{
    handle_close(target->handle);
    node_unref(target->node);
}

static struct error *check_options(const struct blockdev_create_options_luks *options)
{
    if (!options->file && !options->header)
        return error_new("file: is missing");
    if (!options->file && options->has_preallocation && options->preallocation != PREALLOC_MODE_OFF)
        return error_new("preallocation: needs file");
    if (options->has_preallocation && options->preallocation == PREALLOC_MODE_METADATA)
        return error_new("preallocation: 'metadata' is not supported, a volume has no tables");
    if (!options->key_secret)
        return error_new("key-secret: is missing");
    if (options->size % CIPHER_SECTOR_BYTES)
        return error_new("size: %" PRIu64 " is not a multiple of %d", options->size, CIPHER_SECTOR_BYTES);
    return NULL;
}

static struct error *create_on(const struct blockdev_create_options_luks *options, struct luks_header *header,
                               const struct target *file, const struct target *detached,
                               const struct key_bytes *password)
{
    const struct target *target = detached->node ? detached : file;
    enum truncate_mode mode = truncate_mode_of(options->preallocation);
    if (options->size > NODE_LENGTH_MAX - header->payload_offset)
        return error_new("size: %" PRIu64 " is too large", options->size);
    struct error *err = NULL;
    if (detached->node)
        err = error_wrap(make_room(detached->handle, luks_header_end(header), TRUNCATE_SPARSE, NULL), "header");
    if (!err && file->node)
        err = error_wrap(make_room(file->handle, header->payload_offset + options->size, mode, NULL), "file");
    if (err)
        return err;
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    struct luks_io io = { read_through, write_through, flush_through, target->handle };
    return luks_format(&io, header, password, (uint64_t)options->iter_time, &key);
}

/* The members that a plain volume shares with qcow2, in the form of the latter. */
static struct q_crypto_block_create_options_luks common_options(const struct blockdev_create_options_luks *options)
{
    return (struct q_crypto_block_create_options_luks){
        .cipher_alg = options->cipher_alg,
        .cipher_mode = options->cipher_mode,
        .ivgen_alg = options->ivgen_alg,
        .has_ivgen_hash_alg = options->has_ivgen_hash_alg,
        .ivgen_hash_alg = options->ivgen_hash_alg,
        .hash_alg = options->hash_alg,
    };
}

struct error *luks_create(const struct blockdev_create_options *all)
{
    const struct blockdev_create_options_luks *options = &all->u.luks;
    struct q_crypto_block_create_options_luks common = common_options(options);
    CLEANUP(key_bytes_free) struct key_bytes *password = NULL;
    struct luks_header header = { 0 };
    struct target file = { 0 };
    struct target detached = { 0 };
    struct error *err = check_options(options);
    if (!err)
        err = luks_choose(&common, &header);
    if (!err)
        err = error_wrap(secret_get(options->key_secret, &password), "key-secret");
    if (err)
        return err;
    luks_header_lay_out(&header, options->header != NULL);
    err = target_open(options->file, "file", &file);
    if (!err)
        err = target_open(options->header, "header", &detached);
    if (!err)
        err = create_on(options, &header, &file, &detached, password);
    target_close(&detached);
    target_close(&file);
    return err;
}
