/* file_private - what the parts of the file driver share
 *
 *     file.c         the drivers 'file' and 'host_device': open, close, data, locks
 *     probe.c        what is behind a name: kind, size, alignment; opening it
 *     permissions.c  locks and access mode follow what the node's users need
 *     locks.c        byte locks between processes
 *     status.c       where the file has holes
 *     space.c        zeroes, discard and length
 *     create.c       blockdev-create
 *     reopen.c       blockdev-reopen
 *
 * Functions marked "blocks" make system calls on storage that may be dead: they run on the pool only, in the domain of
 * their file, so that a dead file costs itself and nobody else. */
#ifndef CAIRN_DRIVERS_FILE_PRIVATE_H
#define CAIRN_DRIVERS_FILE_PRIVATE_H

#include "blockcore/drivers/file/locks.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/node.h"
#include "blockcore/runtime/file_io.h"
#include "blockcore/runtime/pool.h"
#include "blockcore/runtime/sync.h"

#include <stdatomic.h>
#include <sys/stat.h>

/* One fdatasync at a time: one that fails tells so once, so another beside it would know nothing of what was lost. It
 * answers for all flushes that were asked for before it began. */
struct flusher {
    _Atomic bool written; /* something was, since the last one began */
    _Atomic uint64_t asked;
    struct co_mutex running;
    uint64_t answered; /* this and the following under running */
    int result;        /* of the last one */
    int failed;        /* errno of the first one that failed: the page cache may have lost data since */
};

/* One region that SEEK_HOLE said is data. Finding the end of data costs the more the longer it is (on tmpfs: a step per
 * page), and a format above asks about each of its extents, so the answer is kept. It may outlive the data: what others
 * do to the file is not noticed. "Data" is the answer that claims nothing, so that is sound; our own zeroes, discards
 * and resizes end it. */
struct known_data {
    struct spinlock lock;
    struct range range; /* the three under lock; empty: nothing is known */
    uint64_t generation;
};

/* The state of a node. */
struct file {
    struct file_io *io;
    char *filename;
    bool device;     /* a block or character device */
    bool direct;     /* opened with O_DIRECT */
    bool no_flush;   /* flushes do nothing */
    bool drop_cache; /* when another host has used the file */
    bool locking;
    /* How the file is open changes with its users and by blockdev-reopen, both of which wait for the pool meanwhile:
     * one change at a time. The following, the locks, the descriptor behind io's number, and whether it is direct. */
    struct co_mutex mode;
    unsigned perm;        /* what the users need */
    bool follows_writers; /* auto-read-only: open for writing only while somebody writes */
    bool open_for_writing;
    uint32_t extent_size_hint;
    struct locks locks;
    struct flusher flusher;
    _Atomic uint64_t discards_done; /* these are rare: one counter for all loops does */
    _Atomic uint64_t discards_failed;
    _Atomic uint64_t discarded_bytes;
    struct known_data known_data;
    /* What this file system turned out not to be able to do, so that it is not tried for every request. */
    _Atomic bool no_zero_range;
    _Atomic bool no_punch_hole;
    _Atomic bool no_allocate;
    _Atomic bool no_discard;
    _Atomic bool no_seek_hole;
};

/* What is found out about a name before and while it is opened. */
struct probe {
    char *filename;      /* all of this is left behind when the open hangs and nobody wants it any more */
    bool device;         /* must be a device; else a regular file */
    bool direct;         /* open with O_DIRECT */
    bool read_only;      /* in: open so; out: writing is not possible */
    bool auto_read_only; /* open read-only at first; no error when writing is not possible */
    const struct path_list *directories; /* an image names the file, and it must be in one of these; NULL: anywhere */
    struct stat st;                      /* of what the name led to when it was looked at */
    int fd;
    uint64_t length;
    uint32_t request_alignment;
    uint32_t memory_alignment;
    uint32_t discard_granularity;
    uint32_t extent_size_hint; /* what the file system was told; 0: nothing */
    bool locks_work;
    struct error *err;
};

/* A request has changed the file, or tried to: called before it is answered, so that a flush that follows sees it. */
static inline void file_written(struct file *file)
{
    if (!atomic_load(&file->flusher.written))
        atomic_store(&file->flusher.written, true);
}

/* Fills in st and checks the kind of file, without opening. @arg is a struct probe. Blocks. 0; or -1 with err set. */
int probe_name(void *arg);
/* Opens what was looked at and finds out the rest. @arg is the same. Blocks. 0; or -1 with err set. */
int probe_open(void *arg);

/* Opens the file behind @fd once more, with another access mode. Works when the name has gone, and cannot lead to
 * another file. The descriptor, or -errno. Blocks. */
int reopen_descriptor(int fd, int flags);

/* The same for the file of that name, which @fd is open for: of a set of passed descriptors, a copy of the one that
 * fits (blockcore/runtime/passed_fd.h). */
int open_again(const char *filename, int fd, int flags);

/* What makes the file the same file under another name. For block devices that is the device they stand for. */
void probe_identity(const struct probe *probe, dev_t *device, ino_t *inode);

/* How requests to an open file must be aligned: with O_DIRECT it asks, and tries, what works. @probe has fd, st and
 * direct. Blocks. */
void probe_alignment(struct probe *probe);

/* May the file behind @fd not be opened for writing? Without doing so. Blocks. */
bool file_is_not_writable(int fd, const char *filename);

/* reopen.c */
struct error *file_activate(struct node *node) CO_FN CONTROL_FN;
struct error *file_reopen_prepare(struct node *node, const struct blockdev_options *options, struct reopen *reopen)
    CO_FN CONTROL_FN;
struct error *file_reopen_enter(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;
void file_reopen_commit(struct node *node, struct reopen *reopen) CONTROL_FN;
void file_reopen_abort(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;
void file_reopen_end(struct node *node, struct reopen *reopen) CO_FN CONTROL_FN;

/* permissions.c */

/* Must the file be open for writing? */
bool file_needs_writing(unsigned perm);
struct error *file_set_permissions(struct node *node, unsigned perm, unsigned shared) CO_FN CONTROL_FN;

/* space.c */
int file_pwrite_zeroes(struct node *node, struct range range, unsigned flags) CO_FN;
int file_pdiscard(struct node *node, struct range range) CO_FN;
int file_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode) CO_FN;

/* Resizes a regular file. Bytes that are added read as zero; when filling them fails the old length is put back. 0 or
 * -errno, -ENOTSUP when it shall shrink and be filled. Blocks. */
int resize_file(int fd, uint64_t bytes, enum truncate_mode mode);

/* status.c */
int file_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents) CO_FN;
/* Data may have become a hole: called when that is done, before the request is answered. */
void known_data_forget(struct known_data *known);

/* create.c */
struct error *file_create(const struct blockdev_create_options *options) CO_FN;

#endif
