/* nbd_load - load on an NBD server, with little work of its own
 *
 *     nbd_load --socket PATH [--pid SERVER] [--export NAME] [--connections N] [--depth N] [--bytes N]
 *              [--write] [--sequential] [--seconds N]
 *
 * Each connection is a thread that keeps --depth requests of --bytes at random (or sequential) places in flight: it
 * reads as many replies as there are with one system call, and sends as many new requests with another. Prints
 * requests per second, and the processor time that the server took for each of them, as /proc/SERVER/stat has it. The
 * data that are read are not looked at. */
#include "blockcore/base/endian.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define OPTION_MAGIC UINT64_C(0x49484156454f5054)
#define REQUEST_BYTES 28
#define REPLY_BYTES 16
#define RECEIVE_BYTES (1024 * 1024)
#define CONNECTIONS_MAX 64

static struct {
    const char *socket;
    const char *export;
    int pid;
    unsigned connections, depth, bytes, seconds;
    bool write, sequential;
} options = { .export = "", .connections = 1, .depth = 32, .bytes = 4096, .seconds = 3 };

struct client {
    pthread_t thread;
    int fd;
    uint64_t size;
    uint64_t random;
    uint64_t next; /* offset of the next request, when sequential */
    uint64_t done;
    char *outgoing;
    char *incoming;
};

static volatile bool stop;

static void die(const char *what)
{
    fprintf(stderr, "nbd_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void send_all(int fd, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t n = send(fd, at, bytes, MSG_NOSIGNAL);
        if (n < 0)
            die("send");
        at += n;
        bytes -= (size_t)n;
    }
}

static void receive_all(int fd, void *data, size_t bytes)
{
    char *at = data;
    while (bytes > 0) {
        ssize_t n = recv(fd, at, bytes, 0);
        if (n <= 0)
            die("the server has closed the connection");
        at += n;
        bytes -= (size_t)n;
    }
}

/* NBD_OPT_EXPORT_NAME, the shortest way in. */
static uint64_t handshake(int fd)
{
    char greeting[18];
    char request[4 + 16];
    char reply[10];
    receive_all(fd, greeting, sizeof(greeting));
    store_be32(request, 3);
    store_be64(request + 4, OPTION_MAGIC);
    store_be32(request + 12, 1);
    store_be32(request + 16, (uint32_t)strlen(options.export));
    send_all(fd, request, sizeof(request));
    send_all(fd, options.export, strlen(options.export));
    receive_all(fd, reply, sizeof(reply));
    return load_be64(reply);
}

static void client_connect(struct client *client)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", options.socket);
    client->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (client->fd < 0 || connect(client->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        die(options.socket);
    client->size = handshake(client->fd);
    size_t one = REQUEST_BYTES + (options.write ? options.bytes : 0);
    client->outgoing = calloc(options.depth, one);
    client->incoming = malloc(RECEIVE_BYTES);
    if (!client->outgoing || !client->incoming)
        die("memory");
}

static uint64_t next_offset(struct client *client)
{
    uint64_t blocks = client->size / options.bytes;
    if (options.sequential) {
        client->next = (client->next + 1) % blocks;
        return client->next * options.bytes;
    }
    client->random ^= client->random << 13;
    client->random ^= client->random >> 7;
    client->random ^= client->random << 17;
    return client->random % blocks * options.bytes;
}

static void send_requests(struct client *client, unsigned count)
{
    size_t one = REQUEST_BYTES + (options.write ? options.bytes : 0);
    for (unsigned i = 0; i < count; i++) {
        char *at = client->outgoing + i * one;
        store_be32(at, 0x25609513);
        store_be16(at + 4, 0);
        store_be16(at + 6, options.write);
        store_be64(at + 8, i);
        store_be64(at + 16, next_offset(client));
        store_be32(at + 24, options.bytes);
    }
    send_all(client->fd, client->outgoing, count * one);
}

/* How many replies of fixed size end inside the next @bytes; *left: what is still to come of the one under way. */
static unsigned count_replies(size_t bytes, size_t *left)
{
    unsigned count = 0;
    while (bytes >= *left) {
        bytes -= *left;
        *left = REPLY_BYTES + (options.write ? 0 : options.bytes);
        count++;
    }
    *left -= bytes;
    return count;
}

/* At the end, what is in flight is waited for, and the server is told. */
static void *client_main(void *arg)
{
    struct client *client = arg;
    size_t left = REPLY_BYTES + (options.write ? 0 : options.bytes);
    unsigned in_flight = options.depth;
    send_requests(client, options.depth);
    while (in_flight > 0) {
        ssize_t n = recv(client->fd, client->incoming, RECEIVE_BYTES, 0);
        if (n <= 0)
            die("the server has closed the connection");
        unsigned count = count_replies((size_t)n, &left);
        client->done += count;
        if (stop)
            in_flight -= count;
        else if (count > 0)
            send_requests(client, count);
    }
    store_be16(client->outgoing + 6, 2);
    send_all(client->fd, client->outgoing, REQUEST_BYTES);
    return NULL;
}

/* Processor time that the server has taken, in all its threads, those that have ended included. */
static double server_seconds(void)
{
    char path[64];
    unsigned long user = 0;
    unsigned long system = 0;
    if (options.pid == 0)
        return 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", options.pid);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        die(path);
    fclose(file);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void parse_arguments(int argc, char **argv)
{
    static const struct option known[] = {
        { "socket", required_argument, NULL, 's' },  { "export", required_argument, NULL, 'e' },
        { "pid", required_argument, NULL, 'p' },     { "connections", required_argument, NULL, 'c' },
        { "depth", required_argument, NULL, 'd' },   { "bytes", required_argument, NULL, 'b' },
        { "seconds", required_argument, NULL, 't' }, { "write", no_argument, NULL, 'w' },
        { "sequential", no_argument, NULL, 'q' },    { 0 },
    };
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        unsigned number = optarg ? (unsigned)strtoul(optarg, NULL, 0) : 0;
        switch (option) {
        case 's':
            options.socket = optarg;
            break;
        case 'e':
            options.export = optarg;
            break;
        case 'p':
            options.pid = (int)number;
            break;
        case 'c':
            options.connections = number;
            break;
        case 'd':
            options.depth = number;
            break;
        case 'b':
            options.bytes = number;
            break;
        case 't':
            options.seconds = number;
            break;
        case 'w':
            options.write = true;
            break;
        case 'q':
            options.sequential = true;
            break;
        default:
            exit(2);
        }
    }
    if (!options.socket || options.connections == 0 || options.connections > CONNECTIONS_MAX || options.depth == 0 ||
        options.bytes == 0 || optind != argc) {
        fprintf(stderr, "nbd_load: see the head of nbd_load.c for its arguments\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct client clients[CONNECTIONS_MAX];
    uint64_t done = 0;
    parse_arguments(argc, argv);
    for (unsigned i = 0; i < options.connections; i++) {
        clients[i].random = 0x9e3779b97f4a7c15u * (i + 1);
        client_connect(&clients[i]);
        clients[i].next = clients[i].size / options.bytes / options.connections * i;
    }
    double server_begin = server_seconds();
    uint64_t begin = now_ns();
    for (unsigned i = 0; i < options.connections; i++)
        pthread_create(&clients[i].thread, NULL, client_main, &clients[i]);
    sleep(options.seconds);
    stop = true;
    for (unsigned i = 0; i < options.connections; i++) {
        pthread_join(clients[i].thread, NULL);
        done += clients[i].done;
    }
    double seconds = (double)(now_ns() - begin) / 1e9;
    double server = server_seconds() - server_begin;
    printf("%.0f requests/s, %.2f GiB/s", (double)done / seconds,
           (double)done * options.bytes / seconds / (1024.0 * 1024 * 1024));
    if (options.pid)
        printf(", server: %.2f us/request, %.3f CPU s/GiB", server * 1e6 / (double)done,
               server / ((double)done * options.bytes / (1024.0 * 1024 * 1024)));
    printf("\n");
    return 0;
}
