#include "blockcore/filters/throttle.h"

#include "blockcore/base/memory.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/filters/throttle_group.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/request.h"
#include "blockcore/objects/object.h"
#include "schema/cairn_types.h"

struct throttle {
    struct child *file;
    struct throttle_member member;
    struct object *object;
    struct object_user use;
    char *user; /* text of use */
};

/* Waits until a request may pass. */
static struct child *pass(struct node *node, enum throttle_direction direction, uint64_t bytes) CO_FN;

static struct child *pass(struct node *node, enum throttle_direction direction, uint64_t bytes)
{
    struct throttle *throttle = node_state(node);
    throttle_pass(&throttle->member, direction, bytes);
    return throttle->file;
}

static int throttle_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    return child_preadv(pass(node, THROTTLE_READ, range.bytes), range, iov, flags);
}

static int throttle_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    return child_pwritev(pass(node, THROTTLE_WRITE, range.bytes), range, iov, flags);
}

static int throttle_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    return child_pwrite_zeroes(pass(node, THROTTLE_WRITE, range.bytes), range, flags);
}

static int throttle_pdiscard(struct node *node, struct range range)
{
    return child_pdiscard(pass(node, THROTTLE_WRITE, range.bytes), range);
}

static struct error *find_group(const char *id, struct object **out)
{
    struct object *object = object_find(id);
    if (!object || object_kind_of(object)->type != OBJECT_TYPE_THROTTLE_GROUP)
        return error_new("Throttle group '%s' does not exist", id);
    *out = object;
    return NULL;
}

static void throttle_close(struct node *node)
{
    struct throttle *throttle = node_state(node);
    object_leave(&throttle->use);
    free(throttle->user);
}

static struct error *throttle_open(struct node *node, const struct blockdev_options *options,
                                   const struct open_context *context)
{
    struct throttle *throttle = node_state(node);
    struct error *err = find_group(options->u.throttle.throttle_group, &throttle->object);
    if (err)
        return err;
    throttle->user = xasprintf("node '%s'", node_name(node));
    throttle->use.name = throttle->user;
    object_use(throttle->object, &throttle->use);
    throttle_member_init(&throttle->member, throttle_group_of(throttle->object));
    err = child_open(node, "file", CHILD_FILTERED, options->u.throttle.file, context, &throttle->file);
    if (err)
        throttle_close(node);
    return err;
}

/* Another group. */
static struct error *throttle_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                             struct reopen *reopen)
{
    const struct throttle *throttle = node_state(node);
    struct object *object = NULL;
    struct error *err = find_group(options->u.throttle.throttle_group, &object);
    if (err)
        return err;
    struct throttle *next = xcalloc(1, sizeof(*next));
    next->object = object;
    next->use.name = throttle->user;
    object_use(object, &next->use);
    reopen_set_state(reopen, next);
    return reopen_child(reopen, "file", options->u.throttle.file);
}

static void throttle_reopen_commit(struct node *node, struct reopen *reopen)
{
    struct throttle *throttle = node_state(node);
    CLEANUP(free) struct throttle *next = reopen_state(reopen);
    object_leave(&throttle->use);
    object_leave(&next->use);
    throttle->object = next->object;
    object_use(throttle->object, &throttle->use);
    throttle_member_move(&throttle->member, throttle_group_of(throttle->object));
}

static void throttle_reopen_abort(struct node *node, struct reopen *reopen)
{
    CLEANUP(free) struct throttle *next = reopen_state(reopen);
    (void)node;
    if (next)
        object_leave(&next->use);
}

static const char *const throttle_reopenable[] = { "throttle-group", NULL };

static void throttle_hasten(struct node *node, bool hasty)
{
    struct throttle *throttle = node_state(node);
    throttle_member_hasten(&throttle->member, hasty);
}

const char *throttle_node_limits(const struct node *node, struct throttle_limits *limits)
{
    if (node_driver(node) != &throttle_driver)
        return NULL;
    const struct throttle *throttle = node_state((struct node *)(uintptr_t)node);
    struct throttle_config config;
    throttle_group_config(throttle->member.group, &config);
    throttle_config_describe(&config, limits);
    return object_id(throttle->object);
}

/* Flushes and changes of length pass: they are not I/O that anybody pays for. */
const struct driver throttle_driver = {
    .name = "throttle",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct throttle),
    .write_flags = REQ_FUA | REQ_COMPRESSED,
    .open = throttle_open,
    .close = throttle_close,
    .reopen_prepare = throttle_reopen_prepare,
    .reopen_commit = throttle_reopen_commit,
    .reopen_abort = throttle_reopen_abort,
    .reopenable = throttle_reopenable,
    .preadv = throttle_preadv,
    .pwritev = throttle_pwritev,
    .pwrite_zeroes = throttle_pwrite_zeroes,
    .pdiscard = throttle_pdiscard,
    .hasten = throttle_hasten,
};
