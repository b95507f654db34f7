/* Packing one cluster, on a thread of the pool.
 *
 * Sources: the qcow2 specification, "Compressed Clusters Descriptor" and "compression type": raw deflate with a window
 * of 4 KiB, or one frame of zstd. */
#include "blockcore/drivers/qcow2/pack.h"

#include <errno.h>

#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

#define WINDOW_BITS 12 /* readers need not have more */
#define MEMORY_LEVEL_MAX 9

/* Of each level zlib keeps twice as many symbols as of the one before, 64 * 2 of level 1, until it writes a block. More
 * than a cluster can have would be memory that is taken and cleared for nothing: 256 KiB for 512 bytes. */
static int memory_level(size_t plain_bytes)
{
    int level = 1;
    while (level < MEMORY_LEVEL_MAX && (size_t)64 << level < plain_bytes)
        level++;
    return level;
}

static int pack_deflate(struct packing *job)
{
    z_stream stream = {
        .next_in = job->plain,
        .avail_in = (uInt)job->plain_bytes,
        .next_out = job->packed,
        .avail_out = (uInt)job->packed_max,
    };
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, memory_level(job->plain_bytes),
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    int ret = deflate(&stream, Z_FINISH);
    deflateEnd(&stream);
    job->packed_bytes = job->packed_max - stream.avail_out;
    return ret == Z_STREAM_END ? 0 : -E2BIG;
}

static int pack_zstd(struct packing *job)
{
    size_t ret = ZSTD_compress(job->packed, job->packed_max, job->plain, job->plain_bytes, ZSTD_CLEVEL_DEFAULT);
    if (ZSTD_isError(ret))
        return -E2BIG;
    job->packed_bytes = ret;
    return 0;
}

int qcow2_pack(void *arg)
{
    struct packing *job = arg;
    return job->compression == QCOW2_ZSTD ? pack_zstd(job) : pack_deflate(job);
}
