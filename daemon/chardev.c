#include "daemon/chardev.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/net/acceptor.h"
#include "blockcore/net/address.h"
#include "blockcore/net/connect.h"
#include "blockcore/net/listen.h"
#include "blockcore/net/resolve.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/fd_watch.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"
#include "daemon/account.h"
#include "daemon/chardev_private.h"
#include "daemon/chardev_tls.h"
#include "daemon/log.h"
#include "daemon/stdio_pump.h"
#include "rpc/peer.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct chardev {
    struct list link;
    char *id;
    struct socket_address *address; /* NULL: standard input and output */
    struct stdio_pump *pump;
    char *where;
    bool ready; /* made, and not being removed */
    bool stopped;

    struct chardev_tls *tls; /* NULL: none */
    struct listening listening;
    struct acceptor *acceptors[LISTEN_SOCKETS_MAX];

    bool connects;
    uint64_t reconnect_ms; /* 0: once */
    struct connecting connecting;
    int fd;               /* connected, for the frontend to come; -1: none */
    struct rpc_peer peer; /* at the other end of it */
    bool running;         /* its coroutine */

    void (*connected)(const struct chardev_client *client, void *arg); /* the frontend; NULL: there is none */
    void *arg;
    unsigned clients;
    struct co_queue changed; /* the control thread's: a connection has ended, or it is stopped, or the coroutine has */
};

static struct list chardevs = LIST_INIT(chardevs);

/* Those who wait for a first client. */
static struct co_queue waiting = { .guard = { ATOMIC_FLAG_INIT }, .waiters = LIST_INIT(waiting.waiters) };
static bool waits_for_nobody;

static struct chardev *find_any(const char *id)
{
    struct chardev *chardev;
    list_for_each (chardev, &chardevs, link) {
        if (strcmp(chardev->id, id) == 0)
            return chardev;
    }
    return NULL;
}

struct chardev *chardev_find(const char *id)
{
    struct chardev *chardev = find_any(id);
    return chardev && chardev->ready ? chardev : NULL;
}

const char *chardev_id(const struct chardev *chardev)
{
    return chardev->id;
}

const char *chardev_where(const struct chardev *chardev)
{
    return chardev->where;
}

static char *describe_where(const struct socket_address *address)
{
    if (!address)
        return xstrdup("stdio");
    if (address->type == SOCKET_ADDRESS_TYPE_UNIX)
        return xstrdup(address->u.unix_.path);
    return address_describe(address);
}

/* In the list from the start, so that the id is taken while we wait. */
static struct chardev *chardev_create(const char *id, const struct socket_address *address)
{
    struct chardev *chardev = xcalloc(1, sizeof(*chardev));
    chardev->id = xstrdup(id);
    chardev->address = address ? address_copy(address) : NULL;
    chardev->where = describe_where(address);
    chardev->fd = -1;
    co_queue_init(&chardev->changed);
    list_append(&chardevs, &chardev->link);
    return chardev;
}

static void chardev_free(struct chardev *chardev)
{
    list_remove(&chardev->link);
    if (chardev->fd >= 0)
        close(chardev->fd);
    co_queue_fini(&chardev->changed);
    rpc_peer_fini(&chardev->peer);
    address_free(chardev->address);
    free(chardev->id);
    free(chardev->where);
    free(chardev);
}

/* Connections --------------------------------------------------------------------------------------------------- */

/* Replies are short, and each of them is awaited by somebody. A Unix socket needs no telling. */
static void send_at_once(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void introduce(struct chardev *chardev, int fd, int socket_fd, const struct rpc_peer *peer)
{
    struct chardev_client client = { .fd = fd, .socket = socket_fd, .peer = peer };
    chardev->clients++;
    chardev->connected(&client, chardev->arg);
}

static struct rpc_peer peer_of(int fd)
{
    struct rpc_peer peer = { 0 };
    rpc_peer_read_credentials(&peer, fd);
    if (!peer.has_credentials)
        peer.address = address_of_peer(fd);
    return peer;
}

/* The frontend may have gone meanwhile. */
static void on_secured(const struct chardev_client *client, void *arg)
{
    struct chardev *chardev = arg;
    if (chardev->connected)
        introduce(chardev, client->fd, client->socket, client->peer);
    else
        close(client->fd);
}

static void on_accepted(int fd, void *arg)
{
    struct chardev *chardev = arg;
    send_at_once(fd);
    if (chardev->tls) {
        chardev_tls_accept(chardev->tls, fd, on_secured, chardev);
        return;
    }
    struct rpc_peer peer = peer_of(fd);
    introduce(chardev, fd, fd, &peer);
    rpc_peer_fini(&peer);
}

/* To the frontend that there is, or that will come. */
static void hand_over(struct chardev *chardev)
{
    int fd = chardev->fd;
    if (!chardev->connected || fd < 0)
        return;
    chardev->fd = -1;
    introduce(chardev, fd, fd, &chardev->peer);
    rpc_peer_fini(&chardev->peer);
}

void chardev_hung_up(struct chardev *chardev)
{
    chardev->clients--;
    co_queue_wake_all(&chardev->changed);
}

static void time_over(void *arg)
{
    struct chardev *chardev = arg;
    co_queue_wake_all(&chardev->changed);
}

static void pause_between_attempts(struct chardev *chardev) CO_FN;

static void pause_between_attempts(struct chardev *chardev)
{
    struct timer *timer = timer_create_on_loop(time_over, chardev);
    timer_start(timer, chardev->reconnect_ms);
    co_queue_wait(&chardev->changed, NULL, "the next attempt to connect");
    timer_destroy(timer);
}

/* Of many attempts that fail, the first is told. */
static struct error *connect_once(struct chardev *chardev) CO_FN;

static struct error *connect_once(struct chardev *chardev)
{
    int fd;
    struct error *err = connect_to(&chardev->connecting, chardev->address, &fd);
    if (err)
        return err;
    send_at_once(fd);
    if (chardev->tls) {
        err = chardev_tls_connect(chardev->tls, fd, &fd, &chardev->peer);
        if (err)
            return err;
    } else {
        chardev->peer = peer_of(fd);
    }
    chardev->fd = fd;
    hand_over(chardev);
    return NULL;
}

static bool try_to_connect(struct chardev *chardev, bool failed_before) CO_FN;

static bool try_to_connect(struct chardev *chardev, bool failed_before)
{
    CLEANUP(error_free) struct error *err = connect_once(chardev);
    if (err && !failed_before && !chardev->stopped)
        log_warning("chardev '%s': %s", chardev->id, error_message(err));
    return !err;
}

static bool is_connected(const struct chardev *chardev)
{
    return chardev->fd >= 0 || chardev->clients > 0;
}

static void keep_connected(void *arg)
{
    struct chardev *chardev = arg;
    bool failed = false;
    while (!chardev->stopped) {
        failed = !is_connected(chardev) && !try_to_connect(chardev, failed);
        while (is_connected(chardev) && !chardev->stopped)
            co_queue_wait(&chardev->changed, NULL, "a connection to end");
        if (!chardev->stopped)
            pause_between_attempts(chardev);
    }
    chardev->running = false;
    co_queue_wake_all(&chardev->changed);
}

/* Making -------------------------------------------------------------------------------------------------------- */

static struct error *give_access(struct chardev *chardev, const struct chardev_access *access) CO_FN;

static struct error *give_access(struct chardev *chardev, const struct chardev_access *access)
{
    uid_t owner = LISTEN_KEEP_ID;
    gid_t group = LISTEN_KEEP_ID;
    mode_t mode = access->mode ? (mode_t)strtoul(access->mode, NULL, 8) : 0600;
    if (!access->mode && !access->owner && !access->group)
        return NULL;
    struct error *err = access->owner ? account_find_user(access->owner, &owner) : NULL;
    if (!err && access->group)
        err = account_find_group(access->group, &group);
    return err ? err : listening_give_access(&chardev->listening, owner, group, mode);
}

static struct error *begin_listening(struct chardev *chardev, const struct chardev_access *access) CO_FN;

static struct error *begin_listening(struct chardev *chardev, const struct chardev_access *access)
{
    struct error *err = listen_at(chardev->address, &chardev->listening);
    if (!err)
        err = give_access(chardev, access);
    if (err)
        listening_close(&chardev->listening);
    return error_wrap(err, "Failed to listen on socket '%s'", chardev->where);
}

static struct error *begin_connecting(struct chardev *chardev) CO_FN;

static struct error *begin_connecting(struct chardev *chardev)
{
    if (chardev->reconnect_ms == 0)
        return connect_once(chardev);
    chardev->running = true;
    co_start("chardev", keep_connected, chardev);
    return NULL;
}

struct error *chardev_make_stdio(const char *id)
{
    struct chardev *other;
    int fd;
    if (find_any(id))
        return error_new("Chardev with id '%s' already exists", id);
    list_for_each (other, &chardevs, link) {
        if (!other->address)
            return error_new("standard input and output are used by chardev '%s'", other->id);
    }
    struct chardev *chardev = chardev_create(id, NULL);
    struct error *err = stdio_pump_start(&chardev->pump, &fd);
    if (err) {
        chardev_free(chardev);
        return err;
    }
    chardev->connects = true;
    chardev->fd = fd;
    chardev->peer.address = xstrdup("standard input");
    chardev->ready = true;
    return NULL;
}

static void somebody_came(void *arg)
{
    (void)arg;
    co_queue_wake_all(&waiting);
}

static bool has_visitor(const struct chardev *chardev)
{
    struct pollfd fds[LISTEN_SOCKETS_MAX];
    for (unsigned i = 0; i < chardev->listening.count; i++)
        fds[i] = (struct pollfd){ .fd = chardev->listening.fds[i], .events = POLLIN };
    return poll(fds, chardev->listening.count, 0) > 0;
}

/* The client waits in the kernel's queue until there is a frontend. */
static void wait_for_first_client(struct chardev *chardev) CO_FN;

static void wait_for_first_client(struct chardev *chardev)
{
    struct fd_watch *watches[LISTEN_SOCKETS_MAX];
    unsigned count = chardev->listening.count;
    log_warning("chardev '%s' waits for a client at %s (wait=off does not)", chardev->id, chardev->where);
    for (unsigned i = 0; i < count; i++) {
        watches[i] = fd_watch_create(chardev->listening.fds[i]);
        fd_watch_when_readable(watches[i], somebody_came, NULL);
    }
    while (!has_visitor(chardev) && !waits_for_nobody)
        co_queue_wait(&waiting, NULL, "a first client");
    for (unsigned i = 0; i < count; i++) {
        fd_watch_cancel(watches[i]);
        fd_watch_destroy(watches[i]);
    }
}

static struct error *begin_tls(struct chardev *chardev, const struct chardev_manner *manner)
{
    const struct socket_address *address = chardev->address;
    bool has_host = !manner->server && address->type == SOCKET_ADDRESS_TYPE_INET;
    return chardev_tls_create(
        &(struct chardev_tls_options){
            .creds = manner->tls_creds,
            .authz = manner->tls_authz,
            .server = manner->server,
            .host = has_host ? address->u.inet.host : NULL,
            .name = chardev->id,
        },
        &chardev->tls);
}

struct error *chardev_make(const char *id, const struct socket_address *address, const struct chardev_manner *manner)
{
    if (find_any(id))
        return error_new("Chardev with id '%s' already exists", id);
    struct chardev *chardev = chardev_create(id, address);
    chardev->connects = !manner->server;
    chardev->reconnect_ms = manner->reconnect_ms;
    struct error *err = manner->tls_creds ? begin_tls(chardev, manner) : NULL;
    if (!err)
        err = manner->server ? begin_listening(chardev, &manner->access) : begin_connecting(chardev);
    if (err) {
        chardev_tls_destroy(chardev->tls);
        chardev_free(chardev);
        return err;
    }
    if (manner->server && manner->wait)
        wait_for_first_client(chardev);
    chardev->ready = true;
    return NULL;
}

/* The frontend -------------------------------------------------------------------------------------------------- */

bool chardev_is_taken(const struct chardev *chardev)
{
    return chardev->connected;
}

struct error *chardev_take(struct chardev *chardev, void (*connected)(const struct chardev_client *client, void *arg),
                           void *arg)
{
    if (chardev->connected)
        return error_new("Device '%s' is in use", chardev->id);
    chardev->connected = connected;
    chardev->arg = arg;
    hand_over(chardev);
    for (unsigned i = 0; i < chardev->listening.count; i++) {
        chardev->acceptors[i] = acceptor_create(chardev->listening.fds[i], on_accepted, chardev);
        acceptor_hold(chardev->acceptors[i], false);
    }
    return NULL;
}

static void let_nobody_in(struct chardev *chardev) CO_FN;

static void let_nobody_in(struct chardev *chardev)
{
    for (unsigned i = 0; i < chardev->listening.count; i++)
        acceptor_destroy(steal(&chardev->acceptors[i]));
    if (chardev->tls)
        chardev_tls_cut_handshakes(chardev->tls);
}

void chardev_release(struct chardev *chardev)
{
    let_nobody_in(chardev);
    chardev->connected = NULL;
    chardev->clients = 0;
    co_queue_wake_all(&chardev->changed);
}

/* The end ------------------------------------------------------------------------------------------------------- */

void chardevs_wait_for_nobody(void)
{
    waits_for_nobody = true;
    co_queue_wake_all(&waiting);
}

static void tell_to_stop(struct chardev *chardev)
{
    chardev->stopped = true;
    connect_give_up(&chardev->connecting);
    if (chardev->tls)
        chardev_tls_leave(chardev->tls);
    co_queue_wake_all(&chardev->changed);
}

static void chardev_stop(struct chardev *chardev) CO_FN;

static void chardev_stop(struct chardev *chardev)
{
    tell_to_stop(chardev);
    let_nobody_in(chardev);
    while (chardev->running)
        co_queue_wait(&chardev->changed, NULL, "a chardev to stop");
}

void chardevs_stop(void)
{
    struct chardev *chardev;
    list_for_each (chardev, &chardevs, link)
        tell_to_stop(chardev);
    /* What is being made or removed belongs to a command, which may free it while we wait. */
    list_for_each (chardev, &chardevs, link) {
        if (chardev->ready)
            chardev_stop(chardev);
    }
}

static void chardev_end(struct chardev *chardev) CO_FN;

static void chardev_end(struct chardev *chardev)
{
    chardev->ready = false;
    chardev_stop(chardev);
    listening_close(&chardev->listening);
    if (chardev->fd >= 0)
        close(chardev->fd);
    chardev->fd = -1;
    stdio_pump_stop(steal(&chardev->pump));
    chardev_tls_destroy(steal(&chardev->tls));
    chardev_free(chardev);
}

struct error *chardev_remove(const char *id)
{
    struct chardev *chardev = chardev_find(id);
    if (!chardev)
        return error_new("Chardev '%s' not found", id);
    if (chardev->connected)
        return error_new("Chardev '%s' is busy", id);
    chardev_end(chardev);
    return NULL;
}

void chardevs_remove(void)
{
    while (!list_empty(&chardevs))
        chardev_end(list_first(&chardevs, struct chardev, link));
}

void chardevs_forget(void)
{
    struct chardev *chardev;
    list_for_each (chardev, &chardevs, link) {
        const struct socket_address *address = chardev->address;
        if (address && chardev->listening.count > 0 && address->type == SOCKET_ADDRESS_TYPE_UNIX &&
            !address->u.unix_.abstract)
            unlink(address->u.unix_.path);
    }
}

/* Told to clients ----------------------------------------------------------------------------------------------- */

/* As QEMU spells it: "disconnected:tcp:127.0.0.1:4444,server=on". */
static const char *spell(const struct chardev *chardev, struct arena *arena)
{
    if (!chardev->address)
        return chardev->where;
    struct socket_address address = *chardev->address;
    if (chardev->listening.count > 0)
        (void)address_of_listener(chardev->listening.fds[0], arena, &address);
    CLEANUP(free) char *where = address_describe(&address);
    return arena_printf(arena, "%s%s%s%s", is_connected(chardev) ? "" : "disconnected:",
                        address.type == SOCKET_ADDRESS_TYPE_INET ? "tcp:" : "", where,
                        chardev->connects ? "" : ",server=on");
}

void chardevs_describe(struct arena *arena, struct chardev_info_list *out)
{
    size_t count = 0;
    struct chardev *chardev;
    list_for_each (chardev, &chardevs, link)
        count++;
    out->items = arena_array(arena, count, sizeof(*out->items));
    out->count = 0;
    list_for_each (chardev, &chardevs, link) {
        if (!chardev->ready)
            continue;
        out->items[out->count++] = (struct chardev_info){
            .label = arena_strdup(arena, chardev->id),
            .filename = spell(chardev, arena),
            .frontend_open = chardev->connected,
        };
    }
}
