/* What server.c and session.c share. */
#ifndef CAIRN_RPC_SERVER_PRIVATE_H
#define CAIRN_RPC_SERVER_PRIVATE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/list.h"
#include "blockcore/runtime/loop.h"
#include "rpc/event_limit.h"
#include "rpc/json_reader.h"
#include "rpc/server.h"

#include <uv.h>

#define RPC_READ_BYTES (64 * 1024)

struct co_event;
struct command_context;
struct command_stats;
struct session;

/* The generated code knows it by this name. */
struct event_sink {
    struct rpc_server *server;
};

struct rpc_server {
    struct rpc_server_options options;
    struct event_sink events;
    struct event_limits event_limits;
    struct json_budget input;
    struct list in_flight; /* of struct command_context, whose handlers run */
    size_t in_flight_count;
    uint64_t commands_ever;
    struct command_stats *stats;
    struct list sessions;
    size_t session_count; /* closed ones that still run a command included */
    uint64_t clients_ever;
    bool stopped;
    bool time_over;          /* of the wait that goes on */
    struct co_event *waiter; /* for the next change of any session */

    /* Sessions to look after: in this turn of the loop, when all that is ready has run (so one write takes all that a
     * turn produced), and in the next one, after the sockets had their turn (they have used up their slice). */
    struct list attention;
    struct loop_task attend_task;
    bool attend_posted;
    struct list next_turn;
    uv_idle_t next_turn_idle;
    bool idle_closed;

    char read_buffer[RPC_READ_BYTES]; /* of whichever session reads right now */
};

/* Frees a request, whose memory others may use then. */
void server_discharge(struct rpc_server *server, struct command_context *request);

void server_want_attention(struct session *session);
void server_want_next_turn(struct session *session);
void server_forget(struct session *session);
void server_changed(struct rpc_server *server);
/* Hands a line of @session's trace on. */
void server_trace(struct session *session, const struct command_context *request, const struct text *line);
/* @about may be NULL. */
void server_log(struct rpc_server *server, const struct rpc_about *about, const char *format, ...) PRINTF_LIKE(3, 4);

#endif
