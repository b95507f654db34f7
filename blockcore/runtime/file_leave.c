/* Calls of whoever opens an image: once nobody wants that any more, what hangs in the kernel is left there, with memory
 * of its own. Reads only: a write that comes late would land upon what others have written since.
 *
 * The descriptor is closed by the last of those that use it, which may be a call that was left. */
#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/runtime/file_private.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define MEMORY_ALIGNMENT 4096 /* enough for O_DIRECT */

struct shared_fd {
    _Atomic unsigned users; /* the file, and calls */
    int fd;
};

struct own_call {
    struct shared_fd *shared;
    int (*ask)(void *fd);
    uint64_t offset;
    size_t bytes;
    char *data;
};

/* The file's use and another one. */
static struct shared_fd *share(struct file_io *file)
{
    if (!file->shared) {
        file->shared = xmalloc(sizeof(*file->shared));
        *file->shared = (struct shared_fd){ .users = 1, .fd = file->fd };
    }
    atomic_fetch_add(&file->shared->users, 1);
    return file->shared;
}

/* True: nobody else uses it; it is the caller's to close. */
static bool unshare(struct shared_fd *shared)
{
    bool last = atomic_fetch_sub(&shared->users, 1) == 1;
    if (last)
        free(shared);
    return last;
}

/* On the loop: the file has its use of the descriptor still. On the pool: it may be the last one. */
static void own_call_free(void *arg)
{
    struct own_call *own = arg;
    int fd = own->shared->fd;
    if (unshare(own->shared))
        close(fd);
    free(own->data);
    free(own);
}

static int run_read(void *arg)
{
    const struct own_call *own = arg;
    struct iovec storage;
    struct iov iov = iov_of(&storage, own->data, own->bytes);
    return read_blocking(own->shared->fd, own->offset, &iov);
}

static int run_ask(void *arg)
{
    const struct own_call *own = arg;
    return own->ask(&own->shared->fd);
}

int file_read_or_leave(struct file_io *file, uint64_t offset, const struct iov *iov)
{
    char *data = try_aligned_alloc(MEMORY_ALIGNMENT, align_up(iov->bytes, MEMORY_ALIGNMENT));
    if (!data)
        return -ENOMEM;
    struct own_call *own = xmalloc(sizeof(*own));
    *own = (struct own_call){ .shared = share(file), .offset = offset, .bytes = iov->bytes, .data = data };
    int ret;
    if (!co_blocking_or_leave(file->domain, run_read, own_call_free, own, &ret))
        return -ECANCELED;
    if (ret == 0)
        iov_copy_from(iov, data);
    own_call_free(own);
    return ret;
}

int file_ask_or_leave(struct file_io *file, int (*ask)(void *fd))
{
    struct own_call *own = xmalloc(sizeof(*own));
    *own = (struct own_call){ .shared = share(file), .ask = ask };
    int ret;
    if (!co_blocking_or_leave(file->domain, run_ask, own_call_free, own, &ret))
        return -ECANCELED;
    own_call_free(own);
    return ret;
}

struct closing {
    int fd;
};

static int run_close(void *arg)
{
    struct closing *closing = arg;
    return close(steal_fd(&closing->fd)) < 0 ? -errno : 0;
}

static void closing_free(void *arg)
{
    struct closing *closing = arg;
    if (closing->fd >= 0)
        close(closing->fd);
    free(closing);
}

int file_io_close(struct file_io *file)
{
    if (file->shared && !unshare(file->shared))
        return 0;
    if (!co_may_leave())
        return co_close(file->domain, file->fd);
    struct closing *closing = xmalloc(sizeof(*closing));
    closing->fd = file->fd;
    int ret;
    if (!co_blocking_or_leave(file->domain, run_close, closing_free, closing, &ret))
        return 0;
    free(closing);
    return ret;
}
