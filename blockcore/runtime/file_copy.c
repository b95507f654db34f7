/* Copies from file to file that the kernel, or what is behind it, does itself. */
#include "blockcore/base/range.h"
#include "blockcore/runtime/file_private.h"
#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Source: the file systems' own headers in the kernel; not in linux/magic.h of every system. */
#define MAGIC_CIFS 0xff534d42u
#define MAGIC_CEPH 0x00c36400u

/* Blocks are shared as a whole; none of the file systems that can has smaller ones. */
#define BLOCK_MIN 4096

struct file_copy {
    int to;
    int from;
    uint64_t to_offset;
    uint64_t from_offset;
    uint64_t bytes;
    bool move;
};

static bool impossible(int errnum)
{
    return errnum == EOPNOTSUPP || errnum == ENOSYS || errnum == ENOTTY || errnum == EXDEV || errnum == EPERM;
}

/* 1: done. 0: not these. -1: none between these files. */
static int share_blocks(const struct file_copy *copy)
{
    if (!is_aligned(copy->to_offset | copy->from_offset | copy->bytes, BLOCK_MIN))
        return 0;
    struct file_clone_range range = {
        .src_fd = copy->from,
        .src_offset = copy->from_offset,
        .src_length = copy->bytes,
        .dest_offset = copy->to_offset,
    };
    if (ioctl(copy->to, FICLONERANGE, &range) == 0)
        return 1;
    return impossible(errno) ? -1 : 0;
}

/* Does a server copy, so that the bytes need not come here? */
static bool has_server(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0)
        return false;
    unsigned long type = (unsigned long)fs.f_type & 0xffffffffu;
    return type == NFS_SUPER_MAGIC || type == SMB_SUPER_MAGIC || type == SMB2_SUPER_MAGIC || type == MAGIC_CIFS ||
           type == MAGIC_CEPH;
}

/* As share_blocks(). */
static int move_bytes(const struct file_copy *copy)
{
    off_t from = (off_t)copy->from_offset;
    off_t to = (off_t)copy->to_offset;
    for (uint64_t left = copy->bytes; left > 0;) {
        ssize_t ret = copy_file_range(copy->from, &from, copy->to, &to, left, 0);
        if (ret < 0 && errno == EINTR)
            continue;
        if (ret <= 0)
            return ret < 0 && impossible(errno) ? -1 : 0;
        left -= (uint64_t)ret;
    }
    return 1;
}

static int copy_blocking(void *arg)
{
    const struct file_copy *copy = arg;
    int shared = share_blocks(copy);
    if (shared == 1)
        return 0;
    bool moves = copy->move || has_server(copy->to);
    int moved = moves ? move_bytes(copy) : -1;
    if (moved == 1)
        return 0;
    return shared < 0 && moved < 0 ? -EOPNOTSUPP : -ENOTSUP;
}

int file_io_copy(struct file_io *file, uint64_t offset, struct file_io *from, uint64_t from_offset, uint64_t bytes,
                 bool move)
{
    if (max_u64(offset, from_offset) > INT64_MAX - bytes)
        return -ENOTSUP;
    struct file_copy copy = {
        .to = file->fd,
        .from = from->fd,
        .to_offset = offset,
        .from_offset = from_offset,
        .bytes = bytes,
        .move = move,
    };
    return co_blocking(file->domain, copy_blocking, &copy);
}
