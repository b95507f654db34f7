/* metrics_http - HTTP for metrics, by libmicrohttpd, on a thread of its own
 *
 * The library is loaded when metrics are wanted. It gets connections that others have accepted, and owns them from then
 * on. Everything is bounded: connections, what a client may send, and the time until it has its answer. Who hands over
 * connections sees to their number: libmicrohttpd 0.9.75 locks itself up when there are more than it was told. */
#ifndef CAIRN_DAEMON_METRICS_HTTP_H
#define CAIRN_DAEMON_METRICS_HTTP_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>

struct metrics_http;

#define METRICS_CONNECTIONS_MAX 16
#define METRICS_REQUEST_BYTES_MAX (16 * 1024)

/* @timeout_s: a connection is cut off after so long, whatever happens in it.
 * @room(full): called on the control thread, in no coroutine, when there are METRICS_CONNECTIONS_MAX connections, and
 * when there are fewer again. */
struct error *metrics_http_start(unsigned timeout_s, void (*room)(bool full), struct metrics_http **out)
    CO_FN CONTROL_FN MUST_CHECK;

/* Takes over @fd, a connected stream socket. Not while it is full. */
void metrics_http_take(struct metrics_http *http, int fd) CONTROL_FN;

/* Cuts everything off and frees. */
void metrics_http_stop(struct metrics_http *http) CO_FN CONTROL_FN;

#endif
