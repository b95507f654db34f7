/* preallocate - a filter that takes storage for a growing file in large pieces
 *
 *     qcow2 --> preallocate --> file        what is taken ahead lies past the end of the filter, where nobody looks
 *
 *     0 .......... data ......... length | ... zeroes, prealloc-size, up to a multiple of prealloc-align ... | end
 *
 * The filter is as long as the file until the first write past the end takes storage; from then on it keeps a length of
 * its own, and the file is longer. The end is cut off again when nobody who might write is left, when the node is
 * closed, and before a change of length. It works for users who may write and change the length, and who have the file
 * to themselves meanwhile. Where storage cannot be taken (no space, no way), writes lengthen the file as they would
 * without the filter.
 *
 * With prealloc-size 0 it takes nothing and holds nothing: blockdev-reopen with that comes before the filter is taken
 * out from under an image that is being written.
 *
 * A write past the end counts as part of the length from its beginning, so that cutting the end off never hits it. */
#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/graph/child.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/notice.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/sync.h"
#include "schema/cairn_types.h"

#include <errno.h>

#define GROWING (PERM_WRITE | PERM_RESIZE)

struct preallocate {
    struct child *file;
    uint64_t align;
    uint64_t size;          /* 0: nothing is taken */
    bool keeps_permissions; /* control thread: the end may have to be cut off */
    _Atomic bool active;    /* users may write and change the length */
    struct co_mutex lock;
    bool ahead GUARDED_BY(lock); /* the filter has a length of its own */
    bool impossible GUARDED_BY(lock);
    uint64_t end GUARDED_BY(lock); /* of the file, while ahead */
};

/* With the lock held --------------------------------------------------------------------------------------------- */

/* Storage for a write that ends at @bytes, and for those after it. */
static void take_ahead(struct node *node, struct preallocate *preallocate, uint64_t bytes) CO_FN;

static void take_ahead(struct node *node, struct preallocate *preallocate, uint64_t bytes)
{
    uint64_t length = node_length(node);
    uint64_t from = preallocate->ahead ? preallocate->end : length;
    uint64_t end = align_up(bytes + preallocate->size, preallocate->align);
    if (preallocate->size == 0 || preallocate->impossible || end > NODE_LENGTH_MAX)
        return;
    if (child_pwrite_zeroes(preallocate->file, range_between(from, end), REQ_NO_FALLBACK) < 0) {
        preallocate->impossible = true;
        return;
    }
    if (!preallocate->ahead) {
        node_set_length(node, length);
        node_follow_length(node, NULL);
        preallocate->ahead = true;
    }
    preallocate->end = end;
}

static int cut_off(struct node *node, struct preallocate *preallocate) CO_FN;

static int cut_off(struct node *node, struct preallocate *preallocate)
{
    preallocate->impossible = false;
    if (!preallocate->ahead)
        return 0;
    int ret = child_truncate(preallocate->file, node_length(node), TRUNCATE_SPARSE);
    if (ret < 0)
        return ret;
    node_follow_length(node, preallocate->file);
    preallocate->ahead = false;
    return 0;
}

/* Requests ------------------------------------------------------------------------------------------------------- */

static void make_room(struct node *node, struct preallocate *preallocate, uint64_t bytes) CO_FN;

static void make_room(struct node *node, struct preallocate *preallocate, uint64_t bytes)
{
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&preallocate->lock);
    if (bytes > (preallocate->ahead ? preallocate->end : node_length(node)))
        take_ahead(node, preallocate, bytes);
    if (!preallocate->ahead)
        return;
    preallocate->end = max_u64(preallocate->end, bytes);
    node_grow_length(node, bytes);
}

/* Before a write. */
static struct child *prepare(struct node *node, struct range range) CO_FN;

static struct child *prepare(struct node *node, struct range range)
{
    struct preallocate *preallocate = node_state(node);
    if (range_end(range) > node_length(node) && atomic_load(&preallocate->active))
        make_room(node, preallocate, range_end(range));
    return preallocate->file;
}

static int preallocate_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    return child_pwritev(prepare(node, range), range, iov, flags);
}

static int preallocate_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    return child_pwrite_zeroes(prepare(node, range), range, flags);
}

static int preallocate_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    struct preallocate *preallocate = node_state(node);
    CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&preallocate->lock);
    int ret = cut_off(node, preallocate);
    return ret < 0 ? ret : child_truncate(preallocate->file, bytes, mode);
}

/* Permissions ---------------------------------------------------------------------------------------------------- */

static void preallocate_child_permissions(const struct node *node, const struct child *child, unsigned perm,
                                          unsigned shared, unsigned *child_perm, unsigned *child_shared)
{
    const struct preallocate *preallocate = node_state((struct node *)(uintptr_t)node);
    bool grows = preallocate->size > 0 && ((perm & GROWING) == GROWING || preallocate->keeps_permissions);
    (void)child;
    *child_perm = perm | (grows ? GROWING : 0);
    *child_shared = shared & ~(unsigned)(grows ? GROWING : 0);
}

/* Nobody writes any more. */
static struct error *rest(struct node *node, struct preallocate *preallocate) CO_FN;

static struct error *rest(struct node *node, struct preallocate *preallocate)
{
    co_mutex_lock(&preallocate->lock);
    int ret = cut_off(node, preallocate);
    co_mutex_unlock(&preallocate->lock);
    if (ret < 0)
        return error_errno(-ret, "cannot cut off what was taken ahead in node '%s'",
                           node_name(child_node(preallocate->file)));
    preallocate->keeps_permissions = false;
    return child_update_permissions(preallocate->file);
}

static struct error *preallocate_set_permissions(struct node *node, unsigned perm, unsigned shared)
{
    struct preallocate *preallocate = node_state(node);
    bool active = (perm & GROWING) == GROWING;
    (void)shared;
    atomic_store(&preallocate->active, active);
    if (active && preallocate->size > 0)
        preallocate->keeps_permissions = true;
    return !active && preallocate->keeps_permissions ? rest(node, preallocate) : NULL;
}

/* Options -------------------------------------------------------------------------------------------------------- */

static struct error *check_options(const struct blockdev_options_preallocate *own)
{
    if (!is_power_of_two((uint64_t)own->prealloc_align))
        return error_new("prealloc-align: %lld is not a power of two", (long long)own->prealloc_align);
    if (own->prealloc_size > (int64_t)NODE_LENGTH_MAX || own->prealloc_align > (int64_t)NODE_LENGTH_MAX)
        return error_new("prealloc-size and prealloc-align are at most %llu", (unsigned long long)NODE_LENGTH_MAX);
    return NULL;
}

static void take_options(struct preallocate *preallocate, const struct blockdev_options_preallocate *own)
{
    preallocate->align = (uint64_t)own->prealloc_align;
    preallocate->size = (uint64_t)own->prealloc_size;
}

static struct error *preallocate_open(struct node *node, const struct blockdev_options *options,
                                      const struct open_context *context)
{
    const struct blockdev_options_preallocate *own = &options->u.preallocate;
    struct preallocate *preallocate = node_state(node);
    struct error *err = check_options(own);
    if (err)
        return err;
    take_options(preallocate, own);
    co_mutex_init(&preallocate->lock);
    return child_open(node, "file", CHILD_FILTERED, own->file, context, &preallocate->file);
}

/* What could not be cut off before, may be now. */
static void preallocate_close(struct node *node)
{
    struct preallocate *preallocate = node_state(node);
    struct error *err = preallocate->keeps_permissions ? rest(node, preallocate) : NULL;
    if (err)
        notice_give(&(struct notice){
            .kind = NOTICE_FLUSH_FAILED,
            .node_name = node_name(node),
            .message = error_message(err),
            .fatal = true,
        });
    error_free(err);
    co_mutex_fini(&preallocate->lock);
}

/* The permissions to begin with it would have to be asked for first. */
static struct error *preallocate_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                                struct reopen *reopen)
{
    const struct blockdev_options_preallocate *own = &options->u.preallocate;
    const struct preallocate *preallocate = node_state(node);
    struct error *err = check_options(own);
    if (!err && preallocate->size == 0 && own->prealloc_size > 0)
        err = error_new("prealloc-size: a filter that takes nothing does not begin to; add another one");
    if (err)
        return err;
    struct preallocate *next = xcalloc(1, sizeof(*next));
    take_options(next, own);
    reopen_set_state(reopen, next);
    return reopen_child(reopen, "file", own->file);
}

static struct error *preallocate_reopen_enter(struct node *node, struct reopen *reopen)
{
    struct preallocate *preallocate = node_state(node);
    const struct preallocate *next = reopen_state(reopen);
    if (next->size > 0)
        return NULL;
    co_mutex_lock(&preallocate->lock);
    int ret = cut_off(node, preallocate);
    co_mutex_unlock(&preallocate->lock);
    return ret < 0 ? error_errno(-ret, "cannot cut off what was taken ahead") : NULL;
}

static void preallocate_reopen_commit(struct node *node, struct reopen *reopen)
{
    struct preallocate *preallocate = node_state(node);
    CLEANUP(free) struct preallocate *next = reopen_state(reopen);
    preallocate->align = next->align;
    preallocate->size = next->size;
    preallocate->keeps_permissions = preallocate->keeps_permissions && next->size > 0;
}

static void preallocate_reopen_abort(struct node *node, struct reopen *reopen)
{
    (void)node;
    free(reopen_state(reopen));
}

/* They are less, so that nobody can mind. */
static void preallocate_reopen_end(struct node *node, struct reopen *reopen)
{
    const struct preallocate *preallocate = node_state(node);
    (void)reopen;
    error_free(child_update_permissions(preallocate->file));
}

static const char *const preallocate_reopenable[] = { "prealloc-align", "prealloc-size", NULL };

const struct driver preallocate_driver = {
    .name = "preallocate",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct preallocate),
    .write_flags = REQ_FUA | REQ_COMPRESSED,
    .open = preallocate_open,
    .close = preallocate_close,
    .reopen_prepare = preallocate_reopen_prepare,
    .reopen_enter = preallocate_reopen_enter,
    .reopen_commit = preallocate_reopen_commit,
    .reopen_abort = preallocate_reopen_abort,
    .reopen_end = preallocate_reopen_end,
    .reopenable = preallocate_reopenable,
    .pwritev = preallocate_pwritev,
    .pwrite_zeroes = preallocate_pwrite_zeroes,
    .truncate = preallocate_truncate,
    .child_permissions = preallocate_child_permissions,
    .set_permissions = preallocate_set_permissions,
};
