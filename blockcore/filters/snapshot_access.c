/* snapshot-access - a node that shows the point in time which a copy-before-write filter keeps
 *
 * It can be read, asked for its block status, and told by discards what is not needed any more. It has a length of its
 * own: that of the disk at the moment. Why reads are exact: copy_before_write_private.h. */
#include "blockcore/drivers/drivers.h"
#include "blockcore/filters/copy_before_write_private.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "schema/cairn_types.h"

#include <errno.h>

/* The point in time -------------------------------------------------------------------------------------------- */

/* Where a piece of it is. */
enum place {
    IN_DISK,
    IN_TARGET,
    NOWHERE,
};

/* A piece of one place, at the begin of @range. One in the disk is frozen: to be let go with piece_end(). */
struct piece {
    enum place place;
    struct range range;
    struct frozen_read frozen;
};

/* The caller holds the lock. */
static void find_piece(const struct cbw *cbw, struct range range, struct piece *piece)
{
    struct range clusters = cbw_clusters(cbw, range);
    uint64_t end;
    if (!bitset_has(&cbw->settled, clusters.offset)) {
        piece->place = IN_DISK;
        end = bitset_next_set(&cbw->settled, clusters);
    } else if (bitset_has(&cbw->copied, clusters.offset)) {
        piece->place = IN_TARGET;
        end = bitset_next_clear(&cbw->copied, clusters);
    } else {
        piece->place = NOWHERE;
        end = bitset_next_set(&cbw->copied, clusters);
        end = bitset_next_clear(&cbw->settled, range_between(clusters.offset, end));
    }
    piece->range = range_between(range.offset, min_u64(range_end(range), end * cbw->cluster));
}

static int piece_begin(struct cbw *cbw, struct range range, struct piece *piece)
{
    if (range.bytes == 0 || !range_inside(range, cbw->bytes))
        return -EINVAL;
    atomic_store_explicit(&cbw->used, true, memory_order_relaxed);
    spinlock_lock(&cbw->lock);
    int ret = cbw->broken ? -EACCES : 0;
    if (ret == 0)
        find_piece(cbw, range, piece);
    if (ret == 0 && piece->place == IN_DISK) {
        piece->frozen.range = piece->range;
        list_append(&cbw->frozen, &piece->frozen.link);
    }
    spinlock_unlock(&cbw->lock);
    return ret;
}

static void piece_end(struct cbw *cbw, struct piece *piece)
{
    if (piece->place != IN_DISK)
        return;
    spinlock_lock(&cbw->lock);
    list_remove(&piece->frozen.link);
    cbw_wake(cbw);
    spinlock_unlock(&cbw->lock);
}

static int read_piece(struct cbw *cbw, const struct piece *piece, const struct iov *iov) CO_FN;

static int read_piece(struct cbw *cbw, const struct piece *piece, const struct iov *iov)
{
    if (piece->place == NOWHERE)
        return -EACCES;
    return child_preadv(piece->place == IN_DISK ? cbw->file : cbw->target, piece->range, iov, 0);
}

int cbw_snapshot_preadv(struct node *node, struct range range, const struct iov *iov)
{
    struct cbw *cbw = node_state(node);
    int ret = 0;
    for (size_t done = 0; done < iov->bytes && ret == 0;) {
        struct piece piece;
        ret = piece_begin(cbw, range_make(range.offset + done, range.bytes - done), &piece);
        if (ret < 0)
            break;
        struct iov part = iov_slice(iov, done, piece.range.bytes);
        ret = read_piece(cbw, &piece, &part);
        piece_end(cbw, &piece);
        done += piece.range.bytes;
    }
    return ret;
}

/* The child is asked while the piece is frozen: afterwards its answer would be about other bytes. */
static int ask_piece(struct cbw *cbw, const struct piece *piece, unsigned ask, struct extents *extents) CO_FN;

static int ask_piece(struct cbw *cbw, const struct piece *piece, unsigned ask, struct extents *extents)
{
    struct extents found;
    struct child *child = piece->place == IN_DISK ? cbw->file : cbw->target;
    extents_init(&found, extents->max);
    int ret = child_block_status(child, piece->range, ask, &found);
    for (size_t i = 0; i < found.count && ret == 0; i++) {
        struct extent extent = {
            .offset = found.items[i].offset,
            .bytes = found.items[i].bytes,
            .flags = EXTENT_ALLOCATED | (found.items[i].flags & (EXTENT_ZERO | EXTENT_DATA)),
        };
        extents_append(extents, &extent);
    }
    extents_fini(&found);
    return ret;
}

/* What is not there any more cannot be read, so nothing can be said of it but that it is not known to be zero. */
static void append_unknown(struct range range, struct extents *extents)
{
    struct extent extent = { .offset = range.offset, .bytes = range.bytes, .flags = EXTENT_ALLOCATED | EXTENT_DATA };
    extents_append(extents, &extent);
}

int cbw_snapshot_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    struct cbw *cbw = node_state(node);
    ask &= ASK_ZERO | ASK_MAP;
    int ret = 0;
    while (range.bytes > 0 && !extents_full(extents) && ret == 0) {
        struct piece piece;
        ret = piece_begin(cbw, range, &piece);
        if (ret < 0)
            break;
        if (piece.place == NOWHERE || !ask)
            append_unknown(piece.range, extents);
        else
            ret = ask_piece(cbw, &piece, ask, extents);
        piece_end(cbw, &piece);
        if (ret == 0) {
            const struct extent *last = &extents->items[extents->count - 1];
            range = range_between(last->offset + last->bytes, range_end(range));
        }
    }
    return ret;
}

/* The clusters that lie in @range as a whole. */
static struct range whole_clusters(const struct cbw *cbw, struct range range)
{
    uint64_t first = div_round_up(range.offset, cbw->cluster);
    uint64_t end =
        range_end(range) == cbw->bytes ? div_round_up(cbw->bytes, cbw->cluster) : range_end(range) / cbw->cluster;
    return range_between(first, end);
}

/* A copy that is on its way would come to the target after the discard. */
int cbw_snapshot_pdiscard(struct node *node, struct range range)
{
    struct cbw *cbw = node_state(node);
    if (!range_inside(range, cbw->bytes))
        return -EINVAL;
    struct range clusters = whole_clusters(cbw, range);
    if (clusters.bytes == 0)
        return 0;
    spinlock_lock(&cbw->lock);
    while (bitset_next_set(&cbw->copying, clusters) < range_end(clusters))
        cbw_wait(cbw, 0);
    bitset_set(&cbw->settled, clusters);
    bitset_clear(&cbw->copied, clusters);
    cbw_wake(cbw);
    spinlock_unlock(&cbw->lock);
    return child_pdiscard(cbw->target, cbw_bytes(cbw, clusters));
}

/* The node ----------------------------------------------------------------------------------------------------- */

struct snapshot_access {
    struct child *file;
};

static struct node *filter_of(struct node *node)
{
    const struct snapshot_access *access = node_state(node);
    return cbw_find(child_node(access->file));
}

static int access_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct node *cbw = filter_of(node);
    (void)flags;
    return cbw ? cbw_snapshot_preadv(cbw, range, iov) : -ENOTSUP;
}

/* What was, is not changed. */
static int access_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)node;
    (void)range;
    (void)iov;
    (void)flags;
    return -EPERM;
}

static int access_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    (void)node;
    (void)range;
    (void)flags;
    return -EPERM;
}

static int access_pdiscard(struct node *node, struct range range)
{
    struct node *cbw = filter_of(node);
    return cbw ? cbw_snapshot_pdiscard(cbw, range) : -ENOTSUP;
}

/* Nothing was written, so the disk and the target need no flush. */
static int access_flush(struct node *node)
{
    (void)node;
    return 0;
}

static int access_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    struct node *cbw = filter_of(node);
    return cbw ? cbw_snapshot_block_status(cbw, range, ask, extents) : -ENOTSUP;
}

static struct error *access_open(struct node *node, const struct blockdev_options *options,
                                 const struct open_context *context)
{
    struct snapshot_access *access = node_state(node);
    struct error *err = child_open(node, "file", CHILD_DATA, options->u.snapshot_access.file, context, &access->file);
    if (err)
        return err;
    struct node *cbw = filter_of(node);
    if (!cbw)
        return error_new("file: node '%s' is no copy-before-write filter", node_name(child_node(access->file)));
    node_set_length(node, cbw_snapshot_length(cbw));
    node_set_filename(node, node_filename(cbw));
    return NULL;
}

static struct error *access_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                           struct reopen *reopen)
{
    (void)node;
    return reopen_same_child(reopen, "file", options->u.snapshot_access.file);
}

/* It shows what was, so whatever others do is no concern of it. */
static void access_child_permissions(const struct node *node, const struct child *child, unsigned perm, unsigned shared,
                                     unsigned *child_perm, unsigned *child_shared)
{
    (void)node;
    (void)child;
    (void)perm;
    (void)shared;
    *child_perm = PERM_CONSISTENT_READ;
    *child_shared = PERM_ALL;
}

const struct driver snapshot_access_driver = {
    .name = "snapshot-access",
    .kind = DRIVER_FORMAT,
    .state_size = sizeof(struct snapshot_access),
    .stays = true,
    .flushes_children = true,
    .open = access_open,
    .reopen_prepare = access_reopen_prepare,
    .preadv = access_preadv,
    .pwritev = access_pwritev,
    .pwrite_zeroes = access_pwrite_zeroes,
    .pdiscard = access_pdiscard,
    .flush = access_flush,
    .block_status = access_block_status,
    .child_permissions = access_child_permissions,
};
