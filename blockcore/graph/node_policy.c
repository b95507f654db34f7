#include "blockcore/graph/node_policy.h"

#include "blockcore/graph/driver.h"

#include <string.h>

static const struct node_policy default_policy = { .any_protocol = true };
static const struct node_policy *policy = &default_policy;

void node_policy_set(const struct node_policy *new_policy)
{
    policy = new_policy;
}

struct error *node_policy_check_driver(const struct driver *driver)
{
    if (policy->any_protocol || driver->kind != DRIVER_PROTOCOL || strncmp(driver->name, "null-", 5) == 0)
        return NULL;
    for (size_t i = 0; i < policy->protocols_count; i++) {
        if (strcmp(policy->protocols[i], driver->name) == 0)
            return NULL;
    }
    return error_new("the policy does not allow the driver '%s' (its 'protocols')", driver->name);
}

struct error *node_policy_check_count(size_t count)
{
    if (policy->nodes_max == 0 || count < policy->nodes_max)
        return policy->no_room ? policy->no_room() : NULL;
    return error_new("there are %zu nodes already, and no more are allowed ('nodes' of the limits)", count);
}
