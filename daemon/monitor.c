#include "daemon/monitor.h"

#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/net/acceptor.h"
#include "blockcore/net/listen.h"
#include "daemon/daemon.h"
#include "daemon/path.h"
#include "rpc/server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chardev {
    struct list link;
    char *id;
    char *path;
    struct listening listening;
    struct acceptor *acceptor; /* NULL: no monitor yet, or no more */
    char *name;                /* of the monitor, for messages; NULL: there is none */
    bool pretty;
    enum command_role role;
};

static struct list chardevs = LIST_INIT(chardevs);

static struct chardev *chardev_find(const char *id)
{
    struct chardev *chardev;
    list_for_each (chardev, &chardevs, link) {
        if (strcmp(chardev->id, id) == 0)
            return chardev;
    }
    return NULL;
}

struct error *chardev_check(const struct chardev_options *chardev)
{
    const struct chardev_socket_options *options = &chardev->u.socket;
    if (!options->server)
        return error_new("only sockets that listen are supported here: add server=on");
    if (options->wait)
        return error_new("waiting for a client is not supported: use wait=off");
    return NULL;
}

static void chardev_free(struct chardev *chardev)
{
    list_remove(&chardev->link);
    free(chardev->id);
    free(chardev->path);
    free(chardev->name);
    free(chardev);
}

/* In the list from the start, so that the id is taken while we wait. */
static struct error *CO_FN listen_on(const char *id, const char *path, struct chardev **out)
{
    if (chardev_find(id))
        return error_new("Duplicate ID '%s' for chardev", id);
    struct chardev *chardev = xcalloc(1, sizeof(*chardev));
    chardev->id = xstrdup(id);
    chardev->path = path_for_later(path);
    list_append(&chardevs, &chardev->link);
    struct socket_address address = { .type = SOCKET_ADDRESS_TYPE_UNIX, .u.unix_.path = chardev->path };
    struct error *err = listen_at(&address, &chardev->listening);
    if (err) {
        chardev_free(chardev);
        return error_wrap(err, "Failed to listen on socket '%s'", path);
    }
    *out = chardev;
    return NULL;
}

struct error *chardev_add(const struct chardev_options *options)
{
    struct chardev *chardev;
    struct error *err = chardev_check(options);
    return err ? err : listen_on(options->id, options->u.socket.path, &chardev);
}

static void on_accepted(int fd, void *arg)
{
    struct chardev *chardev = arg;
    rpc_server_add_client(
        daemon_rpc_server(), fd,
        &(struct rpc_client_options){ .name = chardev->name, .pretty = chardev->pretty, .role = chardev->role });
}

static enum command_role role_of(enum monitor_role role)
{
    static const enum command_role roles[] = {
        [MONITOR_ROLE_READ] = COMMAND_READ,
        [MONITOR_ROLE_OPERATE] = COMMAND_OPERATE,
        [MONITOR_ROLE_ADMIN] = COMMAND_ADMIN,
    };
    return roles[role];
}

static void let_in(struct chardev *chardev, bool pretty, enum monitor_role role)
{
    chardev->name = xasprintf("monitor '%s'", chardev->path);
    chardev->pretty = pretty;
    chardev->role = role_of(role);
    chardev->acceptor = acceptor_create(chardev->listening.fds[0], on_accepted, chardev);
    acceptor_hold(chardev->acceptor, false);
}

struct error *monitor_check(const struct monitor_options *options)
{
    if (options->mode != MONITOR_MODE_CONTROL)
        return error_new("mode '%s' is not supported: only QMP is, mode=control", monitor_mode_name(options->mode));
    return NULL;
}

struct error *monitor_add(const struct monitor_options *options)
{
    struct error *err = monitor_check(options);
    if (err)
        return err;
    struct chardev *chardev = chardev_find(options->chardev);
    if (!chardev)
        return error_new("chardev \"%s\" not found", options->chardev);
    if (chardev->name)
        return error_new("Device '%s' is in use", options->chardev);
    let_in(chardev, options->pretty, options->role);
    return NULL;
}

struct error *monitor_add_config(const struct monitor_config *config)
{
    struct chardev *chardev;
    struct error *err = listen_on(config->path, config->path, &chardev);
    if (!err)
        let_in(chardev, config->pretty, config->role);
    return err;
}

void monitors_stop(void)
{
    struct chardev *chardev;
    list_for_each (chardev, &chardevs, link)
        acceptor_destroy(steal(&chardev->acceptor));
}

void monitors_remove(void)
{
    while (!list_empty(&chardevs)) {
        struct chardev *chardev = list_first(&chardevs, struct chardev, link);
        listening_close(&chardev->listening);
        chardev_free(chardev);
    }
}

void monitors_forget(void)
{
    struct chardev *chardev;
    list_for_each (chardev, &chardevs, link)
        unlink(chardev->path);
}
