/* Objects of kind "iothread": accepted, remembered, and without effect. The I/O threads are made when the process
 * starts, any request may run on any of them, and connections are spread over all. */
#include "blockcore/objects/kinds.h"

/* QEMU's defaults, for those who ask. */
#define POLL_MAX_NS_DEFAULT 32768
#define THREADS_MAX_DEFAULT 64

struct iothread {
    struct iothread_properties properties; /* all present */
};

static void set(int64_t *to, bool *has, bool given, int64_t value)
{
    *has = true;
    if (given)
        *to = value;
}

/* What is not given stays. */
static void take(struct iothread_properties *to, const struct iothread_properties *from)
{
    set(&to->aio_max_batch, &to->has_aio_max_batch, from->has_aio_max_batch, from->aio_max_batch);
    set(&to->thread_pool_min, &to->has_thread_pool_min, from->has_thread_pool_min, from->thread_pool_min);
    set(&to->thread_pool_max, &to->has_thread_pool_max, from->has_thread_pool_max, from->thread_pool_max);
    set(&to->poll_max_ns, &to->has_poll_max_ns, from->has_poll_max_ns, from->poll_max_ns);
    set(&to->poll_grow, &to->has_poll_grow, from->has_poll_grow, from->poll_grow);
    set(&to->poll_shrink, &to->has_poll_shrink, from->has_poll_shrink, from->poll_shrink);
}

static struct error *check_pool(const struct iothread_properties *properties)
{
    if (properties->thread_pool_min > properties->thread_pool_max)
        return error_new("thread-pool-min: %lld is more than thread-pool-max, %lld",
                         (long long)properties->thread_pool_min, (long long)properties->thread_pool_max);
    return NULL;
}

static const struct iothread_properties defaults = {
    .poll_max_ns = POLL_MAX_NS_DEFAULT,
    .thread_pool_max = THREADS_MAX_DEFAULT,
};

static struct error *iothread_check(const struct object_options *options)
{
    struct iothread_properties properties = defaults;
    take(&properties, &options->u.iothread);
    return check_pool(&properties);
}

static struct error *iothread_create(struct object *object, const struct object_options *options)
{
    struct iothread *iothread = object_state(object);
    iothread->properties = defaults;
    take(&iothread->properties, &options->u.iothread);
    return NULL;
}

static struct error *iothread_change(struct object *object, const struct object_options *given)
{
    struct iothread *iothread = object_state(object);
    struct iothread_properties properties = iothread->properties;
    take(&properties, &given->u.iothread);
    struct error *err = check_pool(&properties);
    if (!err)
        iothread->properties = properties;
    return err;
}

static void iothread_describe(const struct object *object, struct object_options *now, struct arena *arena)
{
    const struct iothread *iothread = object_state(object);
    (void)arena;
    now->u.iothread = iothread->properties;
}

const struct object_kind iothread_kind = {
    .type = OBJECT_TYPE_IOTHREAD,
    .parent = "event-loop-base",
    .state_size = sizeof(struct iothread),
    .check = iothread_check,
    .create = iothread_create,
    .change = iothread_change,
    .describe = iothread_describe,
};
