/* server - QMP for any number of clients
 *
 * A server has a table of commands and the sessions of its clients (session.h). Whoever listens hands it connected
 * sockets; it does not know where they come from, nor what the commands do.
 *
 *     socket --bytes--> json_reader --messages--> queue of the session --> coroutine: decode, handler, encode
 *        ^                                                                       |
 *        '------one write per turn of the loop------ output of the session <-----+---- events
 *
 * Promises: commands of one client run in order, one at a time, except those that it sends out of band, which overtake
 * them; clients do not wait for each other, neither for a
 * command that waits nor for one that computes (a client with much to do gets its slice of each turn); a client that
 * does not read costs no more than named limits and delays nobody.
 *
 * Everything here belongs to the control thread. */
#ifndef CAIRN_RPC_SERVER_H
#define CAIRN_RPC_SERVER_H

#include "blockcore/base/annotations.h"
#include "schema/codec/command.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_sink;
struct rpc_peer;
struct rpc_server;
struct text;

#define RPC_CLIENTS_MAX 4096                     /* at once; further ones are turned away */
#define RPC_QUEUE_MAX 16                         /* commands of one client that wait; then it is not read further */
#define RPC_OUTPUT_PENDING_MAX (1024 * 1024)     /* unread bytes at which a client's commands wait */
#define RPC_EVENTS_PENDING_MAX (4 * 1024 * 1024) /* unread bytes of events at which a client is cut off */
#define RPC_INPUT_BYTES_MAX (256 * 1024 * 1024)  /* memory for commands that wait, of all clients together */
#define RPC_INPUT_BYTES_OWN (64 * 1024)          /* of a command, in any case, whatever other clients hold */
#define RPC_IN_FLIGHT_MAX 4096                   /* commands that have begun and wait; more are refused */
#define RPC_SLICE_NS (100 * 1000)                /* time of one turn that one client's commands may take */

/* What a message is about; whatever it is not about is NULL. */
struct rpc_about {
    const char *client;
    const char *command;
    const char *command_id; /* JSON */
};

/* Those above are what holds where one of these is 0. */
struct rpc_limits {
    size_t clients;
    size_t queue;          /* commands */
    size_t output_pending; /* bytes, and so the following */
    size_t events_pending;
    size_t input;
    size_t message;   /* of one; default: JSON_MESSAGE_BYTES_MAX */
    size_t nesting;   /* objects and arrays inside each other; default: what the parser takes */
    size_t in_flight; /* commands */
};

struct rpc_server_options {
    struct rpc_limits limits;
    const struct command_table *commands;
    const struct type_descriptor *version_type; /* of the member "version" of the greeting */
    const void *version;
    /* Something worth a line in a log: @message is lower case and names the client. */
    void (*log)(void *arg, const struct rpc_about *about, const char *message);
    /* NULL, or what gets each command and its reply as a line that names the client, without what is secret. */
    void (*trace)(void *arg, const struct rpc_about *about, const char *line);
    void *log_arg;
    /* NULL, or where a line about each command that may change something goes (audit.h). */
    void (*audit)(const struct text *line);
    /* Why no such command may begin now; NULL: it may. Comes with @audit. */
    struct error *(*audit_refuses)(void);
};

struct rpc_server *rpc_server_create(const struct rpc_server_options *options) CONTROL_FN;

/* Another one, or NULL, from the next command on. */
void rpc_server_set_trace(struct rpc_server *server,
                          void (*trace)(void *arg, const struct rpc_about *about, const char *line)) CONTROL_FN;

/* Where the generated event functions lead. */
struct event_sink *rpc_server_events(struct rpc_server *server);

const struct command_table *rpc_server_commands(const struct rpc_server *server);

struct rpc_client_options {
    const char *name;            /* for messages: "monitor '/run/x.sock'"; copied */
    bool pretty;                 /* indent what is sent */
    enum command_role role;      /* what it may do; commands that need more are refused, with GenericError */
    const struct rpc_peer *peer; /* NULL, or who it is; copied */
    void (*closed)(void *arg);   /* NULL, or told when the connection has ended; must not wait */
    void *arg;                   /* also what the client belongs to, for rpc_server_drop_clients() */
};

/* Takes over @fd, a connected stream socket, non-blocking and close-on-exec, and sends the greeting. */
void rpc_server_add_client(struct rpc_server *server, int fd, const struct rpc_client_options *options) CONTROL_FN;

/* Tells who connected @fd (as of rpc_server_add_client()) in place of the greeting why it is not let in, if its socket
 * takes that at once, and closes. Takes over @why. */
void rpc_server_turn_away(int fd, struct error *why) CONTROL_FN;

/* Cuts off the clients that belong to @arg, without telling `closed`; that of @asker (may be NULL) when it has the
 * reply of its command. */
void rpc_server_drop_clients(struct rpc_server *server, const void *arg,
                             const struct command_context *asker) CONTROL_FN;

/* For handlers: the session of @context leaves negotiation; all commands are allowed and events are sent. @oob: it may
 * send commands out of band. */
void command_enter_command_mode(struct command_context *context, bool oob) CONTROL_FN;

/* For handlers that know how to end their wait: @fn(@arg) is called, on the loop's own stack, when the command is
 * cancelled from now on; NULL: no more. It must not wait. */
void command_on_cancel(struct command_context *context, void (*fn)(void *arg), void *arg) CONTROL_FN;

/* For handlers: the oldest descriptor that the client has passed (SCM_RIGHTS) and no command has taken, the caller's
 * from now on; -1: there is none. Before the handler waits. */
int command_take_fd(struct command_context *context) CONTROL_FN;

/* For handlers: a number of the client, never used again. Before the handler waits. */
uint64_t command_client(const struct command_context *context) CONTROL_FN;

/* For handlers: has the client been handed over with this rpc_client_options.arg? Not when it has gone. */
bool command_client_belongs_to(const struct command_context *context, const void *arg) CONTROL_FN;

/* For handlers that take long: is anybody waiting for the answer still? Not after the client has gone or the command
 * was cancelled, nor when the server stops. */
bool command_is_wanted(const struct command_context *context) CONTROL_FN;

/* For handlers: encoding the result takes long; do it elsewhere. */
void command_expect_large_reply(struct command_context *context) CONTROL_FN;

size_t rpc_server_clients(const struct rpc_server *server) CONTROL_FN;

/* From now on no further command begins and nothing is read. Those that run go on. */
void rpc_server_stop(struct rpc_server *server) CONTROL_FN;

#define RPC_WAIT_FOREVER 0

/* Waits until no command runs, for at most @timeout_ms; false when one still does. */
bool rpc_server_wait_idle(struct rpc_server *server, uint64_t timeout_ms) CO_FN CONTROL_FN;

/* After rpc_server_stop(): waits until the commands that run have ended, sends what is left to send (for at most a
 * moment: a client that does not read is not waited for), closes all sessions and frees. */
void rpc_server_destroy(struct rpc_server *server) CO_FN CONTROL_FN;

/* Names of the commands that run, "a, b", for a message; the caller frees it. NULL when there are none. */
char *rpc_server_running(const struct rpc_server *server) CONTROL_FN;

#endif
