/* acceptor - takes connections off a socket that listens
 *
 * A coroutine on the loop it was created on, usually the control loop. It can be held while there are clients enough:
 * later ones wait in the kernel's queue. When descriptors or memory run out, it rests a moment rather than spinning on
 * a queue that it cannot empty. */
#ifndef CAIRN_NET_ACCEPTOR_H
#define CAIRN_NET_ACCEPTOR_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>

struct acceptor;

/* Gets the connection, non-blocking and close-on-exec, which is now its own. Must not wait; may hold the acceptor. */
typedef void acceptor_accepted(int fd, void *arg);

/* @fd listens, is non-blocking, and stays the caller's; open until acceptor_destroy(). Begins held. */
struct acceptor *acceptor_create(int fd, acceptor_accepted *accepted, void *arg) LOOP_FN;

/* While held, nothing is accepted. */
void acceptor_hold(struct acceptor *acceptor, bool held) LOOP_FN;

/* Returns when the coroutine has ended: @accepted is not called any more. Not from inside it. NULL is allowed. */
void acceptor_destroy(struct acceptor *acceptor) CO_FN LOOP_FN;

#endif
