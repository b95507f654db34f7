#include "rpc/session.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"
#include "blockcore/runtime/fd_close.h"
#include "blockcore/runtime/loop_uv.h"
#include "blockcore/runtime/passed_fd.h"
#include "rpc/request.h"
#include "rpc/server_private.h"
#include "schema/codec/encode.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_poll(uv_poll_t *poll, int status, int events);

struct session *session_create(struct rpc_server *server, int fd, const struct rpc_client_options *options)
{
    struct session *session = xcalloc(1, sizeof(*session));
    if (uv_poll_init(loop_uv(loop_control()), &session->poll, fd) != 0) {
        free(session);
        return NULL;
    }
    session->server = server;
    session->number = ++server->clients_ever;
    session->name = xasprintf("%s client %llu", options->name, (unsigned long long)session->number);
    session->fd = fd;
    session->pretty = options->pretty;
    session->role = options->role;
    session->since_ns = uv_hrtime();
    if (options->peer)
        session->peer = rpc_peer_copy(options->peer);
    session->on_closed = options->closed;
    session->belongs_to = options->arg;
    session->reader = json_reader_create(&server->input);
    list_init(&session->link);
    list_init(&session->attention_link);
    list_init(&session->turn_link);
    list_init(&session->queue);
    session->poll.data = session;
    return session;
}

static void drop_queue(struct session *session)
{
    struct list *link;
    while ((link = list_take_first(&session->queue)))
        server_discharge(session->server, list_entry(link, struct command_context, link));
    session->queued = 0;
}

static void free_leftover(struct session *session)
{
    if (session->leftover)
        explicit_bzero(session->leftover, session->leftover_end);
    free(steal(&session->leftover));
    session->leftover_begin = 0;
    session->leftover_end = 0;
}

static void forget_descriptors(struct session *session)
{
    while (session->fds_count > 0)
        fd_close_later(session->fds[--session->fds_count]);
    named_fds_forget(session->number, fd_close_later);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct session *session = handle->data;
    session->poll_closed = true;
    server_want_attention(session);
}

void session_close(struct session *session)
{
    if (session->closed)
        return;
    session->closed = true;
    TRACE(qmp_closed, NULL, session->number);
    uv_poll_stop(&session->poll);
    uv_close((uv_handle_t *)&session->poll, on_poll_closed);
    close(session->fd);
    drop_queue(session);
    free_leftover(session);
    output_fini(&session->output);
    forget_descriptors(session);
    if (session->on_closed)
        session->on_closed(session->belongs_to);
    session->on_closed = NULL;
}

void session_close_after_reply(struct session *session)
{
    session->sending_ended = true;
    session->input_ended = true;
    drop_queue(session);
    free_leftover(session);
}

static void session_free(struct session *session)
{
    server_forget(session);
    json_reader_destroy(session->reader);
    rpc_peer_fini(&session->peer);
    free(session->name);
    free(session);
}

/* Reading ------------------------------------------------------------------------------------------------------- */

/* Which messages a client may send is known when it has negotiated; what is executed as it is read has its limits here.
 */
static bool may_read(const struct session *session)
{
    if (session->closed || session->server->stopped || session->queued >= session->server->options.limits.queue)
        return false;
    if (session->mode == SESSION_NEGOTIATING)
        return session->queued == 0;
    return !session->oob ||
           (!session->slice_used && output_pending(&session->output) < session->server->options.limits.output_pending);
}

/* What came with a secret does not stay where it was read to. */
static void forget_input(struct session *session)
{
    json_reader_wipe(session->reader);
    session->read_secret = true;
}

static void enqueue(struct session *session, struct command_context *request)
{
    request->server = session->server;
    request->number = ++session->server->commands_ever;
    session->commands_ever++;
    request->since_ns = uv_hrtime();
    if (request->secret || request->malformed)
        forget_input(session);
    if (request->oob) {
        session_execute(session); /* what came before has begun when this one overtakes it */
        session_execute_oob(session, request);
        return;
    }
    list_append(&session->queue, &request->link);
    session->queued++;
}

/* Messages out of [*at, end) until the queue is full. */
static void read_messages(struct session *session, const char **at, const char *end)
{
    while (*at < end && may_read(session)) {
        struct json_message message;
        struct error *err;
        switch (json_reader_next(session->reader, at, end, &message, &err)) {
        case JSON_READ_MESSAGE:
            enqueue(session, request_create(session, session->server->options.commands, session->oob, &message));
            break;
        case JSON_READ_ERROR:
            enqueue(session, request_create_error(session, err));
            break;
        case JSON_READ_MORE:
            break;
        }
    }
}

/* Reads and executes as far as it goes at once. */
static const char *feed(struct session *session, const char *at, const char *end)
{
    const char *before;
    do {
        before = at;
        read_messages(session, &at, end);
        session_execute(session);
    } while (at < end && at > before);
    return at;
}

static void feed_received(struct session *session, const char *bytes, size_t length)
{
    const char *at = feed(session, bytes, bytes + length);
    size_t left = (size_t)(bytes + length - at);
    if (left == 0 || session->closed)
        return;
    session->leftover = xmalloc(left);
    memcpy(session->leftover, at, left);
    session->leftover_begin = 0;
    session->leftover_end = left;
}

/* Of a message that came in several pieces, the buffer may still hold more than the last one. */
static void feed_read_buffer(struct session *session, size_t length)
{
    struct rpc_server *server = session->server;
    feed_received(session, server->read_buffer, length);
    if (session->read_secret)
        explicit_bzero(server->read_buffer, sizeof(server->read_buffer));
    session->read_secret = false;
}

static void feed_leftover(struct session *session)
{
    if (!session->leftover)
        return;
    const char *at =
        feed(session, session->leftover + session->leftover_begin, session->leftover + session->leftover_end);
    if (session->closed)
        return;
    session->leftover_begin = (size_t)(at - session->leftover);
    if (session->leftover_begin == session->leftover_end)
        free_leftover(session);
}

/* The client sends no more: it has left, or it only shut down its sending side. */
static void hear_end(struct session *session)
{
    struct pollfd pollfd = { .fd = session->fd };
    session->sending_ended = true;
    if (poll(&pollfd, 1, 0) != 0)
        session_close(session);
}

/* Of those that came too late for the room there is nobody hears more. */
static void keep_descriptors(struct session *session, struct msghdr *message)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
            if (session->fds_count < RPC_FDS_MAX)
                session->fds[session->fds_count++] = fd;
            else
                fd_close_later(fd);
        }
    }
}

/* As recv(). */
static ssize_t receive_bytes(struct session *session)
{
    union {
        char bytes[CMSG_SPACE(RPC_FDS_MAX * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec vec = { session->server->read_buffer, sizeof(session->server->read_buffer) };
    struct msghdr message = {
        .msg_iov = &vec,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t count = recvmsg(session->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count >= 0)
        keep_descriptors(session, &message);
    return count;
}

static void receive(struct session *session)
{
    ssize_t count;
    if (session->leftover)
        return; /* libuv may report a descriptor twice in a turn, where very many are ready */
    do
        count = receive_bytes(session);
    while (count < 0 && errno == EINTR);
    if (count > 0)
        feed_read_buffer(session, (size_t)count);
    else if (count < 0 && errno != EAGAIN)
        session_close(session);
    if (count == 0) {
        session->input_ended = true;
        hear_end(session);
    }
}

/* Watching ------------------------------------------------------------------------------------------------------ */

/* While a client is not read, only its leaving is of interest. That it shut down its sending side looks the same at
 * first, and would be reported without end. */
static int events_wanted(const struct session *session)
{
    int events = output_pending(&session->output) ? UV_WRITABLE : 0;
    if (!session->input_ended && may_read(session) && !session->leftover)
        return events | UV_READABLE;
    return session->sending_ended ? events : events | UV_DISCONNECT;
}

static void watch(struct session *session)
{
    int events = events_wanted(session);
    if (events == session->polled)
        return;
    session->polled = events;
    if (events)
        uv_poll_start(&session->poll, events, on_poll);
    else
        uv_poll_stop(&session->poll);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct session *session = poll->data;
    if (status < 0) {
        session_close(session);
        return;
    }
    if (events & UV_READABLE)
        receive(session);
    else if (events & UV_DISCONNECT)
        hear_end(session);
    server_want_attention(session);
}

static void send_output(struct session *session)
{
    if (output_pending(&session->output) == 0)
        return;
    if (output_send(&session->output, session->fd) < 0)
        session_close(session);
    else if (session->events_pending > output_pending(&session->output))
        session->events_pending = output_pending(&session->output);
}

static bool is_done(const struct session *session)
{
    return session->input_ended && !session->executing && list_empty(&session->queue) && !session->leftover &&
           output_pending(&session->output) == 0;
}

void session_use_up_slice(struct session *session)
{
    if (session->slice_used)
        return;
    session->slice_used = true;
    server_want_next_turn(session);
}

void session_attend(struct session *session)
{
    if (!session->closed)
        send_output(session);
    if (!session->closed) {
        feed_leftover(session);
        session_execute(session);
    }
    if (!session->closed && is_done(session))
        session_close(session);
    if (!session->closed)
        watch(session);
    struct rpc_server *server = session->server;
    if (session->poll_closed && !session->executing)
        session_free(session);
    server_changed(server);
}

void session_greet(struct session *session)
{
    const struct rpc_server_options *options = &session->server->options;
    struct text *text = &session->output.text;
    const char *gap = session->pretty ? "\n    " : "";
    const char *wide_gap = session->pretty ? "\n        " : "";
    text_append_string(text, "{");
    text_append_string(text, gap);
    text_append_string(text, "\"QMP\": {");
    text_append_string(text, wide_gap);
    text_append_string(text, "\"version\": ");
    size_t begin = text->length;
    struct error *err =
        encode_value(text, options->version_type, options->version, session->pretty ? ENCODE_PRETTY : 0, 2);
    if (err) {
        server_log(session->server, NULL, "the version is malformed: %s", error_message(err));
        error_free(err);
        text->length = begin;
        text_append_string(text, "{}");
    }
    text_append_string(text, session->pretty ? "," : ", ");
    text_append_string(text, wide_gap);
    text_append_string(text, "\"capabilities\": [");
    text_append_string(text, session->pretty ? "\n            \"oob\"\n        ]" : "\"oob\"]");
    text_append_string(text, gap);
    text_append_string(text, session->pretty ? "}\n}\r\n" : "}}\r\n");
}

void session_append_event(struct session *session, const char *message, size_t length)
{
    if (session->closed || session->mode == SESSION_NEGOTIATING)
        return;
    if (session->events_pending + length > session->server->options.limits.events_pending) {
        server_log(session->server, &(struct rpc_about){ .client = session->name },
                   "%s: cut off, it does not read its events ('unread-event-bytes' of the limits)", session->name);
        session_close(session);
        return;
    }
    output_make_room(&session->output);
    text_append(&session->output.text, message, length);
    session->events_pending += length;
    server_want_attention(session);
}
