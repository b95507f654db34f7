#include "blockcore/io/check.h"

#include "blockcore/graph/handle.h"
#include "blockcore/graph/layout.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>

/* On its way to an I/O loop and back. */
struct job {
    struct handle *handle;
    unsigned fix; /* enum check_fix */
    const _Atomic bool *stop;
    struct image_check *result;
};

static int check(void *arg)
{
    struct job *job = arg;
    handle_enter(job->handle);
    struct node *node = handle_node(job->handle);
    int ret = node->driver->check(node, job->fix, job->stop, job->result);
    handle_leave(job->handle);
    return ret;
}

static unsigned fixes_of(enum image_repair repair)
{
    switch (repair) {
    case IMAGE_REPAIR_LEAKS:
        return FIX_LEAKS;
    case IMAGE_REPAIR_ALL:
        return FIX_LEAKS | FIX_ERRORS;
    default:
        return 0;
    }
}

struct error *node_check(struct node *node, enum image_repair repair, struct image_check *result)
{
    return node_check_until(node, repair, NULL, result);
}

struct error *node_check_until(struct node *node, enum image_repair repair, const _Atomic bool *stop,
                               struct image_check *result)
{
    if (!node->driver->check)
        return error_new("driver '%s' of node '%s' cannot check images", node->driver->name, node_name(node));
    bool repairs = repair != IMAGE_REPAIR_NONE;
    if (repairs && node_is_read_only(node))
        return error_new("node '%s' is read-only and cannot be repaired", node_name(node));
    struct job job = { .fix = fixes_of(repair), .stop = stop, .result = result };
    unsigned perm = PERM_CONSISTENT_READ | (repairs ? PERM_WRITE | PERM_RESIZE : 0);
    unsigned shared = repairs ? 0 : PERM_CONSISTENT_READ;
    struct error *err = handle_open_here(node, "blockdev-check", perm, shared, &job.handle);
    if (err)
        return err;
    int ret = co_call_on(loop_io_next(), "blockdev-check", check, &job);
    handle_close(job.handle);
    return ret < 0 ? error_errno(-ret, "cannot check node '%s'", node_name(node)) : NULL;
}
