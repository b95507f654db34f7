/* raw - the bytes of another node as they are, or a window of them.
 *
 *     child   |--------|======== window ========|-------|
 *                     offset              offset + size
 *
 * Without a size the window reaches to the end of the child and moves with it. The child is a data child, never a
 * filtered one: whoever asks raw which layer decides its bytes gets the answer "raw", whatever is below. */
#include "blockcore/drivers/drivers.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "schema/cairn_types.h"

#include <errno.h>

struct raw {
    struct child *file;
    uint64_t offset;
    bool fixed; /* has a size of its own */
};

static struct error *check_window(const struct blockdev_options_raw *own, uint64_t child_bytes)
{
    uint64_t offset = own->has_offset ? (uint64_t)own->offset : 0;

    if (offset > child_bytes)
        return error_new("offset: %lld is not inside the file of %llu bytes", (long long)own->offset,
                         (unsigned long long)child_bytes);
    if (own->has_size && (uint64_t)own->size > child_bytes - offset)
        return error_new("size: %lld bytes from offset %llu on are not inside the file of %llu bytes",
                         (long long)own->size, (unsigned long long)offset, (unsigned long long)child_bytes);
    return NULL;
}

static struct error *raw_open(struct node *node, const struct blockdev_options *options,
                              const struct open_context *context)
{
    const struct blockdev_options_raw *own = &options->u.raw;
    struct raw *raw = node_state(node);

    /* Asked for while the child is attached. */
    raw->fixed = own->has_size;
    raw->offset = own->has_offset ? (uint64_t)own->offset : 0;
    struct error *err = child_open(node, "file", CHILD_DATA, own->file, context, &raw->file);
    if (err)
        return err;
    err = check_window(own, child_length(raw->file));
    if (err)
        return err;
    node_set_filename(node, node_filename(child_node(raw->file)));
    if (raw->offset == 0 && !raw->fixed)
        node_follow_length(node, raw->file);
    else
        node_set_length(node, raw->fixed ? (uint64_t)own->size : child_length(raw->file) - raw->offset);
    return NULL;
}

/* As what is above needs it. Only a window with bounds minds if the child is cut off below it. */
static void raw_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                  unsigned *child_perm, unsigned *child_shared)
{
    const struct raw *raw = node_state((struct node *)(uintptr_t)node);
    bool window = raw->fixed || raw->offset > 0;

    (void)child;
    *child_perm = raw->fixed ? perm & ~(unsigned)PERM_RESIZE : perm;
    *child_shared = window ? shared & ~(unsigned)PERM_RESIZE : shared;
}

static struct range in_child(const struct raw *raw, struct range range)
{
    return range_make(raw->offset + range.offset, range.bytes);
}

/* A window without an end grows when something is written behind it. */
static int check_growth(struct node *node, const struct raw *raw, struct range range)
{
    return raw->fixed && !range_inside(range, node_length(node)) ? -ENOSPC : 0;
}

static void note_growth(struct node *node, const struct raw *raw, struct range range)
{
    if (raw->offset > 0 && !raw->fixed)
        node_grow_length(node, range_end(range));
}

static int raw_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    const struct raw *raw = node_state(node);

    child_debug_event(raw->file, "read_aio");
    return child_preadv(raw->file, in_child(raw, range), iov, flags);
}

static int raw_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    const struct raw *raw = node_state(node);
    int ret = check_growth(node, raw, range);

    if (ret < 0)
        return ret;
    child_debug_event(raw->file, "write_aio");
    ret = child_pwritev(raw->file, in_child(raw, range), iov, flags);
    if (ret == 0)
        note_growth(node, raw, range);
    return ret;
}

static int raw_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    const struct raw *raw = node_state(node);
    int ret = check_growth(node, raw, range);

    if (ret == 0)
        ret = child_pwrite_zeroes(raw->file, in_child(raw, range), flags);
    if (ret == 0)
        note_growth(node, raw, range);
    return ret;
}

static int raw_pdiscard(struct node *node, struct range range)
{
    const struct raw *raw = node_state(node);

    return child_pdiscard(raw->file, in_child(raw, range));
}

static int raw_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    const struct raw *raw = node_state(node);

    if (raw->fixed)
        return -ENOTSUP;
    if (bytes > NODE_LENGTH_MAX - raw->offset)
        return -EFBIG;
    int ret = child_truncate(raw->file, raw->offset + bytes, mode);
    if (ret == 0 && raw->offset > 0)
        node_set_length(node, bytes);
    return ret;
}

static int raw_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    const struct raw *raw = node_state(node);
    struct extent extent = {
        .offset = range.offset,
        .bytes = range.bytes,
        .file_offset = raw->offset + range.offset,
        .file.child = raw->file,
        .flags = EXTENT_ALLOCATED | EXTENT_MAPPED,
    };

    (void)ask;
    extents_append(extents, &extent);
    return 0;
}

const struct driver raw_driver = {
    .name = "raw",
    .kind = DRIVER_FORMAT,
    .state_size = sizeof(struct raw),
    .write_flags = REQ_FUA,
    .open = raw_open,
    .preadv = raw_preadv,
    .pwritev = raw_pwritev,
    .pwrite_zeroes = raw_pwrite_zeroes,
    .pdiscard = raw_pdiscard,
    .truncate = raw_truncate,
    .block_status = raw_block_status,
    .child_permissions = raw_child_permissions,
};
