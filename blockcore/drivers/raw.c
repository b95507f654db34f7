/* raw - the bytes of another node as they are, or a window of them.
 *
 *     child   |--------|======== window ========|-------|
 *                     offset              offset + size
 *
 * Without a size the window reaches to the end of the child and moves with it. The child is a data child, never a
 * filtered one: whoever asks raw which layer decides its bytes gets the answer "raw", whatever is below. */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/offload.h"
#include "blockcore/io/request.h"
#include "schema/cairn_types.h"

#include <errno.h>

struct window {
    uint64_t offset;
    bool fixed; /* has a size of its own */
    uint64_t size;
};

struct raw {
    struct child *file;
    uint64_t offset;
    bool fixed;
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

static struct window window_of(const struct blockdev_options_raw *own)
{
    return (struct window){
        .offset = own->has_offset && own->offset > 0 ? (uint64_t)own->offset : 0,
        .fixed = own->has_size,
        .size = own->has_size ? (uint64_t)own->size : 0,
    };
}

static void set_length(struct node *node, const struct window *window)
{
    struct raw *raw = node_state(node);

    bool follows = window->offset == 0 && !window->fixed;
    node_follow_length(node, follows ? raw->file : NULL);
    if (!follows)
        node_set_length(node, window->fixed ? window->size : child_length(raw->file) - window->offset);
}

static struct error *raw_open(struct node *node, const struct blockdev_options *options,
                              const struct open_context *context)
{
    const struct blockdev_options_raw *own = &options->u.raw;
    struct raw *raw = node_state(node);
    const struct window window = window_of(own);

    /* Asked for while the child is attached. */
    raw->fixed = window.fixed;
    raw->offset = window.offset;
    struct error *err = child_open(node, "file", CHILD_DATA, own->file, context, &raw->file);
    if (err)
        return err;
    err = check_window(own, child_length(raw->file));
    if (err)
        return err;
    node_set_filename(node, node_filename(child_node(raw->file)));
    set_length(node, &window);
    return NULL;
}

/* What the options say may be another window, on another child. */
struct raw_reopen {
    struct window window;
    struct blockdev_options_raw options; /* for the check; its strings and references are not looked at */
};

static struct error *raw_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                        struct reopen *reopen)
{
    const struct blockdev_options_raw *own = &options->u.raw;
    struct raw_reopen *next = xmalloc(sizeof(*next));

    (void)node;
    *next = (struct raw_reopen){ .window = window_of(own), .options = *own };
    reopen_set_state(reopen, next);
    return reopen_child(reopen, "file", own->file);
}

static struct error *raw_reopen_enter(struct node *node, struct reopen *reopen)
{
    const struct raw *raw = node_state(node);
    const struct raw_reopen *next = reopen_state(reopen);

    return check_window(&next->options, child_length(raw->file));
}

static void raw_reopen_end(struct node *node, struct reopen *reopen)
{
    (void)node;
    free(reopen_state(reopen));
}

static void raw_reopen_commit(struct node *node, struct reopen *reopen)
{
    const struct raw_reopen *next = reopen_state(reopen);
    struct raw *raw = node_state(node);

    raw->fixed = next->window.fixed;
    raw->offset = next->window.offset;
    set_length(node, &next->window);
    node_set_filename(node, node_filename(child_node(raw->file)));
}

/* As what is above needs it. Only a window with bounds minds if the child is cut off below it. */
static void raw_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                  unsigned *child_perm, unsigned *child_shared)
{
    const struct raw *raw = node_state((struct node *)(uintptr_t)node);
    const struct raw_reopen *next = node_next_state(node, child);
    bool fixed = next ? next->window.fixed : raw->fixed;
    bool window = fixed || (next ? next->window.offset : raw->offset) > 0;

    *child_perm = fixed ? perm & ~(unsigned)PERM_RESIZE : perm;
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

static struct child *raw_reads_from(const struct node *node, struct range *range)
{
    const struct raw *raw = node_state((struct node *)(uintptr_t)node);

    *range = in_child(raw, *range);
    return raw->file;
}

static int raw_copy_in(struct node *node, struct range range, const struct copy_source *source)
{
    const struct raw *raw = node_state(node);

    return child_copy_in(raw->file, in_child(raw, range), source);
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

static const char *const raw_reopenable[] = { "offset", "size", NULL };

const struct driver raw_driver = {
    .name = "raw",
    .kind = DRIVER_FORMAT,
    .state_size = sizeof(struct raw),
    .write_flags = REQ_FUA,
    .open = raw_open,
    .preadv = raw_preadv,
    .pwritev = raw_pwritev,
    .pwrite_zeroes = raw_pwrite_zeroes,
    .reads_from = raw_reads_from,
    .copy_in = raw_copy_in,
    .pdiscard = raw_pdiscard,
    .truncate = raw_truncate,
    .block_status = raw_block_status,
    .child_permissions = raw_child_permissions,
    .reopen_prepare = raw_reopen_prepare,
    .reopen_enter = raw_reopen_enter,
    .reopen_commit = raw_reopen_commit,
    .reopen_abort = raw_reopen_end,
    .reopen_end = raw_reopen_end,
    .reopenable = raw_reopenable,
};
