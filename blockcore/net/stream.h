/* stream - a connected socket, awaited
 *
 * What a protocol needs of a connection: try to move bytes now, wait until it may go better, be torn away from a wait.
 * It lives on the loop that it was created on. Encryption slips in here without the protocols noticing. */
#ifndef CAIRN_NET_STREAM_H
#define CAIRN_NET_STREAM_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct stream;
struct tls_context;

/* Takes over @fd, which is non-blocking. */
struct stream *stream_create(int fd) LOOP_FN;

/* Closes. Nobody may be waiting. NULL is allowed. */
void stream_destroy(struct stream *stream) LOOP_FN;

/* What can be had at once: bytes read (0: the other side sends no more), -EAGAIN, or -errno. */
ssize_t stream_readv(struct stream *stream, const struct iovec *vec, int count) LOOP_FN;
/* What can be sent at once: bytes written, -EAGAIN, or -errno. Raises no SIGPIPE. After -EAGAIN, and after less than
 * all, the next call begins with the bytes that were not written: some of them may be encrypted already. */
ssize_t stream_writev(struct stream *stream, const struct iovec *vec, int count) LOOP_FN;

/* 0 when trying again may help, -ETIMEDOUT after @timeout_ms (FD_WATCH_FOREVER: never), -ECANCELED after
 * stream_cut(). At most one coroutine waits for each direction. */
int stream_wait_readable(struct stream *stream, uint64_t timeout_ms) CO_FN LOOP_FN;
int stream_wait_writable(struct stream *stream, uint64_t timeout_ms) CO_FN LOOP_FN;

/* The same without a coroutine that waits: @ready(@arg) is called once, on the loop and outside coroutines, when trying
 * to read again may help. It may destroy the stream. Nobody waits to read then; not after stream_cut(), which forgets
 * it. */
void stream_when_readable(struct stream *stream, void (*ready)(void *arg), void *arg) LOOP_FN;

/* All of @bytes, waiting as needed: 0, -ECONNRESET when the other side ends before, or -errno. */
int stream_read_all(struct stream *stream, void *data, size_t bytes) CO_FN LOOP_FN;
int stream_write_all(struct stream *stream, const void *data, size_t bytes) CO_FN LOOP_FN;

/* Ends the connection in both directions at once, whatever the other side does, and wakes those who wait. TLS is shut
 * down first, if the socket takes that. The descriptor stays until stream_destroy(). May be called again. */
void stream_cut(struct stream *stream) LOOP_FN;

/* Wakes those who wait, with -ECANCELED; who would wait from now on does not either. What is sent goes its way: the
 * connection ends in good order, with stream_destroy(). */
void stream_wake(struct stream *stream) LOOP_FN;
/* The same for who reads, and forgets stream_when_readable(). Writing goes on. */
void stream_wake_reader(struct stream *stream) LOOP_FN;

/* Over TCP: something that was written has not reached the other side yet, as far as that is known. */
bool stream_has_output(const struct stream *stream) LOOP_FN;

/* Before stream_destroy(): waits until the other side has ended its direction, too, so that all that was written
 * reaches it. TCP throws away what is under way when bytes that came are not read, and these are dropped here. At most
 * until @timeout_ms have passed without any, or stream_cut(). */
void stream_finish(struct stream *stream, uint64_t timeout_ms) CO_FN LOOP_FN;

/* Encrypts what is sent and received from now on: a handshake of TLS, on the side of @context. Waits for the other side
 * as long as it takes: who has less time cuts the stream. Bytes that it sent before must not have been read. The error
 * is for people; the other side was told with an alert. After it the stream is good for nothing but stream_cut().
 * @host: as of tls_session_create(). */
struct error *stream_start_tls(struct stream *stream, struct tls_context *context, const char *host)
    CO_FN LOOP_FN MUST_CHECK;

/* Why TLS ended a stream that could not be read any more (tls_session_failure()); NULL: it did not. */
const char *stream_tls_failure(const struct stream *stream) LOOP_FN;

/* The name that the other side has proved in that handshake; NULL: none. Lives as long as the stream. */
const char *stream_peer_identity(const struct stream *stream) LOOP_FN;

#endif
