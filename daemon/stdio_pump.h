/* stdio_pump - standard input and output as one connected socket
 *
 *     standard input  ----> [pump] ----> socket of the frontend
 *     standard output <---- [pump] <----
 *
 * A frontend knows sockets only. The end of the input shuts the socket's sending side down; when the frontend has
 * closed its socket, what it has sent is still brought out. While the pump runs, the descriptors do not block, also not
 * in other processes that share them. */
#ifndef CAIRN_DAEMON_STDIO_PUMP_H
#define CAIRN_DAEMON_STDIO_PUMP_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

struct stdio_pump;

/* *fd is the frontend's, non-blocking and close-on-exec. */
struct error *stdio_pump_start(struct stdio_pump **out, int *fd) CONTROL_FN MUST_CHECK;

/* The frontend has closed its socket. Brings out what it has sent, unless that takes more than a moment, and frees.
 * NULL is allowed. */
void stdio_pump_stop(struct stdio_pump *pump) CO_FN CONTROL_FN;

#endif
