#include "blockcore/drivers/file/file_private.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct permission_change {
    struct file *file;
    unsigned perm;
    unsigned shared;
    struct error *err;
};

bool file_needs_writing(unsigned perm)
{
    return perm & (PERM_WRITE | PERM_WRITE_UNCHANGED | PERM_RESIZE);
}

/* Puts @other in the place of @fd, for requests that begin from now on. Those that run keep what was open before, so
 * its locks must go by hand, lest they look like those of another process. */
static struct error *switch_descriptor(struct file *file, int fd, int other)
{
    struct error *err = file->locking ? locks_copy(&file->locks, other, file->filename) : NULL;

    if (err)
        return err;
    CLEANUP(close_fd) int before = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (before < 0 || dup3(other, fd, O_CLOEXEC) < 0)
        return error_errno(errno, "cannot change the access mode of '%s'", file->filename);
    if (file->locking)
        locks_drop_all(before);
    return NULL;
}

static struct error *change_with_descriptor(struct permission_change *change, int fd, int other)
{
    struct file *file = change->file;
    struct locks old = file->locks;
    struct error *err = NULL;

    if (file->locking)
        err = locks_change(&file->locks, fd, file->filename, change->perm, change->shared);
    if (err || other < 0)
        return err;
    err = switch_descriptor(file, fd, other);
    if (err && file->locking)
        error_free(locks_change(&file->locks, fd, file->filename, old.held, PERM_ALL & ~old.unshared));
    return err;
}

static int change_permissions(void *arg)
{
    struct permission_change *change = arg;
    struct file *file = change->file;
    bool writing = file_needs_writing(change->perm);
    int fd = file_io_fd(file->io);
    CLEANUP(close_fd) int other = -1;

    if (file->follows_writers && writing != file->open_for_writing) {
        other = open_again(file->filename, fd, (writing ? O_RDWR : O_RDONLY) | (file->direct ? O_DIRECT : 0));
        if (other < 0 && writing) {
            change->err = error_errno(-other, "cannot open '%s' for writing", file->filename);
            return -1;
        }
    }
    change->err = change_with_descriptor(change, fd, other);
    if (change->err)
        return -1;
    if (other >= 0)
        file->open_for_writing = writing;
    return 0;
}

struct error *file_set_permissions(struct node *node, unsigned perm, unsigned shared)
{
    struct file *file = node_state(node);
    struct permission_change change = {
        .file = file,
        .perm = perm,
        .shared = shared,
    };
    co_mutex_lock(&file->mode);
    bool locks_fit = !file->locking || locks_match(&file->locks, perm, shared);
    bool mode_fits = !file->follows_writers || file->open_for_writing == file_needs_writing(perm);

    int ret = locks_fit && mode_fits ? 0 : file_io_blocking(file->io, change_permissions, &change);
    if (ret == 0)
        file->perm = perm;
    co_mutex_unlock(&file->mode);
    /* The pool may have no thread for it. */
    return ret < 0 && !change.err ? error_errno(-ret, "cannot lock '%s'", file->filename) : change.err;
}
