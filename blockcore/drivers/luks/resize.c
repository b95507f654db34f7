/* Making a volume longer: what is added reads as zeroes, as with every node, so encrypted zeroes are written there.
 * That takes as long as writing the data would; a volume with noise in it would be quicker, and damage images that
 * stand on it, which take what is behind their end for zeroes. */
#include "blockcore/drivers/luks/luks_private.h"

#include <errno.h>
#include <stdlib.h>

/* The data, and zeroes up to the end of its last sector. */
static int write_padded(struct luks *luks, struct range range, const struct iov *iov, unsigned flags)
{
    static const uint8_t padding[CIPHER_SECTOR_BYTES];
    size_t missing = (size_t)(align_up(range.bytes, CIPHER_SECTOR_BYTES) - range.bytes);
    size_t pieces = iov_pieces(iov);
    CLEANUP(free) struct iovec *vec = calloc(pieces + 1, sizeof(*vec));
    if (!vec)
        return -ENOMEM;
    size_t bytes;
    size_t count = (size_t)iov_export(iov, vec, pieces, &bytes);
    if (missing)
        vec[count++] = (struct iovec){ (void *)(uintptr_t)padding, missing };
    struct iov padded = iov_of_vec(vec, count);
    return luks_write_data(luks, range.offset, &padded, flags);
}

int luks_write_growing(struct luks *luks, struct range range, const struct iov *iov, unsigned flags)
{
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&luks->growth);
    struct range gap = range_between(node_length(luks->node), range.offset);
    int ret = luks_write_zeroes(luks, gap);
    if (ret == 0)
        ret = write_padded(luks, range, iov, flags);
    if (ret == 0)
        node_grow_length(luks->node, align_up(range_end(range), CIPHER_SECTOR_BYTES));
    return ret;
}

/* Nothing of what was added stays when it cannot be filled. */
static int fill_added(struct luks *luks, uint64_t before, uint64_t bytes)
{
    int ret = luks_write_zeroes(luks, range_between(before, bytes));
    if (ret < 0)
        (void)child_truncate(luks->file, luks->header.payload_offset + before, TRUNCATE_SPARSE);
    return ret;
}

int luks_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    struct luks *luks = node_state(node);
    if (bytes > NODE_LENGTH_MAX - luks->header.payload_offset - CIPHER_SECTOR_BYTES)
        return -EFBIG;
    bytes = align_up(bytes, CIPHER_SECTOR_BYTES);
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&luks->growth);
    uint64_t before = node_length(node);
    int ret = child_truncate(luks->file, luks->header.payload_offset + bytes, mode);
    if (ret == 0 && bytes > before)
        ret = fill_added(luks, before, bytes);
    if (ret == 0)
        node_set_length(node, bytes);
    return ret;
}
