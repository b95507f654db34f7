#include "blockcore/export/nbd/connection_private.h"

#include "blockcore/base/range.h"
#include "blockcore/base/trace.h"
#include "blockcore/export/nbd/budget.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/fd_watch.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* What one read may bring. Requests without data are 28 bytes each, so this is thousands of them; of writes of 4 KiB,
 * it is the whole queue of a busy client. */
#define CHUNK_BYTES (256 * 1024)

/* Data at least this long are read to where they belong; then only the next header is read along, so that the data
 * after that need not be moved either. */
#define LARGE_BYTES (64 * 1024)
#define CHUNK_AFTER_LARGE_BYTES 4096

/* Data of a request that is refused are skipped, up to what a header without extensions can announce. With more, the
 * client is. */
#define SKIP_BYTES_MAX UINT32_MAX

/* After so much data, what is answered leaves, while it is in the processor's cache, and others on the loop get a turn.
 * A request costs something also if it has no data: else a client that keeps the socket full of them would be the only
 * one on its loop. */
#define BATCH_BYTES (1024 * 1024)
#define REQUEST_COST 4096 /* in bytes of data */

struct receiver {
    struct nbd_connection *conn;
    uint8_t *chunk; /* NULL while the client is idle: then the bytes are in the stash */
    size_t begin;   /* of what has been read and not been looked at */
    size_t end;
    bool drained;         /* the last read brought less than it could have: the socket is empty */
    bool large;           /* the last data were large */
    uint64_t batch_bytes; /* since the others had a turn */
    uint8_t stash[NBD_REQUEST_BYTES_MAX];
};

/* Before the main coroutine waits, for whatever it is: replies leave now, and later ones leave by themselves. */
static void stop_reading(struct nbd_connection *conn)
{
    conn->reading = false;
    nbd_replies_send(conn);
}

static size_t header_bytes(const struct receiver *receiver)
{
    return nbd_request_bytes(receiver->conn->agreed.mode);
}

static size_t left_in_chunk(const struct receiver *receiver)
{
    return receiver->end - receiver->begin;
}

/* An idle connection keeps no chunk, only the beginning of a header. */
static void put_chunk(struct receiver *receiver)
{
    size_t left = left_in_chunk(receiver);
    assert(left < NBD_REQUEST_BYTES_MAX);
    memcpy(receiver->stash, receiver->chunk + receiver->begin, left);
    buffer_put(receiver->chunk, CHUNK_BYTES);
    receiver->chunk = NULL;
    receiver->begin = 0;
    receiver->end = left;
}

static int get_chunk(struct receiver *receiver)
{
    receiver->chunk = buffer_get(CHUNK_BYTES);
    if (!receiver->chunk)
        return -ENOMEM;
    memcpy(receiver->chunk, receiver->stash, receiver->end);
    return 0;
}

/* Inside a request the client is expected to go on: if it does not, while others wait for the memory that this request
 * holds, it has to go. */
static int wait_readable(struct receiver *receiver, bool inside_request)
{
    struct nbd_connection *conn = receiver->conn;
    int ret;
    stop_reading(conn);
    receiver->batch_bytes = 0;
    do {
        ret = stream_wait_readable(conn->stream, inside_request ? conn->options.stall_ms : FD_WATCH_FOREVER);
    } while (ret == -ETIMEDOUT && !nbd_budget_is_short(conn->access.account));
    if (ret == -ETIMEDOUT)
        nbd_connection_complain(conn, "it does not go on with a request, and others wait for its memory");
    conn->reading = true;
    return ret;
}

/* @bytes more have been moved, or were asked for. */
static void CO_FN take_turns(struct receiver *receiver, uint64_t bytes)
{
    receiver->batch_bytes += bytes;
    if (receiver->batch_bytes < BATCH_BYTES)
        return;
    stop_reading(receiver->conn);
    co_yield ();
    receiver->conn->reading = true;
    receiver->batch_bytes = 0;
}

/* Reads what is there, at least a byte. -ECONNRESET at the end of the stream. */
static ssize_t read_some(struct receiver *receiver, const struct iovec *vec, int count, bool inside_request)
{
    struct stream *stream = receiver->conn->stream;
    size_t room = vec[0].iov_len + (count > 1 ? vec[1].iov_len : 0);
    for (;;) {
        if (!receiver->drained) {
            ssize_t n = stream_readv(stream, vec, count);
            receiver->drained = n < (ssize_t)room;
            if (n > 0)
                return n;
            if (n != -EAGAIN)
                return n == 0 ? -ECONNRESET : n;
        }
        int ret = wait_readable(receiver, inside_request);
        if (ret < 0)
            return ret;
        receiver->drained = false;
    }
}

static void move_to_front(struct receiver *receiver)
{
    size_t left = left_in_chunk(receiver);
    memmove(receiver->chunk, receiver->chunk + receiver->begin, left);
    receiver->begin = 0;
    receiver->end = left;
}

/* Waits for the first bytes of a request, which may be hours: the chunk is given back, and between two requests the
 * coroutine ends as well (-EAGAIN). */
static int wait_for_request(struct receiver *receiver)
{
    put_chunk(receiver);
    if (receiver->end == 0)
        return -EAGAIN;
    int ret = wait_readable(receiver, false);
    if (ret == 0)
        ret = get_chunk(receiver);
    receiver->drained = false;
    return ret;
}

/* Makes the next @bytes, at most a header, lie in the chunk. 0 or -errno. */
static int fill(struct receiver *receiver, size_t bytes)
{
    if (left_in_chunk(receiver) >= bytes)
        return 0;
    move_to_front(receiver);
    while (receiver->end < bytes) {
        if (receiver->drained) {
            int ret = wait_for_request(receiver);
            if (ret < 0)
                return ret;
        }
        size_t most = receiver->large ? CHUNK_AFTER_LARGE_BYTES : CHUNK_BYTES;
        struct iovec vec = { receiver->chunk + receiver->end, most - receiver->end };
        ssize_t n = stream_readv(receiver->conn->stream, &vec, 1);
        receiver->drained = n < (ssize_t)vec.iov_len;
        if (n == 0)
            return -ECONNRESET;
        if (n < 0 && n != -EAGAIN)
            return (int)n;
        receiver->end += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Data of a write: what the chunk has is moved, the rest is read to its place. */
static int receive_data(struct receiver *receiver, uint8_t *data, size_t bytes)
{
    size_t have = (size_t)min_u64(bytes, left_in_chunk(receiver));
    memcpy(data, receiver->chunk + receiver->begin, have);
    receiver->begin += have;
    while (have < bytes) {
        size_t ahead = receiver->large ? header_bytes(receiver) : CHUNK_BYTES;
        struct iovec vec[2] = { { data + have, bytes - have }, { receiver->chunk, ahead } };
        ssize_t n = read_some(receiver, vec, 2, true);
        if (n < 0)
            return (int)n;
        receiver->begin = 0;
        receiver->end = (size_t)n > bytes - have ? (size_t)n - (bytes - have) : 0;
        have += (size_t)n - receiver->end;
        if (have < bytes)
            take_turns(receiver, (uint64_t)n);
    }
    return 0;
}

/* Data that nobody wants, of any length. */
static int skip_data(struct receiver *receiver, uint64_t bytes)
{
    size_t have = (size_t)min_u64(bytes, left_in_chunk(receiver));
    receiver->begin += have;
    bytes -= have;
    while (bytes > 0) {
        struct iovec vec = { receiver->chunk, (size_t)min_u64(bytes, CHUNK_BYTES) };
        ssize_t n = read_some(receiver, &vec, 1, true);
        if (n < 0)
            return (int)n;
        receiver->begin = receiver->end = 0;
        bytes -= (uint64_t)n;
        take_turns(receiver, (uint64_t)n);
    }
    return 0;
}

static bool is_full(const struct nbd_connection *conn, uint64_t bytes)
{
    return conn->in_flight >= NBD_REQUESTS_MAX ||
           (bytes > 0 && conn->bytes_in_flight + bytes > NBD_CONNECTION_BYTES_MAX);
}

/* Waits until one more request may be in flight. Requests that were answered in place leave at this point. */
static int wait_for_place(struct nbd_connection *conn, uint64_t bytes)
{
    while (is_full(conn, bytes) && !conn->gives_up) {
        stop_reading(conn);
        if (is_full(conn, bytes) && !conn->gives_up)
            nbd_connection_park(conn, "requests in flight");
        conn->reading = true;
    }
    return conn->gives_up ? -ECANCELED : 0;
}

static uint64_t share_of(const struct nbd_connection *conn, uint64_t bytes)
{
    return nbd_budget_share(conn->bytes_in_flight + bytes) - nbd_budget_share(conn->bytes_in_flight);
}

/* Takes @bytes from the budgets, for @request. */
static int charge(struct nbd_request *request, uint64_t bytes)
{
    struct nbd_connection *conn = request->conn;
    uint64_t share = share_of(conn, bytes);
    if (share > 0) {
        stop_reading(conn);
        bool taken = nbd_budget_take(conn->access.account, share, &conn->gives_up);
        conn->reading = true;
        if (!taken)
            return -ECANCELED;
        /* Other requests may have ended meanwhile, so that more of this one is free. */
        nbd_budget_give(conn->access.account, share - share_of(conn, bytes));
    }
    conn->bytes_in_flight += bytes;
    request->charged = bytes;
    return 0;
}

/* Memory for the data of @request, and the @payload that the client sends. */
static int provide_data(struct receiver *receiver, struct nbd_request *request, uint64_t bytes, uint64_t payload)
{
    int ret = charge(request, bytes);
    if (ret < 0)
        return ret;
    if (bytes > 0) {
        request->buffer = buffer_get(bytes);
        request->buffer_bytes = bytes;
        if (!request->buffer)
            request->result = -ENOMEM;
    }
    receiver->large = payload >= LARGE_BYTES;
    return request->buffer && payload > 0 ? receive_data(receiver, request->buffer, payload)
                                          : skip_data(receiver, payload);
}

/* Receives what belongs to @request, and lets it run. */
static int start_request(struct receiver *receiver, struct nbd_request *request, uint64_t bytes, uint64_t payload)
{
    int ret = provide_data(receiver, request, bytes, payload);
    if (ret < 0)
        nbd_request_destroy(request);
    else if (request->result < 0)
        nbd_request_end(request, request->result);
    else
        co_start("NBD request", nbd_command_run, request);
    return ret;
}

/* A request as it comes in, before it has anything. */
struct intake {
    struct nbd_request_header header;
    uint64_t contexts;
    uint64_t payload; /* bytes that have not been read yet */
    int result;
    const char *message;
};

/* BLOCK_STATUS that says in its payload what it asks: then that is what the header says. */
static int receive_filter(struct receiver *receiver, struct intake *intake)
{
    uint8_t data[8 + 4 * NBD_CONTEXTS_MAX];
    struct nbd_status_filter filter;
    bool fits = intake->payload <= sizeof(data);
    size_t bytes = fits ? (size_t)intake->payload : 0;
    int ret = receive_data(receiver, data, bytes);
    if (ret < 0)
        return ret;
    intake->payload -= bytes;
    if (!fits || !nbd_parse_status_filter(data, bytes, intake->contexts, &filter)) {
        intake->result = -EINVAL;
        intake->message = "the payload is no list of contexts that were negotiated";
        return 0;
    }
    intake->header.bytes = filter.bytes;
    intake->contexts = filter.contexts;
    return 0;
}

/* -ESHUTDOWN when the client wants to go, -ECONNRESET when it is gone. */
static int receive_header(struct receiver *receiver, struct intake *intake)
{
    struct nbd_connection *conn = receiver->conn;
    struct nbd_request_header *header = &intake->header;
    int ret = fill(receiver, header_bytes(receiver));
    if (ret < 0)
        return ret;
    if (!nbd_parse_request(receiver->chunk + receiver->begin, conn->agreed.mode, header))
        return -EPROTO;
    receiver->begin += header_bytes(receiver);
    TRACE(nbd_request, conn->peer, header->type, header->offset, header->bytes);
    if (header->type == NBD_CMD_DISC)
        return -ESHUTDOWN;
    intake->contexts = conn->agreed.contexts;
    intake->payload = nbd_request_payload(header, conn->agreed.mode);
    if (intake->payload > SKIP_BYTES_MAX)
        return -EPROTO;
    if (header->type == NBD_CMD_BLOCK_STATUS && intake->payload > 0)
        ret = receive_filter(receiver, intake);
    if (ret == 0 && intake->result == 0)
        intake->result = nbd_command_check(conn, header, intake->contexts, &intake->message);
    return ret;
}

/* Long requests ----------------------------------------------------------------------------------------------- */

#define PIECE_BYTES_MAX (UINT64_C(2) << 20) /* the largest buffers that are kept for the next one */

/* The next piece: its end is a multiple of the length of pieces, so that it cuts no block of the storage. */
static struct range piece_of(const struct nbd_connection *conn, struct range left)
{
    uint64_t bytes = min_u64(conn->options.whole_bytes, PIECE_BYTES_MAX);
    return range_between(left.offset, min_u64(align_down(left.offset, bytes) + bytes, range_end(left)));
}

/* Nothing may come between the pieces of a simple reply. */
static int wait_for_others(struct nbd_connection *conn)
{
    while (conn->in_flight > 0 && !conn->gives_up) {
        stop_reading(conn);
        if (conn->in_flight > 0 && !conn->gives_up)
            nbd_connection_park(conn, "a long request, or those before it");
        conn->reading = true;
    }
    return conn->gives_up ? -ECANCELED : 0;
}

static int start_piece(struct receiver *receiver, const struct intake *intake, struct range piece)
{
    struct nbd_request *request = nbd_request_create(receiver->conn, &intake->header);
    request->piece = piece;
    return start_request(receiver, request, piece.bytes, intake->header.type == NBD_CMD_WRITE ? piece.bytes : 0);
}

/* Each piece is a request like any other, and the only one on its way. The rest of a write that failed is skipped. */
static int receive_long(struct receiver *receiver, const struct intake *intake)
{
    struct nbd_connection *conn = receiver->conn;
    struct range left = range_make(intake->header.offset, intake->header.bytes);
    int ret = wait_for_others(conn);
    conn->piece_failed = false;
    while (ret == 0 && left.bytes > 0 && !conn->piece_failed) {
        struct range piece = piece_of(conn, left);
        ret = start_piece(receiver, intake, piece);
        left = range_between(range_end(piece), range_end(left));
        take_turns(receiver, piece.bytes);
        if (ret == 0)
            ret = wait_for_others(conn);
    }
    return ret == 0 && intake->header.type == NBD_CMD_WRITE ? skip_data(receiver, left.bytes) : ret;
}

/* Reads and starts one request. */
static int receive_request(struct receiver *receiver)
{
    struct nbd_connection *conn = receiver->conn;
    struct intake intake = { .result = 0 };
    int ret = receive_header(receiver, &intake);
    if (ret < 0)
        return ret;
    if (intake.result == 0 && nbd_command_is_long(conn, &intake.header))
        return receive_long(receiver, &intake);
    uint64_t bytes = intake.result == 0 ? nbd_command_bytes(&intake.header, intake.contexts) : 0;
    ret = wait_for_place(conn, bytes);
    if (ret < 0)
        return ret;
    struct nbd_request *request = nbd_request_create(conn, &intake.header);
    request->contexts = intake.contexts;
    request->result = intake.result;
    request->message = intake.message;
    ret = start_request(receiver, request, bytes, intake.payload);
    take_turns(receiver, max_u64(bytes, REQUEST_COST));
    return ret;
}

bool nbd_receive(struct nbd_connection *conn)
{
    struct receiver receiver = { .conn = conn };
    conn->reading = true;
    int ret = get_chunk(&receiver);
    while (ret == 0)
        ret = conn->gives_up ? -ECANCELED : receive_request(&receiver);
    buffer_put(receiver.chunk, CHUNK_BYTES);
    if (ret == -EAGAIN) {
        stop_reading(conn);
        return !conn->gives_up;
    }
    if (ret == -EPROTO)
        nbd_connection_complain(conn, "it sent what is no request");
    if (ret != -ESHUTDOWN && ret != -ECONNRESET && ret != -ECANCELED)
        nbd_connection_cut(conn);
    if (conn->state != NBD_CUT)
        conn->state = NBD_FINISHING;
    stop_reading(conn);
    return false;
}
