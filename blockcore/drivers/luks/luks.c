#include "blockcore/drivers/luks/luks_private.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/amend_luks.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/drivers/encrypted.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/objects/secret.h"
#include "schema/cairn_types.h"

#include <inttypes.h>
#include <string.h>

/* The header ---------------------------------------------------------------------------------------------------- */

static int read_header(void *arg, uint64_t offset, void *data, size_t bytes)
{
    return child_pread(arg, offset, data, bytes);
}

static int write_header(void *arg, uint64_t offset, const void *data, size_t bytes)
{
    return child_pwrite(arg, offset, data, bytes, 0);
}

static int flush_header(void *arg)
{
    return child_flush(arg);
}

static struct luks_io header_io(const struct luks *luks)
{
    return (struct luks_io){ read_header, write_header, flush_header, luks->header_child };
}

static struct error *unlock(struct luks *luks, const char *secret)
{
    CLEANUP(key_bytes_free) struct key_bytes *password = NULL;
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    struct luks_io io = header_io(luks);
    unsigned slot;
    if (!secret)
        return error_new("key-secret: is missing; the volume is encrypted");
    struct error *err = error_wrap(secret_get(secret, &password), "key-secret");
    if (!err)
        err = luks_read(&io, &luks->header);
    if (!err && luks->header.payload_offset == 0 && luks->header_child == luks->file)
        err = error_new("the header says that the data is elsewhere: it belongs into child 'header'");
    if (!err)
        err = luks_unlock(&io, &luks->header, password, &key, &slot);
    return err ? err : cipher_create(&luks->header.cipher, key->data, &luks->cipher);
}

/* Opening ------------------------------------------------------------------------------------------------------- */

static struct error *check_length(const struct luks *luks)
{
    uint64_t file = child_length(luks->file);
    uint64_t payload = luks->header.payload_offset;
    if (file < payload)
        return error_new("the file of %" PRIu64 " bytes ends before the data, which begins at %" PRIu64, file, payload);
    return NULL;
}

/* A sector that is cut off cannot be decrypted. */
static void set_length(struct luks *luks)
{
    uint64_t bytes = child_length(luks->file) - luks->header.payload_offset;
    node_set_length(luks->node, align_down(bytes, CIPHER_SECTOR_BYTES));
    node_set_filename(luks->node, node_filename(child_node(luks->file)));
}

static struct error *open_children(struct luks *luks, const struct blockdev_options_luks *own,
                                   const struct open_context *context)
{
    struct error *err = child_open(luks->node, "file", CHILD_DATA, own->file, context, &luks->file);
    luks->header_child = luks->file;
    if (!err && own->header)
        err = child_open(luks->node, "header", CHILD_METADATA, own->header, context, &luks->header_child);
    return err;
}

static struct error *luks_open(struct node *node, const struct blockdev_options *options,
                               const struct open_context *context)
{
    struct luks *luks = node_state(node);
    luks->node = node;
    struct error *err = open_children(luks, &options->u.luks, context);
    if (err)
        return err;
    err = unlock(luks, options->u.luks.key_secret);
    if (!err)
        err = check_length(luks);
    if (err) {
        cipher_free(luks->cipher);
        return error_wrap(err, "'%s'", node_filename(child_node(luks->header_child)));
    }
    co_mutex_init(&luks->growth);
    co_mutex_init(&luks->slots);
    luks->secret = xstrdup(options->u.luks.key_secret);
    node_limits_mutable(node)->request_alignment = CIPHER_SECTOR_BYTES;
    set_length(luks);
    return NULL;
}

static void luks_close(struct node *node)
{
    struct luks *luks = node_state(node);
    co_mutex_fini(&luks->growth);
    co_mutex_fini(&luks->slots);
    free(luks->secret);
    cipher_free(luks->cipher);
}

/* Data is the parents' business, as it is with raw, but for what a volume gets that becomes longer: zeroes are written
 * there. The header is read always and written when the slots change, which somebody with permission to write does;
 * those who look at it meanwhile must not be in the way. */
static void luks_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                   unsigned *child_perm, unsigned *child_shared)
{
    const struct luks *luks = node_state((struct node *)(uintptr_t)node);
    bool holds_header = strcmp(child_name(child), "header") == 0 || luks->header_child == luks->file;
    *child_perm = perm | PERM_CONSISTENT_READ;
    if ((holds_header && (perm & PERM_WRITE_UNCHANGED)) || (perm & PERM_RESIZE))
        *child_perm |= PERM_WRITE;
    *child_shared = shared & ~(unsigned)PERM_RESIZE;
}

/* Other children under the same node ---------------------------------------------------------------------------- */

static struct error *luks_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                         struct reopen *reopen)
{
    const struct blockdev_options_luks *own = &options->u.luks;
    const struct luks *luks = node_state(node);
    bool detached = luks->header_child != luks->file;
    if (detached != (own->header != NULL))
        return error_new("header: cannot be %s while the node is open", detached ? "left out" : "added");
    struct error *err = reopen_child(reopen, "file", own->file);
    return err || !detached ? err : reopen_child(reopen, "header", own->header);
}

/* The key stays, so the volume must be the same. */
static struct error *luks_reopen_enter(struct node *node, struct reopen *reopen)
{
    const struct luks *luks = node_state(node);
    struct luks_io io = header_io(luks);
    struct luks_header header;
    (void)reopen;
    struct error *err = luks_read(&io, &header);
    if (!err && (strcmp(header.uuid, luks->header.uuid) != 0 || header.payload_offset != luks->header.payload_offset ||
                 memcmp(header.digest, luks->header.digest, sizeof(header.digest)) != 0))
        err = error_new("is another volume, which has another key");
    if (!err)
        err = check_length(luks);
    return error_wrap(err, "'%s'", node_filename(child_node(luks->header_child)));
}

static void luks_reopen_commit(struct node *node, struct reopen *reopen)
{
    (void)reopen;
    set_length(node_state(node));
}

/* Key slots ----------------------------------------------------------------------------------------------------- */

static struct error *luks_node_amend(struct node *node, struct handle *handle,
                                     const struct blockdev_amend_options *options, bool force)
{
    struct luks *luks = node_state(node);
    const struct blockdev_amend_options_luks *own = &options->u.luks;
    struct q_crypto_block_amend_options_luks common = {
        .state = own->state,
        .new_secret = own->new_secret,
        .old_secret = own->old_secret,
        .has_keyslot = own->has_keyslot,
        .keyslot = own->keyslot,
        .has_iter_time = own->has_iter_time,
        .iter_time = own->iter_time,
        .secret = own->secret,
    };
    struct luks_io io = header_io(luks);
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&luks->slots);
    return amend_luks(handle, &io, &luks->header, &common, luks->secret, force);
}

/* Requests ------------------------------------------------------------------------------------------------------ */

static uint64_t in_file(const struct luks *luks, uint64_t offset)
{
    return luks->header.payload_offset + offset;
}

static int luks_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct luks *luks = node_state(node);
    (void)flags;
    child_debug_event(luks->file, "read_aio");
    return encrypted_preadv(luks->file, luks->cipher, range.offset / CIPHER_SECTOR_BYTES, in_file(luks, range.offset),
                            iov);
}

int luks_write_data(struct luks *luks, uint64_t offset, const struct iov *iov, unsigned flags)
{
    child_debug_event(luks->file, "write_aio");
    return encrypted_pwritev(luks->file, luks->cipher, offset / CIPHER_SECTOR_BYTES, in_file(luks, offset), iov, flags);
}

int luks_write_zeroes(struct luks *luks, struct range range)
{
    return encrypted_pwrite_zeroes(luks->file, luks->cipher, range.offset / CIPHER_SECTOR_BYTES,
                                   range_make(in_file(luks, range.offset), range.bytes));
}

static int luks_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct luks *luks = node_state(node);
    return likely(range_end(range) <= node_length(node)) ? luks_write_data(luks, range.offset, iov, flags)
                                                         : luks_write_growing(luks, range, iov, flags);
}

/* Telling ------------------------------------------------------------------------------------------------------- */

static void luks_tell(struct node *node, struct image_info *info, struct arena *arena)
{
    const struct luks *luks = node_state(node);
    struct q_crypto_block_info_luks *own = arena_alloc(arena, sizeof(*own));
    *own = luks_describe(&luks->header, luks->header_child != luks->file, arena);
    struct image_info_specific *specific = arena_alloc(arena, sizeof(*specific));
    specific->type = IMAGE_INFO_SPECIFIC_KIND_LUKS;
    specific->u.luks.data = own;
    info->format_specific = specific;
    info->has_encrypted = true;
    info->encrypted = true;
}

const struct driver luks_driver = {
    .name = "luks",
    .kind = DRIVER_FORMAT,
    .state_size = sizeof(struct luks),
    .write_flags = REQ_FUA,
    .open = luks_open,
    .close = luks_close,
    .preadv = luks_preadv,
    .pwritev = luks_pwritev,
    .truncate = luks_truncate,
    .describe = luks_tell,
    .child_permissions = luks_child_permissions,
    .reopen_prepare = luks_reopen_prepare,
    .reopen_enter = luks_reopen_enter,
    .reopen_commit = luks_reopen_commit,
    .create = luks_create,
    .amend = luks_node_amend,
};
