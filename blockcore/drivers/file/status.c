#include "blockcore/drivers/file/file_private.h"

#include "blockcore/io/block_status.h"

#include <errno.h>
#include <unistd.h>

struct scan {
    struct file *file;
    int fd;
    struct range range;
    struct extents *extents;
};

/* The file itself is the storage: bytes lie where they are asked for. */
static void append(struct extents *extents, uint64_t begin, uint64_t end, unsigned flags)
{
    struct extent extent = {
        .offset = begin,
        .bytes = end - begin,
        .file_offset = begin,
        .flags = EXTENT_ALLOCATED | EXTENT_MAPPED | flags,
    };

    extents_append(extents, &extent);
}

/* First byte of data at or after @at, or @end. -errno where the file system does not say. */
static int64_t next_data(int fd, uint64_t at, uint64_t end)
{
    off_t found = lseek(fd, (off_t)at, SEEK_DATA);

    if (found < 0)
        return errno == ENXIO ? (int64_t)end : -errno; /* ENXIO: a hole up to the end of the file */
    return found < (off_t)at ? -EIO : (int64_t)min_u64((uint64_t)found, end);
}

static int64_t next_hole(int fd, uint64_t at, uint64_t end)
{
    off_t found = lseek(fd, (off_t)at, SEEK_HOLE);

    if (found < 0)
        return -errno;
    /* A hole at @at was made after data was found there. */
    return found <= (off_t)at ? -EAGAIN : (int64_t)min_u64((uint64_t)found, end);
}

static int scan_file(void *arg)
{
    struct scan *scan = arg;
    uint64_t at = scan->range.offset;
    uint64_t end = range_end(scan->range);

    while (at < end && !extents_full(scan->extents)) {
        int64_t data = next_data(scan->fd, at, end);
        if (data == -EINVAL)
            atomic_store_explicit(&scan->file->no_seek_hole, true, memory_order_relaxed);
        if (data > (int64_t)at)
            append(scan->extents, at, (uint64_t)data, EXTENT_ZERO);
        at = data > (int64_t)at ? (uint64_t)data : at;
        if (at == end || extents_full(scan->extents))
            break;

        /* What cannot be found out is data. */
        int64_t hole = data < 0 ? data : next_hole(scan->fd, at, end);
        uint64_t data_end = hole < 0 ? end : (uint64_t)hole;
        append(scan->extents, at, data_end, EXTENT_DATA);
        at = data_end;
    }
    return 0;
}

int file_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    struct file *file = node_state(node);
    struct scan scan = { .file = file, .fd = file_io_fd(file->io), .range = range, .extents = extents };
    bool holes_matter = ask & (ASK_ZERO | ASK_MAP);

    if (!holes_matter || file->device || atomic_load_explicit(&file->no_seek_hole, memory_order_relaxed)) {
        append(extents, range.offset, range_end(range), EXTENT_DATA);
        return 0;
    }
    return file_io_blocking(file->io, scan_file, &scan);
}
