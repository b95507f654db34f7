#include "blockcore/drivers/file/file_private.h"

#include "blockcore/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FILL_BYTES (1024 * 1024) /* zeroes written at once */

/* A range of a file to be made zero or given back, on the pool. */
struct space_request {
    struct file *file;
    int fd;
    struct range range;
    uint64_t length; /* of the file */
    unsigned flags;
};

/* The many ways of saying that a file system or device cannot do it. */
static int unsupported_as_one(int errnum)
{
    bool unsupported =
        errnum == EOPNOTSUPP || errnum == ENOSYS || errnum == ENODEV || errnum == ENOTTY || errnum == ESPIPE;

    return unsupported ? -ENOTSUP : -errnum;
}

static int allocate(int fd, int mode, struct range range)
{
    int ret;

    do {
        ret = fallocate(fd, mode, (off_t)range.offset, (off_t)range.bytes);
    } while (ret < 0 && errno == EINTR);
    return ret < 0 ? unsupported_as_one(errno) : 0;
}

/* Tries one way of doing it, unless it is known not to work. -ENOTSUP: another way may work. */
static int attempt(_Atomic bool *impossible, int fd, int mode, struct range range)
{
    if (atomic_load_explicit(impossible, memory_order_relaxed))
        return -ENOTSUP;
    int ret = allocate(fd, mode, range);
    if (ret == -ENOTSUP)
        atomic_store_explicit(impossible, true, memory_order_relaxed);
    /* Some file systems refuse ranges that are no multiple of their blocks, or files that are busy as swap space. That
     * says nothing about the next range. */
    return ret == -EINVAL || ret == -EBUSY ? -ENOTSUP : ret;
}

/* Gives storage back. A hole cannot be punched beyond the end, so the file would not grow by it. */
static int zero_and_unmap(const struct space_request *request)
{
    if (!(request->flags & REQ_MAY_UNMAP) || range_end(request->range) > request->length)
        return -ENOTSUP;
    return attempt(&request->file->no_punch_hole, request->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                   request->range);
}

/* For file systems without FALLOC_FL_ZERO_RANGE: a hole, and new storage for it. Also the way to grow. */
static int zero_by_allocating_anew(const struct space_request *request)
{
    struct file *file = request->file;
    struct range old = range_intersect(request->range, range_make(0, request->length));

    if (atomic_load_explicit(&file->no_allocate, memory_order_relaxed))
        return -ENOTSUP;
    int ret = old.bytes == 0
                  ? 0
                  : attempt(&file->no_punch_hole, request->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, old);
    return ret < 0 ? ret : attempt(&file->no_allocate, request->fd, 0, request->range);
}

static int zero_file(void *arg)
{
    const struct space_request *request = arg;
    int ret = zero_and_unmap(request);

    if (ret == -ENOTSUP)
        ret = attempt(&request->file->no_zero_range, request->fd, FALLOC_FL_ZERO_RANGE, request->range);
    if (ret == -ENOTSUP)
        ret = zero_by_allocating_anew(request);
    return ret;
}

/* For devices the kernel keeps the page cache in step with fallocate. Zeroing without unmapping may be done by writing,
 * which is just what REQ_NO_FALLBACK forbids. */
static int zero_device(void *arg)
{
    const struct space_request *request = arg;
    int ret = zero_and_unmap(request);

    if (ret == -ENOTSUP && !(request->flags & REQ_NO_FALLBACK))
        ret = attempt(&request->file->no_zero_range, request->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                      request->range);
    return ret;
}

static struct space_request space_request(struct node *node, struct range range, unsigned flags)
{
    struct file *file = node_state(node);

    return (struct space_request){
        .file = file,
        .fd = file_io_fd(file->io),
        .range = range,
        .length = node_length(node),
        .flags = flags,
    };
}

int file_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    struct file *file = node_state(node);
    struct space_request request = space_request(node, range, flags);
    int ret = file_io_blocking(file->io, file->device ? zero_device : zero_file, &request);

    file_written(file);
    known_data_forget(&file->known_data);
    if (ret == 0 && !file->device)
        node_grow_length(node, range_end(range));
    return ret;
}

static int discard_file(void *arg)
{
    const struct space_request *request = arg;
    struct range range = range_intersect(request->range, range_make(0, request->length));

    if (range.bytes == 0)
        return 0;
    return attempt(&request->file->no_punch_hole, request->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range);
}

static int discard_device(void *arg)
{
    const struct space_request *request = arg;
    uint64_t range[2] = { request->range.offset, request->range.bytes };
    int ret;

    do {
        ret = ioctl(request->fd, BLKDISCARD, range);
    } while (ret < 0 && errno == EINTR);
    if (ret == 0)
        return 0;
    ret = unsupported_as_one(errno);
    if (ret == -ENOTSUP)
        atomic_store_explicit(&request->file->no_discard, true, memory_order_relaxed);
    return ret;
}

static void count_discard(struct file *file, struct range range, int ret)
{
    atomic_fetch_add_explicit(ret < 0 ? &file->discards_failed : &file->discards_done, 1, memory_order_relaxed);
    if (ret == 0)
        atomic_fetch_add_explicit(&file->discarded_bytes, range.bytes, memory_order_relaxed);
}

int file_pdiscard(struct node *node, struct range range)
{
    struct file *file = node_state(node);
    struct space_request request = space_request(node, range, 0);

    if (atomic_load_explicit(&file->no_discard, memory_order_relaxed))
        return 0;
    int ret = file_io_blocking(file->io, file->device ? discard_device : discard_file, &request);

    file_written(file);
    known_data_forget(&file->known_data);
    count_discard(file, range, ret);
    return ret == -ENOTSUP ? 0 : ret; /* a hint */
}

static int write_all(int fd, const char *data, struct range range)
{
    while (range.bytes > 0) {
        ssize_t ret = pwrite(fd, data, min_u64(range.bytes, FILL_BYTES), (off_t)range.offset);
        if (ret < 0 && errno == EINTR)
            continue;
        if (ret <= 0)
            return ret < 0 ? -errno : -EIO;
        range = range_make(range.offset + (uint64_t)ret, range.bytes - (uint64_t)ret);
    }
    return 0;
}

/* Writes zeroes at any alignment, so past O_DIRECT. */
static int fill(int fd, struct range range)
{
    CLEANUP(close_fd) int buffered = reopen_descriptor(fd, O_WRONLY);
    CLEANUP(free) char *zeroes = try_calloc(1, FILL_BYTES);
    if (buffered < 0)
        return buffered;
    if (!zeroes)
        return -ENOMEM;
    int ret = write_all(buffered, zeroes, range);
    return ret == 0 && fsync(buffered) < 0 ? -errno : ret;
}

/* Takes storage for what is added. Knows a slow way for file systems that have no quick one, unlike fallocate. */
static int grow_allocated(int fd, struct range added)
{
    int errnum;

    do {
        errnum = posix_fallocate(fd, (off_t)added.offset, (off_t)added.bytes);
    } while (errnum == EINTR);
    return -errnum;
}

static int grow(int fd, struct range added, enum truncate_mode mode)
{
    if (mode == TRUNCATE_FALLOC && added.bytes > 0)
        return grow_allocated(fd, added);
    if (ftruncate(fd, (off_t)range_end(added)) < 0)
        return -errno;
    return mode == TRUNCATE_FULL ? fill(fd, added) : 0;
}

int resize_file(int fd, uint64_t bytes, enum truncate_mode mode)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    uint64_t old = (uint64_t)st.st_size;
    if (bytes < old && mode != TRUNCATE_SPARSE)
        return -ENOTSUP;
    if (bytes < old)
        return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;

    int ret = grow(fd, range_between(old, bytes), mode);
    /* What was added in vain must not stay; when that fails as well there is nothing more to try. */
    if (ret < 0 && ftruncate(fd, st.st_size) < 0)
        return ret;
    return ret;
}

struct truncate_request {
    int fd;
    bool device;
    uint64_t bytes;
    enum truncate_mode mode;
};

/* A device is as long as it is; but it may have become longer or shorter since it was opened. */
static int accept_device_size(const struct truncate_request *request)
{
    uint64_t bytes;

    if (ioctl(request->fd, BLKGETSIZE64, &bytes) < 0 || bytes != request->bytes || request->mode != TRUNCATE_SPARSE)
        return -ENOTSUP;
    return 0;
}

static int truncate_blocking(void *arg)
{
    const struct truncate_request *request = arg;

    return request->device ? accept_device_size(request) : resize_file(request->fd, request->bytes, request->mode);
}

int file_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    struct file *file = node_state(node);
    struct truncate_request request = {
        .fd = file_io_fd(file->io), .device = file->device, .bytes = bytes, .mode = mode
    };
    int ret = file_io_blocking(file->io, truncate_blocking, &request);

    file_written(file);
    known_data_forget(&file->known_data);
    if (ret == 0)
        node_set_length(node, bytes);
    return ret;
}
