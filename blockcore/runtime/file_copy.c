/* Copies from file to file that the kernel, or what is behind it, does itself, and those that one thread does. */
#include "blockcore/base/iov.h"
#include "blockcore/base/range.h"
#include "blockcore/runtime/buffer.h"
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

/* A second thread reads while the first one writes; more would only contend for the lock of the target's inode. */
#define CARRIERS_MAX 2
#define CARRY_BYTES (256u * 1024) /* stays in the cache that belongs to one processor */

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

/* Carrying ----------------------------------------------------------------------------------------------------- */

struct carry {
    int to;
    int from;
    int read_flags;
    uint64_t to_offset;
    uint64_t from_offset;
    uint64_t bytes;
    uint64_t zero_unit;
    char *buffer;
    uint64_t done;
};

/* The bytes before the first unit that is all zero. */
static size_t data_before_zeroes(const struct carry *carry, size_t bytes)
{
    size_t unit = (size_t)min_u64(carry->zero_unit, CARRY_BYTES);
    for (size_t at = 0; unit > 0 && at < bytes; at += unit) {
        if (memory_is_zero(carry->buffer + at, (size_t)min_u64(unit, bytes - at)))
            return at;
    }
    return bytes;
}

static int carry_blocking(void *arg)
{
    struct carry *carry = arg;
    size_t bytes, data;
    do {
        struct iovec storage;
        size_t moved = 0;
        bytes = (size_t)min_u64(carry->bytes - carry->done, CARRY_BYTES);
        struct iov iov = iov_of(&storage, carry->buffer, bytes);
        if (read_in_place(carry->from, carry->read_flags, carry->from_offset + carry->done, &iov, &moved) != 1)
            return 0;
        data = data_before_zeroes(carry, bytes);
        iov = iov_of(&storage, carry->buffer, data);
        if (write_blocking(carry->to, carry->to_offset + carry->done, &iov) < 0)
            return 0;
        carry->done += data;
    } while (data == bytes && carry->done < carry->bytes);
    return 0;
}

static struct pool_domain *carriers_of(struct file_io *file)
{
    struct pool_domain *domain = atomic_load(&file->carriers);
    if (domain)
        return domain;
    struct pool_domain *made = pool_domain_create("copies from file to file", CARRIERS_MAX);
    if (atomic_compare_exchange_strong(&file->carriers, &domain, made))
        return made;
    pool_domain_unref(made);
    return domain;
}

int64_t file_io_carry(struct file_io *file, uint64_t offset, struct file_io *from, uint64_t from_offset, uint64_t bytes,
                      uint64_t zero_unit)
{
    enum file_way to_way = file_find_way(file);
    enum file_way from_way = file_find_way(from);
    bool reads = from_way == WAY_MEMORY || (from_way == WAY_NOWAIT && !from->direct);
    bool writes = to_way == WAY_MEMORY || (to_way == WAY_NOWAIT && !file->direct);
    if (!reads || !writes)
        return -EOPNOTSUPP;
    if (max_u64(offset, from_offset) > INT64_MAX - bytes)
        return 0;
    struct carry carry = {
        .to = file->fd,
        .from = from->fd,
        .read_flags = from_way == WAY_MEMORY ? 0 : RWF_NOWAIT,
        .to_offset = offset,
        .from_offset = from_offset,
        .bytes = bytes,
        .zero_unit = zero_unit,
        .buffer = buffer_get(CARRY_BYTES),
    };
    if (carry.buffer)
        co_blocking(carriers_of(file), carry_blocking, &carry);
    buffer_put(carry.buffer, CARRY_BYTES);
    return (int64_t)carry.done;
}
