#include "daemon/policy.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/node_policy.h"
#include "blockcore/net/host_policy.h"
#include "daemon/limits.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <stdlib.h>

static struct path_list paths;
static bool has_paths;

const struct path_list *policy_paths(void)
{
    return has_paths ? &paths : NULL;
}

struct error *policy_resolve_paths(const char *what, const char *const *given, size_t count, struct path_list *out)
{
    const char **real = xcalloc(count + 1, sizeof(*real));
    *out = (struct path_list){ .paths = real };
    for (size_t i = 0; i < count; i++) {
        real[i] = realpath(given[i], NULL);
        if (!real[i])
            return error_errno(errno, "%s[%zu]: cannot look up '%s'", what, i, given[i]);
        out->count++;
    }
    return NULL;
}

static void set_hosts(const struct policy_options *options)
{
    static struct host_list connect;
    static struct host_list listen;
    connect = (struct host_list){ .patterns = options->hosts, .count = options->hosts_count };
    listen = (struct host_list){ .patterns = options->listen, .count = options->listen_count };
    host_policy_set(options->has_hosts ? &connect : NULL, options->has_listen ? &listen : NULL);
}

static void set_nodes(const struct policy_options *options, const struct limits_options *limits)
{
    static struct node_policy nodes;
    nodes = (struct node_policy){ .any_protocol = !options || !options->has_protocols };
    if (!nodes.any_protocol) {
        nodes.protocols = options->protocols;
        nodes.protocols_count = options->protocols_count;
    }
    nodes.nodes_max = limits && limits->has_nodes ? limits->nodes : 0;
    nodes.no_room = limits_memory;
    node_policy_set(&nodes);
}

static void set_paths(void)
{
    has_paths = true;
    path_policy_set(&paths);
}

void policy_imply_paths(const struct path_list *implied)
{
    paths = *implied;
    set_paths();
}

struct error *policy_begin(const struct policy_options *options, const struct limits_options *limits)
{
    set_nodes(options, limits);
    if (!options)
        return NULL;
    set_hosts(options);
    if (!options->has_paths)
        return NULL;
    struct error *err = policy_resolve_paths("paths", options->paths, options->paths_count, &paths);
    if (!err)
        set_paths();
    return err;
}
