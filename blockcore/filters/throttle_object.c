/* Objects of kind "throttle-group": what the schema says of limits, for a group. */
#include "blockcore/base/arena.h"
#include "blockcore/filters/throttle_group.h"
#include "blockcore/objects/kinds.h"

/* The state of such an object. */
struct throttle_object {
    struct throttle_group *group;
};

struct throttle_group *throttle_group_of(const struct object *object)
{
    const struct throttle_object *state = object_state(object);
    return state->group;
}

void throttle_groups_open_all(void)
{
    for (struct object *object = object_next(NULL); object; object = object_next(object)) {
        if (object_kind_of(object) == &throttle_group_kind)
            throttle_group_open(throttle_group_of(object));
    }
}

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

static struct error *throttle_object_check(const struct object_options *options)
{
    struct throttle_config config;
    return read_config(&options->u.throttle_group, &config);
}

static struct error *throttle_object_create(struct object *object, const struct object_options *options)
{
    struct throttle_object *state = object_state(object);
    struct throttle_config config;
    struct error *err = read_config(&options->u.throttle_group, &config);
    if (!err)
        state->group = throttle_group_create(&config);
    return err;
}

static void throttle_object_destroy(struct object *object)
{
    throttle_group_destroy(throttle_group_of(object));
}

static struct error *throttle_object_change(struct object *object, const struct object_options *given)
{
    struct throttle_group *group = throttle_group_of(object);
    struct throttle_config config;
    if (!given->u.throttle_group.limits)
        return error_new("Property cannot be set after initialization");
    throttle_group_config(group, &config);
    throttle_config_take(&config, given->u.throttle_group.limits);
    struct error *err = throttle_config_check(&config);
    if (!err)
        throttle_group_configure(group, &config);
    return err;
}

static void throttle_object_describe(const struct object *object, struct object_options *now, struct arena *arena)
{
    struct throttle_limits *limits = arena_alloc(arena, sizeof(*limits));
    struct throttle_config config;
    throttle_group_config(throttle_group_of(object), &config);
    throttle_config_describe(&config, limits);
    now->u.throttle_group.limits = limits;
    set_old_limits(&now->u.throttle_group, limits);
}

const struct object_kind throttle_group_kind = {
    .type = OBJECT_TYPE_THROTTLE_GROUP,
    .parent = "object",
    .state_size = sizeof(struct throttle_object),
    .check = throttle_object_check,
    .create = throttle_object_create,
    .destroy = throttle_object_destroy,
    .change = throttle_object_change,
    .describe = throttle_object_describe,
};
