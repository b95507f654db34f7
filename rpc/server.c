#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop_uv.h"
#include "rpc/command_stats.h"
#include "rpc/request.h"
#include "rpc/server_private.h"
#include "rpc/session.h"
#include "schema/codec/encode.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* How long replies of the last moment are tried to be sent. */
#define FAREWELL_MS 1000

static void attend_all(struct loop_task *task);
static void send_event(void *arg, const struct event_text *text);

static void set_default(size_t *limit, size_t value)
{
    if (*limit == 0)
        *limit = value;
}

static void set_defaults(struct rpc_limits *limits)
{
    set_default(&limits->clients, RPC_CLIENTS_MAX);
    set_default(&limits->queue, RPC_QUEUE_MAX);
    set_default(&limits->output_pending, RPC_OUTPUT_PENDING_MAX);
    set_default(&limits->events_pending, RPC_EVENTS_PENDING_MAX);
    set_default(&limits->input, RPC_INPUT_BYTES_MAX);
    set_default(&limits->in_flight, RPC_IN_FLIGHT_MAX);
}

struct rpc_server *rpc_server_create(const struct rpc_server_options *options)
{
    struct rpc_server *server = xcalloc(1, sizeof(*server));
    server->options = *options;
    set_defaults(&server->options.limits);
    const struct rpc_limits *limits = &server->options.limits;
    server->events.server = server;
    server->input = (struct json_budget){
        .max = limits->input,
        .own = RPC_INPUT_BYTES_OWN,
        .message_max = limits->message,
        .depth_max = limits->nesting,
    };
    server->stats = command_stats_create(options->commands);
    event_limits_init(&server->event_limits, send_event, server);
    server->attend_task.run = attend_all;
    list_init(&server->sessions);
    list_init(&server->in_flight);
    list_init(&server->attention);
    list_init(&server->next_turn);
    uv_idle_init(loop_uv(loop_control()), &server->next_turn_idle);
    server->next_turn_idle.data = server;
    return server;
}

struct event_sink *rpc_server_events(struct rpc_server *server)
{
    return &server->events;
}

const struct command_table *rpc_server_commands(const struct rpc_server *server)
{
    return server->options.commands;
}

const struct command_stats *rpc_server_command_stats(const struct rpc_server *server)
{
    return server->stats;
}

size_t rpc_server_clients(const struct rpc_server *server)
{
    return server->session_count;
}

void rpc_server_set_trace(struct rpc_server *server,
                          void (*trace)(void *arg, const struct rpc_about *about, const char *line))
{
    server->options.trace = trace;
}

void server_log(struct rpc_server *server, const struct rpc_about *about, const char *format, ...)
{
    if (!server->options.log)
        return;
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    static const struct rpc_about nothing;
    server->options.log(server->options.log_arg, about ? about : &nothing, message);
}

void server_trace(struct session *session, const struct command_context *request, const struct text *line)
{
    struct rpc_server *server = session->server;
    if (!server->options.trace) /* by the command itself */
        return;
    CLEANUP(free) char *named = xasprintf("%s: %.*s", session->name, (int)line->length, line->data);
    const struct rpc_about about = {
        .client = session->name,
        .command = request->command ? request->command->name : NULL,
        .command_id = request->id,
    };
    server->options.trace(server->options.log_arg, &about, named);
}

/* Looking after sessions ---------------------------------------------------------------------------------------- */

static void attend_all(struct loop_task *task)
{
    struct rpc_server *server = CONTAINER_OF(task, struct rpc_server, attend_task);
    struct list taken = LIST_INIT(taken);
    struct list *link;
    server->attend_posted = false;
    list_splice(&taken, &server->attention);
    while ((link = list_take_first(&taken)))
        session_attend(list_entry(link, struct session, attention_link));
}

/* The sockets had their turn since those in the list used up their slices. */
static void on_next_turn(uv_idle_t *idle)
{
    struct rpc_server *server = idle->data;
    struct list *link;
    uv_idle_stop(idle);
    while ((link = list_take_first(&server->next_turn))) {
        struct session *session = list_entry(link, struct session, turn_link);
        session->slice_used = false;
        session->oob_ns = 0;
        server_want_attention(session);
    }
}

void server_discharge(struct rpc_server *server, struct command_context *request)
{
    server->input.used -= request->charged;
    request_destroy(request);
}

void server_want_attention(struct session *session)
{
    struct rpc_server *server = session->server;
    list_remove(&session->attention_link);
    list_append(&server->attention, &session->attention_link);
    if (server->attend_posted)
        return;
    server->attend_posted = true;
    loop_post(loop_control(), &server->attend_task);
}

void server_want_next_turn(struct session *session)
{
    struct rpc_server *server = session->server;
    list_append(&server->next_turn, &session->turn_link);
    uv_idle_start(&server->next_turn_idle, on_next_turn);
}

/* Clients ------------------------------------------------------------------------------------------------------- */

static void turn_away_one_too_many(struct rpc_server *server, int fd, const struct rpc_client_options *options)
{
    rpc_server_turn_away(fd,
                         error_new("there are %zu clients already, and no more are let in ('clients' of the limits)",
                                   server->session_count));
    if (options->closed)
        options->closed(options->arg);
}

void rpc_server_add_client(struct rpc_server *server, int fd, const struct rpc_client_options *options)
{
    if (server->session_count >= server->options.limits.clients) {
        turn_away_one_too_many(server, fd, options);
        return;
    }
    struct session *session = session_create(server, fd, options);
    if (!session) {
        server_log(server, NULL, "%s: a client is turned away: the system cannot watch another descriptor",
                   options->name);
        close(fd);
        if (options->closed)
            options->closed(options->arg);
        return;
    }
    list_append(&server->sessions, &session->link);
    server->session_count++;
    TRACE(qmp_connected, NULL, session->number);
    session_greet(session);
    server_want_attention(session);
}

void rpc_server_turn_away(int fd, struct error *why)
{
    struct output output = { 0 };
    request_reply(&(struct command_context){ .error = why }, false, &output.text);
    (void)output_send(&output, fd);
    output_fini(&output);
    error_free(why);
    close(fd);
}

void rpc_server_drop_clients(struct rpc_server *server, const void *arg, const struct command_context *asker)
{
    struct session *session;
    list_for_each (session, &server->sessions, link) {
        if (session->belongs_to != arg)
            continue;
        session->on_closed = NULL;
        session->belongs_to = NULL;
        if (asker && asker->session == session)
            session_close_after_reply(session);
        else
            session_close(session);
        server_want_attention(session);
    }
}

void server_forget(struct session *session)
{
    struct rpc_server *server = session->server;
    list_remove(&session->link);
    list_remove(&session->attention_link);
    list_remove(&session->turn_link);
    server->session_count--;
    server_changed(server);
}

/* Events -------------------------------------------------------------------------------------------------------- */

/* Forms that nobody listens to may be empty. */
static void send_event(void *arg, const struct event_text *text)
{
    struct rpc_server *server = arg;
    struct session *session;
    list_for_each (session, &server->sessions, link) {
        const struct text *form = &text->forms[session->pretty];
        session_append_event(session, form->data, form->length);
    }
}

static bool any_listens(const struct rpc_server *server, bool pretty)
{
    const struct session *session;
    list_for_each (session, &server->sessions, link) {
        if (!session->closed && session->mode == SESSION_COMMANDS && session->pretty == pretty)
            return true;
    }
    return false;
}

/* False, and a line in the log, where @data is no value of its type. What waits may find other listeners later. */
static bool encode_forms(struct rpc_server *server, const struct event_descriptor *event, const void *data, bool waits,
                         struct event_text *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (int pretty = 0; pretty <= 1; pretty++) {
        struct text *form = &out->forms[pretty];
        if (!waits && !any_listens(server, pretty))
            continue;
        CLEANUP(error_free)
        struct error *err = encode_event(form, event, data, now.tv_sec, now.tv_nsec / 1000, pretty ? ENCODE_PRETTY : 0);
        if (err) {
            server_log(server, NULL, "mistake: an event cannot be sent: %s", error_message(err));
            return false;
        }
        text_append(form, "\r\n", 2);
    }
    return true;
}

void event_sink_emit(struct event_sink *sink, const struct event_descriptor *event, const void *data)
{
    struct rpc_server *server = sink->server;
    struct event_limit *limit = NULL;
    struct event_text text = { 0 };
    bool waits = event_limits_judge(&server->event_limits, event, data, &limit) == EVENT_WAITS;
    bool good = encode_forms(server, event, data, waits, &text);
    if (good && waits)
        event_limit_hold(limit, &text);
    else if (good)
        send_event(server, &text);
    event_text_fini(&text);
}

/* The end ------------------------------------------------------------------------------------------------------- */

void server_changed(struct rpc_server *server)
{
    struct co_event *waiter = server->waiter;
    server->waiter = NULL;
    if (waiter)
        co_event_set(waiter);
}

static void CO_FN wait_for_change(struct rpc_server *server)
{
    struct co_event event;
    co_event_init(&event);
    server->waiter = &event;
    co_event_wait(&event, "qmp clients");
}

void rpc_server_stop(struct rpc_server *server)
{
    struct session *session;
    server->stopped = true;
    list_for_each (session, &server->sessions, link)
        server_want_attention(session);
}

static void time_over(void *arg)
{
    struct rpc_server *server = arg;
    server->time_over = true;
    server_changed(server);
}

static bool any_executes(const struct rpc_server *server)
{
    if (!list_empty(&server->in_flight))
        return true;
    const struct session *session;
    list_for_each (session, &server->sessions, link) {
        if (session->executing)
            return true;
    }
    return false;
}

static bool any_reply_waits(const struct rpc_server *server)
{
    const struct session *session;
    list_for_each (session, &server->sessions, link) {
        if (!session->closed && output_pending(&session->output))
            return true;
    }
    return false;
}

/* Calls @goes_on after each change, until it says no or the time is over; returns what it said last. */
static bool CO_FN wait_while(struct rpc_server *server, bool (*goes_on)(const struct rpc_server *server),
                             uint64_t timeout_ms)
{
    struct timer *timer = timer_create_on_loop(time_over, server);
    server->time_over = false;
    if (timeout_ms != RPC_WAIT_FOREVER)
        timer_start(timer, timeout_ms);
    while (goes_on(server) && !server->time_over)
        wait_for_change(server);
    timer_destroy(timer);
    return goes_on(server);
}

bool rpc_server_wait_idle(struct rpc_server *server, uint64_t timeout_ms)
{
    return !wait_while(server, any_executes, timeout_ms);
}

static void CO_FN close_sessions(struct rpc_server *server)
{
    struct session *session;
    list_for_each (session, &server->sessions, link) {
        session_close(session);
        server_want_attention(session);
    }
    while (server->session_count > 0)
        wait_for_change(server);
}

static void on_idle_closed(uv_handle_t *handle)
{
    struct rpc_server *server = handle->data;
    server->idle_closed = true;
    server_changed(server);
}

static void CO_FN close_idle(struct rpc_server *server)
{
    uv_close((uv_handle_t *)&server->next_turn_idle, on_idle_closed);
    while (!server->idle_closed)
        wait_for_change(server);
}

void rpc_server_destroy(struct rpc_server *server)
{
    assert(server->stopped);
    rpc_server_wait_idle(server, RPC_WAIT_FOREVER);
    event_limits_fini(&server->event_limits);
    wait_while(server, any_reply_waits, FAREWELL_MS);
    close_sessions(server);
    close_idle(server);
    while (server->attend_posted)
        co_yield ();
    command_stats_destroy(server->stats);
    free(server);
}

char *rpc_server_running(const struct rpc_server *server)
{
    char *names = NULL;
    const struct command_context *request;
    list_for_each (request, &server->in_flight, in_flight) {
        char *longer = xasprintf("%s%s%s", names ? names : "", names ? ", " : "", request->command->name);
        free(names);
        names = longer;
    }
    return names;
}
