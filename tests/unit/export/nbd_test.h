/* nbd_test - tests of the NBD server in one process with it
 *
 *     NBD_TEST(unknown_commands_are_invalid)
 *     {
 *         export_null("disk", MIB);                     a node, and an export of that id and name
 *         struct client *client = enter("disk");        raw bytes: a client that is past its handshake
 *         ask(client, 4711, 0, COOKIE, 0, 0);
 *         expect_simple(client, NBD_EINVAL, COOKIE);
 *         leave(client);
 *     }                                                 the server is stopped; nothing may be left of it
 *
 * The test is a coroutine on the control loop, and so are its raw clients; libnbd's calls block, so they run on a
 * thread of the pool (nbd_client_test.c). */
#ifndef CAIRN_TESTS_NBD_TEST_H
#define CAIRN_TESTS_NBD_TEST_H

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/export.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/export/nbd/wire.h"
#include "blockcore/net/stream.h"
#include "blockcore/runtime/fd_watch.h"
#include "tests/unit/drivers/nodes.h"

#include <sys/socket.h>
#include <sys/un.h>

#define COOKIE UINT64_C(0x1122334455667788)

#define NBD_TEST(name)                                                                                                 \
    static void name##_served(void);                                                                                   \
    NODE_TEST(name)                                                                                                    \
    {                                                                                                                  \
        with_server(name##_served);                                                                                    \
    }                                                                                                                  \
    static void name##_served(void)

/* Ids of the exports that have gone, in order. */
static char deleted_ids[256];

static void note_deleted(const char *id, void *arg)
{
    (void)arg;
    size_t length = strlen(deleted_ids);
    snprintf(deleted_ids + length, sizeof(deleted_ids) - length, length ? " %s" : "%s", id);
}

/* The server ----------------------------------------------------------------------------------------------------- */

static inline struct error *start_server_with(uint32_t connections_max, uint32_t handshake_seconds)
{
    struct socket_address address = { .type = SOCKET_ADDRESS_TYPE_UNIX, .u.unix_ = { .path = in_dir("nbd.sock") } };
    struct nbd_server_options options = {
        .addr = &address,
        .has_max_connections = true,
        .max_connections = connections_max,
        .has_handshake_max_seconds = true,
        .handshake_max_seconds = handshake_seconds,
    };
    return nbd_server_start(&options);
}

static inline void restart_server_with(uint32_t connections_max, uint32_t handshake_seconds)
{
    expect_success(nbd_server_stop(NULL));
    expect_success(start_server_with(connections_max, handshake_seconds));
}

static inline void with_server(void (*body)(void))
{
    deleted_ids[0] = '\0';
    export_set_listener(note_deleted, NULL);
    expect_success(start_server_with(0, 10));
    body();
    nbd_server_stop_all();
    expect(!export_next(NULL));
    expect(access(in_dir("nbd.sock"), F_OK) < 0);
}

static inline struct block_export_options export_options(const char *id, const char *node_name)
{
    return (struct block_export_options){
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = id,
        .node_name = node_name,
        .has_writable = true,
        .writable = true,
    };
}

/* A writable export of the node, with both contexts, named like it. */
static inline void export_as(const char *id, const char *node_name)
{
    struct block_export_options options = export_options(id, node_name);
    options.u.nbd.has_allocation_depth = options.u.nbd.allocation_depth = true;
    expect_success(export_add(&options));
}

static inline void export_null(const char *name, int64_t bytes)
{
    add(null_options(name, bytes));
    export_as(name, name);
}

/* "NAME.img" of @bytes zeroes in the directory of the test. */
static inline void export_file(const char *name, uint64_t bytes)
{
    char file[64];
    snprintf(file, sizeof(file), "%s.img", name);
    make_file(file, bytes);
    add(file_options(name, in_dir(file)));
    export_as(name, name);
}

/* Raw clients --------------------------------------------------------------------------------------------------- */

struct client {
    int fd;
    struct stream *stream;
};

static inline struct client *client_connect(void)
{
    struct client *client = xmalloc(sizeof(*client));
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_dir("nbd.sock"));
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    expect(connect(client->fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    client->stream = stream_create(client->fd);
    return client;
}

/* Closes without a word. */
static inline void leave(struct client *client)
{
    stream_destroy(client->stream);
    free(client);
}

static inline void put_raw(struct client *client, const void *data, size_t bytes)
{
    expect_int(stream_write_all(client->stream, data, bytes), 0);
}

static inline void get_raw(struct client *client, void *data, size_t bytes)
{
    expect_int(stream_read_all(client->stream, data, bytes), 0);
}

/* Nothing more comes but the end of the connection. */
static inline void expect_closed(struct client *client)
{
    char byte;
    int ret = stream_read_all(client->stream, &byte, 1);
    if (ret == 0)
        print_error("a byte came: %d\n", byte);
    expect(ret == -ECONNRESET || ret == -EPIPE);
}

static inline void expect_greeting(struct client *client)
{
    static const uint8_t expected[NBD_GREETING_BYTES] = "NBDMAGICIHAVEOPT\0\3";
    uint8_t greeting[NBD_GREETING_BYTES];
    get_raw(client, greeting, sizeof(greeting));
    expect(memcmp(greeting, expected, sizeof(expected)) == 0);
}

static inline void put_client_flags(struct client *client, uint32_t flags)
{
    uint8_t bytes[4];
    store_be32(bytes, flags);
    put_raw(client, bytes, sizeof(bytes));
}

static inline void put_option_header(struct client *client, uint32_t option, uint32_t bytes)
{
    uint8_t header[NBD_OPTION_BYTES];
    store_be64(header, NBD_OPTION_MAGIC);
    store_be32(header + 8, option);
    store_be32(header + 12, bytes);
    put_raw(client, header, sizeof(header));
}

static inline void put_option(struct client *client, uint32_t option, const void *data, size_t bytes)
{
    put_option_header(client, option, (uint32_t)bytes);
    put_raw(client, data, bytes);
}

/* Past greeting and flags. */
static inline struct client *begin_haggling(void)
{
    struct client *client = client_connect();
    expect_greeting(client);
    put_client_flags(client, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
    return client;
}

/* The next option reply is of @type; its data are dropped. */
static inline void expect_option_reply(struct client *client, uint32_t option, uint32_t type)
{
    uint8_t header[NBD_OPTION_REPLY_BYTES];
    char data[16384];
    get_raw(client, header, sizeof(header));
    expect(load_be64(header) == NBD_OPTION_REPLY_MAGIC);
    expect_int(load_be32(header + 8), option);
    expect_int(load_be32(header + 12), type);
    expect(load_be32(header + 16) <= sizeof(data));
    get_raw(client, data, load_be32(header + 16));
}

/* The transmission flags. */
static inline uint16_t choose_export(struct client *client, const char *name)
{
    uint8_t reply[NBD_EXPORT_NAME_REPLY_BYTES];
    put_option(client, NBD_OPT_EXPORT_NAME, name, strlen(name));
    get_raw(client, reply, sizeof(reply));
    return load_be16(reply + 8);
}

/* Simple replies. */
static inline struct client *enter(const char *name)
{
    struct client *client = begin_haggling();
    choose_export(client, name);
    return client;
}

static inline struct client *enter_structured(const char *name)
{
    struct client *client = begin_haggling();
    put_option(client, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    expect_option_reply(client, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
    choose_export(client, name);
    return client;
}

static inline void put_request(uint8_t *at, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset,
                               uint32_t bytes)
{
    store_be32(at, NBD_REQUEST_MAGIC);
    store_be16(at + 4, flags);
    store_be16(at + 6, type);
    store_be64(at + 8, cookie);
    store_be64(at + 16, offset);
    store_be32(at + 24, bytes);
}

static inline void ask(struct client *client, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset,
                       uint32_t bytes)
{
    uint8_t request[NBD_REQUEST_BYTES];
    put_request(request, type, flags, cookie, offset, bytes);
    put_raw(client, request, sizeof(request));
}

static inline void expect_simple(struct client *client, uint32_t error, uint64_t cookie)
{
    uint8_t reply[NBD_SIMPLE_REPLY_BYTES];
    get_raw(client, reply, sizeof(reply));
    expect_int(load_be32(reply), NBD_SIMPLE_REPLY_MAGIC);
    expect_int(load_be32(reply + 4), error);
    expect(load_be64(reply + 8) == cookie);
}

/* The header of a chunk that is the last of its reply. */
static inline void expect_last_chunk(struct client *client, uint16_t type, uint64_t cookie, uint32_t bytes)
{
    uint8_t chunk[NBD_CHUNK_BYTES];
    get_raw(client, chunk, sizeof(chunk));
    expect_int(load_be32(chunk), NBD_CHUNK_MAGIC);
    expect_int(load_be16(chunk + 4), NBD_REPLY_FLAG_DONE);
    expect_int(load_be16(chunk + 6), type);
    expect(load_be64(chunk + 8) == cookie);
    expect_int(load_be32(chunk + 16), bytes);
}

/* An error chunk of the right type, with a message for people; returns the offset that it names, if it names one. */
static inline uint64_t expect_error_of_type(struct client *client, uint16_t type, uint32_t error, uint64_t cookie)
{
    uint8_t chunk[NBD_CHUNK_BYTES], payload[256];
    bool has_offset = type == (uint16_t)NBD_REPLY_TYPE_ERROR_OFFSET;
    get_raw(client, chunk, sizeof(chunk));
    expect_int(load_be32(chunk), NBD_CHUNK_MAGIC);
    expect_int(load_be16(chunk + 4), NBD_REPLY_FLAG_DONE);
    expect_int(load_be16(chunk + 6), type);
    expect(load_be64(chunk + 8) == cookie);
    uint32_t bytes = load_be32(chunk + 16);
    expect(bytes > 6 && bytes <= sizeof(payload));
    get_raw(client, payload, bytes);
    expect_int(load_be32(payload), error);
    uint16_t message = load_be16(payload + 4);
    expect(message > 0);
    expect_int(bytes, 6 + message + (has_offset ? 8u : 0u));
    return has_offset ? load_be64(payload + 6 + message) : 0;
}

static inline void expect_error_chunk(struct client *client, uint32_t error, uint64_t cookie)
{
    expect_error_of_type(client, (uint16_t)NBD_REPLY_TYPE_ERROR, error, cookie);
}

/* The next @bytes, at least one, all are @fill. */
static inline void expect_data(struct client *client, size_t bytes, int fill)
{
    unsigned char *data = malloc(bytes);
    expect(data);
    get_raw(client, data, bytes);
    expect_int(data[0], fill);
    expect(memcmp(data, data + 1, bytes - 1) == 0);
    free(data);
}

static inline void put_filled(struct client *client, size_t bytes, int fill)
{
    char *data = malloc(bytes);
    expect(data);
    memset(data, fill, bytes);
    put_raw(client, data, bytes);
    free(data);
}

/* The server still answers on this connection. */
static inline void expect_alive(struct client *client)
{
    ask(client, NBD_CMD_FLUSH, 0, 77, 0, 0);
    expect_simple(client, 0, 77);
}

#endif
