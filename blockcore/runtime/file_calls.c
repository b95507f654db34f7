/* The calls on files that always go to the pool. */
#include "blockcore/runtime/file_private.h"

#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <unistd.h>

struct file_call {
    int fd;
    const char *path;
    int flags;
    mode_t mode;
    uint64_t offset;
    uint64_t bytes;
    struct stat *st;
};

static int status_of(int ret)
{
    return ret < 0 ? -errno : ret;
}

static int call_open(void *arg)
{
    const struct file_call *call = arg;
    return status_of(open(call->path, call->flags | O_CLOEXEC, call->mode));
}

static int call_close(void *arg)
{
    const struct file_call *call = arg;
    return status_of(close(call->fd));
}

static int call_fdatasync(void *arg)
{
    const struct file_call *call = arg;
    return status_of(fdatasync(call->fd));
}

static int call_fallocate(void *arg)
{
    const struct file_call *call = arg;
    int ret;
    do
        ret = fallocate(call->fd, call->flags, (off_t)call->offset, (off_t)call->bytes);
    while (ret < 0 && errno == EINTR);
    return status_of(ret);
}

static int call_ftruncate(void *arg)
{
    const struct file_call *call = arg;
    return status_of(ftruncate(call->fd, (off_t)call->bytes));
}

static int call_fstat(void *arg)
{
    const struct file_call *call = arg;
    return status_of(fstat(call->fd, call->st));
}

int co_open(struct pool_domain *domain, const char *path, int flags, mode_t mode)
{
    struct file_call call = { .path = path, .flags = flags, .mode = mode };
    return co_blocking(domain, call_open, &call);
}

int co_close(struct pool_domain *domain, int fd)
{
    struct file_call call = { .fd = fd };
    return co_blocking(domain, call_close, &call);
}

int file_io_fdatasync(struct file_io *file)
{
    struct file_call call = { .fd = file->fd };
    return co_blocking(file->domain, call_fdatasync, &call);
}

int file_io_fallocate(struct file_io *file, int mode, uint64_t offset, uint64_t bytes)
{
    if (offset > INT64_MAX || bytes > INT64_MAX - offset)
        return -EINVAL;
    struct file_call call = { .fd = file->fd, .flags = mode, .offset = offset, .bytes = bytes };
    return co_blocking(file->domain, call_fallocate, &call);
}

int file_io_ftruncate(struct file_io *file, uint64_t bytes)
{
    if (bytes > INT64_MAX)
        return -EINVAL;
    struct file_call call = { .fd = file->fd, .bytes = bytes };
    return co_blocking(file->domain, call_ftruncate, &call);
}

int file_io_fstat(struct file_io *file, struct stat *st)
{
    struct file_call call = { .fd = file->fd, .st = st };
    return co_blocking(file->domain, call_fstat, &call);
}

int file_io_blocking(struct file_io *file, int (*fn)(void *arg), void *arg)
{
    return co_blocking(file->domain, fn, arg);
}
