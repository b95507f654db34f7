/* Commands of a session: in their order, out of band, and given up. */
#include "blockcore/base/memory.h"
#include "blockcore/base/ticks.h"
#include "blockcore/base/trace.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop_uv.h"
#include "rpc/audit.h"
#include "rpc/command_stats.h"
#include "rpc/request.h"
#include "rpc/server_private.h"
#include "rpc/session.h"
#include "rpc/trace.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static bool may_execute(const struct session *session)
{
    return !session->closed && !session->server->stopped && !session->executing && !session->slice_used &&
           !list_empty(&session->queue) &&
           output_pending(&session->output) < session->server->options.limits.output_pending;
}

/* May it begin? ------------------------------------------------------------------------------------------------- */

static struct error *check_mode(const struct session *session, const struct command_context *request)
{
    if (request->malformed)
        return NULL;
    bool negotiates = request->command && strcmp(request->command->name, "qmp_capabilities") == 0;
    if (session->mode == SESSION_NEGOTIATING && !negotiates)
        return error_new_class(ERROR_COMMAND_NOT_FOUND, "Expecting capabilities negotiation with 'qmp_capabilities'");
    if (session->mode == SESSION_COMMANDS && negotiates)
        return error_new_class(ERROR_COMMAND_NOT_FOUND,
                               "Capabilities negotiation is already complete, command ignored");
    return NULL;
}

static struct error *check_role(const struct session *session, const struct command_context *request)
{
    const struct command_descriptor *command = request->command;
    if (!command || session->role >= command_role(command))
        return NULL;
    CLEANUP(free) char *peer = rpc_peer_describe(&session->peer);
    return error_new("The command %s needs the role '%s', and this monitor gives '%s' to %s", command->name,
                     command_role_name(command_role(command)), command_role_name(session->role), peer);
}

static struct error *check_cancelled(const struct command_context *request)
{
    return request->cancelled ? error_new("The command %s was cancelled before it began", request->command->name)
                              : NULL;
}

/* Clients that leave, or cancel what hangs, and begin anew: each such command keeps memory until its storage answers.
 */
static struct error *check_number(const struct session *session, const struct command_context *request)
{
    size_t count = session->server->in_flight_count;
    if (count < session->server->options.limits.in_flight || !request->command ||
        command_kind(request->command) != COMMAND_COROUTINE)
        return NULL;
    return error_new(
        "%zu commands wait already, some of them for clients that left ('commands-in-flight' of the limits)", count);
}

static bool is_audited(const struct session *session, const struct command_context *request)
{
    return session->server->options.audit && request->command && command_role(request->command) > COMMAND_READ;
}

/* What can be noted nowhere is not done. */
static struct error *check_audit(const struct session *session, const struct command_context *request)
{
    return is_audited(session, request) ? session->server->options.audit_refuses() : NULL;
}

static void refuse_if_need_be(const struct session *session, struct command_context *request)
{
    struct error *err = check_mode(session, request);
    if (!err)
        err = check_role(session, request);
    if (!err)
        err = check_cancelled(request);
    if (!err)
        err = check_number(session, request);
    if (!err && !request->error)
        err = check_audit(session, request);
    if (!err)
        return;
    error_free(request->error);
    request->error = err;
}

/* In order ------------------------------------------------------------------------------------------------------ */

/* The schema says with which classes a command fails. A handler that fails with another one is wrong: clients get what
 * they are prepared for, and whoever looks after the daemon is told. */
static void check_class(struct rpc_server *server, struct command_context *request)
{
    const struct command_descriptor *command = request->command;
    enum error_class given = request->error ? error_get_class(request->error) : ERROR_GENERIC;
    if (!request->error || !(command->flags & COMMAND_ERRORS_DECLARED) || (command->flags & COMMAND_ERROR(given)))
        return;
    server_log(server, NULL, "mistake: the command %s fails with class %s, which its 'errors' do not name",
               command->name, error_class_name(given));
    request->error = error_set_class(request->error, ERROR_GENERIC);
}

/* After it the session may be gone: look at request->session. */
static void execute_now(struct session *session, struct command_context *request)
{
    struct rpc_server *server = session->server;
    refuse_if_need_be(session, request);
    if (request->error)
        return;
    uint64_t begin = ticks_now();
    TRACE(qmp_command, request->command->name, session->number, request->number);
    request->co = co_self();
    list_append(&server->in_flight, &request->in_flight);
    server->in_flight_count++;
    request_invoke(request);
    server->in_flight_count--;
    list_remove(&request->in_flight);
    command_stats_count(server->stats, request->command, request->error, uv_hrtime() - request->since_ns);
    TRACE(qmp_reply, request->command->name, request->number, ticks_to_ns(ticks_now() - begin),
          TRACE_CONSTANT(request->error ? "error" : "ok"));
    check_class(server, request);
}

/* The same, with a line about it where one is due. */
static void execute(struct session *session, struct command_context *request)
{
    struct rpc_server *server = session->server;
    if (!is_audited(session, request)) {
        execute_now(session, request);
        return;
    }
    uint64_t begin = uv_hrtime();
    CLEANUP(text_fini) struct text line = { 0 };
    audit_begin_line(&line, request);
    execute_now(session, request);
    audit_end_line(&line, request, uv_hrtime() - begin);
    server->options.audit(&line);
}

/* The same, for the log. */
static void execute_traced(struct session *session, struct command_context *request)
{
    uint64_t begin = uv_hrtime();
    CLEANUP(text_fini) struct text question = { 0 };
    CLEANUP(text_fini) struct text answer = { 0 };
    trace_request(&question, request);
    server_trace(session, request, &question);
    execute(session, request);
    if (!request->session)
        return;
    trace_reply(&answer, request, uv_hrtime() - begin);
    server_trace(session, request, &answer);
}

/* A large reply is encoded on the pool, so that it does not hold up the other clients. */
static void reply(struct session *session, const struct command_context *request)
{
    CLEANUP(text_fini) struct text text = { 0 };
    bool good;
    if (request->large_reply && !request->oob) { /* what is out of band does not wait */
        good = request_reply_on_pool(request, session->pretty, &text);
        if (!session->closed)
            output_move(&session->output, &text);
    } else {
        output_make_room(&session->output);
        good = request_reply(request, session->pretty, &session->output.text);
    }
    if (!good)
        server_log(session->server, NULL, "mistake: the result of the command %s is no value of its type",
                   request->command->name);
}

static void execute_and_reply(struct session *session, struct command_context *request)
{
    if (session->server->options.trace)
        execute_traced(session, request);
    else
        execute(session, request);
    if (request->session && !session->closed)
        reply(session, request);
}

/* A command that was given up has come to its end. Nobody waits for its result, but somebody may want to know. */
static void end_given_up(struct command_context *request)
{
    struct rpc_server *server = request->server;
    const struct rpc_about about = { request->client, request->command->name, request->id };
    if (request->error)
        server_log(server, &about, "%s: %s, which was cancelled, has ended: %s", request->client,
                   request->command->name, error_message(request->error));
    else
        server_log(server, &about, "%s: %s, which was cancelled, could not be stopped any more: it was carried out",
                   request->client, request->command->name);
    server_discharge(server, request);
    server_changed(server);
}

/* In a coroutine: one command after the other until the slice is used up. */
static void execute_queue(void *arg)
{
    struct session *session = arg;
    uint64_t begin = uv_hrtime();
    while (may_execute(session)) {
        struct command_context *request = list_entry(list_take_first(&session->queue), struct command_context, link);
        session->queued--;
        session->executing = true;
        session->running = request;
        execute_and_reply(session, request);
        if (!request->session) {
            end_given_up(request);
            return; /* the session goes on in another coroutine, or is gone */
        }
        server_discharge(session->server, request);
        session->running = NULL;
        session->executing = false;
        if (uv_hrtime() - begin >= RPC_SLICE_NS)
            session_use_up_slice(session);
    }
    server_want_attention(session);
}

void session_execute(struct session *session)
{
    if (may_execute(session))
        co_start("qmp command", execute_queue, session);
}

/* Out of band --------------------------------------------------------------------------------------------------- */

static void execute_oob(void *arg)
{
    struct command_context *request = arg;
    execute_and_reply(request->session, request);
    server_discharge(request->server, request);
}

void session_execute_oob(struct session *session, struct command_context *request)
{
    uint64_t begin = uv_hrtime();
    co_start("qmp command out of band", execute_oob, request);
    session->oob_ns += uv_hrtime() - begin;
    if (session->oob_ns >= RPC_SLICE_NS)
        session_use_up_slice(session);
    server_want_attention(session);
}

/* Given up ------------------------------------------------------------------------------------------------------ */

void session_give_up_command(struct session *session)
{
    struct command_context *request = session->running;
    CLEANUP(free) char *wait = co_describe(request->co);
    struct command_context answer = { .id = request->id };
    answer.error = error_new("The command %s was cancelled while it waited for %s", request->command->name, wait);
    if (!session->closed) {
        output_make_room(&session->output);
        request_reply(&answer, session->pretty, &session->output.text);
    }
    error_free(answer.error);

    request->cancelled = true;
    request->client = xstrdup(session->name);
    request->session = NULL;
    session->running = NULL;
    session->executing = false;
    co_cancel(request->co);
    if (request->on_cancel)
        request->on_cancel(request->on_cancel_arg);
    server_want_attention(session);
}

/* For handlers -------------------------------------------------------------------------------------------------- */

void command_enter_command_mode(struct command_context *context, bool oob)
{
    context->session->mode = SESSION_COMMANDS;
    context->session->oob = oob;
}

void command_expect_large_reply(struct command_context *context)
{
    context->large_reply = true;
}

void command_on_cancel(struct command_context *context, void (*fn)(void *arg), void *arg)
{
    context->on_cancel = fn;
    context->on_cancel_arg = arg;
}

int command_take_fd(struct command_context *context)
{
    struct session *session = context->session;
    if (!session || session->fds_count == 0)
        return -1;
    int fd = session->fds[0];
    session->fds_count--;
    memmove(&session->fds[0], &session->fds[1], session->fds_count * sizeof(session->fds[0]));
    return fd;
}

uint64_t command_client(const struct command_context *context)
{
    return context->session->number;
}

bool command_client_belongs_to(const struct command_context *context, const void *arg)
{
    return context->session && context->session->belongs_to == arg;
}

bool command_is_wanted(const struct command_context *context)
{
    return context->session && !context->session->closed && !context->server->stopped;
}
