/* The server's side of TLS, against a client that uses OpenSSL as no ordinary one does. */
#include "blockcore/net/tls_session.h"

#include "blockcore/net/tls_context.h"
#include "tests/unit/drivers/nodes.h"

#include <openssl/ssl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define USER "alice"
#define KEY "00112233445566778899aabbccddeeff"
#define PIECE (32 * 1024) /* of what is sent at once */

static const uint8_t key_bytes[] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                     0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };

/* A client whose bytes go where the test carries them. */
struct client {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
    int other_fd; /* the server's end */
};

static unsigned show_key(SSL *ssl, const char *hint, char *user, unsigned user_room, unsigned char *key, unsigned room)
{
    (void)ssl;
    (void)hint;
    expect(room >= sizeof(key_bytes));
    snprintf(user, user_room, "%s", USER);
    memcpy(key, key_bytes, sizeof(key_bytes));
    return sizeof(key_bytes);
}

static struct tls_context *make_context(void)
{
    struct tls_context *context;
    struct error *warning = NULL;
    int fd = open(in_dir("keys.psk"), O_WRONLY | O_CREAT, 0600);
    expect(write(fd, USER ":" KEY "\n", sizeof(USER ":" KEY)) == sizeof(USER ":" KEY));
    close(fd);
    expect_success(tls_context_create(&(struct tls_settings){ .proof = TLS_PROOF_KEY, .server = true, .dir = test_dir },
                                      &context, &warning));
    expect(!warning);
    return context;
}

static struct client make_client(const int fds[2])
{
    struct client client = { .ctx = SSL_CTX_new(TLS_client_method()), .fd = fds[0], .other_fd = fds[1] };
    SSL_CTX_set_psk_client_callback(client.ctx, show_key);
    client.ssl = SSL_new(client.ctx);
    SSL_set_bio(client.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(client.ssl);
    return client;
}

static void free_client(struct client *client)
{
    SSL_free(client->ssl);
    SSL_CTX_free(client->ctx);
    close(client->fd);
}

/* Between the client's memory and the socket, all that there is. Returns the bytes that were sent. */
static int carry(struct client *client)
{
    static char data[PIECE];
    int sent = 0;
    ssize_t n;
    while ((n = recv(client->fd, data, sizeof(data), 0)) > 0)
        expect_int(BIO_write(SSL_get_rbio(client->ssl), data, (int)n), n);
    while ((n = BIO_read(SSL_get_wbio(client->ssl), data, sizeof(data))) > 0) {
        expect_int(send(client->fd, data, (size_t)n, MSG_NOSIGNAL), n);
        sent += (int)n;
    }
    return sent;
}

static void shake_hands(struct client *client, struct tls_session *session)
{
    enum tls_step step = TLS_STEP_READ;
    struct error *why = NULL;
    while (step == TLS_STEP_READ || !SSL_is_init_finished(client->ssl)) {
        SSL_do_handshake(client->ssl);
        carry(client);
        if (step == TLS_STEP_READ)
            step = tls_session_handshake(session, &why);
        expect_success(why);
        expect_int(tls_session_flush(session), 0);
        carry(client);
    }
    expect_int(step, TLS_STEP_DONE);
    expect_text(tls_session_identity(session), USER);
}

static ssize_t read_into(struct tls_session *session, void *data, size_t bytes)
{
    struct iovec vec = { data, bytes };
    return tls_session_readv(session, &vec, 1);
}

static void with_session(void (*body)(struct client *client, struct tls_session *session))
{
    static const int room = 1 << 20;
    int fds[2];
    expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    struct tls_context *context = make_context();
    struct client client = make_client(fds);
    struct tls_session *session = tls_session_create(context, fds[1], NULL);
    expect(session);
    shake_hands(&client, session);
    body(&client, session);
    tls_session_destroy(session);
    tls_context_unref(context);
    free_client(&client);
    close(fds[1]);
}

static int bytes_in_socket(const struct client *client)
{
    int bytes = 0;
    expect(ioctl(client->other_fd, FIONREAD, &bytes) == 0);
    return bytes;
}

static void send_many_new_keys(struct client *client, struct tls_session *session)
{
    char data[100];
    for (int i = 0; i < 8000; i++) {
        expect_int(SSL_key_update(client->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        expect_int(SSL_do_handshake(client->ssl), 1);
    }
    expect_int(SSL_write(client->ssl, "hello", 5), 5);
    expect(carry(client) > 200 * 1000);

    int turns = 0;
    ssize_t n;
    while ((n = read_into(session, data, sizeof(data))) == -EAGAIN) {
        expect(bytes_in_socket(client) > 0); /* so that the reader is woken */
        turns++;
    }
    expect_int(n, 5);
    expect(memcmp(data, "hello", 5) == 0);
    expect(turns > 0);
}

/* OpenSSL would go through all of them in one call, and through what comes meanwhile. */
NODE_TEST(new_keys_without_end_leave_turns_to_others)
{
    with_session(send_many_new_keys);
}

static void send_tiny_records(struct client *client, struct tls_session *session)
{
    static char data[PIECE];
    size_t got = 0;
    for (int i = 0; i < 10000; i++)
        expect_int(SSL_write(client->ssl, "x", 1), 1);
    expect(carry(client) > 200 * 1000);
    unsigned calls = 0;
    while (got < 10000) {
        ssize_t n = read_into(session, data, sizeof(data));
        expect(n > 0 && memchr(data, 'x', 1));
        got += (size_t)n;
        calls++;
    }
    expect(calls > 1);
    expect_int(read_into(session, data, sizeof(data)), -EAGAIN);
    expect_int(bytes_in_socket(client), 0);
}

NODE_TEST(records_of_one_byte_leave_turns_to_others)
{
    with_session(send_tiny_records);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_keys_without_end_leave_turns_to_others),
        cmocka_unit_test(records_of_one_byte_leave_turns_to_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
