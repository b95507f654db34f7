#include "blockcore/drivers/file/file_private.h"

#include "blockcore/io/block_status.h"

#include <errno.h>
#include <unistd.h>

/* Empty unless @at is known to be data: from there to the end of what is known. */
static struct range known_data_at(struct known_data *known, uint64_t at)
{
    spinlock_lock(&known->lock);
    bool inside = at >= known->range.offset && at < range_end(known->range);
    uint64_t end = inside ? range_end(known->range) : at;
    spinlock_unlock(&known->lock);
    return range_between(at, end);
}

static uint64_t known_data_generation(struct known_data *known)
{
    spinlock_lock(&known->lock);
    uint64_t generation = known->generation;
    spinlock_unlock(&known->lock);
    return generation;
}

/* @generation was read before the file was asked: what was forgotten since does not come back. */
static void known_data_set(struct known_data *known, struct range range, uint64_t generation)
{
    spinlock_lock(&known->lock);
    if (known->generation == generation)
        known->range = range;
    spinlock_unlock(&known->lock);
}

void known_data_forget(struct known_data *known)
{
    spinlock_lock(&known->lock);
    known->generation++;
    known->range = range_make(0, 0);
    spinlock_unlock(&known->lock);
}

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

/* Where the data at @at ends, or @end where that cannot be found out; may lie beyond @end. */
static uint64_t data_end(struct file *file, int fd, uint64_t at, uint64_t end)
{
    uint64_t known = range_end(known_data_at(&file->known_data, at));
    if (known > at)
        return known;
    uint64_t generation = known_data_generation(&file->known_data);
    off_t found = lseek(fd, (off_t)at, SEEK_HOLE);
    /* A hole at @at was made after data was found there. */
    if (found <= (off_t)at)
        return end;
    known_data_set(&file->known_data, range_between(at, (uint64_t)found), generation);
    return (uint64_t)found;
}

static int scan_file(void *arg)
{
    struct scan *scan = arg;
    uint64_t at = scan->range.offset;
    uint64_t end = range_end(scan->range);

    while (at < end && !extents_full(scan->extents)) {
        bool known = known_data_at(&scan->file->known_data, at).bytes > 0;
        int64_t data = known ? (int64_t)at : next_data(scan->fd, at, end);
        if (data == -EINVAL)
            atomic_store_explicit(&scan->file->no_seek_hole, true, memory_order_relaxed);
        if (data > (int64_t)at)
            append(scan->extents, at, (uint64_t)data, EXTENT_ZERO);
        at = data > (int64_t)at ? (uint64_t)data : at;
        if (at == end || extents_full(scan->extents))
            break;

        /* What cannot be found out is data. */
        uint64_t to = data < 0 ? end : min_u64(data_end(scan->file, scan->fd, at, end), end);
        append(scan->extents, at, to, EXTENT_DATA);
        at = to;
    }
    return 0;
}

int file_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    struct file *file = node_state(node);
    struct scan scan = { .file = file, .fd = file_io_fd(file->io), .range = range, .extents = extents };
    bool holes_matter = ask & (ASK_ZERO | ASK_MAP);

    if (range_contains(known_data_at(&file->known_data, range.offset), range)) {
        append(extents, range.offset, range_end(range), EXTENT_DATA);
        return 0;
    }
    if (!holes_matter || file->device || atomic_load_explicit(&file->no_seek_hole, memory_order_relaxed)) {
        append(extents, range.offset, range_end(range), EXTENT_DATA);
        return 0;
    }
    return file_io_blocking(file->io, scan_file, &scan);
}
