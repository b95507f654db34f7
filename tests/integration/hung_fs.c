/* hung_fs - a file system whose server stops answering, as a dead NFS server does
 *
 * usage: hung_fs MOUNTPOINT
 *
 * Each file is of IMAGE_BYTES zeroes and is named after the first call that never returns:
 *
 *     hang-lookup    finding the name       hang-open    open(2)
 *     hang-read      read(2) (and write)    hang-close   close(2)
 *     hang-none      nothing hangs
 *
 * Prints "ready" when mounted, and "hangs" for each call that does. SIGTERM unmounts; what hangs then ends with an
 * error. */
#define FUSE_USE_VERSION 31

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <string.h>

#define IMAGE_BYTES (1 << 20)

static const char *const files[] = { "hang-lookup", "hang-open", "hang-read", "hang-close", "hang-none" };

enum {
    FIRST_INODE = 2, /* 1 is the root */
    HANG_LOOKUP = FIRST_INODE,
    HANG_OPEN,
    HANG_READ,
    HANG_CLOSE,
    HANG_NONE,
};

/* Requests that never get an answer, until the end. */
static fuse_req_t *held;
static size_t held_count;

static void hold(fuse_req_t request)
{
    held = xrealloc_array(held, held_count + 1, sizeof(*held));
    held[held_count++] = request;
    puts("hangs");
    fflush(stdout);
}

static void fail_held(void)
{
    for (size_t i = 0; i < held_count; i++)
        fuse_reply_err(held[i], EIO);
    free(held);
}

static void fill_stat(fuse_ino_t inode, struct stat *st)
{
    memset(st, 0, sizeof(*st));
    st->st_ino = inode;
    st->st_mode = inode == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
    st->st_nlink = 1;
    st->st_size = inode == FUSE_ROOT_ID ? 0 : IMAGE_BYTES;
}

static void on_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    (void)parent;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        if (strcmp(name, files[i]) != 0)
            continue;
        struct fuse_entry_param entry = { .ino = FIRST_INODE + i };
        fill_stat(entry.ino, &entry.attr);
        if (entry.ino == HANG_LOOKUP)
            hold(request);
        else
            fuse_reply_entry(request, &entry);
        return;
    }
    fuse_reply_err(request, ENOENT);
}

static void on_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    (void)info;
    struct stat st;
    fill_stat(inode, &st);
    fuse_reply_attr(request, &st, 0);
}

static void on_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    info->direct_io = 1; /* every read reaches us */
    if (inode == HANG_OPEN)
        hold(request);
    else
        fuse_reply_open(request, info);
}

static void on_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *info)
{
    (void)info;
    if (inode == HANG_READ) {
        hold(request);
        return;
    }
    size_t left = offset < IMAGE_BYTES ? (size_t)(IMAGE_BYTES - offset) : 0;
    size_t bytes = size < left ? size : left;
    CLEANUP(free) char *zeroes = xcalloc(1, bytes ? bytes : 1);
    fuse_reply_buf(request, zeroes, bytes);
}

static void on_write(fuse_req_t request, fuse_ino_t inode, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *info)
{
    (void)data;
    (void)offset;
    (void)info;
    if (inode == HANG_READ)
        hold(request);
    else
        fuse_reply_write(request, size);
}

/* Each close(2) asks for one. */
static void on_flush(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    (void)info;
    if (inode == HANG_CLOSE)
        hold(request);
    else
        fuse_reply_err(request, ENOSYS);
}

static const struct fuse_lowlevel_ops operations = {
    .lookup = on_lookup,
    .getattr = on_getattr,
    .open = on_open,
    .read = on_read,
    .write = on_write,
    .flush = on_flush,
};

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s MOUNTPOINT\n", argv[0]);
        return 2;
    }
    struct fuse_args args = FUSE_ARGS_INIT(1, argv);
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
    if (!session || fuse_set_signal_handlers(session) != 0 || fuse_session_mount(session, argv[1]) != 0)
        return 1;
    puts("ready");
    fflush(stdout);
    fuse_session_loop(session);
    fail_held();
    fuse_session_unmount(session);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    fuse_opt_free_args(&args);
    return 0;
}
