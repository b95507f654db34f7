#include "blockcore/net/tls_session.h"

#include "blockcore/base/iov.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/net/tls_context_private.h"
#include "blockcore/net/tls_keys.h"
#include "blockcore/net/tls_name.h"
#include "blockcore/runtime/buffer.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define RECORD_BYTES SSL3_RT_MAX_PLAIN_LENGTH /* of a protocol's bytes in one record */
#define RECORD_ROOM (RECORD_BYTES + 1024)     /* what it takes encrypted, and a small one besides */

/* One system call's worth of records: enough to be worth it, and little enough to stay in the processor's cache. */
#define OUTPUT_BYTES (256 * 1024)

/* What one call may read beyond the protocol's bytes that it was asked for: records carry other things too (new keys,
 * as often as the other side likes), which OpenSSL goes on with as long as there are more of them. */
#define EXTRA_BYTES (128 * 1024)
#define ASKED_BYTES_MAX (1024 * 1024)

struct tls_session {
    struct tls_context *context;
    SSL *ssl;
    int fd;
    bool broken; /* OpenSSL must not be asked any more */
    bool more;   /* the last read ended with a full buffer, not where the socket was empty or others want their turn */
    size_t may_read; /* bytes of ciphertext, in this call */
    char *identity;
    char *stranger;        /* a user without a key, for a message */
    char *host;            /* whose certificate it has to be; NULL: anybody's */
    unsigned long failure; /* OpenSSL's number of why reading failed; 0: it did not */

    /* Ciphertext on its way. The buffer is there only while there is some. */
    uint8_t *output;
    size_t sent;  /* bytes of it that the socket has taken */
    size_t ready; /* bytes of it that there are */
    size_t ahead; /* bytes of the protocol in it */
};

/* The pipe: what OpenSSL reads and writes through --------------------------------------------------------------- */

static int pipe_read(BIO *bio, char *data, size_t bytes, size_t *got)
{
    struct tls_session *session = libssl.BIO_get_data(bio);
    ssize_t n;
    do {
        n = recv(session->fd, data, bytes < session->may_read ? bytes : session->may_read, 0);
    } while (n < 0 && errno == EINTR);
    libssl.BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY | BIO_FLAGS_IN_EOF);
    if (session->may_read == 0 || (n < 0 && errno == EAGAIN))
        libssl.BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
    else if (n == 0)
        libssl.BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    *got = n > 0 ? (size_t)n : 0;
    session->may_read -= *got;
    return n > 0;
}

static size_t room_for_output(const struct tls_session *session)
{
    return OUTPUT_BYTES - session->ready;
}

static int pipe_write(BIO *bio, const char *data, size_t bytes, size_t *written)
{
    struct tls_session *session = libssl.BIO_get_data(bio);
    libssl.BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
    *written = 0;
    if (!session->output)
        session->output = buffer_get(OUTPUT_BYTES);
    if (!session->output)
        return 0;
    if (room_for_output(session) < bytes) {
        libssl.BIO_set_flags(bio, BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY);
        return 0;
    }
    memcpy(session->output + session->ready, data, bytes);
    session->ready += bytes;
    *written = bytes;
    return 1;
}

static long pipe_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

BIO_METHOD *tls_session_pipe(void)
{
    BIO_METHOD *method = libssl.BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");
    if (method && libssl.BIO_meth_set_read_ex(method, pipe_read) && libssl.BIO_meth_set_write_ex(method, pipe_write) &&
        libssl.BIO_meth_set_ctrl(method, pipe_ctrl))
        return method;
    libssl.BIO_meth_free(method);
    return NULL;
}

int tls_session_flush(struct tls_session *session)
{
    while (session->sent < session->ready) {
        ssize_t n = send(session->fd, session->output + session->sent, session->ready - session->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        session->sent += (size_t)n;
    }
    buffer_put(session->output, OUTPUT_BYTES);
    session->output = NULL;
    session->sent = session->ready = 0;
    return 0;
}

/* Birth and death ----------------------------------------------------------------------------------------------- */

/* Tells the server whom we mean, since it may be several, and whose certificate we want to see. */
static bool expect_host(struct tls_session *session, const char *host)
{
    X509_VERIFY_PARAM *wanted = libssl.SSL_get0_param(session->ssl);
    session->host = xstrdup(host);
    if (libssl.X509_VERIFY_PARAM_set1_ip_asc(wanted, host) == 1)
        return true;
    libssl.ERR_clear_error(); /* it is no address */
    return libssl.SSL_ctrl(session->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                           (void *)(uintptr_t)host) == 1 &&
           libssl.X509_VERIFY_PARAM_set1_host(wanted, host, 0) == 1;
}

static bool set_side(struct tls_session *session, const char *host)
{
    if (session->context->server)
        libssl.SSL_set_accept_state(session->ssl);
    else
        libssl.SSL_set_connect_state(session->ssl);
    return !host || expect_host(session, host);
}

struct tls_session *tls_session_create(struct tls_context *context, int fd, const char *host)
{
    struct tls_session *session = xcalloc(1, sizeof(*session));
    session->context = tls_context_ref(context);
    session->fd = fd;
    session->ssl = libssl.SSL_new(context->ctx);
    BIO *reader = libssl.BIO_new(context->pipe);
    BIO *writer = libssl.BIO_new(context->pipe);
    if (!session->ssl || !reader || !writer || !libssl.SSL_set_ex_data(session->ssl, 0, session) ||
        !set_side(session, host)) {
        libssl.BIO_free(reader);
        libssl.BIO_free(writer);
        session->broken = true;
        tls_session_destroy(session);
        return NULL;
    }
    libssl.BIO_set_data(reader, session);
    libssl.BIO_set_data(writer, session);
    libssl.BIO_set_init(reader, 1);
    libssl.BIO_set_init(writer, 1);
    libssl.SSL_set0_rbio(session->ssl, reader);
    libssl.SSL_set0_wbio(session->ssl, writer);
    session->broken = true; /* until the handshake is done */
    return session;
}

void tls_session_end(struct tls_session *session)
{
    if (session->broken)
        return;
    if (tls_session_flush(session) == 0) {
        libssl.ERR_clear_error();
        libssl.SSL_shutdown(session->ssl);
        (void)tls_session_flush(session);
        libssl.ERR_clear_error();
    }
    session->broken = true;
}

void tls_session_destroy(struct tls_session *session)
{
    if (!session)
        return;
    tls_session_end(session);
    libssl.SSL_free(session->ssl);
    buffer_put(session->output, OUTPUT_BYTES);
    tls_context_unref(session->context);
    free(session->identity);
    free(session->stranger);
    free(session->host);
    free(session);
}

/* The handshake ------------------------------------------------------------------------------------------------- */

unsigned tls_session_find_key(SSL *ssl, const char *user, unsigned char *key, unsigned room)
{
    struct tls_session *session = libssl.SSL_get_ex_data(ssl, 0);
    size_t bytes;
    const uint8_t *found = tls_keys_find(session->context->keys, user, &bytes);
    if (!found || bytes > room) {
        free(session->stranger);
        session->stranger = xstrndup(user, TLS_USER_BYTES_MAX);
        return 0;
    }
    memcpy(key, found, bytes);
    free(session->identity);
    session->identity = xstrdup(user);
    return (unsigned)bytes;
}

unsigned tls_session_show_key(SSL *ssl, const char *hint, char *user, unsigned user_room, unsigned char *key,
                              unsigned room)
{
    const struct tls_session *session = libssl.SSL_get_ex_data(ssl, 0);
    const char *name = session->context->username;
    size_t bytes;
    const uint8_t *found = tls_keys_find(session->context->keys, name, &bytes);
    (void)hint;
    if (!found || bytes > room || strlen(name) >= user_room)
        return 0;
    memcpy(key, found, bytes);
    strcpy(user, name);
    return (unsigned)bytes;
}

/* 0 or -EPERM: a name that cannot be told cannot be let in. A client knows whom it asked for. */
static int learn_name(struct tls_session *session)
{
    if (!session->context->server)
        return 0;
    X509 *certificate = session->context->verify_peer ? libssl.SSL_get1_peer_certificate(session->ssl) : NULL;
    if (!certificate)
        return session->context->verify_peer ? -EPERM : 0;
    session->identity = tls_name_of(certificate);
    libssl.X509_free(certificate);
    return session->identity ? 0 : -EPERM;
}

static struct error *why_it_failed(const struct tls_session *session, int kind)
{
    long verified = libssl.SSL_get_verify_result(session->ssl);
    if (verified == X509_V_ERR_HOSTNAME_MISMATCH || verified == X509_V_ERR_IP_ADDRESS_MISMATCH)
        return error_new("its certificate is not for '%s'", session->host);
    if (verified != X509_V_OK && session->context->verify_peer)
        return error_new("its certificate is not accepted: %s", libssl.X509_verify_cert_error_string(verified));
    if (session->stranger)
        return error_new("there is no key of user '%s'", session->stranger);
    if (kind == SSL_ERROR_SYSCALL)
        return error_new(session->context->server ? "the connection ended"
                                                  : "the server ended it, and may not accept our key or certificate");
    return libssl_error("handshake");
}

enum tls_step tls_session_handshake(struct tls_session *session, struct error **why)
{
    libssl.ERR_clear_error();
    session->may_read = EXTRA_BYTES;
    int ret = libssl.SSL_do_handshake(session->ssl);
    int kind = ret == 1 ? SSL_ERROR_NONE : libssl.SSL_get_error(session->ssl, ret);
    if (kind == SSL_ERROR_WANT_READ)
        return TLS_STEP_READ;
    if (kind == SSL_ERROR_NONE && learn_name(session) == 0) {
        session->broken = false;
        session->more = true; /* bytes of the protocol may have come along */
        return TLS_STEP_DONE;
    }
    *why = kind == SSL_ERROR_NONE ? error_new("the name in its certificate is too long") : why_it_failed(session, kind);
    libssl.ERR_clear_error();
    return TLS_STEP_FAILED;
}

const char *tls_session_failure(const struct tls_session *session)
{
    return session->failure ? libssl.ERR_reason_error_string(session->failure) : NULL;
}

const char *tls_session_identity(const struct tls_session *session)
{
    return session->context->proof == TLS_PROOF_NONE ? NULL : session->identity;
}

/* Reading ------------------------------------------------------------------------------------------------------- */

bool tls_session_has_input(const struct tls_session *session)
{
    return session->more;
}

/* What SSL_read_ex() failed with, as a stream says it: 0 at the end of the stream. */
static ssize_t read_failure(struct tls_session *session)
{
    int kind = libssl.SSL_get_error(session->ssl, 0);
    if (kind == SSL_ERROR_WANT_READ) {
        session->more = false;
        return -EAGAIN;
    }
    /* Nothing more is read, and whoever waits for the socket shall see that, though the other side keeps it open. */
    shutdown(session->fd, SHUT_RD);
    if (kind == SSL_ERROR_ZERO_RETURN)
        return 0;
    session->broken = true;
    session->failure = libssl.ERR_peek_last_error();
    libssl.ERR_clear_error();
    return -ECONNRESET;
}

/* What a client asks of OpenSSL besides (new keys) is answered now, or with the next bytes that are written. */
static void send_answers(struct tls_session *session)
{
    if (session->ready > 0 && session->ahead == 0)
        (void)tls_session_flush(session);
}

static size_t bytes_of(const struct iovec *vec, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += vec[i].iov_len;
    return bytes;
}

/* Until everything is full, or the socket is empty, or others should have a turn: a caller who gets less than it has
 * room for may count on being woken when there is more. */
ssize_t tls_session_readv(struct tls_session *session, const struct iovec *vec, int count)
{
    size_t total = 0;
    if (session->broken)
        return -ECONNRESET;
    session->more = true;
    session->may_read = EXTRA_BYTES + (size_t)min_u64(bytes_of(vec, count), ASKED_BYTES_MAX);
    libssl.ERR_clear_error();
    for (int i = 0; i < count; i++) {
        size_t used = 0;
        while (used < vec[i].iov_len) {
            size_t got;
            if (!libssl.SSL_read_ex(session->ssl, (char *)vec[i].iov_base + used, vec[i].iov_len - used, &got)) {
                ssize_t ret = read_failure(session);
                send_answers(session);
                return total > 0 ? (ssize_t)total : ret;
            }
            used += got;
            total += got;
        }
    }
    send_answers(session);
    return (ssize_t)total;
}

/* Writing ------------------------------------------------------------------------------------------------------- */

/* Where in a vector. */
struct place {
    const struct iovec *vec;
    int left; /* elements, vec among them */
    size_t used;
};

static size_t skip_bytes(struct place *place, size_t bytes)
{
    while (place->left > 0 && bytes >= place->vec->iov_len - place->used) {
        bytes -= place->vec->iov_len - place->used;
        place->vec++;
        place->left--;
        place->used = 0;
    }
    if (place->left > 0) {
        place->used += bytes;
        bytes = 0;
    }
    return bytes;
}

/* The next record's bytes: where they lie if that is in one piece, else gathered in @scratch. Moves on behind them. */
static const void *next_record(struct place *place, uint8_t *scratch, size_t *bytes)
{
    size_t piece = place->vec->iov_len - place->used;
    const char *data = (const char *)place->vec->iov_base + place->used;
    if (piece >= RECORD_BYTES || place->left == 1) {
        *bytes = piece < RECORD_BYTES ? piece : RECORD_BYTES;
        skip_bytes(place, *bytes);
        return data;
    }
    *bytes = 0;
    while (place->left > 0 && *bytes < RECORD_BYTES) {
        piece = place->vec->iov_len - place->used;
        size_t n = piece < RECORD_BYTES - *bytes ? piece : RECORD_BYTES - *bytes;
        memcpy(scratch + *bytes, (const char *)place->vec->iov_base + place->used, n);
        *bytes += n;
        skip_bytes(place, n);
    }
    return scratch;
}

/* Encrypts what there is room for, at least one record. 0 or -errno. */
static int encrypt(struct tls_session *session, struct place *place)
{
    uint8_t scratch[RECORD_BYTES];
    skip_bytes(place, 0); /* empty elements */
    while (place->left > 0 && room_for_output(session) >= RECORD_ROOM) {
        size_t bytes;
        size_t written;
        const void *data = next_record(place, scratch, &bytes);
        /* Since there is room, all of it is taken, or nothing ever will. */
        if (!libssl.SSL_write_ex(session->ssl, data, bytes, &written) || written != bytes) {
            session->broken = true;
            libssl.ERR_clear_error();
            return -EIO;
        }
        session->ahead += bytes;
        skip_bytes(place, 0);
    }
    return 0;
}

ssize_t tls_session_writev(struct tls_session *session, const struct iovec *vec, int count)
{
    struct place place = { .vec = vec, .left = count };
    ssize_t total = 0;
    if (session->broken)
        return -EPIPE;
    bool same = skip_bytes(&place, session->ahead) == 0;
    assert(same); /* the caller came back with less than it was not told to be written */
    libssl.ERR_clear_error();
    for (;;) {
        int ret = tls_session_flush(session);
        if (ret < 0)
            return total > 0 ? total : ret;
        total += (ssize_t)session->ahead;
        session->ahead = 0;
        skip_bytes(&place, 0);
        if (place.left == 0)
            return total;
        ret = encrypt(session, &place);
        if (ret < 0)
            return ret;
    }
}
