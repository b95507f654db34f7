#include "blockcore/drivers/file/file_private.h"

#include "blockcore/io/block_status.h"

#include <errno.h>
#include <unistd.h>

/* What is known to be data; *@generation goes with it. */
static struct range known_data_get(struct known_data *known, uint64_t *generation)
{
    spinlock_lock(&known->lock);
    struct range range = known->range;
    *generation = known->generation;
    spinlock_unlock(&known->lock);
    return range;
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
    struct range known; /* to be data */
    struct extents *extents;
};

static bool is_known_data(const struct scan *scan, uint64_t at)
{
    return at >= scan->known.offset && at < range_end(scan->known);
}

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
static uint64_t data_end(struct scan *scan, uint64_t at, uint64_t end)
{
    if (is_known_data(scan, at))
        return range_end(scan->known);
    off_t found = lseek(scan->fd, (off_t)at, SEEK_HOLE);
    /* A hole at @at was made after data was found there. */
    if (found <= (off_t)at)
        return end;
    scan->known = range_between(at, (uint64_t)found);
    return (uint64_t)found;
}

static int scan_file(void *arg)
{
    struct scan *scan = arg;
    uint64_t at = scan->range.offset;
    uint64_t end = range_end(scan->range);
    uint64_t generation;

    scan->known = known_data_get(&scan->file->known_data, &generation);
    while (at < end && !extents_full(scan->extents)) {
        int64_t data = is_known_data(scan, at) ? (int64_t)at : next_data(scan->fd, at, end);
        if (data == -EINVAL)
            atomic_store_explicit(&scan->file->no_seek_hole, true, memory_order_relaxed);
        if (data > (int64_t)at)
            append(scan->extents, at, (uint64_t)data, EXTENT_ZERO);
        at = data > (int64_t)at ? (uint64_t)data : at;
        if (at == end || extents_full(scan->extents))
            break;

        /* What cannot be found out is data. */
        uint64_t to = data < 0 ? end : min_u64(data_end(scan, at, end), end);
        append(scan->extents, at, to, EXTENT_DATA);
        at = to;
    }
    known_data_set(&scan->file->known_data, scan->known, generation);
    return 0;
}

int file_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    struct file *file = node_state(node);
    struct scan scan = { .file = file, .fd = file_io_fd(file->io), .range = range, .extents = extents };
    bool holes_matter = ask & (ASK_ZERO | ASK_MAP);
    uint64_t generation;

    if (!holes_matter || file->device || atomic_load_explicit(&file->no_seek_hole, memory_order_relaxed) ||
        range_contains(known_data_get(&file->known_data, &generation), range)) {
        append(extents, range.offset, range_end(range), EXTENT_DATA);
        return 0;
    }
    extents_make_room(extents);
    return file_io_blocking(file->io, scan_file, &scan);
}
