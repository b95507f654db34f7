/* Compressed clusters: read and unpacked as a whole. Unpacking uses the processor for long, so it is done on the pool.
 *
 * Source: the qcow2 specification, "Compressed Clusters Descriptor" and "Additional fields": raw deflate without a zlib
 * header, or zstd; unpacking ends when a cluster's bytes are there, whatever follows. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <inttypes.h>

#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

struct unpacking {
    enum qcow2_compression compression;
    const uint8_t *packed;
    size_t packed_bytes;
    uint8_t *cluster;
    size_t cluster_bytes;
};

static int unpack_deflate(const struct unpacking *job)
{
    z_stream stream = {
        .next_in = job->packed,
        .avail_in = (uInt)job->packed_bytes,
        .next_out = job->cluster,
        .avail_out = (uInt)job->cluster_bytes,
    };
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        return -ENOMEM;
    int ret = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    bool complete = stream.avail_out == 0 && (ret == Z_STREAM_END || ret == Z_BUF_ERROR);
    return complete ? 0 : -EIO;
}

static int unpack_zstd(const struct unpacking *job)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    if (!context)
        return -ENOMEM;
    ZSTD_inBuffer in = { .src = job->packed, .size = job->packed_bytes };
    ZSTD_outBuffer out = { .dst = job->cluster, .size = job->cluster_bytes };
    while (out.pos < out.size) {
        size_t before_in = in.pos;
        size_t before_out = out.pos;
        size_t ret = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(ret) || (in.pos == before_in && out.pos == before_out))
            break;
    }
    ZSTD_freeDCtx(context);
    return out.pos == out.size ? 0 : -EIO;
}

static int unpack(void *arg)
{
    const struct unpacking *job = arg;
    return job->compression == QCOW2_ZSTD ? unpack_zstd(job) : unpack_deflate(job);
}

/* The last sector may lie past the end of the file: packed bytes end anywhere. */
static int read_packed(struct qcow2 *q, struct range packed, uint8_t *out, size_t *bytes)
{
    uint64_t length = child_length(q->file);
    if (packed.offset >= length)
        return qcow2_corrupt(q, packed, "compressed data at offset 0x%" PRIx64 " lies behind the end of the file",
                             packed.offset);
    *bytes = (size_t)min_u64(packed.bytes, length - packed.offset);
    child_debug_event(q->file, "read_compressed");
    return child_pread(q->file, packed.offset, out, *bytes);
}

int qcow2_read_compressed(struct qcow2 *q, uint64_t entry, uint64_t skip, const struct iov *iov)
{
    struct range packed = entry_compressed_range(&q->geometry, entry);
    size_t whole = (size_t)cluster_bytes(&q->geometry);
    uint8_t *in = buffer_get((size_t)packed.bytes);
    uint8_t *out = buffer_get(whole);
    struct unpacking job = {
        .compression = q->header.compression,
        .packed = in,
        .cluster = out,
        .cluster_bytes = whole,
    };
    int ret = in && out ? read_packed(q, packed, in, &job.packed_bytes) : -ENOMEM;
    if (ret == 0)
        ret = co_blocking(NULL, unpack, &job);
    if (ret == 0)
        iov_copy_from(iov, out + skip);
    buffer_put(in, (size_t)packed.bytes);
    buffer_put(out, whole);
    return ret;
}
