/* server - a QMP server that says what a test tells it to */
#ifndef CAIRN_TESTS_CLIENTS_SERVER_H
#define CAIRN_TESTS_CLIENTS_SERVER_H

struct server;

/* Listens on a socket of its own and serves one client: sends the greeting, then for each command that comes (in
 * one send, as the client does) the next of @replies, as it is. "" sends nothing, a NULL ends the connection. In a
 * reply,
 * "$ID" stands for the number of the command; the first command is qmp_capabilities. */
struct server *server_start(const char *greeting, const char *const *replies);
const char *server_path(const struct server *server);
/* Waits for the client to leave. */
void server_stop(struct server *server);

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"
#define NEGOTIATED "{\"return\": {}, \"id\": $ID}\r\n"

/* A small interface: command "add" with a union, an alternate and lists. The reply to query-qmp-schema. */
extern const char schema_reply[];

#endif
