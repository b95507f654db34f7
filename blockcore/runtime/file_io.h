/* file_io - I/O on an open file, awaited
 *
 * The quickest way that cannot block is chosen for each request:
 *
 *     read  --> preadv2(RWF_NOWAIT) in place: the page cache had it, no wait at all
 *           '-> io_uring of this loop       : a miss, or O_DIRECT
 *           '-> pool                        : a file system that cannot tell when it would wait (NFS, FUSE), the
 *                                             kernel refuses io_uring, or CAIRN_NO_IO_URING is set
 *     write --> io_uring for O_DIRECT; buffered writes go to one writer per file (they contend for the inode's lock
 *               otherwise), which takes all that wait in one go and wakes their loops once per batch
 *     a file in memory (tmpfs) is read and, in small pieces, written in place
 *
 * May be used from any loop at the same time. All functions return 0 or -errno; short transfers are continued. */
#ifndef CAIRN_RUNTIME_FILE_IO_H
#define CAIRN_RUNTIME_FILE_IO_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/iov.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct file_io;
struct pool_domain;

struct file_io_options {
    bool direct;      /* opened with O_DIRECT: nothing is tried in place */
    bool use_threads; /* aio=threads: never io_uring for data */
};

/* open(2) on the pool. Returns the descriptor (O_CLOEXEC is added) or -errno. */
int co_open(struct pool_domain *domain, const char *path, int flags, mode_t mode) CO_FN;
int co_close(struct pool_domain *domain, int fd) CO_FN; /* close(2) may hang too */

/* Takes over @fd and a reference on @domain. Never fails. */
struct file_io *file_io_create(int fd, struct pool_domain *domain, const struct file_io_options *options);

/* Closes the descriptor on the pool and frees. No request may be in flight. Returns what close(2) said. */
int file_io_destroy(struct file_io *file) CO_FN;

int file_io_fd(const struct file_io *file);

/* The descriptor has another file status now. No request may be in flight. */
void file_io_set_direct(struct file_io *file, bool direct);

/* Bytes past the end of the file read as zero. */
int file_io_preadv(struct file_io *file, uint64_t offset, const struct iov *iov) CO_FN;
int file_io_pwritev(struct file_io *file, uint64_t offset, const struct iov *iov) CO_FN;
int file_io_fdatasync(struct file_io *file) CO_FN;
int file_io_fallocate(struct file_io *file, int mode, uint64_t offset, uint64_t bytes) CO_FN;
int file_io_ftruncate(struct file_io *file, uint64_t bytes) CO_FN;
int file_io_fstat(struct file_io *file, struct stat *st) CO_FN;

/* Bytes of another file, which lie inside of it, without their passing through memory of ours. Shared blocks are always
 * tried; @move: else the kernel may also copy them, where no server does. -ENOTSUP: not these, or something went wrong
 * with them; -EOPNOTSUPP: none between these two files. */
int file_io_copy(struct file_io *file, uint64_t offset, struct file_io *from, uint64_t from_offset, uint64_t bytes,
                 bool move) CO_FN;

/* Bytes of another file, which lie inside of it, as far as they are in memory already: one thread of the pool reads and
 * writes them bit by bit, while they are in the cache of its processor. Two threads at most do so to one file. Returns
 * how many bytes from the begin on were carried. Fewer: the next ones would have to be waited for, are a unit of zeroes
 * (@zero_unit: a power of two; 0: not looked for), or failed, which whoever copies them in another way meets again.
 * -EOPNOTSUPP: none between these two files, ever. */
int64_t file_io_carry(struct file_io *file, uint64_t offset, struct file_io *from, uint64_t from_offset, uint64_t bytes,
                      uint64_t zero_unit) CO_FN;

/* Any other blocking call on the file: @fn runs on the pool in the file's domain. */
int file_io_blocking(struct file_io *file, int (*fn)(void *arg), void *arg) CO_FN;

#endif
