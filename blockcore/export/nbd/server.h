/* server - listens for NBD clients and lets them in
 *
 * A server owns the sockets that listen, counts its connections, spreads them over the I/O loops, and shows them the
 * exports on its shelf (shelf.h). There can be several, each with an id; the one that is meant when none is given is
 * NBD_SERVER_DEFAULT_ID. A server is stopped without waiting for any client: what hangs in storage goes on by itself,
 * and takes what is left of the server with it.
 *
 *     nbd_server_start --> starting --> running --nbd_server_stop--> stopping --> id is free; freed after its last
 *                             '--error--> gone                                    connection */
#ifndef CAIRN_EXPORT_NBD_SERVER_H
#define CAIRN_EXPORT_NBD_SERVER_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdint.h>

struct arena;
struct nbd_server;
struct nbd_shelf;

#define NBD_SERVER_DEFAULT_ID "default"
#define NBD_HANDSHAKE_SECONDS 10 /* default of handshake-max-seconds */
#define NBD_CONNECTIONS_MAX 100  /* default of max-connections */

/* nbd-server-start, --nbd-server. */
struct error *nbd_server_start(const struct nbd_server_options *options) CO_FN CONTROL_FN MUST_CHECK;

/* nbd-server-stop: its connections are cut, and exports that no other server shows are removed. Returns when all of
 * that is over, or after EXPORT_GRACE_MS when requests hang in storage. @id NULL: the default one. */
struct error *nbd_server_stop(const char *id) CO_FN CONTROL_FN MUST_CHECK;

/* All that run, one after the other. */
void nbd_server_stop_all(void) CO_FN CONTROL_FN;

/* Those that run, in the order of their starts: pass NULL first; NULL ends. Without awaits between. */
struct nbd_server *nbd_server_next(const struct nbd_server *after) CONTROL_FN;
/* NULL unless it runs. Valid until the next await. @id NULL: the default one. */
struct nbd_server *nbd_server_find(const char *id) CONTROL_FN;

/* "NBD server not running", "NBD server already running", with the id of any but the default one. */
struct error *nbd_server_not_running(const char *id) MUST_CHECK;
struct error *nbd_server_already_running(const char *id) MUST_CHECK;

/* As they were given; NULL when they are not known (graph/options.h). Valid until the next await. */
const struct nbd_server_options *nbd_server_options(const struct nbd_server *server) CONTROL_FN;
const char *nbd_server_id(const struct nbd_server *server) CONTROL_FN;
struct nbd_shelf *nbd_server_shelf(struct nbd_server *server) CONTROL_FN;

/* Clients that are connected, those in their handshake included. */
unsigned nbd_server_connections(const struct nbd_server *server) CONTROL_FN;

/* For query-nbd-servers; strings are from @arena. */
void nbd_server_describe(const struct nbd_server *server, struct arena *arena, struct nbd_server_info *out) CONTROL_FN;

/* For tests, which have no time to wait for NBD_STALL_MS: for servers that are started from now on. */
void nbd_server_set_stall_ms(uint64_t ms) CONTROL_FN;

/* For tests: servers that are started from now on move requests with more data than that, a power of two, in pieces. */
void nbd_server_set_whole_bytes(uint64_t bytes) CONTROL_FN;

/* A socket it listens on, for tests that ask for its port. */
int nbd_server_fd(const struct nbd_server *server) CONTROL_FN;

#endif
