/* request - one command on its way from message to reply
 *
 * Made from a message as soon as it is read; what is wrong with it is kept until its turn, so that replies come in the
 * order of the messages. All JSON is gone by then: a request is C values in an arena of its own. */
#ifndef CAIRN_RPC_REQUEST_H
#define CAIRN_RPC_REQUEST_H

#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"
#include "blockcore/base/list.h"
#include "rpc/json_reader.h"
#include "schema/codec/command.h"

struct coroutine;
struct rpc_server;
struct session;
struct text;

#define REQUEST_ARENA_MAX (64 * 1024 * 1024) /* memory for the arguments of one command */

/* What handlers know as the context. */
struct command_context {
    struct list link;      /* in the session's queue */
    struct list in_flight; /* in the server's, while its handler runs */
    struct rpc_server *server;
    struct session *session; /* NULL: it was given up */
    uint64_t number;         /* counts the requests of the server, from 1 */
    uint64_t since_ns;       /* when it was read, as uv_hrtime() */
    struct coroutine *co;    /* while its handler runs */
    void (*on_cancel)(void *arg);
    void *on_cancel_arg;
    char *client; /* name of the session that gave it up */
    struct arena arena;
    const struct command_descriptor *command; /* NULL: see error */
    char *id;                                 /* JSON text; NULL: the client gave none. Not in the arena, which a
                                               * handler may give to what lives longer */
    const void *arguments;
    void *result;
    struct error *error; /* what was wrong with the message, or what the handler said */
    bool oob;            /* to be executed at once */
    bool cancelled;      /* nobody wants its result any more */
    bool malformed;      /* the message was no request at all */
    bool secret;         /* the message held something that shall not stay in memory */
    bool large_reply;    /* encoding takes so long that it must not hold up the loop */
    size_t charged;      /* to the budget of the server's input */
};

/* Takes over @message. Never fails: errors go into the request. @oob: "exec-oob" is understood. */
struct command_context *request_create(struct session *session, const struct command_table *table, bool oob,
                                       struct json_message *message);

/* What stands for input that was no message; takes over @err. */
struct command_context *request_create_error(struct session *session, struct error *err);

void request_destroy(struct command_context *request);

/* Runs the handler unless there is an error already. */
void request_invoke(struct command_context *request) CO_FN;

/* Appends the reply, with CR LF, unless there is none to be sent. False, and an error as the reply, when the handler
 * built something that is no value of its type. */
bool request_reply(const struct command_context *request, bool pretty, struct text *text);

/* The same, computed on another thread meanwhile. @text is nobody else's. */
bool request_reply_on_pool(const struct command_context *request, bool pretty, struct text *text) CO_FN;

#endif
