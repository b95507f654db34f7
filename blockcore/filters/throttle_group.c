#include "blockcore/filters/throttle_limits.h"
#include "blockcore/objects/kinds.h"

#include "blockcore/base/arena.h"

struct throttle_group {
    struct throttle_config config;
};

#define OLD_RATE(name)                                                                                                 \
    .has_##name = own->has_x_##name, .name = own->x_##name, .has_##name##_max = own->has_x_##name##_max,               \
    .name##_max = own->x_##name##_max, .has_##name##_max_length = own->has_x_##name##_max_length,                      \
    .name##_max_length = own->x_##name##_max_length

/* The older way to say it. */
static struct throttle_limits old_limits(const struct throttle_group_properties *own)
{
    return (struct throttle_limits){
        OLD_RATE(iops_total),
        OLD_RATE(iops_read),
        OLD_RATE(iops_write),
        OLD_RATE(bps_total),
        OLD_RATE(bps_read),
        OLD_RATE(bps_write),
        .has_iops_size = own->has_x_iops_size,
        .iops_size = own->x_iops_size,
    };
}

#define SET_OLD_RATE(name)                                                                                             \
    do {                                                                                                               \
        own->has_x_##name = own->has_x_##name##_max = own->has_x_##name##_max_length = true;                           \
        own->x_##name = limits->name;                                                                                  \
        own->x_##name##_max = limits->name##_max;                                                                      \
        own->x_##name##_max_length = limits->name##_max_length;                                                        \
    } while (0)

static void set_old_limits(struct throttle_group_properties *own, const struct throttle_limits *limits)
{
    SET_OLD_RATE(iops_total);
    SET_OLD_RATE(iops_read);
    SET_OLD_RATE(iops_write);
    SET_OLD_RATE(bps_total);
    SET_OLD_RATE(bps_read);
    SET_OLD_RATE(bps_write);
    own->has_x_iops_size = true;
    own->x_iops_size = limits->iops_size;
}

static struct error *read_config(const struct throttle_group_properties *own, struct throttle_config *config)
{
    struct throttle_limits old = old_limits(own);
    throttle_config_init(config);
    throttle_config_take(config, &old);
    if (own->limits)
        throttle_config_take(config, own->limits);
    return throttle_config_check(config);
}

static struct error *throttle_group_check(const struct object_options *options)
{
    struct throttle_config config;
    return read_config(&options->u.throttle_group, &config);
}

static struct error *throttle_group_create(struct object *object, const struct object_options *options)
{
    struct throttle_group *group = object_state(object);
    return read_config(&options->u.throttle_group, &group->config);
}

static struct error *throttle_group_change(struct object *object, const struct object_options *given)
{
    struct throttle_group *group = object_state(object);
    if (!given->u.throttle_group.limits)
        return error_new("Property cannot be set after initialization");
    struct throttle_config config = group->config;
    throttle_config_take(&config, given->u.throttle_group.limits);
    struct error *err = throttle_config_check(&config);
    if (!err)
        group->config = config;
    return err;
}

static void throttle_group_describe(const struct object *object, struct object_options *now, struct arena *arena)
{
    const struct throttle_group *group = object_state(object);
    struct throttle_limits *limits = arena_alloc(arena, sizeof(*limits));
    throttle_config_describe(&group->config, limits);
    now->u.throttle_group.limits = limits;
    set_old_limits(&now->u.throttle_group, limits);
}

const struct object_kind throttle_group_kind = {
    .type = OBJECT_TYPE_THROTTLE_GROUP,
    .parent = "object",
    .state_size = sizeof(struct throttle_group),
    .check = throttle_group_check,
    .create = throttle_group_create,
    .change = throttle_group_change,
    .describe = throttle_group_describe,
};
