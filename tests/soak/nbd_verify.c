/* nbd_verify - random requests to an NBD server, each answer checked, whatever happens to the connections
 *
 *     nbd_verify --socket PATH [--socket PATH...] [--export NAME] [--connections N] [--blocks N] [--depth N]
 *                [--seconds N] [--seed N]
 *
 * Each connection is a thread with blocks of its own, which nobody else writes, so it always knows what a block may
 * read as: what was last written and answered. A connection may be cut at any time, by the server or by ourselves; then
 * a write that was not answered may or may not have been done, or be done a little later, and both is right:
 *
 *     known --write, answered--> known --write, cut--> doubtful (old or new) --nothing written for DOUBT_S, then
 * read--> known
 *
 * What a trim leaves (old or zeroes) is doubtful as well, though not for a time. Ends with status 1 at the first block
 * that reads as something it may not be. Prints a line of JSON with what was done. */
#include "blockcore/base/endian.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
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
#define REQUEST_MAGIC 0x25609513u
#define REPLY_MAGIC 0x67446698u
#define REQUEST_BYTES 28
#define REPLY_BYTES 16
#define BLOCK 4096u
#define RUN_MAX 32 /* blocks of one request */
#define DEPTH_MAX 32
#define CONNECTIONS_MAX 64
#define SOCKETS_MAX 4
#define VALUES_MAX 8 /* that a doubtful block may have */
#define DOUBT_S 20   /* no request stays inside the server for longer */
#define RETRY_NS (5 * 1000 * 1000)
#define TIMEOUT_S 120 /* for a reply, or for a server to be there again */

enum command { READ = 0, WRITE = 1, FLUSH = 3, TRIM = 4, WRITE_ZEROES = 6 };

static struct {
    const char *sockets[SOCKETS_MAX];
    unsigned sockets_count;
    const char *export;
    unsigned connections, blocks, depth, seconds;
    uint64_t seed;
} options = { .export = "disk", .connections = 8, .blocks = 1024, .depth = 16, .seconds = 10, .seed = 1 };

/* Generation 0 is zeroes. */
struct block {
    uint32_t values[VALUES_MAX];
    unsigned values_count; /* 1: known */
    bool busy;
    time_t doubtful_since; /* 0: nothing can come later */
};

struct request {
    enum command command;
    unsigned first, count; /* blocks of the client */
    uint32_t generation;
    bool pending;
};

struct client {
    pthread_t thread;
    unsigned number;
    int fd;
    uint64_t random;
    uint32_t generation;
    struct block *blocks;
    struct request requests[DEPTH_MAX];
    char *data;
    uint64_t done, verified, reconnects;
};

static atomic_bool stop;

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "nbd_verify: %s: %s\n", what, detail);
    exit(1);
}

static unsigned pick(struct client *client, unsigned below)
{
    client->random ^= client->random << 13;
    client->random ^= client->random >> 7;
    client->random ^= client->random << 17;
    return (unsigned)((client->random >> 16) % below);
}

/* Content ------------------------------------------------------------------------------------------------------- */

static uint64_t word_of(uint64_t block, uint32_t generation)
{
    return generation == 0 ? 0 : (block << 32 | generation) * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

static uint64_t place_of(const struct client *client, unsigned block)
{
    return (uint64_t)client->number * options.blocks + block;
}

static void fill(char *data, uint64_t block, uint32_t generation)
{
    uint64_t word = word_of(block, generation);
    for (unsigned i = 0; i < BLOCK; i += sizeof(word))
        memcpy(data + i, &word, sizeof(word));
}

static bool is_filled(const char *data, uint64_t block, uint32_t generation)
{
    uint64_t word = word_of(block, generation);
    return memcmp(data, &word, sizeof(word)) == 0 && memcmp(data, data + sizeof(word), BLOCK - sizeof(word)) == 0;
}

static void set_known(struct block *block, uint32_t generation)
{
    block->values[0] = generation;
    block->values_count = 1;
    block->doubtful_since = 0;
}

static void add_value(struct block *block, uint32_t generation)
{
    for (unsigned i = 0; i < block->values_count; i++) {
        if (block->values[i] == generation)
            return;
    }
    if (block->values_count == VALUES_MAX)
        die("mistake", "too many doubts");
    block->values[block->values_count++] = generation;
}

/* May something that was asked of it before a cut still be done? */
static bool is_unsettled(const struct block *block)
{
    return block->doubtful_since && time(NULL) - block->doubtful_since < DOUBT_S;
}

static void verify_block(struct client *client, unsigned number, const char *data)
{
    struct block *block = &client->blocks[number];
    uint64_t place = place_of(client, number);
    for (unsigned i = 0; i < block->values_count; i++) {
        if (!is_filled(data, place, block->values[i]))
            continue;
        if (!is_unsettled(block))
            set_known(block, block->values[i]);
        client->verified++;
        return;
    }
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    fprintf(stderr,
            "nbd_verify: MISMATCH: byte %" PRIu64 " (connection %u, block %u) begins with %016" PRIx64 "; right:",
            place * BLOCK, client->number, number, word);
    for (unsigned i = 0; i < block->values_count; i++)
        fprintf(stderr, " %016" PRIx64 " (generation %u)", word_of(place, block->values[i]), block->values[i]);
    fprintf(stderr, "\n");
    exit(1);
}

/* Connections --------------------------------------------------------------------------------------------------- */

static bool send_all(int fd, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t n = send(fd, at, bytes, MSG_NOSIGNAL);
        if (n < 0)
            return false;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

static bool receive_all(int fd, void *data, size_t bytes)
{
    char *at = data;
    while (bytes > 0) {
        ssize_t n = recv(fd, at, bytes, 0);
        if (n < 0 && errno == EAGAIN)
            die("no answer", "within TIMEOUT_S");
        if (n <= 0)
            return false;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

static bool handshake(int fd)
{
    char greeting[18], hello[20], reply[10];
    store_be32(hello, 3);
    store_be64(hello + 4, OPTION_MAGIC);
    store_be32(hello + 12, 1);
    store_be32(hello + 16, (uint32_t)strlen(options.export));
    return receive_all(fd, greeting, sizeof(greeting)) && send_all(fd, hello, sizeof(hello)) &&
           send_all(fd, options.export, strlen(options.export)) && receive_all(fd, reply, sizeof(reply));
}

static int try_connect(struct client *client)
{
    static const struct timeval timeout = { .tv_sec = TIMEOUT_S };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = options.sockets[pick(client, options.sockets_count)];
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 && handshake(fd))
        return fd;
    close(fd);
    return -1;
}

static void connect_again(struct client *client)
{
    time_t begin = time(NULL);
    while ((client->fd = try_connect(client)) < 0 && !stop) {
        nanosleep(&(struct timespec){ .tv_nsec = RETRY_NS }, NULL);
        if (time(NULL) - begin > TIMEOUT_S)
            die(options.export, "nobody serves it any more");
    }
}

/* What was not answered is in doubt. */
static void cut(struct client *client)
{
    close(client->fd);
    for (unsigned i = 0; i < options.depth; i++) {
        struct request *request = &client->requests[i];
        for (unsigned j = request->first; request->pending && j < request->first + request->count; j++) {
            struct block *block = &client->blocks[j];
            block->busy = false;
            if (request->command == READ)
                continue;
            add_value(block, request->command == WRITE ? request->generation : 0);
            block->doubtful_since = time(NULL);
        }
        request->pending = false;
    }
    client->reconnects++;
    connect_again(client);
}

/* Requests ------------------------------------------------------------------------------------------------------ */

static enum command pick_command(struct client *client)
{
    unsigned number = pick(client, 100);
    return number < 45 ? READ : number < 88 ? WRITE : number < 92 ? FLUSH : number < 96 ? TRIM : WRITE_ZEROES;
}

/* Blocks that no other request in flight has, and, if it changes them, whose past is settled. */
static bool choose_blocks(struct client *client, struct request *request)
{
    request->first = pick(client, options.blocks);
    unsigned most = options.blocks - request->first < RUN_MAX ? options.blocks - request->first : RUN_MAX;
    request->count = request->command == FLUSH ? 0 : 1 + (pick(client, 2) ? 0 : pick(client, most));
    for (unsigned i = request->first; i < request->first + request->count; i++) {
        const struct block *block = &client->blocks[i];
        bool in_doubt = is_unsettled(block) || block->values_count == VALUES_MAX;
        if (block->busy || (request->command != READ && in_doubt))
            return false;
    }
    for (unsigned i = request->first; i < request->first + request->count; i++)
        client->blocks[i].busy = true;
    return true;
}

static bool send_request(struct client *client, unsigned slot)
{
    struct request *request = &client->requests[slot];
    request->command = pick_command(client);
    if (!choose_blocks(client, request))
        return true;
    request->pending = true;
    request->generation = ++client->generation;
    char header[REQUEST_BYTES];
    store_be32(header, REQUEST_MAGIC);
    store_be16(header + 4, request->command == WRITE && pick(client, 16) == 0); /* FUA */
    store_be16(header + 6, (uint16_t)request->command);
    store_be64(header + 8, slot);
    store_be64(header + 16, request->count ? place_of(client, request->first) * BLOCK : 0);
    store_be32(header + 24, request->count * BLOCK);
    for (unsigned i = 0; i < request->count && request->command == WRITE; i++)
        fill(client->data + i * BLOCK, place_of(client, request->first + i), request->generation);
    return send_all(client->fd, header, sizeof(header)) &&
           (request->command != WRITE || send_all(client->fd, client->data, request->count * BLOCK));
}

static void end_request(struct client *client, struct request *request)
{
    for (unsigned i = 0; i < request->count; i++) {
        unsigned number = request->first + i;
        struct block *block = &client->blocks[number];
        block->busy = false;
        if (request->command == READ)
            verify_block(client, number, client->data + i * BLOCK);
        else if (request->command == TRIM)
            add_value(block, 0);
        else
            set_known(block, request->command == WRITE ? request->generation : 0);
    }
    request->pending = false;
    client->done++;
}

static bool receive_reply(struct client *client)
{
    char header[REPLY_BYTES];
    if (!receive_all(client->fd, header, sizeof(header)))
        return false;
    uint64_t slot = load_be64(header + 8);
    if (load_be32(header) != REPLY_MAGIC || slot >= options.depth || !client->requests[slot].pending)
        die("protocol", "a reply to nothing that was asked");
    struct request *request = &client->requests[slot];
    if (load_be32(header + 4) != 0) {
        char text[80];
        snprintf(text, sizeof(text), "command %d failed with error %u", (int)request->command, load_be32(header + 4));
        die("server", text);
    }
    if (request->command == READ && !receive_all(client->fd, client->data, request->count * BLOCK))
        return false;
    end_request(client, request);
    return true;
}

static bool one_round(struct client *client)
{
    unsigned depth = 1 + pick(client, options.depth);
    unsigned pending = 0;
    for (unsigned i = 0; i < depth; i++) {
        if (!send_request(client, i))
            return false;
        pending += client->requests[i].pending;
    }
    bool leave = pick(client, 2000) == 0;
    unsigned answers = leave ? pick(client, pending + 1) : pending;
    for (unsigned i = 0; i < answers; i++) {
        if (!receive_reply(client))
            return false;
    }
    return !leave;
}

static void verify_all(struct client *client)
{
    for (unsigned i = 0; i < options.blocks; i++) {
        client->requests[0] = (struct request){ .command = READ, .first = i, .count = 1, .pending = true };
        client->blocks[i].busy = true;
        char header[REQUEST_BYTES] = { 0 };
        store_be32(header, REQUEST_MAGIC);
        store_be64(header + 16, place_of(client, i) * BLOCK);
        store_be32(header + 24, BLOCK);
        if (!send_all(client->fd, header, sizeof(header)) || !receive_reply(client))
            die("the end", "the server left");
    }
}

static void *client_main(void *arg)
{
    struct client *client = arg;
    connect_again(client);
    while (!stop) {
        if (!one_round(client))
            cut(client);
    }
    if (client->fd >= 0)
        verify_all(client);
    close(client->fd);
    return NULL;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static unsigned number_of(const char *text, unsigned max)
{
    unsigned long value = strtoul(text, NULL, 10);
    if (value == 0 || value > max)
        die("not a number that makes sense here", text);
    return (unsigned)value;
}

static void parse_arguments(int argc, char **argv)
{
    static const struct option names[] = {
        { "socket", required_argument, NULL, 's' },      { "export", required_argument, NULL, 'e' },
        { "connections", required_argument, NULL, 'c' }, { "blocks", required_argument, NULL, 'b' },
        { "depth", required_argument, NULL, 'd' },       { "seconds", required_argument, NULL, 't' },
        { "seed", required_argument, NULL, 'r' },        { 0 },
    };
    int option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 's':
            if (options.sockets_count == SOCKETS_MAX)
                die("too many sockets", optarg);
            options.sockets[options.sockets_count++] = optarg;
            break;
        case 'e':
            options.export = optarg;
            break;
        case 'c':
            options.connections = number_of(optarg, CONNECTIONS_MAX);
            break;
        case 'b':
            options.blocks = number_of(optarg, 1 << 24);
            break;
        case 'd':
            options.depth = number_of(optarg, DEPTH_MAX);
            break;
        case 't':
            options.seconds = number_of(optarg, 1000000);
            break;
        case 'r':
            options.seed = number_of(optarg, UINT32_MAX);
            break;
        default:
            exit(2);
        }
    }
    if (options.sockets_count == 0)
        die("arguments", "see the head of nbd_verify.c");
}

int main(int argc, char **argv)
{
    static struct client clients[CONNECTIONS_MAX];
    uint64_t done = 0, verified = 0, reconnects = 0;
    parse_arguments(argc, argv);
    for (unsigned i = 0; i < options.connections; i++) {
        clients[i].number = i;
        clients[i].random = (options.seed + i) * UINT64_C(0x9e3779b97f4a7c15) + 1;
        clients[i].data = malloc(RUN_MAX * BLOCK);
        clients[i].blocks = calloc(options.blocks, sizeof(struct block));
        if (!clients[i].data || !clients[i].blocks)
            die("memory", "none left");
        for (unsigned j = 0; j < options.blocks; j++)
            clients[i].blocks[j].values_count = 1;
        pthread_create(&clients[i].thread, NULL, client_main, &clients[i]);
    }
    sleep(options.seconds);
    stop = true;
    for (unsigned i = 0; i < options.connections; i++) {
        pthread_join(clients[i].thread, NULL);
        done += clients[i].done;
        verified += clients[i].verified;
        reconnects += clients[i].reconnects;
    }
    printf("{\"requests\": %" PRIu64 ", \"blocks-verified\": %" PRIu64 ", \"reconnects\": %" PRIu64 "}\n", done,
           verified, reconnects);
    return 0;
}
