#include "blockcore/export/nbd/connection_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/budget.h"
#include "blockcore/graph/notice.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/fd_watch.h"

#include <errno.h>
#include <string.h>

#define VECS_MAX 128 /* of one send: those of 64 reads, or of two that have as many holes as they may */

/* Spare request structures, kept by each loop, the control loop included; at most as many as were in flight at once. */
static struct spare {
    struct nbd_request *first;
} spare[IO_LOOPS_MAX + 1];

/* A spare one is linked by its next pointer only. */
static struct spare *spare_of_loop(void)
{
    return &spare[loop_index(loop_current())];
}

struct nbd_request *nbd_request_create(struct nbd_connection *conn, const struct nbd_request_header *header)
{
    struct spare *pool = spare_of_loop();
    struct nbd_request *request = pool->first;
    if (request)
        pool->first = (struct nbd_request *)(void *)request->link.next;
    else
        request = xmalloc(sizeof(*request));
    request->conn = conn;
    request->header = *header;
    request->piece = range_make(header->offset, header->bytes);
    request->contexts = 0;
    request->result = 0;
    request->message = NULL;
    request->failed_at = header->offset;
    request->charged = 0;
    request->buffer = NULL;
    request->buffer_bytes = 0;
    request->parts = request->own;
    request->parts_count = 0;
    request->reply_bytes = 0;
    nbd_count(&conn->in_flight, 1);
    return request;
}

/* None of the parts that were made. */
static void drop_parts(struct nbd_request *request)
{
    if (request->parts != request->own)
        buffer_put(request->parts, NBD_READ_PARTS_MAX * sizeof(*request->parts));
    request->parts = request->own;
    request->parts_count = 0;
}

struct nbd_part *nbd_reply_part(struct nbd_request *request, const void *data, size_t bytes)
{
    struct nbd_part *part = &request->parts[request->parts_count++];
    part->head_bytes = 0;
    part->data = data;
    part->data_bytes = bytes;
    return part;
}

/* The data are not needed any more. */
static void release_data(struct nbd_request *request)
{
    struct nbd_connection *conn = request->conn;
    buffer_put(request->buffer, request->buffer_bytes);
    request->buffer = NULL;
    uint64_t before = nbd_budget_share(conn->bytes_in_flight);
    conn->bytes_in_flight -= request->charged;
    request->charged = 0;
    uint64_t after = nbd_budget_share(conn->bytes_in_flight);
    if (before > after)
        nbd_budget_give(conn->access.account, before - after);
}

void nbd_request_destroy(struct nbd_request *request)
{
    struct nbd_connection *conn = request->conn;
    struct spare *pool = spare_of_loop();
    release_data(request);
    drop_parts(request);
    request->link.next = (struct list *)(void *)pool->first;
    pool->first = request;
    nbd_count(&conn->in_flight, (uint64_t)-1);
    nbd_connection_wake(conn);
}

/* Takes @bytes that were sent off the front of the queue. */
static void replies_advance(struct nbd_connection *conn, size_t bytes)
{
    conn->reply_sent += bytes;
    conn->sent += bytes;
    while (!list_empty(&conn->replies)) {
        struct nbd_request *request = list_first(&conn->replies, struct nbd_request, link);
        if (conn->reply_sent < request->reply_bytes)
            break;
        conn->reply_sent -= request->reply_bytes;
        list_remove(&request->link);
        nbd_request_destroy(request);
    }
}

/* Appends what is left of one piece of which *skip bytes are sent already. */
static int add_piece(struct iovec *vec, int count, const void *data, size_t bytes, size_t *skip)
{
    if (*skip >= bytes) {
        *skip -= bytes;
        return count;
    }
    vec[count] = (struct iovec){ (char *)(uintptr_t)data + *skip, bytes - *skip };
    *skip = 0;
    return count + 1;
}

static int add_parts(struct iovec *vec, int count, const struct nbd_request *request, size_t *skip)
{
    for (unsigned i = 0; i < request->parts_count && count <= VECS_MAX - 2; i++) {
        const struct nbd_part *part = &request->parts[i];
        count = add_piece(vec, count, part->head, part->head_bytes, skip);
        count = add_piece(vec, count, part->data, part->data_bytes, skip);
    }
    return count;
}

/* One system call for as many replies as fit into it. 0, -EAGAIN or -errno. */
static int send_some(struct nbd_connection *conn)
{
    struct iovec vec[VECS_MAX];
    struct nbd_request *request;
    size_t skip = conn->reply_sent;
    int count = 0;
    list_for_each (request, &conn->replies, link) {
        if (count > VECS_MAX - 2)
            break;
        count = add_parts(vec, count, request, &skip);
    }
    ssize_t n = stream_writev(conn->stream, vec, count);
    if (n < 0)
        return (int)n;
    replies_advance(conn, (size_t)n);
    return 0;
}

static bool is_stalled(const struct nbd_connection *conn)
{
    return conn->state == NBD_FINISHING || nbd_budget_is_short(conn->access.account);
}

static int wait_for_room(struct nbd_connection *conn)
{
    int ret;
    do {
        ret = stream_wait_writable(conn->stream, conn->options.stall_ms);
    } while (ret == -ETIMEDOUT && !is_stalled(conn));
    if (ret == -ETIMEDOUT)
        nbd_connection_complain(conn, "it does not take its replies");
    return ret;
}

void nbd_replies_drop(struct nbd_connection *conn)
{
    struct list *link;
    while ((link = list_take_first(&conn->replies)))
        nbd_request_destroy(list_entry(link, struct nbd_request, link));
}

/* Sends until nothing is left, waiting for room in the socket. */
static void send_all(struct nbd_connection *conn)
{
    while (conn->state != NBD_CUT && !list_empty(&conn->replies)) {
        int ret = send_some(conn);
        if (ret == -EAGAIN)
            ret = wait_for_room(conn);
        if (ret < 0)
            nbd_connection_cut(conn);
    }
    conn->sending = false;
    if (conn->state == NBD_CUT)
        nbd_replies_drop(conn);
    nbd_connection_wake(conn);
}

static void send_after_others(void *arg)
{
    co_yield ();
    send_all(arg);
}

static void send_when_writable(void *arg)
{
    struct nbd_connection *conn = arg;
    if (wait_for_room(conn) < 0)
        nbd_connection_cut(conn);
    send_all(conn);
}

void nbd_replies_send(struct nbd_connection *conn)
{
    int ret = 0;
    if (conn->sending)
        return;
    while (ret == 0 && !list_empty(&conn->replies))
        ret = send_some(conn);
    if (ret == -EAGAIN) {
        conn->sending = true;
        co_start("NBD replies", send_when_writable, conn);
    } else if (ret < 0) {
        nbd_connection_cut(conn);
    }
}

/* What storage did not do, and not what the client should not have asked. */
static void tell_of_failure(const struct nbd_request *request, uint32_t error, int ret)
{
    const struct notice notice = {
        .kind = NOTICE_EXPORT_FAILED,
        .node_name = "",
        .message = request->conn->access.id,
        .request = request->header.type == NBD_CMD_READ || request->header.type == NBD_CMD_BLOCK_STATUS ? NOTICE_READ
                                                                                                        : NOTICE_WRITE,
        .errnum = -ret,
    };
    if (request->result == 0 && ret != -ECANCELED && (error == NBD_EIO || error == NBD_ENOSPC))
        notice_give(&notice);
}

/* Where success has been told and data were sent, there is no other way to say that it is none. */
static void compose_simple_error(struct nbd_request *request, const struct nbd_reply_to *to, uint32_t error)
{
    if (request->header.type == NBD_CMD_READ && nbd_request_is_continued(request)) {
        nbd_connection_complain(request->conn, "a read failed after a part of its data had been sent");
        nbd_connection_cut(request->conn);
        return;
    }
    struct nbd_part *part = nbd_reply_part(request, NULL, 0);
    part->head_bytes = (uint32_t)nbd_put_simple_reply(part->head, to, error);
}

/* A read that was begun and failed says where; what it is about lies within the request. */
static void compose_error(struct nbd_request *request, int ret)
{
    struct nbd_reply_to to = nbd_reply_to(request);
    uint32_t error = nbd_error_of(&request->header, ret);
    drop_parts(request);
    tell_of_failure(request, error, ret);
    if (to.mode == NBD_MODE_SIMPLE) {
        compose_simple_error(request, &to, error);
        return;
    }
    const char *message = request->message ? request->message : strerrordesc_np(-ret);
    size_t length = message ? strlen(message) : 0;
    bool has_offset = request->header.type == NBD_CMD_READ && request->result == 0;
    struct nbd_part *part = nbd_reply_part(request, message, length);
    part->head_bytes = (uint32_t)nbd_put_error_chunk(part->head, &to, error, (uint16_t)length, has_offset);
    if (!has_offset)
        return;
    part = nbd_reply_part(request, NULL, 0);
    store_be64(part->head, request->failed_at);
    part->head_bytes = 8;
}

static void compose_success(struct nbd_request *request)
{
    struct nbd_reply_to to = nbd_reply_to(request);
    struct nbd_part *part = nbd_reply_part(request, NULL, 0);
    part->head_bytes =
        (uint32_t)(to.mode == NBD_MODE_EXTENDED ? nbd_put_chunk(part->head, &to, true, NBD_REPLY_TYPE_NONE, 0)
                                                : nbd_put_simple_reply(part->head, &to, NBD_SUCCESS));
}

/* The parts are complete. Returns whether the buffer is among them. */
static bool finish_reply(struct nbd_request *request)
{
    bool uses_buffer = false;
    for (unsigned i = 0; i < request->parts_count; i++) {
        request->reply_bytes += request->parts[i].head_bytes + request->parts[i].data_bytes;
        uses_buffer = uses_buffer || request->parts[i].data;
    }
    return uses_buffer;
}

static void count_ended(const struct nbd_request *request, int ret)
{
    struct nbd_connection *conn = request->conn;
    nbd_count(&conn->requests, nbd_request_continues(request) && ret == 0 ? 0 : 1);
    if (ret == 0 && request->header.type == NBD_CMD_READ)
        nbd_count(&conn->bytes_read, request->piece.bytes);
    else if (ret == 0 && request->header.type == NBD_CMD_WRITE)
        nbd_count(&conn->bytes_written, request->piece.bytes);
}

void nbd_request_end(struct nbd_request *request, int ret)
{
    struct nbd_connection *conn = request->conn;
    count_ended(request, ret);
    conn->piece_failed = conn->piece_failed || ret < 0;
    bool silent = ret == 0 && request->header.type == NBD_CMD_WRITE && nbd_request_continues(request);
    if (silent || (conn->state == NBD_CUT && !conn->sending)) {
        nbd_request_destroy(request);
        return;
    }
    if (ret < 0)
        compose_error(request, ret);
    else if (request->parts_count == 0)
        compose_success(request);
    if (!finish_reply(request) || ret < 0)
        release_data(request);
    list_append(&conn->replies, &request->link);
    if (conn->reading || conn->sending)
        return;
    conn->sending = true;
    co_start("NBD replies", send_after_others, conn);
}
