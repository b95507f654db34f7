#include "blockcore/export/nbd/connection_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/budget.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/fd_watch.h"

#include <errno.h>
#include <string.h>

#define VECS_MAX 128 /* pieces of one send: those of 64 read replies */

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
    request->result = 0;
    request->charged = 0;
    request->buffer = NULL;
    request->buffer_bytes = 0;
    request->head_bytes = 0;
    request->payload_bytes = 0;
    conn->in_flight++;
    return request;
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
        nbd_budget_give(before - after);
}

void nbd_request_destroy(struct nbd_request *request)
{
    struct nbd_connection *conn = request->conn;
    struct spare *pool = spare_of_loop();
    release_data(request);
    request->link.next = (struct list *)(void *)pool->first;
    pool->first = request;
    conn->in_flight--;
    nbd_connection_wake(conn);
}

/* Takes @bytes that were sent off the front of the queue. */
static void replies_advance(struct nbd_connection *conn, size_t bytes)
{
    conn->reply_sent += bytes;
    while (!list_empty(&conn->replies)) {
        struct nbd_request *request = list_first(&conn->replies, struct nbd_request, link);
        size_t length = request->head_bytes + request->payload_bytes;
        if (conn->reply_sent < length)
            break;
        conn->reply_sent -= length;
        list_remove(&request->link);
        nbd_request_destroy(request);
    }
}

/* Appends what is left of one piece of which *skip bytes are sent already. */
static int add_piece(struct iovec *vec, int count, void *data, size_t bytes, size_t *skip)
{
    if (*skip >= bytes) {
        *skip -= bytes;
        return count;
    }
    vec[count] = (struct iovec){ (char *)data + *skip, bytes - *skip };
    *skip = 0;
    return count + 1;
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
        count = add_piece(vec, count, request->head, request->head_bytes, &skip);
        count = add_piece(vec, count, request->buffer, request->payload_bytes, &skip);
    }
    ssize_t n = stream_writev(conn->stream, vec, count);
    if (n < 0)
        return (int)n;
    replies_advance(conn, (size_t)n);
    return 0;
}

static bool is_stalled(const struct nbd_connection *conn)
{
    return conn->state == NBD_FINISHING || nbd_budget_is_short();
}

static int wait_for_room(struct nbd_connection *conn)
{
    int ret;
    do {
        ret = stream_wait_writable(conn->stream, conn->options.stall_ms);
    } while (ret == -ETIMEDOUT && !is_stalled(conn));
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

static bool has_payload(const struct nbd_request *request)
{
    return request->header.type == NBD_CMD_READ || request->header.type == NBD_CMD_BLOCK_STATUS;
}

static void compose_error(struct nbd_request *request, int ret)
{
    uint32_t error = nbd_error_of(ret);
    request->payload_bytes = 0;
    if (request->conn->agreed.mode == NBD_MODE_STRUCTURED)
        request->head_bytes = (uint32_t)nbd_put_error_chunk(request->head, request->header.cookie, error);
    else
        request->head_bytes = (uint32_t)nbd_put_simple_reply(request->head, error, request->header.cookie);
}

/* Data that were read follow their head; the status of blocks comes in chunks that are complete in themselves. */
static void compose_payload(struct nbd_request *request)
{
    uint64_t cookie = request->header.cookie;
    if (request->header.type == NBD_CMD_BLOCK_STATUS)
        request->head_bytes = 0;
    else if (request->conn->agreed.mode == NBD_MODE_SIMPLE)
        request->head_bytes = (uint32_t)nbd_put_simple_reply(request->head, NBD_SUCCESS, cookie);
    else if (request->payload_bytes == 0)
        request->head_bytes =
            (uint32_t)nbd_put_chunk(request->head, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, cookie, 0);
    else
        request->head_bytes = (uint32_t)nbd_put_data_chunk(request->head, cookie, request->header.offset,
                                                           (uint32_t)request->payload_bytes);
}

void nbd_request_end(struct nbd_request *request, int ret)
{
    struct nbd_connection *conn = request->conn;
    if (conn->state == NBD_CUT && !conn->sending) {
        nbd_request_destroy(request);
        return;
    }
    if (ret < 0)
        compose_error(request, ret);
    else if (has_payload(request))
        compose_payload(request);
    else
        request->head_bytes = (uint32_t)nbd_put_simple_reply(request->head, NBD_SUCCESS, request->header.cookie);
    if (request->payload_bytes == 0)
        release_data(request);
    list_append(&conn->replies, &request->link);
    if (conn->reading || conn->sending)
        return;
    conn->sending = true;
    co_start("NBD replies", send_after_others, conn);
}
