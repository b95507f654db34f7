#include "daemon/reconcile/renew.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/drain.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/runtime/coroutine.h"
#include "daemon/reconcile/apply.h"
#include "daemon/reconcile/in_the_way.h"

#include <errno.h>

/* Nobody reads zeroes from it by mistake. */
static struct error *open_vacancy(uint64_t bytes, struct node **out) CO_FN;

static struct error *open_vacancy(uint64_t bytes, struct node **out)
{
    struct blockdev_options nothing = { .driver = BLOCKDEV_DRIVER_NULL_CO };
    nothing.u.null_co.has_size = true;
    nothing.u.null_co.size = (int64_t)bytes;
    const struct blockdev_ref image = { .kind = BLOCKDEV_REF_KIND_DEFINITION, .u.definition = &nothing };
    const struct blkdebug_inject_error_options fail = {
        .event = BLKDEBUG_EVENT_NONE,
        .has_errno = true,
        .errno_ = EIO,
    };
    struct blockdev_options vacancy = { .driver = BLOCKDEV_DRIVER_BLKDEBUG };
    vacancy.u.blkdebug.image = &image;
    vacancy.u.blkdebug.has_inject_error = true;
    vacancy.u.blkdebug.inject_error = &fail;
    vacancy.u.blkdebug.inject_error_count = 1;
    return node_open(&vacancy, out);
}

struct adding {
    const struct blockdev_options *options;
    struct node *node; /* held, since others may delete it before whoever waits for this has its turn */
};

static struct error *add(void *arg) CO_FN;

static struct error *add(void *arg)
{
    struct adding *adding = arg;
    struct error *err = blockdev_add(adding->options);
    if (!err)
        adding->node = node_ref(node_find(adding->options->node_name));
    return err;
}

/* The users of @vacancy get the node that @options describe, unless it is not wanted any more while it is opened. */
static struct error *move_in(const struct blockdev_options *options, struct node *vacancy, struct apply_wish *wish)
    CO_FN;

static struct error *move_in(const struct blockdev_options *options, struct node *vacancy, struct apply_wish *wish)
{
    struct adding adding = { .options = options };
    struct error *err = apply_run(wish, "opening the new node", add, &adding);
    if (err)
        return err;
    if (node_parent_next(vacancy, NULL))
        err = node_replace(vacancy, adding.node, NULL);
    node_unref(adding.node);
    if (!err)
        return NULL;
    struct error *closing = blockdev_del(options->node_name);
    error_free(closing);
    return err;
}

/* @back: NULL when the old node has its users again. */
static struct error *tell_if_lost(struct error *err, struct error *back, const struct blockdev_options *now, bool *lost)
{
    *lost = back;
    if (back)
        err = error_wrap(err, "node '%s' is lost, and requests of its users fail (%s)", now->node_name,
                         error_message(back));
    error_free(back);
    return err;
}

/* The old node has been left by its users. */
static struct error *exchange(const struct blockdev_options *now, const struct blockdev_options *then,
                              struct node *vacancy, struct apply_wish *wish, bool *lost) CO_FN;

static struct error *exchange(const struct blockdev_options *now, const struct blockdev_options *then,
                              struct node *vacancy, struct apply_wish *wish, bool *lost)
{
    /* Somebody else may have been faster. */
    struct error *err = node_find(now->node_name) ? blockdev_del(now->node_name) : NULL;
    if (err) {
        /* It is there still. */
        struct node *node = node_find(now->node_name);
        struct error *back = node ? node_replace(vacancy, node, NULL) : node_not_found(now->node_name);
        return tell_if_lost(err, back, now, lost);
    }
    err = move_in(then, vacancy, wish);
    return err ? tell_if_lost(err, move_in(now, vacancy, NULL), now, lost) : NULL;
}

struct leaving {
    struct node *old;
    struct node *vacancy;
};

static struct error *go_to_vacancy(void *arg) CO_FN;

static struct error *go_to_vacancy(void *arg)
{
    const struct leaving *leaving = arg;
    return node_replace(leaving->old, leaving->vacancy, NULL);
}

/* All users of @old go to @vacancy. Their requests may not end, and whoever asked lose interest. */
static struct error *leave(struct node *old, struct node *vacancy, struct apply_wish *wish) CO_FN;

static struct error *leave(struct node *old, struct node *vacancy, struct apply_wish *wish)
{
    struct leaving leaving = { .old = node_ref(old), .vacancy = vacancy };
    struct error *err = apply_run(wish, "leaving a node", go_to_vacancy, &leaving);
    node_unref(old);
    return err;
}

struct error *node_renew(const struct blockdev_options *now, const struct blockdev_options *then,
                         struct apply_wish *wish, bool *lost)
{
    struct node *old = node_find(now->node_name);
    struct node *vacancy;
    *lost = false;
    if (!old)
        return node_not_found(now->node_name);
    struct error *err = open_vacancy(node_length(old), &vacancy);
    if (err)
        return err;
    /* Whoever comes to reach it while this lasts is held from the start. */
    struct drain *drain = drain_begin(vacancy);
    old = node_find(now->node_name);
    /* Others had their turn since the plan was made. Who comes while users leave makes that fail. */
    err = old ? in_the_way_of_renewal(old) : node_not_found(now->node_name);
    if (!err && node_parent_next(old, NULL))
        err = leave(old, vacancy, wish);
    if (!err)
        err = exchange(now, then, vacancy, wish, lost);
    drain_end(drain);
    node_unref(vacancy);
    return err;
}
