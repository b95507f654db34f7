/* tls_session - one connection's TLS: bytes of a protocol above, a socket below
 *
 *     protocol --writev--> 16 KiB records, encrypted into one buffer --one system call--> socket
 *     protocol <--readv--- OpenSSL, decrypting where it reads       <--one system call--- socket
 *
 * For net/stream.c, which waits where this says -EAGAIN. Ciphertext that the socket does not take yet stays here, and
 * the bytes that it carries count as written only when it has gone: who was told -EAGAIN comes again with the same
 * bytes, and more behind them if it likes. So nothing has to be flushed, and nobody but the writer waits.
 *
 * A session belongs to one thread at a time. */
#ifndef CAIRN_NET_TLS_SESSION_H
#define CAIRN_NET_TLS_SESSION_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

struct tls_context;
struct tls_session;

/* One side of a connection: that of @context. @fd stays the caller's. Holds a reference on @context.
 * @host: the name or address that the certificate of the server has to be for; NULL for a server, and for a client
 * whose context does not want it. */
struct tls_session *tls_session_create(struct tls_context *context, int fd, const char *host) MUST_CHECK;
/* Says good-bye if the socket takes it at once, along with what waits to be sent. Nothing is read or written after it.
 * May be called again, but not while a step of the handshake is taken. */
void tls_session_end(struct tls_session *session);
/* NULL is allowed. Ends it, if that has not been done. */
void tls_session_destroy(struct tls_session *session);

enum tls_step {
    TLS_STEP_DONE,
    TLS_STEP_READ,   /* go on when the socket has something */
    TLS_STEP_FAILED, /* what there is to send (an alert) should be sent; then that was it */
};

/* One step of the handshake; takes the processor for up to some milliseconds, so it is for the pool. Then comes
 * tls_session_flush(). *why, which the caller frees, is set with TLS_STEP_FAILED. */
enum tls_step tls_session_handshake(struct tls_session *session, struct error **why);

/* 0 when the socket has taken everything, -EAGAIN, or -errno. */
int tls_session_flush(struct tls_session *session);

/* As the functions of a stream. */
ssize_t tls_session_readv(struct tls_session *session, const struct iovec *vec, int count);
ssize_t tls_session_writev(struct tls_session *session, const struct iovec *vec, int count);

/* Whether reading may bring something although the socket has nothing. */
bool tls_session_has_input(const struct tls_session *session);

/* The name that the other side has proved, after the handshake: the distinguished name of its certificate, or its user
 * name; NULL: none. Lives as long as the session. */
const char *tls_session_identity(const struct tls_session *session);

/* Why reading failed, in a few words; NULL: it did not, or nobody knows. With TLS 1.3 a client hears only here that the
 * server does not let it in. */
const char *tls_session_failure(const struct tls_session *session);

#endif
