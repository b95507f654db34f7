/* server - listens for NBD clients and lets them in
 *
 * It owns the sockets that listen, counts its connections, and spreads them over the I/O loops. It is stopped without
 * waiting for any client: what hangs in storage goes on by itself, and takes what is left of the server with it. */
#ifndef CAIRN_EXPORT_NBD_SERVER_H
#define CAIRN_EXPORT_NBD_SERVER_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>
#include <stdint.h>

#define NBD_HANDSHAKE_SECONDS 10 /* default of handshake-max-seconds */
#define NBD_CONNECTIONS_MAX 100  /* default of max-connections */

/* nbd-server-start, --nbd-server. There is one server at a time. */
struct error *nbd_server_start(const struct nbd_server_options *options) CO_FN CONTROL_FN MUST_CHECK;

/* nbd-server-stop: connections are cut, NBD exports removed. Returns when all of that is over, or after EXPORT_GRACE_MS
 * when requests hang in storage. */
struct error *nbd_server_stop(void) CO_FN CONTROL_FN MUST_CHECK;

bool nbd_server_is_running(void) CONTROL_FN;

/* Clients that are connected, those in their handshake included. */
unsigned nbd_server_connections(void) CONTROL_FN;

/* For tests, which have no time to wait for NBD_STALL_MS: for servers that are started from now on. */
void nbd_server_set_stall_ms(uint64_t ms) CONTROL_FN;

/* A socket it listens on, for tests that ask for its port; -1 when it does not run. */
int nbd_server_fd(void) CONTROL_FN;

#endif
