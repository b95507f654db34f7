#include "blockcore/export/nbd/server.h"

#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/export.h"
#include "blockcore/export/grace.h"
#include "blockcore/export/nbd/connection.h"
#include "blockcore/net/acceptor.h"
#include "blockcore/net/listen.h"

#define MS_PER_SECOND 1000u

struct nbd_server {
    struct listening listening;
    struct acceptor *acceptors[LISTEN_SOCKETS_MAX];
    unsigned acceptors_count;
    struct nbd_connection_options connection_options;
    unsigned connections_max; /* 0: any number */
    unsigned connections_count;
    struct list connections;
    struct grace grace; /* of the one who waits until they are closed */
    bool stopped;       /* it goes with its last connection */
};

static struct {
    struct nbd_server *server;
    bool busy; /* starting or stopping */
} running;

static uint64_t stall_ms = NBD_STALL_MS;

void nbd_server_set_stall_ms(uint64_t ms)
{
    stall_ms = ms;
}

bool nbd_server_is_running(void)
{
    return running.server && !running.busy;
}

unsigned nbd_server_connections(void)
{
    return running.server ? running.server->connections_count : 0;
}

int nbd_server_fd(void)
{
    return nbd_server_is_running() ? running.server->listening.fds[0] : -1;
}

static void free_if_over(struct nbd_server *server)
{
    if (server->stopped && server->connections_count == 0)
        free(server);
}

/* While there are clients enough, later ones wait in the kernel's queue. */
static void hold_if_full(struct nbd_server *server)
{
    bool full = server->connections_max > 0 && server->connections_count >= server->connections_max;
    for (unsigned i = 0; i < server->acceptors_count; i++)
        acceptor_hold(server->acceptors[i], full);
}

static void connection_closed(void *arg)
{
    struct nbd_server *server = arg;
    server->connections_count--;
    hold_if_full(server);
    if (server->connections_count == 0)
        grace_over(&server->grace);
    free_if_over(server);
}

static void connection_accepted(int fd, void *arg)
{
    struct nbd_server *server = arg;
    server->connections_count++;
    nbd_connection_start(fd, &server->connection_options, &server->connections);
    hold_if_full(server);
}

/* There are no objects yet that the ids could mean. */
static struct error *check_options(const struct nbd_server_options *options)
{
    if (options->tls_creds)
        return error_new("No TLS credentials with id '%s'", options->tls_creds);
    if (options->tls_authz)
        return error_new("tls-authz needs tls-creds");
    return NULL;
}

static struct nbd_server *server_create(const struct nbd_server_options *options)
{
    struct nbd_server *server = xcalloc(1, sizeof(*server));
    uint32_t seconds = options->has_handshake_max_seconds ? options->handshake_max_seconds : NBD_HANDSHAKE_SECONDS;
    server->connections_max = options->has_max_connections ? options->max_connections : NBD_CONNECTIONS_MAX;
    server->connection_options = (struct nbd_connection_options){
        .handshake_ms = (uint64_t)seconds * MS_PER_SECOND,
        .stall_ms = stall_ms,
        .single = server->connections_max == 1,
        .closed = connection_closed,
        .arg = server,
    };
    list_init(&server->connections);
    grace_init(&server->grace);
    return server;
}

static struct error *server_listen(struct nbd_server *server, const struct socket_address *address)
{
    struct error *err = listen_at(address, &server->listening);
    if (err)
        return err;
    server->acceptors_count = server->listening.count;
    for (unsigned i = 0; i < server->acceptors_count; i++)
        server->acceptors[i] = acceptor_create(server->listening.fds[i], connection_accepted, server);
    hold_if_full(server);
    return NULL;
}

struct error *nbd_server_start(const struct nbd_server_options *options)
{
    if (running.server || running.busy)
        return error_new("NBD server already running");
    struct error *err = check_options(options);
    if (err)
        return err;
    struct nbd_server *server = server_create(options);
    running.busy = true;
    err = server_listen(server, options->addr);
    running.busy = false;
    if (err) {
        free(server);
        return err;
    }
    running.server = server;
    return NULL;
}

static void stop_listening(struct nbd_server *server)
{
    unsigned count = server->acceptors_count;
    server->acceptors_count = 0;
    for (unsigned i = 0; i < count; i++)
        acceptor_destroy(server->acceptors[i]);
    listening_close(&server->listening);
}

struct error *nbd_server_stop(void)
{
    if (!nbd_server_is_running())
        return error_new("NBD server not running");
    struct nbd_server *server = running.server;
    running.busy = true;
    stop_listening(server);
    nbd_connections_cut(&server->connections);
    export_del_all(BLOCK_EXPORT_TYPE_NBD);
    if (server->connections_count > 0)
        grace_wait(&server->grace, EXPORT_GRACE_MS);
    running.server = NULL;
    running.busy = false;
    server->stopped = true;
    free_if_over(server);
    return NULL;
}
