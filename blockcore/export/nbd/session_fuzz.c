/* Any requests, in each mode, on a connection to a server: whatever comes in, what goes out are well-formed replies to
 * what was asked, at most one for each request, and the end.
 *
 * Input: a byte that chooses mode and contexts, then records: a length and what is sent, as a request (flags, command,
 * place, length, payload; the magic is the harness's) or as it is. */
#include "blockcore/base/endian.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/export/export.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/export/nbd/wire.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"
#include "blockcore/net/stream.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DISK_BYTES (256 * 1024)
#define GRAIN 32768 /* of what is a hole */
#define INPUT_BYTES_MAX 65536
#define REQUESTS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* The disk ------------------------------------------------------------------------------------------------------- */

static uint8_t disk[DISK_BYTES];

static struct error *disk_open(struct node *node, const struct blockdev_options *options,
                               const struct open_context *context)
{
    (void)options;
    (void)context;
    node_set_length(node, DISK_BYTES);
    return NULL;
}

static int disk_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)node;
    (void)flags;
    iov_copy_from(iov, disk + range.offset);
    return 0;
}

static int disk_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)node;
    (void)flags;
    iov_copy_to(iov, disk + range.offset);
    return 0;
}

static int disk_flush(struct node *node)
{
    (void)node;
    return 0;
}

/* Zeroes are holes. */
static int disk_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    static const uint8_t zeroes[GRAIN];
    (void)ask;
    (void)node;
    for (uint64_t at = range.offset; at < range_end(range) && !extents_full(extents);) {
        uint64_t grain = at / GRAIN * GRAIN;
        uint64_t end = min_u64(grain + GRAIN, range_end(range));
        bool hole = memcmp(disk + grain, zeroes, GRAIN) == 0;
        struct extent extent = { .offset = at,
                                 .bytes = end - at,
                                 .flags = EXTENT_ALLOCATED | (hole ? EXTENT_ZERO : EXTENT_DATA) };
        extents_append(extents, &extent);
        at = end;
    }
    return 0;
}

static const struct driver disk_driver = {
    .name = "null-co",
    .kind = DRIVER_PROTOCOL,
    .open = disk_open,
    .preadv = disk_preadv,
    .pwritev = disk_pwritev,
    .flush = disk_flush,
    .block_status = disk_block_status,
};

const struct driver *driver_find(const char *name)
{
    return strcmp(name, "null-co") == 0 ? &disk_driver : NULL;
}

/* The server ----------------------------------------------------------------------------------------------------- */

static char socket_path[64];

static void serve(void *arg)
{
    (void)arg;
    struct blockdev_options options = { .driver = BLOCKDEV_DRIVER_NULL_CO, .node_name = "disk" };
    struct socket_address address = { .type = SOCKET_ADDRESS_TYPE_UNIX, .u.unix_ = { .path = socket_path } };
    struct block_dirty_bitmap_or_str name = { .kind = BLOCK_DIRTY_BITMAP_OR_STR_KIND_LOCAL, .u.local = "b" };
    struct block_export_options export = {
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = "disk",
        .node_name = "disk",
        .has_writable = true,
        .writable = true,
        .u.nbd = { .bitmaps = &name, .bitmaps_count = 1, .has_allocation_depth = true, .allocation_depth = true },
    };
    struct dirty_bitmap *bitmap;
    must(!blockdev_add(&options));
    must(!dirty_bitmap_create(node_find("disk"), "b", 4096, &bitmap));
    nbd_server_set_whole_bytes(65536); /* the disk is longer than requests that are not moved in pieces */
    must(!nbd_server_start(&(struct nbd_server_options){ .addr = &address }));
    must(!export_add(&export));
}

static void end_serving(void *arg)
{
    (void)arg;
    error_free(nbd_server_stop(NULL));
    blockdev_del_all();
}

static void stop(void)
{
    runtime_run_coroutine("end", end_serving, NULL);
    runtime_stop(false);
}

/* A session ------------------------------------------------------------------------------------------------------ */

struct session {
    int fd;
    struct stream *stream;
    enum nbd_mode mode;
    unsigned contexts; /* the first ones, this many */
    const uint8_t *data;
    size_t bytes;
    unsigned requests;
    bool raw; /* what was sent may be any requests */
    uint16_t types[REQUESTS_MAX];
    uint32_t lengths[REQUESTS_MAX];
    bool answered[REQUESTS_MAX];
};

static int connect_to_server(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(fd >= 0);
    must(connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

static void put(struct session *session, const void *data, size_t bytes)
{
    (void)stream_write_all(session->stream, data, bytes); /* the server may have had enough */
}

static bool get(struct session *session, void *data, size_t bytes)
{
    return stream_read_all(session->stream, data, bytes) == 0;
}

/* Sends an option and takes its replies up to the last one. */
static void agree(struct session *session, uint32_t option, const void *data, size_t bytes)
{
    uint8_t header[NBD_OPTION_REPLY_BYTES], reply[4096];
    store_be64(header, NBD_OPTION_MAGIC);
    store_be32(header + 8, option);
    store_be32(header + 12, (uint32_t)bytes);
    put(session, header, NBD_OPTION_BYTES);
    put(session, data, bytes);
    do {
        must(get(session, header, sizeof(header)));
        must(load_be32(header + 16) <= sizeof(reply));
        must(get(session, reply, load_be32(header + 16)));
    } while (load_be32(header + 12) != NBD_REP_ACK);
}

static void shake_hands(struct session *session)
{
    static const uint8_t all_contexts[] = "\0\0\0\4disk\0\0\0\3\0\0\0\17base:allocation\0\0\0\25qemu:allocation-depth"
                                          "\0\0\0\23qemu:dirty-bitmap:b";
    uint8_t greeting[NBD_GREETING_BYTES];
    uint8_t query[sizeof(all_contexts)];
    must(get(session, greeting, sizeof(greeting)));
    put(session, "\0\0\0\3", 4);
    if (session->mode == NBD_MODE_STRUCTURED)
        agree(session, NBD_OPT_STRUCTURED_REPLY, "", 0);
    if (session->mode == NBD_MODE_EXTENDED)
        agree(session, NBD_OPT_EXTENDED_HEADERS, "", 0);
    if (session->mode != NBD_MODE_SIMPLE && session->contexts > 0) {
        static const size_t ends[] = { 12, 31, 56, 79 };
        memcpy(query, all_contexts, sizeof(query));
        store_be32(query + 8, session->contexts);
        agree(session, NBD_OPT_SET_META_CONTEXT, query, ends[session->contexts]);
    }
    agree(session, NBD_OPT_GO, "\0\0\0\4disk\0\0", 10);
}

/* Requests ------------------------------------------------------------------------------------------------------- */

/* Lengths: short ones, long ones, and impossible ones. */
static uint64_t length_of(uint16_t word)
{
    static const uint64_t special[] = { DISK_BYTES,        NBD_PAYLOAD_MAX,     NBD_PAYLOAD_MAX + 1, UINT32_MAX,
                                        (uint64_t)1 << 32, (uint64_t)INT64_MAX, UINT64_MAX,          65536 };
    return word < 0xff00 ? word * UINT64_C(4) : special[word % (sizeof(special) / sizeof(special[0]))];
}

/* flags 1, command 1, place 2, length 2, then payload. */
static void send_request(struct session *session, const uint8_t *record, size_t bytes)
{
    uint8_t header[NBD_REQUEST_BYTES_MAX];
    bool extended = session->mode == NBD_MODE_EXTENDED;
    bool exact = record[0] & 0x80; /* the length is that of the payload */
    uint64_t length = exact ? bytes - 6 : length_of(load_be16(record + 4));
    unsigned number = session->requests++;
    session->types[number] = record[1];
    session->lengths[number] = (uint32_t)length;
    store_be32(header, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    store_be16(header + 4, record[0] & 0x7f);
    store_be16(header + 6, record[1]);
    store_be64(header + 8, number);
    store_be64(header + 16, load_be16(record + 2) * UINT64_C(8));
    if (extended)
        store_be64(header + 24, length);
    else
        store_be32(header + 24, (uint32_t)length);
    /* If the payload is not what was announced, what follows is not what it seems. */
    struct nbd_request_header parsed;
    must(nbd_parse_request(header, session->mode, &parsed));
    session->raw = session->raw || nbd_request_payload(&parsed, session->mode) != bytes - 6;
    put(session, header, nbd_request_bytes(session->mode));
    put(session, record + 6, bytes - 6);
}

static void send_all(void *arg)
{
    struct session *session = arg;
    const uint8_t *at = session->data;
    size_t left = session->bytes;
    while (left > 2 && session->requests < REQUESTS_MAX) {
        uint16_t word = load_be16(at);
        size_t bytes = (size_t)min_u64(word & 0x3fff, left - 2);
        if (bytes >= 6 && !(word & 0x8000)) {
            send_request(session, at + 2, bytes);
        } else {
            session->raw = true;
            put(session, at + 2, bytes);
        }
        at += 2 + bytes;
        left -= 2 + bytes;
    }
    (void)shutdown(session->fd, SHUT_WR);
}

/* Replies -------------------------------------------------------------------------------------------------------- */

/* Which request is answered; those that were sent as they came have any cookie. */
static bool is_known(struct session *session, uint64_t cookie, bool done)
{
    if (cookie >= session->requests) {
        must(session->raw);
        return false;
    }
    must(session->raw || !session->answered[cookie]);
    session->answered[cookie] = done;
    return true;
}

static bool skip(struct session *session, uint64_t bytes)
{
    static uint8_t scratch[65536];
    while (bytes > 0) {
        size_t n = (size_t)min_u64(bytes, sizeof(scratch));
        if (!get(session, scratch, n))
            return false;
        bytes -= n;
    }
    return true;
}

static bool take_simple(struct session *session)
{
    uint8_t rest[NBD_SIMPLE_REPLY_BYTES - 4];
    if (!get(session, rest, sizeof(rest)))
        return false;
    uint64_t cookie = load_be64(rest + 4);
    must(session->mode != NBD_MODE_EXTENDED);
    if (session->mode == NBD_MODE_SIMPLE && session->raw)
        return false; /* no one knows where the next one begins */
    if (!is_known(session, cookie, true))
        return true;
    if (session->mode == NBD_MODE_SIMPLE && session->types[cookie] == NBD_CMD_READ && load_be32(rest) == 0)
        return skip(session, session->lengths[cookie]);
    return true;
}

static bool take_chunk(struct session *session)
{
    bool extended = session->mode == NBD_MODE_EXTENDED;
    uint8_t rest[NBD_EXTENDED_CHUNK_BYTES - 4];
    if (!get(session, rest, (extended ? NBD_EXTENDED_CHUNK_BYTES : NBD_CHUNK_BYTES) - 4u))
        return false;
    uint64_t bytes = extended ? load_be64(rest + 20) : load_be32(rest + 12);
    must((load_be16(rest) & ~NBD_REPLY_FLAG_DONE) == 0);
    must(bytes <= DISK_BYTES + 8);
    is_known(session, load_be64(rest + 4), load_be16(rest) & NBD_REPLY_FLAG_DONE);
    return skip(session, bytes);
}

static void receive_all(struct session *session)
{
    uint8_t magic[4];
    bool more = true;
    while (more && get(session, magic, sizeof(magic))) {
        if (load_be32(magic) == NBD_SIMPLE_REPLY_MAGIC)
            more = take_simple(session);
        else if (load_be32(magic) == (session->mode == NBD_MODE_EXTENDED ? NBD_EXTENDED_CHUNK_MAGIC : NBD_CHUNK_MAGIC))
            more = take_chunk(session);
        else
            abort();
    }
    (void)skip(session, UINT64_MAX); /* to the end, so that a sender gets there too */
}

static void run(void *arg)
{
    struct session *session = arg;
    struct co_group group;
    session->fd = connect_to_server();
    session->stream = stream_create(session->fd);
    shake_hands(session);
    co_group_init(&group);
    co_group_start(&group, "sender", send_all, session);
    receive_all(session);
    co_group_join(&group);
    stream_destroy(session->stream);
    /* A connection that was cut ends before its requests do: they would look like leaks. */
    while (nbd_server_connections(nbd_server_find(NULL)) > 0)
        co_yield ();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static bool started;
    if (!started) {
        snprintf(socket_path, sizeof(socket_path), "/tmp/nbd_session_fuzz.%d", (int)getpid());
        error_free(runtime_start(&(struct runtime_options){ .io_loops = 1 }));
        runtime_run_coroutine("server", serve, NULL);
        atexit(stop);
    }
    started = true;
    if (bytes < 1 || bytes > INPUT_BYTES_MAX)
        return 0;
    memset(disk, 0, sizeof(disk));
    struct session session = {
        .mode = data[0] % 3,
        .contexts = data[0] / 3 % 4,
        .data = data + 1,
        .bytes = bytes - 1,
    };
    runtime_run_coroutine("fuzzer", run, &session);
    return 0;
}
