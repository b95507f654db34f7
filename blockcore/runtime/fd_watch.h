/* fd_watch - wait until a descriptor (a socket) can be read or written
 *
 * One watch per descriptor, on the loop it was created on; at most one coroutine waits for each direction. The
 * interest in the kernel is changed lazily: a reader that comes back every turn costs no epoll_ctl. */
#ifndef CAIRN_RUNTIME_FD_WATCH_H
#define CAIRN_RUNTIME_FD_WATCH_H

#include "blockcore/base/annotations.h"

#include <stdint.h>

struct fd_watch;

#define FD_WATCH_FOREVER 0

/* @fd stays the caller's, must be non-blocking and stay open until fd_watch_destroy(). */
struct fd_watch *fd_watch_create(int fd) LOOP_FN;
/* Nobody may be waiting. */
void fd_watch_destroy(struct fd_watch *watch) LOOP_FN;

/* 0 when the descriptor is ready (or in error: the next system call will tell), -ETIMEDOUT after @timeout_ms,
 * -ECANCELED once fd_watch_cancel() was called. */
int fd_watch_readable(struct fd_watch *watch, uint64_t timeout_ms) CO_FN LOOP_FN;
int fd_watch_writable(struct fd_watch *watch, uint64_t timeout_ms) CO_FN LOOP_FN;

/* The same without a coroutine that waits, and its stack: @ready(@arg) is called once, on the loop and outside
 * coroutines, when the descriptor can be read. It may destroy the watch. Nobody else waits to read then; not after
 * fd_watch_cancel(), which forgets it. */
void fd_watch_when_readable(struct fd_watch *watch, void (*ready)(void *arg), void *arg) LOOP_FN;

/* Wakes the waiters; from now on every wait returns -ECANCELED. */
void fd_watch_cancel(struct fd_watch *watch) LOOP_FN;
/* The same for who wants to read, until it is resumed; writing goes on. */
void fd_watch_cancel_reading(struct fd_watch *watch) LOOP_FN;
void fd_watch_resume_reading(struct fd_watch *watch) LOOP_FN;

#endif
