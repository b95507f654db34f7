#include "blockcore/export/nbd/connection_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/export/nbd/status.h"
#include "blockcore/graph/driver.h"
#include "blockcore/io/request.h"

#include <errno.h>

#define CACHE_BYTES (256 * 1024) /* read at a time for CACHE, which has no data of its own */

struct command {
    int (*run)(struct nbd_request *request) CO_FN;
    uint16_t flags;  /* that it understands, beyond FUA */
    bool writes;     /* not allowed on an export that is not writable */
    bool has_range;  /* offset and length mean bytes of the export */
    bool moves_data; /* as many bytes as its length says are sent one way or the other */
    int beyond_end;  /* -errno when they lie outside of it */
};

static struct range range_of(const struct nbd_request *request)
{
    return range_make(request->header.offset, request->header.bytes);
}

static bool wants_fua(const struct nbd_request *request)
{
    return (request->header.flags & NBD_CMD_FLAG_FUA) || request->conn->access.writethrough;
}

static int run_flush(struct nbd_request *request)
{
    return handle_flush(request->conn->access.handle);
}

/* Of a long write the pieces are flushed together, after the last one. */
static int run_write(struct nbd_request *request)
{
    bool whole = request->piece.bytes == request->header.bytes;
    struct iov iov = iov_of(&request->vec, request->buffer, (size_t)request->piece.bytes);
    unsigned flags = whole && wants_fua(request) ? REQ_FUA : 0;
    int ret = handle_pwritev(request->conn->access.handle, request->piece, &iov, flags);
    bool at_end = !whole && !nbd_request_continues(request);
    return ret == 0 && at_end && wants_fua(request) ? run_flush(request) : ret;
}

static int run_trim(struct nbd_request *request)
{
    int ret = handle_pdiscard(request->conn->access.handle, range_of(request));
    if (ret == 0 && wants_fua(request))
        ret = handle_flush(request->conn->access.handle);
    return ret;
}

static int run_write_zeroes(struct nbd_request *request)
{
    unsigned flags = wants_fua(request) ? REQ_FUA : 0;
    if (!(request->header.flags & NBD_CMD_FLAG_NO_HOLE))
        flags |= REQ_MAY_UNMAP;
    if (request->header.flags & NBD_CMD_FLAG_FAST_ZERO)
        flags |= REQ_NO_FALLBACK;
    return handle_pwrite_zeroes(request->conn->access.handle, range_of(request), flags);
}

/* Brings the range into whatever caches there are below, by reading it. It may be the whole of a large export, and all
 * of it there already: others on the loop get a turn after each piece, and nobody goes on for a client that has left.
 */
static int run_cache(struct nbd_request *request)
{
    struct range left = range_of(request);
    int ret = 0;
    while (ret == 0 && left.bytes > 0 && request->conn->state == NBD_TRANSMISSION) {
        size_t bytes = (size_t)min_u64(left.bytes, CACHE_BYTES);
        struct iov iov = iov_of(&request->vec, request->buffer, bytes);
        ret = handle_preadv(request->conn->access.handle, range_make(left.offset, bytes), &iov);
        left = range_make(left.offset + bytes, left.bytes - bytes);
        co_yield ();
    }
    return ret;
}

static int run_block_status(struct nbd_request *request)
{
    const struct nbd_export_access *access = &request->conn->access;
    struct nbd_status_query query = {
        .handle = access->handle,
        .bitmaps = access->bitmaps,
        .block = access->block,
        .range = range_of(request),
        .to = nbd_reply_to(request),
        .contexts = request->contexts,
        .one = request->header.flags & NBD_CMD_FLAG_REQ_ONE,
    };
    size_t used;
    int ret = nbd_status_reply(&query, request->buffer, request->buffer_bytes, &used);
    if (ret == 0)
        nbd_reply_part(request, request->buffer, used);
    return ret;
}

static const struct command commands[NBD_COMMANDS] = {
    [NBD_CMD_READ] = { .run = nbd_read,
                       .flags = NBD_CMD_FLAG_DF,
                       .has_range = true,
                       .moves_data = true,
                       .beyond_end = -EINVAL },
    [NBD_CMD_WRITE] = { .run = run_write,
                        .flags = NBD_CMD_FLAG_PAYLOAD_LEN,
                        .writes = true,
                        .has_range = true,
                        .moves_data = true,
                        .beyond_end = -ENOSPC },
    [NBD_CMD_FLUSH] = { .run = run_flush },
    [NBD_CMD_TRIM] = { .run = run_trim, .writes = true, .has_range = true, .beyond_end = -EINVAL },
    [NBD_CMD_CACHE] = { .run = run_cache, .has_range = true, .beyond_end = -EINVAL },
    [NBD_CMD_WRITE_ZEROES] = { .run = run_write_zeroes,
                               .flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
                               .writes = true,
                               .has_range = true,
                               .beyond_end = -ENOSPC },
    [NBD_CMD_BLOCK_STATUS] = { .run = run_block_status,
                               .flags = NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_PAYLOAD_LEN,
                               .has_range = true,
                               .beyond_end = -EINVAL },
};

/* Flags that say how the request looks depend on how requests look. */
static bool flags_are_valid(const struct nbd_connection *conn, const struct nbd_request_header *header)
{
    unsigned allowed = NBD_CMD_FLAG_FUA | commands[header->type].flags;
    if (conn->agreed.mode == NBD_MODE_SIMPLE)
        allowed &= ~(unsigned)NBD_CMD_FLAG_DF;
    if (conn->agreed.mode != NBD_MODE_EXTENDED)
        allowed &= ~(unsigned)NBD_CMD_FLAG_PAYLOAD_LEN;
    else if (header->type == NBD_CMD_WRITE && !(header->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
        return false;
    return (header->flags & ~allowed) == 0;
}

static int refuse(const char **message, int ret, const char *reason)
{
    *message = reason;
    return ret;
}

static int check_status(const struct nbd_request_header *header, uint64_t contexts, const char **message)
{
    if (contexts == 0)
        return refuse(message, -EINVAL, "no context has been negotiated");
    return header->bytes > 0 ? 0 : refuse(message, -EINVAL, "the status of no bytes is asked for");
}

int nbd_command_check(const struct nbd_connection *conn, const struct nbd_request_header *header, uint64_t contexts,
                      const char **message)
{
    if (header->type >= NBD_COMMANDS || !commands[header->type].run)
        return refuse(message, -EINVAL, "unknown command");
    const struct command *command = &commands[header->type];
    if (!flags_are_valid(conn, header))
        return refuse(message, -EINVAL, "this command does not go with these flags");
    if (command->writes && !conn->access.writable)
        return refuse(message, -EPERM, "the export is read-only");
    if (command->moves_data && header->bytes > NBD_LONG_MAX)
        return refuse(message, -EINVAL, "4 GiB of data or more in one request");
    if (nbd_command_is_long(conn, header) && header->flags & NBD_CMD_FLAG_DF)
        return refuse(message, -EOVERFLOW, "more than 32 MiB of data in one chunk");
    if (command->has_range && !range_inside(range_make(header->offset, header->bytes), conn->bytes))
        return refuse(message, command->beyond_end, "the range ends behind the end of the export");
    return header->type == NBD_CMD_BLOCK_STATUS ? check_status(header, contexts, message) : 0;
}

bool nbd_command_is_long(const struct nbd_connection *conn, const struct nbd_request_header *header)
{
    return commands[header->type].moves_data && header->bytes > conn->options.whole_bytes;
}

uint64_t nbd_command_bytes(const struct nbd_request_header *header, uint64_t contexts)
{
    if (commands[header->type].moves_data)
        return header->bytes;
    if (header->type == NBD_CMD_BLOCK_STATUS)
        return nbd_status_bytes(contexts, header->flags & NBD_CMD_FLAG_REQ_ONE);
    if (header->type == NBD_CMD_CACHE)
        return min_u64(header->bytes, CACHE_BYTES);
    return 0;
}

void nbd_command_run(void *arg)
{
    struct nbd_request *request = arg;
    nbd_request_end(request, commands[request->header.type].run(request));
}
