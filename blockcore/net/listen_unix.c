#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/net/listen_private.h"
#include "blockcore/runtime/passed_fd.h"
#include "blockcore/runtime/path_policy.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LOCK_TRIES 100 /* of 10 ms: how long another who starts in this directory is waited for */

/* Which file a path meant. The number of an inode is given out again, the time of its birth is not. */
struct unix_identity {
    char *path;
    struct statx seen;
};

static int identify(const char *path, struct statx *out)
{
    memset(out, 0, sizeof(*out));
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_INO | STATX_BTIME, out) < 0)
        return -errno;
    return 0;
}

static bool is_same_file(const struct statx *a, const struct statx *b)
{
    return a->stx_dev_major == b->stx_dev_major && a->stx_dev_minor == b->stx_dev_minor && a->stx_ino == b->stx_ino &&
           a->stx_btime.tv_sec == b->stx_btime.tv_sec && a->stx_btime.tv_nsec == b->stx_btime.tv_nsec;
}

/* Descriptor of the locked directory; -1 when it cannot be locked (not readable, or held for long): then the proof
 * alone has to do. Closing it unlocks. */
static int lock_directory_of(const char *path)
{
    CLEANUP(free) char *copy = xstrdup(path);
    CLEANUP(close_fd) int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return steal_fd(&fd);
        nanosleep(&(struct timespec){ .tv_nsec = 10 * 1000 * 1000 }, NULL);
    }
    return -1;
}

/* An error unless the file is a socket at which nobody listens. */
static struct error *prove_dead(const struct sockaddr_un *address, socklen_t bytes)
{
    struct statx file;
    int ret = identify(address->sun_path, &file);
    if (ret < 0)
        return error_errno(-ret, "cannot look at '%s'", address->sun_path);
    if (!S_ISSOCK(file.stx_mode))
        return error_new("'%s' exists and is not a socket", address->sun_path);
    CLEANUP(close_fd) int fd = listen_socket(AF_UNIX, 0);
    if (fd < 0)
        return error_errno(-fd, "cannot make a socket");
    if (connect(fd, (const struct sockaddr *)address, bytes) < 0 && errno == ECONNREFUSED)
        return NULL;
    return error_errno(EADDRINUSE, "somebody listens at '%s'", address->sun_path);
}

/* @name in @directory is the same path, and what is removed: a link on the way may have been swapped since it was
 * looked at, to lead to what has to stay. */
static struct error *bind_path(int fd, const struct sockaddr_un *address, socklen_t bytes, int directory,
                               const char *name)
{
    /* The file gets the mode of the socket it is bound to, so it is never open to others, not even for a moment. */
    if (fchmod(fd, 0600) < 0)
        return error_errno(errno, "cannot set the mode of a socket");
    int ret = listen_bind(fd, (const struct sockaddr *)address, bytes);
    if (ret == -EADDRINUSE) {
        struct error *err = prove_dead(address, bytes);
        if (err)
            return err;
        if (unlinkat(directory, name, 0) < 0 && errno != ENOENT)
            return error_errno(errno, "cannot remove the dead socket '%s'", address->sun_path);
        ret = listen_bind(fd, (const struct sockaddr *)address, bytes);
    }
    if (ret < 0)
        return error_errno(-ret, "cannot bind a socket to '%s'", address->sun_path);
    return NULL;
}

/* A link on the way may have been swapped since the directory was looked at. Then the socket, at which nobody has
 * listened yet, is left behind: it cannot be removed without following that way once more. */
static struct error *check_where_it_is(const char *path)
{
    CLEANUP(close_fd) int pin = path_policy_is_set() ? path_pin(path, O_NOFOLLOW) : -1;
    if (!path_policy_is_set())
        return NULL;
    return pin < 0 ? error_errno(-pin, "the socket '%s' vanished", path) : path_pin_check(pin, path);
}

static struct error *listen_path(int fd, const struct sockaddr_un *address, struct listening *out)
{
    CLEANUP(close_fd) int directory = -1;
    const char *name;
    struct error *err = path_pin_directory(address->sun_path, &directory, &name);
    if (err)
        return err;
    CLEANUP(close_fd) int lock = lock_directory_of(address->sun_path);
    (void)lock; /* held to the end of the scope */
    err = bind_path(fd, address, sizeof(*address), directory, name);
    if (err)
        return err;
    err = check_where_it_is(address->sun_path);
    if (err)
        return err;
    struct statx file;
    int ret = identify(address->sun_path, &file);
    if (ret < 0)
        return error_errno(-ret, "the socket '%s' vanished", address->sun_path);
    out->unix_file = xmalloc(sizeof(*out->unix_file));
    *out->unix_file = (struct unix_identity){ .path = xstrdup(address->sun_path), .seen = file };
    return NULL;
}

/* The name begins after a zero byte; "tight" ends it with its last byte instead of with the structure. */
static struct error *listen_abstract(int fd, const struct unix_socket_address *given)
{
    if (path_policy_is_set())
        return error_new("the policy does not allow abstract names, such as '%s' (its 'paths')", given->path);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t length = strlen(given->path);
    bool tight = !given->has_tight || given->tight;
    memcpy(address.sun_path + 1, given->path, length);
    size_t bytes = tight ? offsetof(struct sockaddr_un, sun_path) + 1 + length : sizeof(address);
    int ret = listen_bind(fd, (const struct sockaddr *)&address, (socklen_t)bytes);
    if (ret < 0)
        return error_errno(-ret, "cannot bind a socket to the abstract name '%s'", given->path);
    return NULL;
}

/* Does @fd listen at that path? */
static bool listens_at(int fd, const void *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNSPEC };
    socklen_t bytes = sizeof(address);
    int listens = 0;
    socklen_t listens_bytes = sizeof(listens);
    return getsockname(fd, (struct sockaddr *)&address, &bytes) == 0 && address.sun_family == AF_UNIX &&
           strncmp(address.sun_path, path, sizeof(address.sun_path)) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_bytes) == 0 && listens;
}

struct error *listen_unix(const struct unix_socket_address *given, struct listening *out)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (given->path[0] == '\0')
        return error_new("the path of a UNIX socket is empty");
    if (strlen(given->path) >= sizeof(address.sun_path))
        return error_new("UNIX socket path '%s' is too long: at most %zu bytes", given->path,
                         sizeof(address.sun_path) - 1);
    /* The file is that of the one who made the socket, and is left to him at the end. */
    bool abstract = given->has_abstract && given->abstract;
    CLEANUP(free) char *name = NULL;
    CLEANUP(close_fd)
    int fd = abstract ? -1 : named_fd_take_fitting(NAMED_FD_PARENT, listens_at, given->path, &name);
    if (fd >= 0) {
        struct error *err = listen_take_over(fd, given->path, out);
        if (!err) {
            (void)steal_fd(&fd);
            out->passed_as = steal(&name);
        }
        return err;
    }
    fd = listen_socket(AF_UNIX, 0);
    if (fd < 0)
        return error_errno(-fd, "cannot make a socket");

    struct error *err;
    if (abstract) {
        err = listen_abstract(fd, given);
    } else {
        strcpy(address.sun_path, given->path);
        err = listen_path(fd, &address, out);
    }
    if (!err)
        out->fds[out->count++] = steal_fd(&fd);
    return err;
}

/* By a descriptor, so that nobody can put another file in the place of this one meanwhile. The owner goes first: the
 * mode opens the door, and shall not open it to the wrong ones. */
struct error *unix_identity_give_access(const struct unix_identity *identity, uid_t owner, gid_t group, mode_t mode)
{
    char through[64];
    struct statx now = { 0 };
    CLEANUP(close_fd) int fd = open(identity->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_BTIME, &now) < 0)
        return error_errno(errno, "cannot look at '%s'", identity->path);
    if (!is_same_file(&now, &identity->seen))
        return error_new("'%s' was replaced", identity->path);
    if (fchownat(fd, "", owner, group, AT_EMPTY_PATH) < 0)
        return error_errno(errno, "cannot change the owner of '%s'", identity->path);
    (void)snprintf(through, sizeof(through), "/proc/self/fd/%d", fd);
    if (chmod(through, mode) < 0)
        return error_errno(errno, "cannot change the mode of '%s'", identity->path);
    return NULL;
}

void unix_identity_remove(struct unix_identity *identity)
{
    if (!identity)
        return;
    struct statx now;
    CLEANUP(close_fd) int lock = lock_directory_of(identity->path);
    (void)lock; /* held to the end of the scope */
    if (identify(identity->path, &now) == 0 && is_same_file(&now, &identity->seen))
        unlink(identity->path);
    free(identity->path);
    free(identity);
}
