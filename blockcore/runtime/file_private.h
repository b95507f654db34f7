/* file_private - what the two halves of file_io share */
#ifndef CAIRN_RUNTIME_FILE_PRIVATE_H
#define CAIRN_RUNTIME_FILE_PRIVATE_H

#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/file_io.h"
#include "blockcore/runtime/pool_private.h"
#include "blockcore/runtime/sync.h"

#include <stdatomic.h>

/* Pieces per system call; the kernel's limit is IOV_MAX (1024), and the array lies on a stack. */
#define PIECES_MAX 64

/* Buffered writes to one file contend for the lock of its inode, so one thread at a time takes all that wait. */
struct file_writer {
    struct spinlock guard;
    struct list queue; /* of struct file_write */
    bool active;       /* a job of the pool is queued or running */
    struct pool_job job;
};

/* What the file system lets us do without waiting. */
enum file_way {
    WAY_UNKNOWN, /* nobody has asked yet */
    WAY_NOWAIT,  /* it can tell that a read would have to wait (RWF_NOWAIT) */
    WAY_MEMORY,  /* the file lies in memory: nothing waits */
    WAY_POOL,    /* nothing */
};

struct file_io {
    int fd;
    bool direct;
    bool use_threads;
    struct shared_fd *shared; /* file_leave.c; NULL: no call has needed it. Made by who opens the file */
    _Atomic enum file_way way;
    struct pool_domain *domain;
    struct pool_domain *_Atomic carriers; /* made when first needed: few threads, since writes contend */
    struct file_writer writer;
};

/* What the file system allows; the first call waits. */
enum file_way file_find_way(struct file_io *file) CO_FN;

/* Reads on the calling thread as much as is at hand. Returns 1 when that was all, 0 at the end of the file, or -errno;
 * -EAGAIN: it must be done another way. @flags as of preadv2(2). */
int read_in_place(int fd, int flags, uint64_t offset, const struct iov *iov, size_t *moved);

/* preadv(2) and pwritev(2), continued until all is moved, on the calling thread. Bytes past the end read as zero. */
int read_blocking(int fd, uint64_t offset, const struct iov *iov);
int write_blocking(int fd, uint64_t offset, const struct iov *iov);

void file_writer_init(struct file_writer *writer);

/* file_leave.c: calls that can be left behind (co_may_leave). */

/* As read_blocking() on the pool; -ECANCELED: it was left. */
int file_read_or_leave(struct file_io *file, uint64_t offset, const struct iov *iov) CO_FN;
/* Asks ask_for_way(), which takes a pointer to the descriptor; the same. */
int file_ask_or_leave(struct file_io *file, int (*ask)(void *fd)) CO_FN;
/* close(2), at the end: nobody hears what it says when it was left, or is done by a call that was. */
int file_io_close(struct file_io *file) CO_FN;

/* Queues a buffered write and waits for it. */
int file_writer_write(struct file_io *file, uint64_t offset, const struct iov *iov) CO_FN;

/* Writes on this thread, if nobody else is writing: for files that lie in memory. */
int file_writer_write_here(struct file_io *file, uint64_t offset, const struct iov *iov) CO_FN;

#endif
