/* fd_close - closing descriptors of which nobody knows where they lead
 *
 * close(2) may hang: it writes back what a dead server of files shall store. Descriptors that a client has passed may
 * lead to anything, so they are closed on threads of the pool; sockets, which never hang, at once. */
#ifndef CAIRN_RUNTIME_FD_CLOSE_H
#define CAIRN_RUNTIME_FD_CLOSE_H

#include "blockcore/base/annotations.h"

/* Returns when @fd is closed. */
void co_fd_close(int fd) CO_FN;

/* Returns at once. Control thread. */
void fd_close_later(int fd) CONTROL_FN;

/* For the end of the process, after the last fd_close_later(): until all are closed. */
void fd_close_wait_end(void) CO_FN CONTROL_FN;

#endif
