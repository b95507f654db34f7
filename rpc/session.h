/* session - one client of a server
 *
 *     negotiating --qmp_capabilities--> commands --quit, end of input, error--> closed --last command ended--> freed
 *
 * In negotiating only qmp_capabilities is allowed and no event is sent (QMP specification, "Capabilities Negotiation").
 * A client that shuts down its sending side only still gets the replies to what it has sent; one that closes its socket
 * has left: its queued commands are dropped, and so is the reply of the one that runs.
 *
 * A client that does not read: while more than RPC_OUTPUT_PENDING_MAX bytes wait for it, none of its commands begins;
 * once its queue is full its input is left in the socket, so that it notices. Events cannot wait like that: when
 * RPC_EVENTS_PENDING_MAX bytes of them pile up, the client is cut off. It sees the end of the connection, which is
 * better than a list of events with a hole that nobody told it of. */
#ifndef CAIRN_RPC_SESSION_H
#define CAIRN_RPC_SESSION_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/list.h"
#include "rpc/output.h"
#include "rpc/peer.h"
#include "schema/codec/command.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define RPC_FDS_MAX 16 /* further ones are closed */

struct command_context;
struct json_reader;
struct rpc_client_options;
struct rpc_server;

enum session_mode {
    SESSION_NEGOTIATING,
    SESSION_COMMANDS,
};

struct session {
    struct rpc_server *server;
    struct list link;           /* in server->sessions */
    struct list attention_link; /* in server->attention */
    struct list turn_link;      /* in server->next_turn, while slice_used */
    char *name;
    int fd;
    uv_poll_t poll;
    int polled; /* enum uv_poll_event that are watched now */
    bool poll_closed;
    enum session_mode mode;
    enum command_role role;
    struct rpc_peer peer;
    uint64_t since_ns;      /* when it connected, as uv_hrtime() */
    uint64_t commands_ever; /* that it has sent */
    bool pretty;
    void (*on_closed)(void *arg);
    void *belongs_to;   /* its argument */
    bool closed;        /* nothing is read or sent any more; waits for its command to end */
    bool sending_ended; /* the client sends no more, but may read; part of what it sent may still be in the socket */
    bool input_ended;   /* everything it sent was received */

    uint64_t number;      /* counts the clients of the server */
    int fds[RPC_FDS_MAX]; /* that came with messages and were taken by no command yet, oldest first */
    unsigned fds_count;

    struct json_reader *reader;
    char *leftover; /* input that was received but not read, since the queue is full */
    size_t leftover_begin;
    size_t leftover_end;
    bool read_secret;  /* in what is being read */
    struct list queue; /* of struct command_context */
    unsigned queued;
    bool executing;  /* its coroutine is there */
    bool slice_used; /* no further command in this turn */
    bool oob;        /* commands may be sent out of band */
    uint64_t oob_ns; /* of the slice, used by such commands */
    struct command_context *running;

    struct output output;
    size_t events_pending; /* at most this many bytes of the output are events */
};

/* NULL when the system has no room for another descriptor to watch. */
struct session *session_create(struct rpc_server *server, int fd, const struct rpc_client_options *options) CONTROL_FN;

/* The first thing that a client sees. */
void session_greet(struct session *session) CONTROL_FN;

/* Looks after everything that may have changed: sends, reads on, executes, watches, frees. On the thread's own stack,
 * not in a coroutine. */
void session_attend(struct session *session) CONTROL_FN;

/* Begins to execute what is in the queue, if it may. */
void session_execute(struct session *session) CONTROL_FN;

/* Executes and answers @request, which it takes over, at once. */
void session_execute_oob(struct session *session, struct command_context *request) CONTROL_FN;

/* The command that runs (there is one, in a handler) is answered with an error and belongs to nobody any more; the next
 * one may begin. */
void session_give_up_command(struct session *session) CONTROL_FN;

/* Others have their turn before this client goes on. */
void session_use_up_slice(struct session *session) CONTROL_FN;

/* Appends a message of @length bytes, CR LF included, that is an event. */
void session_append_event(struct session *session, const char *message, size_t length) CONTROL_FN;

/* What was sent before is answered, and then it is closed. */
void session_close_after_reply(struct session *session) CONTROL_FN;

/* Nothing is read or sent any more; what waits is dropped. It is freed when its command has ended. */
void session_close(struct session *session) CONTROL_FN;

#endif
