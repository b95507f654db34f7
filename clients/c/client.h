/* client - a QMP session, seen from the client's side
 *
 *     CLEANUP(client_close) struct client *client = NULL;
 *     struct error *err = client_connect("/run/cairn/qmp.sock", 5000, &client);
 *     if (!err)
 *         err = client_call(client, "query-block-exports", NULL, &exports);
 *
 * One command at a time: client_call() sends, waits for the reply with the same id, and keeps the events that come in
 * between in a queue. Every wait has a deadline. After the connection broke (client_is_broken) each call fails; after a
 * deadline passed the session goes on, and the late reply is dropped when it comes.
 *
 * Nothing here is thread-safe: a client belongs to one thread at a time. It works with every server that speaks QMP. */
#ifndef CAIRN_CLIENT_H
#define CAIRN_CLIENT_H

#include "blockcore/base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

DEFINE_CLEANUP(json_decref, json_t *)

struct client;

#define CLIENT_FOREVER 0
#define CLIENT_MESSAGE_MAX ((size_t)1 << 30) /* bytes of one message from the server */
#define CLIENT_EVENTS_MAX 65536              /* in the queue; older ones are dropped first */

/* Connects to the Unix socket @path, waits for the greeting and negotiates, all within @timeout_ms (or
 * CLIENT_FOREVER), which is also the deadline of each later call until client_set_timeout(). */
struct error *client_connect(const char *path, uint64_t timeout_ms, struct client **out) MUST_CHECK;

/* NULL is allowed. */
void client_close(struct client *client);
DEFINE_CLEANUP(client_close, struct client *)

/* Deadline of each later call, in ms, counted from its begin; or CLIENT_FOREVER. */
void client_set_timeout(struct client *client, uint64_t timeout_ms);

/* Executes @command. @arguments is an object or NULL, and consumed. On success *@result is what the reply returned, a
 * new reference; NULL when it is not wanted. In both, integers that jansson cannot hold are as schema/codec/json_tree.h
 * says. An error reply becomes an error of its class with the server's words, and the session goes on. */
struct error *client_call(struct client *client, const char *command, json_t *arguments, json_t **result) MUST_CHECK;

/* The same with arguments as the text of a JSON object, which stays the caller's; NULL: none. */
struct error *client_call_text(struct client *client, const char *command, const char *arguments,
                               json_t **result) MUST_CHECK;

/* The next event, in the order they came; a new reference. Waits up to @timeout_ms: 0 means not at all, negative
 * means forever. *@event is NULL when none came in time. */
struct error *client_next_event(struct client *client, int timeout_ms, json_t **event) MUST_CHECK;

/* Is the connection lost, or did the server send what is not QMP? The errors of daemon and transport differ in this. */
bool client_is_broken(const struct client *client);

/* For poll(2): readable means client_next_event(client, 0, ...) has something to do. It stays the client's. */
int client_fd(const struct client *client);

/* The member "QMP" of the greeting: version and capabilities. Borrowed. */
const json_t *client_greeting(const struct client *client);

#endif
