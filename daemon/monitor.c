#include "daemon/monitor.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/net/complaint.h"
#include "daemon/chardev.h"
#include "daemon/daemon.h"
#include "daemon/full_path.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/monitor_roles.h"
#include "rpc/peer.h"
#include "rpc/server.h"
#include "schema/cairn_descriptors.h"

#include <stdlib.h>

/* A character device has one at most. Lives as long as it, or until it is removed. */
struct monitor {
    struct list link;
    struct chardev *chardev;
    char *name; /* for messages */
    bool pretty;
    struct monitor_roles *roles;
    bool removed;
    size_t clients;
    struct arena arena; /* of given */
    const struct monitor_config *given;
};

static struct list monitors = LIST_INIT(monitors);

static void on_hung_up(void *arg)
{
    struct monitor *monitor = arg;
    monitor->clients--;
    chardev_hung_up(monitor->chardev);
}

static enum command_role role_of(enum monitor_role role)
{
    static const enum command_role roles[] = {
        [MONITOR_ROLE_NONE] = COMMAND_READ, /* and does not come in */
        [MONITOR_ROLE_READ] = COMMAND_READ,
        [MONITOR_ROLE_OPERATE] = COMMAND_OPERATE,
        [MONITOR_ROLE_ADMIN] = COMMAND_ADMIN,
    };
    return roles[role];
}

/* Takes over @why. */
static void turn_away(const struct monitor *monitor, const struct chardev_client *client, const char *who,
                      struct error *why)
{
    complain(who, "%s: %s is not let in: %s", monitor->name, who, error_message(why));
    rpc_server_turn_away(client->fd, why);
    chardev_hung_up(monitor->chardev);
}

static struct error *check_client(const struct monitor *monitor, enum monitor_role role)
{
    if (role == MONITOR_ROLE_NONE)
        return error_new("this monitor gives it the role 'none'");
    if (monitor->clients >= limits_clients_per_monitor())
        return error_new("this monitor has %zu clients already ('clients-per-monitor' of the limits)",
                         monitor->clients);
    return limits_memory();
}

static void on_connected(const struct chardev_client *client, void *arg)
{
    struct monitor *monitor = arg;
    enum monitor_role role = monitor_roles_of(monitor->roles, client->socket, client->peer);
    CLEANUP(free) char *who = rpc_peer_describe(client->peer);
    struct error *why = check_client(monitor, role);
    if (why) {
        turn_away(monitor, client, who, why);
        return;
    }
    monitor->clients++;
    log_about(LOG_LEVEL_INFO, &(struct log_about){ .client = who }, "%s: %s comes in with the role '%s'", monitor->name,
              who, monitor_role_name(role));
    rpc_server_add_client(daemon_rpc_server(), client->fd,
                          &(struct rpc_client_options){
                              .name = monitor->name,
                              .pretty = monitor->pretty,
                              .role = role_of(role),
                              .peer = client->peer,
                              .closed = on_hung_up,
                              .arg = monitor,
                          });
}

static void monitor_free(struct monitor *monitor)
{
    list_remove(&monitor->link);
    monitor_roles_destroy(monitor->roles);
    arena_fini(&monitor->arena);
    free(monitor->name);
    free(monitor);
}

/* Takes over @roles. */
static struct error *let_in(struct chardev *chardev, bool pretty, struct monitor_roles *roles,
                            const struct monitor_config *given)
{
    struct monitor *monitor = xcalloc(1, sizeof(*monitor));
    monitor->chardev = chardev;
    monitor->name = xasprintf("monitor '%s'", chardev_where(chardev));
    monitor->pretty = pretty;
    monitor->roles = roles;
    arena_init_small(&monitor->arena, SIZE_MAX);
    monitor->given = given ? full_path_copy_for_later(&monitor_config_descriptor, given, &monitor->arena) : NULL;
    list_append(&monitors, &monitor->link);
    struct error *err = chardev_take(chardev, on_connected, monitor);
    if (err)
        monitor_free(monitor);
    return err;
}

struct error *monitor_check(const struct monitor_options *options)
{
    if (options->mode != MONITOR_MODE_CONTROL)
        return error_new("mode '%s' is not supported: only QMP is, mode=control", monitor_mode_name(options->mode));
    return monitor_roles_check(options->roles, options->roles_count);
}

struct error *monitor_add(const struct monitor_options *options)
{
    struct monitor_roles *roles = NULL;
    struct error *err = monitor_check(options);
    if (!err)
        err = monitor_roles_create(options->role, options->roles, options->roles_count, &roles);
    if (err)
        return err;
    struct chardev *chardev = chardev_find(options->chardev);
    if (chardev)
        return let_in(chardev, options->pretty, roles, NULL);
    monitor_roles_destroy(roles);
    return error_new("chardev \"%s\" not found", options->chardev);
}

struct error *monitor_add_config(const struct monitor_config *config)
{
    struct monitor_roles *roles = NULL;
    struct error *err = monitor_roles_create(config->role, config->roles, config->roles_count, &roles);
    if (!err)
        err = chardev_add_config(config);
    if (!err)
        return let_in(chardev_find(config->path), config->pretty, roles, config);
    monitor_roles_destroy(roles);
    return err;
}

static struct monitor *find_monitor(const struct chardev *chardev)
{
    struct monitor *monitor;
    list_for_each (monitor, &monitors, link) {
        if (monitor->chardev == chardev)
            return monitor;
    }
    return NULL;
}

struct error *monitor_remove(const char *id, struct command_context *asker)
{
    struct chardev *chardev = chardev_find(id);
    if (!chardev)
        return error_new("chardev \"%s\" not found", id);
    struct monitor *monitor = find_monitor(chardev);
    if (!monitor || monitor->removed)
        return error_new("chardev '%s' has no monitor", id);
    monitor->removed = true; /* others may ask while we wait */
    rpc_server_drop_clients(daemon_rpc_server(), monitor, asker);
    chardev_release(chardev);
    rpc_server_drop_clients(daemon_rpc_server(), monitor, asker); /* who came in meanwhile */
    monitor_free(monitor);
    return NULL;
}

struct error *monitor_remove_config(const char *path, struct command_context *asker)
{
    struct error *err = monitor_remove(path, asker);
    return err ? err : chardev_remove(path);
}

struct monitor *monitor_next(const struct monitor *after)
{
    struct list *link = after ? after->link.next : monitors.next;
    while (link != &monitors && list_entry(link, struct monitor, link)->removed)
        link = link->next;
    return link == &monitors ? NULL : list_entry(link, struct monitor, link);
}

const char *monitor_name(const struct monitor *monitor)
{
    return monitor->name;
}

const struct monitor_config *monitor_config_of(const struct monitor *monitor)
{
    return monitor->given;
}

bool monitor_brought(const char *path, const struct command_context *context)
{
    const struct chardev *chardev = context ? chardev_find(path) : NULL;
    const struct monitor *monitor = chardev ? find_monitor(chardev) : NULL;
    return monitor && command_client_belongs_to(context, monitor);
}

void monitors_remove(void)
{
    chardevs_remove();
    while (!list_empty(&monitors))
        monitor_free(list_first(&monitors, struct monitor, link));
}
