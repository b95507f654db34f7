#include "blockcore/export/nbd/connection.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"
#include "blockcore/export/nbd/budget.h"
#include "blockcore/export/nbd/connection_private.h"
#include "blockcore/net/address.h"
#include "blockcore/net/complaint.h"
#include "schema/cairn_types.h"

#include <assert.h>

/* Of the control thread. */
static uint64_t last_number;

static void unref(struct nbd_connection *conn)
{
    if (atomic_fetch_sub(&conn->refs, 1) != 1)
        return;
    free(conn->peer);
    free(conn);
}

void nbd_connection_wake(struct nbd_connection *conn)
{
    struct co_event *event = conn->parked;
    conn->parked = NULL;
    if (event)
        co_event_set(event);
}

void nbd_connection_park(struct nbd_connection *conn, const char *what)
{
    struct co_event event;
    co_event_init(&event);
    assert(!conn->parked);
    conn->parked = &event;
    co_event_wait(&event, what);
}

static void wake_up(void *arg);

void nbd_connection_cut(struct nbd_connection *conn)
{
    if (conn->state == NBD_CUT || !conn->stream)
        return;
    conn->state = NBD_CUT;
    conn->gives_up = true;
    stream_cut(conn->stream);
    if (!conn->sending)
        nbd_replies_drop(conn);
    nbd_connection_wake(conn);
    nbd_budget_kick();
    if (conn->asleep)
        wake_up(conn);
}

void nbd_connection_complain(const struct nbd_connection *conn, const char *what)
{
    complain(conn->peer, "NBD client %s: %s", conn->peer, what);
}

static void handshake_took_too_long(void *arg)
{
    nbd_connection_complain(arg, "its handshake took too long");
    nbd_connection_cut(arg);
}

static bool handshake_in_time(struct nbd_connection *conn)
{
    conn->deadline = timer_create_on_loop(handshake_took_too_long, conn);
    if (conn->options.handshake_ms > 0)
        timer_start(conn->deadline, conn->options.handshake_ms);
    bool chosen = nbd_handshake(conn);
    timer_destroy(conn->deadline);
    conn->deadline = NULL;
    return chosen && conn->state != NBD_CUT;
}

/* Dismissal ------------------------------------------------------------------------------------------------------ */

/* What was asked of who is to go has so many ticks to end; a client that takes none of its replies in one has none
 * left. */
#define TICK_MS 100
#define TICKS 5

struct dismissal {
    struct timer *timer;
    uint64_t sent; /* bytes of replies, at the last tick */
    unsigned ticks_left;
    bool has_waited; /* there were replies to send at the last tick */
    bool was_busy;   /* there may be replies on their way */
};

static bool is_busy(const struct nbd_connection *conn)
{
    return conn->in_flight > 0 || conn->sending;
}

static void dismissal_tick(void *arg)
{
    struct nbd_connection *conn = arg;
    struct dismissal *dismissal = conn->dismissal;
    bool waits = !list_empty(&conn->replies);
    bool deaf = waits && dismissal->has_waited && conn->sent == dismissal->sent;
    dismissal->has_waited = waits;
    dismissal->sent = conn->sent;
    if (deaf || --dismissal->ticks_left == 0)
        nbd_connection_cut(conn);
    else
        timer_start(dismissal->timer, TICK_MS);
}

static void dismissal_begin(struct nbd_connection *conn)
{
    conn->dismissal = xmalloc(sizeof(*conn->dismissal));
    *conn->dismissal = (struct dismissal){
        .timer = timer_create_on_loop(dismissal_tick, conn),
        .sent = conn->sent,
        .ticks_left = TICKS,
        .has_waited = !list_empty(&conn->replies),
        .was_busy = conn->state == NBD_FINISHING && (!conn->asleep || is_busy(conn) || stream_has_output(conn->stream)),
    };
    timer_start(conn->dismissal->timer, TICK_MS);
}

static void CO_FN dismissal_end(struct nbd_connection *conn)
{
    if (conn->dismissal && conn->dismissal->was_busy && conn->state != NBD_CUT)
        stream_finish(conn->stream, TICK_MS);
    if (conn->dismissal)
        timer_destroy(conn->dismissal->timer);
    free(conn->dismissal);
    conn->dismissal = NULL;
}

static void dismiss(struct nbd_connection *conn)
{
    if (conn->state == NBD_CUT || !conn->stream)
        return;
    if (conn->state == NBD_TRANSMISSION)
        conn->state = NBD_FINISHING;
    conn->gives_up = true;
    dismissal_begin(conn);
    stream_wake_reader(conn->stream);
    nbd_connection_wake(conn);
    nbd_budget_kick();
    if (conn->asleep)
        wake_up(conn);
}

/* The end -------------------------------------------------------------------------------------------------------- */

/* On the control thread: the export may go now. */
static int leave_everything(void *arg)
{
    struct nbd_connection *conn = arg;
    if (conn->export)
        nbd_export_detach(conn->export, &conn->in_export);
    list_remove(&conn->in_server);
    conn->options.closed(conn->lingers, conn->options.arg);
    return 0;
}

static int linger(void *arg)
{
    struct nbd_connection *conn = arg;
    conn->lingers = true;
    conn->options.lingers(conn->options.arg);
    return 0;
}

static void lose_patience(void *arg)
{
    struct nbd_connection *conn = arg;
    conn->impatient = true;
    nbd_connection_wake(conn);
}

static void CO_FN wait_for_requests(struct nbd_connection *conn)
{
    conn->deadline = timer_create_on_loop(lose_patience, conn);
    timer_start(conn->deadline, conn->options.stall_ms);
    while (is_busy(conn) && !conn->impatient)
        nbd_connection_park(conn, "requests that have not ended");
    timer_destroy(conn->deadline);
    conn->deadline = NULL;
    if (is_busy(conn))
        co_call_on(loop_control(), "an NBD connection that lingers", linger, conn);
    while (is_busy(conn))
        nbd_connection_park(conn, "requests that do not end");
}

static void CO_FN connection_end(struct nbd_connection *conn)
{
    if (is_busy(conn))
        wait_for_requests(conn);
    dismissal_end(conn);
    stream_destroy(conn->stream);
    conn->stream = NULL;
    TRACE(nbd_closed, conn->peer, conn->fd);
    co_call_on(loop_control(), "end of an NBD connection", leave_everything, conn);
    unref(conn);
}

/* The main coroutine goes on here after the handshake, and begins here when the connection slept. */
static void connection_go_on(void *arg)
{
    struct nbd_connection *conn = arg;
    if (conn->gives_up || !nbd_receive(conn)) {
        connection_end(conn);
        return;
    }
    conn->asleep = true;
    stream_when_readable(conn->stream, wake_up, conn);
}

static void wake_up(void *arg)
{
    struct nbd_connection *conn = arg;
    conn->asleep = false;
    co_start("NBD connection", connection_go_on, conn);
}

static void connection_main(void *arg)
{
    struct nbd_connection *conn = arg;
    conn->stream = stream_create(conn->fd);
    TRACE(nbd_connected, conn->peer, conn->fd);
    if (handshake_in_time(conn))
        conn->state = NBD_TRANSMISSION;
    else
        nbd_connection_cut(conn);
    connection_go_on(conn);
}

void nbd_connection_start(int fd, const struct nbd_connection_options *options, struct list *connections)
{
    struct nbd_connection *conn = xcalloc(1, sizeof(*conn));
    conn->fd = fd;
    conn->peer = address_of_peer(fd);
    conn->options = *options;
    conn->since_ns = loop_now_ns();
    conn->number = ++last_number;
    conn->loop = loop_io_next();
    conn->refs = 1;
    list_init(&conn->replies);
    list_init(&conn->in_export);
    list_append(connections, &conn->in_server);
    co_start_on(conn->loop, "NBD connection", connection_main, conn);
}

void nbd_connections_describe(const struct list *connections, struct arena *arena,
                              const struct nbd_client_info **clients, size_t *count)
{
    const struct nbd_connection *conn;
    size_t used = 0;
    *count = 0;
    list_for_each (conn, connections, in_server)
        ++*count;
    struct nbd_client_info *infos = arena_array(arena, *count, sizeof(*infos));
    list_for_each (conn, connections, in_server) {
        infos[used++] = (struct nbd_client_info){
            .address = arena_strdup(arena, conn->peer),
            .export_ = conn->export ? arena_strdup(arena, nbd_export_id(conn->export)) : NULL,
        };
    }
    *clients = infos;
}

void nbd_export_connections_describe(const struct list *connections, struct arena *arena,
                                     const struct export_client_statistics **clients, size_t *count)
{
    const struct nbd_connection *conn;
    size_t used = 0;
    *count = 0;
    list_for_each (conn, connections, in_export)
        ++*count;
    struct export_client_statistics *items = arena_array(arena, *count, sizeof(*items));
    list_for_each (conn, connections, in_export) {
        items[used++] = (struct export_client_statistics){
            .number = conn->number,
            .address = arena_strdup(arena, conn->peer),
            .age_ns = loop_now_ns() - conn->since_ns,
            .in_flight = atomic_load_explicit(&conn->in_flight, memory_order_relaxed),
            .requests = atomic_load_explicit(&conn->requests, memory_order_relaxed),
            .bytes_read = atomic_load_explicit(&conn->bytes_read, memory_order_relaxed),
            .bytes_written = atomic_load_explicit(&conn->bytes_written, memory_order_relaxed),
        };
    }
    *clients = items;
}

static void run_dismiss(struct loop_task *task)
{
    struct nbd_connection *conn = CONTAINER_OF(task, struct nbd_connection, dismiss_task);
    dismiss(conn);
    unref(conn);
}

/* The loop sees this after the start of the connection, because both were posted from here. */
static void post_dismiss(struct nbd_connection *conn)
{
    if (conn->dismiss_posted)
        return;
    conn->dismiss_posted = true;
    conn->dismiss_task.run = run_dismiss;
    atomic_fetch_add(&conn->refs, 1);
    loop_post(conn->loop, &conn->dismiss_task);
}

void nbd_connections_dismiss(struct list *connections)
{
    struct nbd_connection *conn;
    list_for_each (conn, connections, in_server)
        post_dismiss(conn);
}

void nbd_export_connections_dismiss(struct list *connections)
{
    struct nbd_connection *conn;
    list_for_each (conn, connections, in_export)
        post_dismiss(conn);
}
