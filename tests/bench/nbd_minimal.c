/* nbd_minimal - the least that a server of NBD can do, as a measure for the others
 *
 *     nbd_minimal SOCKET SIZE [FILE]
 *
 * A thread for each connection, which reads what there is, does one request after the other with pread and pwrite
 * (without a file: with nothing at all), and sends the replies together. No checks, no limits, no encryption, no second
 * export: what a server that can be used takes beyond this is the price of all that. */
#include "blockcore/base/endian.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_BYTES 28
#define REPLY_BYTES 16
#define DATA_MAX (4u << 20) /* of one request */
#define IN_BYTES (2 * DATA_MAX)
#define OUT_BYTES (2 * DATA_MAX)

static uint64_t size;
static int file = -1;

struct connection {
    int fd;
    char *in, *out;
    size_t in_begin, in_end, out_end;
};

static void flush_replies(struct connection *conn)
{
    size_t sent = 0;
    while (sent < conn->out_end) {
        ssize_t n = send(conn->fd, conn->out + sent, conn->out_end - sent, MSG_NOSIGNAL);
        if (n <= 0)
            pthread_exit(NULL);
        sent += (size_t)n;
    }
    conn->out_end = 0;
}

/* At least @bytes in one piece. */
static char *need(struct connection *conn, size_t bytes)
{
    if (conn->in_end - conn->in_begin < bytes && conn->in_begin > 0) {
        memmove(conn->in, conn->in + conn->in_begin, conn->in_end - conn->in_begin);
        conn->in_end -= conn->in_begin;
        conn->in_begin = 0;
    }
    while (conn->in_end - conn->in_begin < bytes) {
        flush_replies(conn);
        ssize_t n = recv(conn->fd, conn->in + conn->in_end, IN_BYTES - conn->in_end, 0);
        if (n <= 0)
            pthread_exit(NULL);
        conn->in_end += (size_t)n;
    }
    conn->in_begin += bytes;
    return conn->in + conn->in_begin - bytes;
}

static void serve_one(struct connection *conn)
{
    const char *request = need(conn, REQUEST_BYTES);
    uint16_t type = load_be16(request + 6);
    uint64_t cookie = load_be64(request + 8), offset = load_be64(request + 16);
    uint32_t bytes = load_be32(request + 24);
    ssize_t done = bytes;
    if (type == 2 || bytes > DATA_MAX)
        pthread_exit(NULL);
    if (conn->out_end + REPLY_BYTES + bytes > OUT_BYTES)
        flush_replies(conn);
    if (type == 1) {
        const char *data = need(conn, bytes);
        if (file >= 0)
            done = pwrite(file, data, bytes, (off_t)offset);
    }
    char *reply = conn->out + conn->out_end;
    if (type == 0 && file >= 0)
        done = pread(file, reply + REPLY_BYTES, bytes, (off_t)offset);
    store_be32(reply, 0x67446698);
    store_be32(reply + 4, done == (ssize_t)bytes ? 0 : 5);
    store_be64(reply + 8, cookie);
    conn->out_end += REPLY_BYTES + (type == 0 ? bytes : 0);
}

static void handshake(struct connection *conn)
{
    memcpy(conn->out, "NBDMAGICIHAVEOPT\0\3", 18);
    conn->out_end = 18;
    uint32_t name_bytes = load_be32(need(conn, 20) + 16); /* NBD_OPT_EXPORT_NAME, of any name */
    if (name_bytes > 4096)
        pthread_exit(NULL);
    need(conn, name_bytes);
    store_be64(conn->out, size);
    store_be16(conn->out + 8, 0x101); /* several connections see the same */
    conn->out_end = 10;
}

static void *connection_main(void *arg)
{
    struct connection conn = { .fd = *(int *)arg, .in = malloc(IN_BYTES), .out = calloc(1, OUT_BYTES) };
    free(arg);
    if (!conn.in || !conn.out)
        exit(1);
    handshake(&conn);
    for (;;)
        serve_one(&conn);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (argc < 3) {
        fprintf(stderr, "nbd_minimal: see the head of nbd_minimal.c for its arguments\n");
        return 2;
    }
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[1]);
    size = strtoull(argv[2], NULL, 10);
    if (argc > 3)
        file = open(argv[3], O_RDWR | O_CLOEXEC);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 64) < 0) {
        perror("nbd_minimal");
        return 1;
    }
    for (;;) {
        int *fd = malloc(sizeof(*fd));
        pthread_t thread;
        if (!fd || (*fd = accept(listener, NULL, NULL)) < 0)
            return 1;
        if (pthread_create(&thread, NULL, connection_main, fd) != 0)
            return 1;
        pthread_detach(thread);
    }
}
