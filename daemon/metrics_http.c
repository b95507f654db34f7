#include "daemon/metrics_http.h"

#include "blockcore/base/late_library.h"
#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/load_library.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/pool.h"
#include "daemon/metrics_scrape.h"
#include "daemon/metrics_text.h"
#include "schema/codec/text.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PATIENCE_CHECK_MS 250
#define NS_PER_SECOND UINT64_C(1000000000)

#define MHD_FUNCTIONS(F)                                                                                               \
    F(MHD_add_connection)                                                                                              \
    F(MHD_add_response_header)                                                                                         \
    F(MHD_create_response_from_buffer)                                                                                 \
    F(MHD_destroy_response)                                                                                            \
    F(MHD_get_connection_info)                                                                                         \
    F(MHD_queue_response)                                                                                              \
    F(MHD_start_daemon)                                                                                                \
    F(MHD_stop_daemon)
#define MHD_SYMBOL(name) LATE_SYMBOL(mhd, name)

static struct {
    MHD_FUNCTIONS(LATE_MEMBER)
} mhd;
static const struct late_symbol symbols[] = { MHD_FUNCTIONS(MHD_SYMBOL) };
static struct late_library library = LATE_LIBRARY("libmicrohttpd.so.12", "libmicrohttpd12", symbols);

struct metrics_http {
    struct MHD_Daemon *daemon;
    unsigned timeout_s;
    struct timer *patience; /* looks for clients that take too long */
    pthread_mutex_t mutex;
    struct list clients; /* what the library has open: a descriptor here is a socket of ours */

    void (*room)(bool full);
    _Atomic unsigned taken; /* connections that were handed over and are not closed */
    _Atomic bool room_posted;
    struct loop_task room_task;
};

struct client {
    struct list link;
    int fd;
    uint64_t end_ns;
};

/* Room ------------------------------------------------------------------------------------------------------------ */

static void tell_room(struct loop_task *task)
{
    struct metrics_http *http = CONTAINER_OF(task, struct metrics_http, room_task);
    atomic_store(&http->room_posted, false);
    http->room(atomic_load(&http->taken) >= METRICS_CONNECTIONS_MAX);
}

/* Any thread: a connection is no more. */
static void make_room(struct metrics_http *http)
{
    atomic_fetch_sub(&http->taken, 1);
    if (!atomic_exchange(&http->room_posted, true))
        loop_post(loop_control(), &http->room_task);
}

/* Clients that take too long -----------------------------------------------------------------------------------------
 */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static void client_came(struct metrics_http *http, struct MHD_Connection *connection, void **context)
{
    const union MHD_ConnectionInfo *info = mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct client *client = xcalloc(1, sizeof(*client));
    client->fd = info ? info->connect_fd : -1;
    client->end_ns = now_ns() + http->timeout_s * NS_PER_SECOND;
    pthread_mutex_lock(&http->mutex);
    list_append(&http->clients, &client->link);
    pthread_mutex_unlock(&http->mutex);
    *context = client;
}

/* Called before the descriptor is closed. */
static void client_goes(struct metrics_http *http, struct client *client)
{
    pthread_mutex_lock(&http->mutex);
    list_remove(&client->link);
    pthread_mutex_unlock(&http->mutex);
    free(client);
    make_room(http);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        client_came(arg, connection, context);
    else if (*context)
        client_goes(arg, *context);
}

/* The library has a limit for clients that say nothing, and none for those that say or read a byte now and then. */
static void cut_off_slow_clients(void *arg)
{
    struct metrics_http *http = arg;
    const struct client *client;
    uint64_t now = now_ns();
    pthread_mutex_lock(&http->mutex);
    list_for_each (client, &http->clients, link) {
        if (client->end_ns <= now && client->fd >= 0)
            shutdown(client->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&http->mutex);
    timer_start(http->patience, PATIENCE_CHECK_MS);
}

/* Answers, on the library's thread -------------------------------------------------------------------------------- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type, char *data,
                              size_t length, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = mhd.MHD_create_response_from_buffer(length, data, mode);
    if (!response) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free(data);
        return MHD_NO;
    }
    bool good = mhd.MHD_add_response_header(response, "Content-Type", type) == MHD_YES &&
                mhd.MHD_add_response_header(response, "Connection", "close") == MHD_YES;
    if (good && status == MHD_HTTP_METHOD_NOT_ALLOWED)
        good = mhd.MHD_add_response_header(response, "Allow", "GET, HEAD") == MHD_YES;
    enum MHD_Result result = good ? mhd.MHD_queue_response(connection, status, response) : MHD_NO;
    mhd.MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_plainly(struct MHD_Connection *connection, unsigned status, const char *text)
{
    return answer(connection, status, "text/plain; charset=utf-8", (char *)(uintptr_t)text, strlen(text),
                  MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result answer_metrics(struct MHD_Connection *connection)
{
    struct text text = { .may_fail = true };
    bool done = metrics_scrape(&text);
    if (!done || text.failed) {
        text_fini(&text);
        return answer_plainly(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the daemon is too busy\n");
    }
    return answer(connection, MHD_HTTP_OK, METRICS_CONTENT_TYPE, text.data, text.length, MHD_RESPMEM_MUST_FREE);
}

/* Called when the head of a request is there, and again for its body, which nobody wants. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *data, size_t *data_bytes, void **state)
{
    static char seen;
    (void)arg;
    (void)version;
    (void)data;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_plainly(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "metrics are only read\n");
    if (strcmp(path, "/metrics") != 0)
        return answer_plainly(connection, MHD_HTTP_NOT_FOUND, "metrics are at /metrics\n");
    if (!*state || *data_bytes > 0) {
        *state = &seen;
        *data_bytes = 0;
        return MHD_YES;
    }
    return answer_metrics(connection);
}

/* Life ------------------------------------------------------------------------------------------------------------ */

/* On the pool, whose threads get no signals; so does the one that is made here. */
static int start_daemon(void *arg)
{
    struct metrics_http *http = arg;
    http->daemon = mhd.MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC, 0, NULL,
                                        NULL, on_request, http, MHD_OPTION_CONNECTION_LIMIT,
                                        2u * METRICS_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, http->timeout_s,
                                        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)METRICS_REQUEST_BYTES_MAX,
                                        MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_END);
    return 0;
}

static int stop_daemon(void *arg)
{
    struct metrics_http *http = arg;
    mhd.MHD_stop_daemon(http->daemon);
    return 0;
}

struct error *metrics_http_start(unsigned timeout_s, void (*room)(bool full), struct metrics_http **out)
{
    struct error *err = co_load_library(&library);
    if (err)
        return err;
    struct metrics_http *http = xcalloc(1, sizeof(*http));
    http->timeout_s = timeout_s;
    http->room = room;
    http->room_task.run = tell_room;
    pthread_mutex_init(&http->mutex, NULL);
    list_init(&http->clients);
    int ret = co_blocking(NULL, start_daemon, http);
    if (ret < 0 || !http->daemon) {
        pthread_mutex_destroy(&http->mutex);
        free(http);
        return ret < 0 ? error_errno(-ret, "cannot start a thread") : error_new("cannot start an HTTP server");
    }
    http->patience = timer_create_on_loop(cut_off_slow_clients, http);
    timer_start(http->patience, PATIENCE_CHECK_MS);
    *out = http;
    return NULL;
}

void metrics_http_take(struct metrics_http *http, int fd)
{
    struct sockaddr_storage peer;
    socklen_t bytes = sizeof(peer);
    memset(&peer, 0, sizeof(peer));
    if (getpeername(fd, (struct sockaddr *)&peer, &bytes) < 0 || bytes > sizeof(peer)) {
        close_fd(fd); /* it has left already */
        return;
    }
    if (atomic_fetch_add(&http->taken, 1) + 1 >= METRICS_CONNECTIONS_MAX)
        http->room(true);
    /* The library closes what it does not take. */
    if (mhd.MHD_add_connection(http->daemon, fd, (const struct sockaddr *)&peer, bytes) != MHD_YES)
        make_room(http);
}

void metrics_http_stop(struct metrics_http *http)
{
    timer_destroy(http->patience);
    if (co_blocking(NULL, stop_daemon, http) < 0)
        stop_daemon(http); /* no thread is to be had: its own one ends at once */
    metrics_scrape_wait_end();
    while (atomic_load(&http->room_posted))
        co_yield ();
    pthread_mutex_destroy(&http->mutex);
    free(http);
}
