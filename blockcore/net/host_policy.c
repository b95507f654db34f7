#include "blockcore/net/host_policy.h"

#include "blockcore/base/memory.h"
#include "blockcore/objects/glob.h"

static const struct host_list *hosts;
static const struct host_list *places;

void host_policy_set(const struct host_list *connect, const struct host_list *listen)
{
    hosts = connect;
    places = listen;
}

bool host_policy_is_set(void)
{
    return hosts;
}

static bool is_allowed(const struct host_list *list, const char *host)
{
    for (size_t i = 0; list && i < list->count; i++) {
        if (glob_matches(list->patterns[i], host))
            return true;
    }
    return !list;
}

struct error *host_policy_check_connect(const char *host)
{
    if (is_allowed(hosts, host))
        return NULL;
    return error_new("the policy does not allow connections to '%s' (its 'hosts')", host);
}

struct error *host_policy_check_listen(const char *host)
{
    if (is_allowed(places, host))
        return NULL;
    return error_new("the policy does not allow to listen at '%s' (its 'listen')", host);
}
