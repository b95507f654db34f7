/* Reads. Where the client takes chunks, large holes are told and not sent: their memory is never touched. */
#include "blockcore/export/nbd/connection_private.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/range.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>

/* To ask about holes costs more than to send this much; and a hole shorter than that costs more than its zeroes. */
#define ASK_BYTES (64 * 1024)
#define HOLE_BYTES (32 * 1024)

static bool may_have_holes(const struct nbd_request *request)
{
    return request->conn->agreed.mode != NBD_MODE_SIMPLE && !(request->header.flags & NBD_CMD_FLAG_DF) &&
           request->piece.bytes >= ASK_BYTES;
}

/* A read of no bytes has no buffer. */
static void *place_of(const struct nbd_request *request, uint64_t offset)
{
    uint64_t skip = offset - request->piece.offset;
    return skip == 0 ? request->buffer : (uint8_t *)request->buffer + skip;
}

static int read_range(struct nbd_request *request, struct range range)
{
    struct iov iov = iov_of(&request->vec, place_of(request, range.offset), (size_t)range.bytes);
    int ret = handle_preadv(request->conn->access.handle, range, &iov);
    if (ret < 0)
        request->failed_at = range.offset;
    return ret;
}

/* The next run of the request from @offset on: a large hole, or everything up to the next one. @index goes through
 * @extents, which may end early: what nothing is known about is data. */
static struct range next_run(const struct extents *extents, size_t *index, uint64_t offset, uint64_t end, bool *hole)
{
    uint64_t at = offset;
    *hole = false;
    for (; *index < extents->count; ++*index) {
        const struct extent *extent = &extents->items[*index];
        uint64_t extent_end = min_u64(extent->offset + extent->bytes, end);
        if (extent->flags & EXTENT_ZERO && extent_end - at >= HOLE_BYTES) {
            if (at > offset)
                return range_between(offset, at);
            *hole = true;
            ++*index;
            return range_between(at, extent_end);
        }
        at = extent_end;
    }
    return range_between(offset, end);
}

static void put_run(struct nbd_request *request, struct range run, bool hole, bool last)
{
    struct nbd_reply_to to = nbd_reply_to(request);
    struct nbd_part *part =
        nbd_reply_part(request, hole ? NULL : place_of(request, run.offset), hole ? 0 : (size_t)run.bytes);
    part->head_bytes = (uint32_t)(hole ? nbd_put_hole_chunk(part->head, &to, last, run.offset, (uint32_t)run.bytes)
                                       : nbd_put_data_chunk(part->head, &to, last, run.offset, (uint32_t)run.bytes));
}

static int read_in_runs(struct nbd_request *request, const struct extents *extents)
{
    uint64_t end = range_end(request->piece);
    size_t index = 0;
    request->parts = buffer_get(NBD_READ_PARTS_MAX * sizeof(*request->parts));
    if (!request->parts) {
        request->parts = request->own;
        return -ENOMEM;
    }
    for (uint64_t at = request->piece.offset; at < end;) {
        bool hole;
        struct range run = next_run(extents, &index, at, end, &hole);
        if (request->parts_count == NBD_READ_PARTS_MAX - 1 && range_end(run) < end) {
            run = range_between(at, end);
            hole = false;
        }
        int ret = hole ? 0 : read_range(request, run);
        if (ret < 0)
            return ret;
        at = range_end(run);
        put_run(request, run, hole, at == end && !nbd_request_continues(request));
    }
    return 0;
}

static int read_whole(struct nbd_request *request)
{
    struct range range = request->piece;
    struct nbd_reply_to to = nbd_reply_to(request);
    int ret = read_range(request, range);
    if (ret < 0)
        return ret;
    struct nbd_part *part = nbd_reply_part(request, request->buffer, (size_t)range.bytes);
    if (to.mode == NBD_MODE_SIMPLE)
        part->head_bytes =
            nbd_request_is_continued(request) ? 0 : (uint32_t)nbd_put_simple_reply(part->head, &to, NBD_SUCCESS);
    else if (range.bytes == 0)
        part->head_bytes = (uint32_t)nbd_put_chunk(part->head, &to, true, NBD_REPLY_TYPE_NONE, 0);
    else
        part->head_bytes = (uint32_t)nbd_put_data_chunk(part->head, &to, !nbd_request_continues(request), range.offset,
                                                        (uint32_t)range.bytes);
    return 0;
}

int nbd_read(struct nbd_request *request)
{
    struct range range = request->piece;
    if (!may_have_holes(request))
        return read_whole(request);
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, NBD_READ_PARTS_MAX);
    size_t index = 0;
    bool hole;
    if (handle_block_status(request->conn->access.handle, range, ASK_ZERO, NULL, false, &extents) < 0)
        return read_whole(request);
    struct range first = next_run(&extents, &index, range.offset, range_end(range), &hole);
    return hole || first.bytes < range.bytes ? read_in_runs(request, &extents) : read_whole(request);
}
