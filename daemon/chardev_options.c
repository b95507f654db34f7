/* What is said of character devices, on the command line and by commands (schema/chardev.json), in one form. */
#include "blockcore/base/memory.h"
#include "daemon/chardev.h"
#include "daemon/chardev_private.h"
#include "daemon/path.h"
#include "daemon/socket_address.h"

#include <stdlib.h>

#define MS_PER_SECOND 1000u

/* Whatever was said, of both. */
struct said {
    bool server;
    bool wait;
    bool says_wait;
    bool foreign; /* telnet and the like */
    bool has_reconnect;
    int64_t reconnect;
    bool has_reconnect_ms;
    int64_t reconnect_ms;
    struct chardev_access access;
    const char *tls_creds;
    const char *tls_authz;
};

static bool says_access(const struct said *said)
{
    return said->access.mode || said->access.owner || said->access.group;
}

static struct error *check_manner(const struct said *said)
{
    bool reconnects = said->has_reconnect || said->has_reconnect_ms;
    if (said->foreign)
        return error_new("telnet, tn3270, websocket and mux are not supported");
    if (said->has_reconnect && said->has_reconnect_ms)
        return error_new("'reconnect' and 'reconnect-ms' are mutually exclusive");
    if (said->tls_authz && !said->tls_creds)
        return error_new("'tls-authz' option requires 'tls-creds' option");
    if (said->server && reconnects)
        return error_new("'reconnect' is for sockets that connect, not for server=on");
    if (!said->server && said->says_wait)
        return error_new("'wait' is for sockets that listen: add server=on");
    if (!said->server && says_access(said))
        return error_new("'mode', 'owner' and 'group' are for sockets that listen: add server=on");
    return NULL;
}

static struct chardev_manner manner_of(const struct said *said)
{
    int64_t ms = said->has_reconnect_ms ? said->reconnect_ms : 0;
    if (said->has_reconnect)
        ms = said->reconnect * MS_PER_SECOND;
    return (struct chardev_manner){
        .server = said->server,
        .wait = said->wait,
        .reconnect_ms = (uint64_t)ms,
        .access = said->access,
        .tls_creds = said->tls_creds,
        .tls_authz = said->tls_authz,
    };
}

/* The command line ---------------------------------------------------------------------------------------------- */

static struct error *read_address(const struct chardev_socket_options *options, struct socket_address *address)
{
    if ((options->path != NULL) + (options->host != NULL) + (options->fd != NULL) != 1)
        return error_new("one of 'path', 'host' and 'fd' must be given");
    if (options->host && !options->port)
        return error_new("'port' must be given with 'host'");
    *address = (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_UNIX };
    if (options->path) {
        address->u.unix_ = (struct unix_socket_address){
            .path = options->path,
            .has_abstract = true,
            .abstract = options->abstract,
            .has_tight = true,
            .tight = options->tight,
        };
    } else if (options->host) {
        address->type = SOCKET_ADDRESS_TYPE_INET;
        address->u.inet = (struct inet_socket_address){
            .host = options->host,
            .port = options->port,
            .has_to = options->has_to,
            .to = options->to,
            .has_ipv4 = options->has_ipv4,
            .ipv4 = options->ipv4,
            .has_ipv6 = options->has_ipv6,
            .ipv6 = options->ipv6,
        };
    } else {
        address->type = SOCKET_ADDRESS_TYPE_FD;
        address->u.fd.str = options->fd;
    }
    return NULL;
}

static struct said read_manner(const struct chardev_socket_options *options)
{
    return (struct said){
        .server = options->server,
        .wait = options->has_wait ? options->wait : true,
        .says_wait = options->has_wait,
        .foreign = options->telnet || options->tn3270 || options->websocket || options->mux,
        .has_reconnect = options->has_reconnect,
        .reconnect = options->reconnect,
        .has_reconnect_ms = options->has_reconnect_ms,
        .reconnect_ms = options->reconnect_ms,
        .access = { .mode = options->mode, .owner = options->owner, .group = options->group },
        .tls_creds = options->tls_creds,
        .tls_authz = options->tls_authz,
    };
}

static struct error *check_stdio(const struct chardev_stdio *options)
{
    return options->signal ? NULL : error_new("signal=off is not supported");
}

struct error *chardev_check(const struct chardev_options *options)
{
    struct socket_address address;
    if (options->backend == CHARDEV_BACKEND_KIND_STDIO)
        return check_stdio(&options->u.stdio);
    struct said said = read_manner(&options->u.socket);
    struct error *err = read_address(&options->u.socket, &address);
    return err ? err : check_manner(&said);
}

static bool is_file(const struct socket_address *address)
{
    const struct unix_socket_address *unix_ = &address->u.unix_;
    return address->type == SOCKET_ADDRESS_TYPE_UNIX && !(unix_->has_abstract && unix_->abstract);
}

/* A path in the file system that still holds when the daemon has changed its directory. The caller frees it. */
static char *settle_path(struct socket_address *address)
{
    struct unix_socket_address *unix_ = &address->u.unix_;
    if (!is_file(address))
        return NULL;
    char *path = path_for_later(unix_->path);
    unix_->path = path;
    return path;
}

static struct error *make(const char *id, struct socket_address *address, const struct said *said) CO_FN;

static struct error *make(const char *id, struct socket_address *address, const struct said *said)
{
    struct error *err = check_manner(said);
    if (err)
        return err;
    if (says_access(said) && !is_file(address))
        return error_new("'mode', 'owner' and 'group' are for Unix sockets that have a path");
    CLEANUP(free) char *path = settle_path(address);
    struct chardev_manner manner = manner_of(said);
    return chardev_make(id, address, &manner);
}

static struct error *make_stdio(const char *id, const struct chardev_stdio *options)
{
    struct error *err = check_stdio(options);
    return err ? err : chardev_make_stdio(id);
}

struct error *chardev_add(const struct chardev_options *options)
{
    struct socket_address address;
    if (options->backend == CHARDEV_BACKEND_KIND_STDIO)
        return make_stdio(options->id, &options->u.stdio);
    struct said said = read_manner(&options->u.socket);
    struct error *err = read_address(&options->u.socket, &address);
    return err ? err : make(options->id, &address, &said);
}

/* Commands and files -------------------------------------------------------------------------------------------- */

static struct error *add_socket(const char *id, const struct chardev_socket *socket) CO_FN;

static struct error *add_socket(const char *id, const struct chardev_socket *socket)
{
    struct socket_address address = socket_address_of_legacy(socket->addr);
    struct said said = {
        .server = socket->server,
        .wait = socket->server && socket->wait,
        .foreign = socket->telnet || socket->tn3270 || socket->websocket,
        .has_reconnect = socket->has_reconnect,
        .reconnect = socket->reconnect,
        .has_reconnect_ms = socket->has_reconnect_ms,
        .reconnect_ms = socket->reconnect_ms,
        .access = { .mode = socket->mode, .owner = socket->owner, .group = socket->group },
        .tls_creds = socket->tls_creds,
        .tls_authz = socket->tls_authz,
    };
    return make(id, &address, &said);
}

struct error *chardev_add_backend(const char *id, const struct chardev_backend *backend)
{
    struct error *err = backend->type == CHARDEV_BACKEND_KIND_STDIO ? make_stdio(id, backend->u.stdio.data)
                                                                    : add_socket(id, backend->u.socket.data);
    return error_wrap(err, "Failed to add chardev '%s'", id);
}

struct error *chardev_add_config(const struct monitor_config *config)
{
    struct socket_address address = { .type = SOCKET_ADDRESS_TYPE_UNIX, .u.unix_.path = config->path };
    if (config->addr)
        address = *config->addr;
    struct said said = {
        .server = true,
        .access = { .mode = config->mode, .owner = config->owner, .group = config->group },
        .tls_creds = config->tls_creds,
        .tls_authz = config->tls_authz,
    };
    return make(config->path, &address, &said);
}
