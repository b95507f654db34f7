/* Landlock: which paths there are (kernel documentation, "Landlock: unprivileged access control"). */
#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers of Debian 12. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif
#define SCOPE_ABSTRACT_UNIX_SOCKET (1ULL << 0)
#define SCOPE_SIGNAL (1ULL << 1)

struct ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* ABI 4 */
    uint64_t scoped;             /* ABI 6 */
};

#define RIGHTS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define RIGHTS_OF_FILES                                                                                                \
    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE |                      \
     LANDLOCK_ACCESS_FS_IOCTL_DEV)
#define RIGHTS_WORK                                                                                                    \
    (RIGHTS_OF_FILES | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |    \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REFER)
/* Nobody has the rest: starting programs, making devices, links, directories. */
#define RIGHTS_ALL                                                                                                     \
    (RIGHTS_WORK | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_CHAR |         \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |                      \
     LANDLOCK_ACCESS_FS_MAKE_SYM)

/* What libraries read when they are loaded, look up names and users, and find the trusted certificates. */
static const char *const system_paths[] = { "/usr",
                                            "/lib",
                                            "/lib64",
                                            "/etc",
                                            "/proc",
                                            "/sys",
                                            "/dev/urandom",
                                            "/run/systemd/resolve",
                                            "/run/resolvconf",
                                            "/run/NetworkManager" };

struct ruleset {
    int fd;
    uint64_t handled;
};

static uint64_t rights_of_abi(int abi)
{
    uint64_t rights = RIGHTS_ALL;
    if (abi < 2)
        rights &= ~LANDLOCK_ACCESS_FS_REFER;
    if (abi < 3)
        rights &= ~LANDLOCK_ACCESS_FS_TRUNCATE;
    if (abi < 5)
        rights &= ~LANDLOCK_ACCESS_FS_IOCTL_DEV;
    return rights;
}

static struct error *make_ruleset(struct ruleset *ruleset)
{
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1)
        return error_errno(errno, "this kernel has no Landlock, or it is switched off");
    struct ruleset_attr attr = { .handled_access_fs = rights_of_abi(abi) };
    if (abi >= 6)
        attr.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
    size_t bytes = abi >= 6   ? sizeof(attr)
                   : abi >= 4 ? offsetof(struct ruleset_attr, scoped)
                              : offsetof(struct ruleset_attr, handled_access_net);
    ruleset->handled = attr.handled_access_fs;
    ruleset->fd = (int)syscall(SYS_landlock_create_ruleset, &attr, bytes, 0);
    return ruleset->fd < 0 ? error_errno(errno, "Landlock: cannot make a set of rules") : NULL;
}

/* A file has fewer rights than a directory. */
static int allow(const struct ruleset *ruleset, const char *path, uint64_t rights)
{
    struct stat st;
    CLEANUP(close_fd) int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        rights &= RIGHTS_OF_FILES;
    struct landlock_path_beneath_attr rule = { .allowed_access = rights & ruleset->handled, .parent_fd = fd };
    return syscall(SYS_landlock_add_rule, ruleset->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

static struct error *allow_paths(const struct ruleset *ruleset, const char *const *paths, size_t count, uint64_t rights,
                                 bool must_exist)
{
    for (size_t i = 0; i < count; i++) {
        int ret = paths[i] ? allow(ruleset, paths[i], rights) : 0;
        if (ret < 0 && (must_exist || ret != -ENOENT))
            return error_errno(-ret, "Landlock: cannot allow '%s'", paths[i]);
    }
    return NULL;
}

static struct error *allow_files(const struct ruleset *ruleset, const struct sandbox_needs *needs)
{
    struct error *err = NULL;
    for (size_t i = 0; i < needs->files_count && !err; i++) {
        CLEANUP(free) char *copy = needs->files[i] ? xstrdup(needs->files[i]) : NULL;
        const char *directory = copy ? dirname(copy) : NULL;
        err = allow_paths(ruleset, &directory, 1, RIGHTS_WORK, true);
    }
    return err;
}

static struct error *fill(const struct ruleset *ruleset, const struct path_list *paths,
                          const struct sandbox_needs *needs)
{
    static const char *const null = "/dev/null";
    struct error *err = allow_paths(ruleset, paths->paths, paths->count, RIGHTS_WORK, true);
    if (!err)
        err = allow_files(ruleset, needs);
    if (!err)
        err = allow_paths(ruleset, system_paths, ARRAY_SIZE(system_paths), RIGHTS_READ, false);
    if (!err)
        err = allow_paths(ruleset, needs->readable, needs->readable_count, RIGHTS_READ, false);
    return err ? err : allow_paths(ruleset, &null, 1, RIGHTS_OF_FILES, false);
}

struct error *sandbox_confine_paths(const struct path_list *paths, const struct sandbox_needs *needs)
{
    struct ruleset ruleset;
    struct error *err = make_ruleset(&ruleset);
    if (err)
        return err;
    CLEANUP(close_fd) int held = ruleset.fd;
    err = fill(&ruleset, paths, needs);
    if (!err && syscall(SYS_landlock_restrict_self, held, 0) < 0)
        err = error_errno(errno, "Landlock: cannot confine the process");
    return err;
}
