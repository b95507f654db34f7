#include "blockcore/export/nbd/server.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/export/export.h"
#include "blockcore/export/grace.h"
#include "blockcore/export/nbd/connection.h"
#include "blockcore/export/nbd/nbd_export.h"
#include "blockcore/export/nbd/secure.h"
#include "blockcore/export/nbd/shelf.h"
#include "blockcore/graph/options.h"
#include "blockcore/net/acceptor.h"
#include "blockcore/net/address.h"
#include "blockcore/net/complaint.h"
#include "blockcore/net/listen.h"

#include <stdlib.h>
#include <string.h>

#define MS_PER_SECOND 1000u

/* Connections whose clients have gone but whose requests do not end, that take nobody's place. Each has a MiB and more
 * at worst, so there is a limit. */
#define LINGERING_MAX 1000

enum server_state {
    SERVER_STARTING,
    SERVER_RUNNING,
    SERVER_STOPPING,
    SERVER_STOPPED, /* it goes with its last connection */
};

struct nbd_server {
    char *id;
    enum server_state state;
    struct listening listening;
    struct acceptor *acceptors[LISTEN_SOCKETS_MAX];
    unsigned acceptors_count;
    struct nbd_connection_options connection_options;
    unsigned connections_max; /* 0: any number */
    unsigned connections_count;
    unsigned lingering_count; /* of them, those that take nobody's place */
    bool full;
    struct list connections;
    struct nbd_shelf shelf;
    struct nbd_security security;
    struct list link;   /* in `servers`, until it is stopped */
    struct grace grace; /* of the one who waits until its connections are closed */
    struct arena arena; /* of given */
    const struct nbd_server_options *given;
};

static struct list servers = LIST_INIT(servers);

static uint64_t stall_ms = NBD_STALL_MS;
static uint64_t whole_bytes = NBD_PAYLOAD_MAX;

void nbd_server_set_stall_ms(uint64_t ms)
{
    stall_ms = ms;
}

void nbd_server_set_whole_bytes(uint64_t bytes)
{
    whole_bytes = bytes;
}

/* In whatever state. There are few servers. */
static struct nbd_server *find(const char *id)
{
    struct nbd_server *server;
    list_for_each (server, &servers, link) {
        if (strcmp(server->id, id ? id : NBD_SERVER_DEFAULT_ID) == 0)
            return server;
    }
    return NULL;
}

struct nbd_server *nbd_server_find(const char *id)
{
    struct nbd_server *server = find(id);
    return server && server->state == SERVER_RUNNING ? server : NULL;
}

struct nbd_server *nbd_server_next(const struct nbd_server *after)
{
    struct list *link = after ? after->link.next : servers.next;
    for (; link != &servers; link = link->next) {
        struct nbd_server *server = list_entry(link, struct nbd_server, link);
        if (server->state == SERVER_RUNNING)
            return server;
    }
    return NULL;
}

const struct nbd_server_options *nbd_server_options(const struct nbd_server *server)
{
    return server->given;
}

const char *nbd_server_id(const struct nbd_server *server)
{
    return server->id;
}

struct nbd_shelf *nbd_server_shelf(struct nbd_server *server)
{
    return &server->shelf;
}

unsigned nbd_server_connections(const struct nbd_server *server)
{
    return server->connections_count;
}

int nbd_server_fd(const struct nbd_server *server)
{
    return server->listening.fds[0];
}

static bool is_default(const char *id)
{
    return !id || strcmp(id, NBD_SERVER_DEFAULT_ID) == 0;
}

struct error *nbd_server_not_running(const char *id)
{
    return is_default(id) ? error_new("NBD server not running") : error_new("NBD server '%s' not running", id);
}

struct error *nbd_server_already_running(const char *id)
{
    return is_default(id) ? error_new("NBD server already running") : error_new("NBD server '%s' already running", id);
}

static void server_free(struct nbd_server *server)
{
    list_remove(&server->link);
    nbd_security_fini(&server->security);
    arena_fini(&server->arena);
    free(server->id);
    free(server);
}

static void free_if_over(struct nbd_server *server)
{
    if (server->state == SERVER_STOPPED && server->connections_count == 0)
        server_free(server);
}

/* While there are clients enough, later ones wait in the kernel's queue. */
static void hold_if_full(struct nbd_server *server)
{
    unsigned clients = server->connections_count - (unsigned)min_u64(server->lingering_count, LINGERING_MAX);
    bool full = server->connections_max > 0 && clients >= server->connections_max;
    for (unsigned i = 0; i < server->acceptors_count; i++)
        acceptor_hold(server->acceptors[i], full);
    if (full && !server->full)
        complain(NULL, "NBD server '%s': %u clients are connected, further ones have to wait", server->id, clients);
    server->full = full;
}

/* Its place is free for another client: those of dead storage, who come again and again, would have taken all. */
static void connection_lingers(void *arg)
{
    struct nbd_server *server = arg;
    server->lingering_count++;
    hold_if_full(server);
}

static void connection_closed(bool lingered, void *arg)
{
    struct nbd_server *server = arg;
    server->connections_count--;
    server->lingering_count -= lingered;
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

static struct nbd_server *server_create(const struct nbd_server_options *options)
{
    struct nbd_server *server = xcalloc(1, sizeof(*server));
    uint32_t seconds = options->has_handshake_max_seconds ? options->handshake_max_seconds : NBD_HANDSHAKE_SECONDS;
    server->id = xstrdup(options->id ? options->id : NBD_SERVER_DEFAULT_ID);
    server->connections_max = options->has_max_connections ? options->max_connections : NBD_CONNECTIONS_MAX;
    server->connection_options = (struct nbd_connection_options){
        .shelf = &server->shelf,
        .security = &server->security,
        .handshake_ms = (uint64_t)seconds * MS_PER_SECOND,
        .stall_ms = stall_ms,
        .whole_bytes = whole_bytes,
        .single = server->connections_max == 1,
        .lingers = connection_lingers,
        .closed = connection_closed,
        .arg = server,
    };
    arena_init_small(&server->arena, SIZE_MAX);
    server->given = options_service()->copy_server ? options_service()->copy_server(options, &server->arena) : NULL;
    nbd_shelf_init(&server->shelf);
    list_init(&server->connections);
    grace_init(&server->grace);
    list_append(&servers, &server->link);
    return server;
}

static void server_begin(struct nbd_server *server)
{
    server->state = SERVER_RUNNING;
    nbd_exports_fill(&server->shelf);
    server->acceptors_count = server->listening.count;
    for (unsigned i = 0; i < server->acceptors_count; i++)
        server->acceptors[i] = acceptor_create(server->listening.fds[i], connection_accepted, server);
    hold_if_full(server);
}

struct error *nbd_server_start(const struct nbd_server_options *options)
{
    if (find(options->id))
        return nbd_server_already_running(options->id);
    struct nbd_server *server = server_create(options);
    struct error *err = nbd_security_init(&server->security, server->id, options);
    if (!err)
        err = listen_at(options->addr, &server->listening);
    if (err)
        server_free(server);
    else
        server_begin(server);
    return err;
}

static void stop_listening(struct nbd_server *server)
{
    unsigned count = server->acceptors_count;
    server->acceptors_count = 0;
    for (unsigned i = 0; i < count; i++)
        acceptor_destroy(server->acceptors[i]);
    listening_close(&server->listening);
}

static void CO_FN stop(struct nbd_server *server)
{
    server->state = SERVER_STOPPING;
    stop_listening(server);
    nbd_shelf_clear(&server->shelf);
    nbd_connections_dismiss(&server->connections);
    nbd_security_leave(&server->security);
    nbd_exports_remove_unseen();
    if (server->connections_count > 0)
        grace_wait(&server->grace, EXPORT_GRACE_MS);
    list_remove(&server->link);
    server->state = SERVER_STOPPED;
    free_if_over(server);
}

struct error *nbd_server_stop(const char *id)
{
    struct nbd_server *server = nbd_server_find(id);
    if (!server)
        return nbd_server_not_running(id);
    stop(server);
    return NULL;
}

void nbd_server_stop_all(void)
{
    struct nbd_server *server;
    while ((server = nbd_server_next(NULL)))
        stop(server);
}

static void describe_addresses(const struct nbd_server *server, struct arena *arena, struct nbd_server_info *out)
{
    struct socket_address *addresses = arena_array(arena, server->listening.count, sizeof(*addresses));
    for (unsigned i = 0; i < server->listening.count; i++) {
        if (address_of_listener(server->listening.fds[i], arena, &addresses[out->addresses_count]))
            out->addresses_count++;
    }
    out->addresses = addresses;
}

static void describe_exports(const struct nbd_server *server, struct arena *arena, struct nbd_server_info *out)
{
    struct nbd_shown_export *exports = arena_array(arena, server->shelf.by_name.count, sizeof(*exports));
    uint64_t cursor = 0;
    struct nbd_export *export;
    while (nbd_shelf_list(&server->shelf, &cursor, &export, 1) == 1) {
        exports[out->exports_count++] = (struct nbd_shown_export){
            .id = arena_strdup(arena, nbd_export_id(export)),
            .name = arena_strdup(arena, nbd_export_name(export)),
        };
    }
    out->exports = exports;
}

void nbd_server_describe(const struct nbd_server *server, struct arena *arena, struct nbd_server_info *out)
{
    *out = (struct nbd_server_info){
        .id = arena_strdup(arena, server->id),
        .connections = server->connections_count,
        .max_connections = server->connections_max,
        .handshake_max_seconds = (uint32_t)(server->connection_options.handshake_ms / MS_PER_SECOND),
    };
    describe_addresses(server, arena, out);
    describe_exports(server, arena, out);
    nbd_connections_describe(&server->connections, arena, &out->clients, &out->clients_count);
}
