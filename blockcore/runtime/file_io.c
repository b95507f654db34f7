#include "blockcore/runtime/file_private.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/ring.h"

#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Copying more than this in one go would hold up the other requests of a loop. */
#define WRITE_HERE_MAX (128 * 1024)

/* One system call's worth of a transfer that is under way. */
struct piece {
    struct iovec vec[PIECES_MAX];
    int count;
    uint64_t offset;
};

static void piece_next(struct piece *piece, uint64_t offset, const struct iov *iov, size_t moved)
{
    struct iov rest = iov_slice(iov, moved, iov->bytes - moved);
    size_t bytes;
    piece->count = iov_export(&rest, piece->vec, PIECES_MAX, &bytes);
    piece->offset = offset + moved;
}

static void zero_rest(const struct iov *iov, size_t moved)
{
    struct iov rest = iov_slice(iov, moved, iov->bytes - moved);
    iov_fill(&rest, 0);
}

static bool file_ends_before(int fd, uint64_t offset)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size <= offset;
}

int read_blocking(int fd, uint64_t offset, const struct iov *iov)
{
    struct piece piece;
    size_t moved = 0;
    while (moved < iov->bytes) {
        piece_next(&piece, offset, iov, moved);
        ssize_t ret = preadv(fd, piece.vec, piece.count, (off_t)piece.offset);
        if (ret < 0 && errno == EINTR)
            continue;
        /* A file opened with O_DIRECT may end in the middle of a block, and its end cannot be asked for. */
        if (ret < 0 && errno == EINVAL && file_ends_before(fd, piece.offset))
            ret = 0;
        /* Or did so a moment ago, and somebody has made it longer since: it does not end there any more. */
        if (ret < 0 && errno == EINVAL && moved > 0) {
            moved = 0;
            continue;
        }
        if (ret < 0)
            return -errno;
        if (ret == 0)
            break;
        moved += (size_t)ret;
    }
    zero_rest(iov, moved);
    return 0;
}

int write_blocking(int fd, uint64_t offset, const struct iov *iov)
{
    struct piece piece;
    size_t moved = 0;
    while (moved < iov->bytes) {
        piece_next(&piece, offset, iov, moved);
        ssize_t ret = pwritev(fd, piece.vec, piece.count, (off_t)piece.offset);
        if (ret < 0 && errno == EINTR)
            continue;
        if (ret <= 0)
            return ret < 0 ? -errno : -EIO;
        moved += (size_t)ret;
    }
    return 0;
}

/* A transfer of the whole view on the pool. */
struct transfer {
    int fd;
    uint64_t offset;
    const struct iov *iov;
};

static int transfer_read(void *arg)
{
    struct transfer *transfer = arg;
    return read_blocking(transfer->fd, transfer->offset, transfer->iov);
}

static int transfer_write(void *arg)
{
    struct transfer *transfer = arg;
    return write_blocking(transfer->fd, transfer->offset, transfer->iov);
}

static int on_pool(struct file_io *file, int (*fn)(void *arg), uint64_t offset, const struct iov *iov, size_t moved)
{
    struct iov rest = iov_slice(iov, moved, iov->bytes - moved);
    struct transfer transfer = { .fd = file->fd, .offset = offset + moved, .iov = &rest };
    return co_blocking(file->domain, fn, &transfer);
}

int read_in_place(int fd, int flags, uint64_t offset, const struct iov *iov, size_t *moved)
{
    struct piece piece;
    while (*moved < iov->bytes) {
        piece_next(&piece, offset, iov, *moved);
        ssize_t ret = preadv2(fd, piece.vec, piece.count, (off_t)piece.offset, flags);
        if (ret == 0)
            return 0;
        if (ret < 0)
            return errno == EOPNOTSUPP || errno == EINTR ? -EAGAIN : -errno;
        *moved += (size_t)ret;
    }
    return 1;
}

typedef int ring_call(int fd, const struct iovec *vec, unsigned count, uint64_t offset, int flags);

/* The same with io_uring, waiting as long as it takes. O_DIRECT that needs a thread (to allocate blocks, to read the
 * file's map) gets one of the pool, in the domain of the file, not one of the kernel's own. Buffered reads must leave
 * the flag out: with it, the kernel does not wait for pages either. */
static int move_by_ring(struct file_io *file, ring_call *call, uint64_t offset, const struct iov *iov, size_t *moved)
{
    struct piece piece;
    while (*moved < iov->bytes) {
        piece_next(&piece, offset, iov, *moved);
        int ret = call(file->fd, piece.vec, (unsigned)piece.count, piece.offset, file->direct ? RWF_NOWAIT : 0);
        if (ret == 0)
            return 0;
        if (ret == -EINTR || (ret == -EINVAL && *moved > 0))
            return -EAGAIN;
        if (ret < 0)
            return ret;
        *moved += (size_t)ret;
    }
    return 1;
}

/* Reading far behind the end moves no byte, so it shows whether the flag is known. */
static bool knows_nowait(int fd)
{
    _Alignas(4096) char scratch[4096];
    struct iovec vec = { .iov_base = scratch, .iov_len = sizeof(scratch) };
    ssize_t ret = preadv2(fd, &vec, 1, (off_t)1 << 62, RWF_NOWAIT);
    return ret >= 0 || errno == EINVAL || errno == EAGAIN;
}

static bool lies_in_memory(int fd)
{
    struct stat st;
    struct statfs fs;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || fstatfs(fd, &fs) != 0)
        return false;
    return fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
}

static int ask_for_way(void *arg)
{
    const int *fd = arg;
    if (lies_in_memory(*fd))
        return WAY_MEMORY;
    return knows_nowait(*fd) ? WAY_NOWAIT : WAY_POOL;
}

/* Asked with the first request, on the pool, because the file system may be one that hangs. */
enum file_way file_find_way(struct file_io *file)
{
    enum file_way way = atomic_load_explicit(&file->way, memory_order_relaxed);
    if (way != WAY_UNKNOWN)
        return way;
    int told =
        co_may_leave() ? file_ask_or_leave(file, ask_for_way) : co_blocking(file->domain, ask_for_way, &file->fd);
    if (told < 0)
        return WAY_POOL; /* left: so will be what follows */
    way = (enum file_way)told;
    atomic_store_explicit(&file->way, way, memory_order_relaxed);
    return way;
}

/* A file system that cannot tell that it would wait (NFS, FUSE) makes io_uring use threads of its own, which all files
 * of a loop share: one dead server would stop the others. Such files stay on the pool, in their domain. */
static bool use_ring(const struct file_io *file, enum file_way way)
{
    return way == WAY_NOWAIT && !file->use_threads && ring_available();
}

/* Offsets are signed in the kernel's interface. */
static bool offset_is_valid(uint64_t offset, size_t bytes)
{
    return offset <= INT64_MAX && bytes <= INT64_MAX - offset;
}

int file_io_preadv(struct file_io *file, uint64_t offset, const struct iov *iov)
{
    if (!offset_is_valid(offset, iov->bytes))
        return -EINVAL;
    size_t moved = 0;
    int ret = -EAGAIN;
    enum file_way way = file_find_way(file);
    if (way == WAY_MEMORY)
        ret = read_in_place(file->fd, 0, offset, iov, &moved);
    else if (way == WAY_NOWAIT && !file->direct)
        ret = read_in_place(file->fd, RWF_NOWAIT, offset, iov, &moved);
    bool may_leave = ret == -EAGAIN && co_may_leave();
    if (ret == -EAGAIN && !may_leave && use_ring(file, way))
        ret = move_by_ring(file, ring_preadv, offset, iov, &moved);
    if (may_leave)
        return file_read_or_leave(file, offset, iov);
    /* Direct access begins where a block does, and what was read may end anywhere. */
    if (ret == -EAGAIN)
        return on_pool(file, transfer_read, offset, iov, file->direct ? 0 : moved);
    if (ret == 0)
        zero_rest(iov, moved);
    return ret < 0 ? ret : 0;
}

static int write_direct(struct file_io *file, enum file_way way, uint64_t offset, const struct iov *iov)
{
    size_t moved = 0;
    int ret = -EAGAIN;
    if (use_ring(file, way))
        ret = move_by_ring(file, ring_pwritev, offset, iov, &moved);
    if (ret == -EAGAIN)
        return on_pool(file, transfer_write, offset, iov, moved);
    if (ret == 0)
        return -EIO;
    return ret < 0 ? ret : 0;
}

int file_io_pwritev(struct file_io *file, uint64_t offset, const struct iov *iov)
{
    if (!offset_is_valid(offset, iov->bytes))
        return -EINVAL;
    if (iov->bytes == 0)
        return 0;
    enum file_way way = file_find_way(file);
    if (way == WAY_MEMORY && iov->bytes <= WRITE_HERE_MAX)
        return file_writer_write_here(file, offset, iov);
    if (way == WAY_MEMORY || !file->direct)
        return file_writer_write(file, offset, iov);
    return write_direct(file, way, offset, iov);
}

struct file_io *file_io_create(int fd, struct pool_domain *domain, const struct file_io_options *options)
{
    struct file_io *file = xmalloc(sizeof(*file));
    *file = (struct file_io){
        .fd = fd,
        .direct = options->direct,
        .use_threads = options->use_threads,
        .domain = domain,
    };
    atomic_init(&file->way, WAY_UNKNOWN);
    file_writer_init(&file->writer);
    return file;
}

int file_io_destroy(struct file_io *file)
{
    int ret = file_io_close(file);
    pool_domain_unref(atomic_load(&file->carriers));
    pool_domain_unref(file->domain);
    free(file);
    return ret;
}

int file_io_fd(const struct file_io *file)
{
    return file->fd;
}

void file_io_set_direct(struct file_io *file, bool direct)
{
    file->direct = direct;
    atomic_store_explicit(&file->way, WAY_UNKNOWN, memory_order_relaxed);
}
