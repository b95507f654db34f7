#include "daemon/pidfile.h"

#include "blockcore/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_TRIES 100 /* another process may remove the file each time between our open and our lock */

struct pidfile {
    char *path; /* absolute, so that a change of directory does no harm */
    int fd;
};

static bool is_still_there(const char *path, int fd)
{
    struct stat opened;
    struct stat named;
    return fstat(fd, &opened) == 0 && stat(path, &named) == 0 && opened.st_dev == named.st_dev &&
           opened.st_ino == named.st_ino;
}

/* A descriptor of @path, locked; or -1 with *err. */
static int open_locked(const char *path, struct error **err)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        CLEANUP(close_fd) int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0) {
            *err = error_errno(errno, "Could not create '%s'", path);
            return -1;
        }
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
            *err = error_errno(errno, "Could not lock '%s': another process runs with this pid file", path);
            return -1;
        }
        if (is_still_there(path, fd))
            return steal_fd(&fd);
    }
    *err = error_new("Could not lock '%s': it is removed again and again", path);
    return -1;
}

static struct error *write_pid(int fd, const char *path)
{
    if (ftruncate(fd, 0) < 0 || dprintf(fd, "%ld\n", (long)getpid()) < 0)
        return error_errno(errno, "Could not write '%s'", path);
    return NULL;
}

struct error *pidfile_create(const char *path, struct pidfile **out)
{
    struct error *err = NULL;
    CLEANUP(close_fd) int fd = open_locked(path, &err);
    if (fd < 0)
        return err;
    err = write_pid(fd, path);
    CLEANUP(free) char *absolute = err ? NULL : realpath(path, NULL);
    if (!err && !absolute)
        err = error_errno(errno, "Could not find '%s' again", path);
    if (err) {
        unlink(path);
        return err;
    }
    *out = xcalloc(1, sizeof(**out));
    **out = (struct pidfile){ .path = steal(&absolute), .fd = steal_fd(&fd) };
    return NULL;
}

void pidfile_remove(struct pidfile *pidfile)
{
    if (!pidfile)
        return;
    if (is_still_there(pidfile->path, pidfile->fd))
        unlink(pidfile->path);
    close(pidfile->fd);
    free(pidfile->path);
    free(pidfile);
}
