/* ring - io_uring of a loop
 *
 * Coroutines put their requests in; the loop submits all of them once per turn (ring_turn) and is woken by the ring's
 * own descriptor when completions arrive. The ring is made when it is first asked for: a loop that does no such I/O
 * pays nothing. Requests beyond what the ring can hold wait in line, so that no completion is ever lost.
 * Private to this folder; everything on the loop's thread only. */
#ifndef CAIRN_RUNTIME_RING_H
#define CAIRN_RUNTIME_RING_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct loop;

/* Can the current loop use io_uring? False when it was switched off or the kernel refuses. */
bool ring_available(void);

/* Like preadv2(2) and pwritev2(2), awaited; ring_available() must be true. Returns the bytes moved or -errno. With
 * RWF_NOWAIT in @flags the kernel gives no thread to the request but says -EAGAIN where it would need one. */
int ring_preadv(int fd, const struct iovec *vec, unsigned count, uint64_t offset, int flags) CO_FN;
int ring_pwritev(int fd, const struct iovec *vec, unsigned count, uint64_t offset, int flags) CO_FN;

/* Sleeps; ring_available() must be true. For short times: it takes a place in the ring meanwhile. */
void ring_sleep(uint64_t ns) CO_FN;

/* Submits what is new and takes what is complete. True when coroutines became ready, or the kernel could not take
 * all: then the loop must not sleep. */
bool ring_turn(struct loop *loop);

/* Begins to close; nothing may be in flight. ring_free() follows when libuv's loop has closed. */
void ring_close(struct loop *loop);
void ring_free(struct loop *loop);

#endif
