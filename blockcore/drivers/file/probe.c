#include "blockcore/drivers/file/file_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/passed_fd.h"
#include "blockcore/runtime/path_policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    ALIGNMENT_MAX = 4096, /* of direct I/O, when it cannot be found out */
    SECTOR = 512,
};

static int fail(struct probe *probe, struct error *err)
{
    probe->err = err;
    return -1;
}

static const char *kind_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "a regular file";
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    case S_IFBLK:
        return "a block device";
    case S_IFCHR:
        return "a character device";
    default:
        return "a file of unknown kind";
    }
}

static struct error *check_kind(const struct probe *probe, mode_t mode)
{
    bool fits = probe->device ? S_ISBLK(mode) || S_ISCHR(mode) : S_ISREG(mode);

    if (fits)
        return NULL;
    return error_new("'%s' is %s; this driver needs %s", probe->filename, kind_name(mode),
                     probe->device ? "a block or character device" : "a regular file");
}

/* Of a set of descriptors: what they all lead to. 0 or -errno. */
static int stat_passed(struct probe *probe)
{
    CLEANUP(close_fd) int held = fdset_open_any(probe->filename);
    if (held < 0)
        return held;
    return fstat(held, &probe->st) < 0 ? -errno : 0;
}

int probe_name(void *arg)
{
    struct probe *probe = arg;

    struct error *refusal = NULL;
    int ret = fdset_is_name(probe->filename) ? stat_passed(probe) : path_stat(probe->filename, &probe->st, &refusal);
    if (ret < 0)
        return fail(probe, refusal ? refusal : error_errno(-ret, "cannot open '%s'", probe->filename));
    struct error *err = check_kind(probe, probe->st.st_mode);
    return err ? fail(probe, err) : 0;
}

void probe_identity(const struct probe *probe, dev_t *device, ino_t *inode)
{
    bool block = S_ISBLK(probe->st.st_mode);

    *device = block ? probe->st.st_rdev : probe->st.st_dev;
    *inode = block ? 0 : probe->st.st_ino; /* no file has inode 0 */
}

/* Some block devices can be opened for writing and then refuse every write. */
static bool device_is_read_only(int fd, mode_t mode)
{
    int read_only = 0;

    return S_ISBLK(mode) && ioctl(fd, BLKROGET, &read_only) == 0 && read_only;
}

int reopen_descriptor(int fd, int flags)
{
    char path[64];
    struct stat st;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    CLEANUP(close_fd) int other = open(path, flags | O_CLOEXEC | O_NOCTTY);
    if (other < 0 || fstat(other, &st) < 0)
        return -errno;
    if ((flags & O_ACCMODE) != O_RDONLY && device_is_read_only(other, st.st_mode))
        return -EROFS;
    return steal_fd(&other);
}

/* The flags of a descriptor that was passed are as they are, but this one can be changed, for all its copies. */
static int open_passed(const char *filename, int flags)
{
    CLEANUP(close_fd) int fd = fdset_open(filename, flags & O_ACCMODE);
    if (fd < 0)
        return fd;
    int now = fcntl(fd, F_GETFL);
    int wanted = (now & ~O_DIRECT) | (flags & O_DIRECT);
    if (now < 0 || (now != wanted && fcntl(fd, F_SETFL, wanted) < 0))
        return -errno;
    return steal_fd(&fd);
}

int open_again(const char *filename, int fd, int flags)
{
    return fdset_is_name(filename) ? open_passed(filename, flags) : reopen_descriptor(fd, flags);
}

static struct error *check_directory(const struct probe *probe, int pin)
{
    if (path_list_has_open(probe->directories, pin))
        return NULL;
    return error_new("an image names '%s', which leads out of the directories that the image policy allows",
                     probe->filename);
}

/* A link may have been changed since the name was looked up: what counts is the file that is opened. */
static int open_inside(const struct probe *probe, int flags, struct error **refusal)
{
    CLEANUP(close_fd) int pin = path_pin(probe->filename, 0);
    if (pin < 0)
        return pin;
    struct error *err = path_pin_check(pin, probe->filename);
    if (!err)
        err = check_directory(probe, pin);
    if (!err)
        return path_pin_open(pin, flags);
    *refusal = err;
    return -EACCES;
}

/* As path_open(). */
static int open_name(const struct probe *probe, int flags, struct error **refusal)
{
    if (fdset_is_name(probe->filename))
        return open_passed(probe->filename, flags);
    return probe->directories ? open_inside(probe, flags, refusal) : path_open(probe->filename, flags, 0, refusal);
}

static bool access_is_possible(const char *filename)
{
    if (!fdset_is_name(filename))
        return faccessat(AT_FDCWD, filename, W_OK, AT_EACCESS) == 0;
    CLEANUP(close_fd) int fd = fdset_open(filename, O_RDWR);
    return fd >= 0;
}

/* May the file be opened for writing? Without doing so, since that has effects on some devices and on watchers. */
static bool writing_is_possible(const char *filename, int fd, mode_t mode)
{
    return access_is_possible(filename) && !device_is_read_only(fd, mode);
}

bool file_is_not_writable(int fd, const char *filename)
{
    struct stat st;

    return fstat(fd, &st) < 0 || !writing_is_possible(filename, fd, st.st_mode);
}

static struct error *open_file(struct probe *probe)
{
    bool writing = !probe->read_only && !probe->auto_read_only;
    int flags = (writing ? O_RDWR : O_RDONLY) | (probe->direct ? O_DIRECT : 0) | O_CLOEXEC | O_NOCTTY;

    struct error *refusal = NULL;
    do {
        probe->fd = open_name(probe, flags, &refusal);
    } while (probe->fd == -EINTR);
    if (refusal)
        return refusal;
    if (probe->fd == -EINVAL && probe->direct)
        return error_new("cannot open '%s' with cache.direct=on: its file system has no O_DIRECT", probe->filename);
    if (probe->fd < 0)
        return error_errno(-probe->fd, "cannot open '%s'%s", probe->filename, writing ? " for writing" : "");
    if (writing && device_is_read_only(probe->fd, probe->st.st_mode))
        return error_new("cannot open '%s' for writing: the device is read-only", probe->filename);
    if (probe->auto_read_only && !writing_is_possible(probe->filename, probe->fd, probe->st.st_mode))
        probe->read_only = true;
    return NULL;
}

/* The check for loops was made for what the name led to before. */
static struct error *check_same_file(const struct probe *probe, const struct stat *now)
{
    if (now->st_dev == probe->st.st_dev && now->st_ino == probe->st.st_ino && now->st_rdev == probe->st.st_rdev)
        return NULL;
    return error_new("'%s' was replaced while it was being opened", probe->filename);
}

static struct error *find_length(struct probe *probe, const struct stat *st)
{
    if (S_ISREG(st->st_mode)) {
        probe->length = (uint64_t)st->st_size;
    } else if (S_ISBLK(st->st_mode)) {
        if (ioctl(probe->fd, BLKGETSIZE64, &probe->length) < 0)
            return error_errno(errno, "cannot read the size of '%s'", probe->filename);
    } else {
        off_t end = lseek(probe->fd, 0, SEEK_END);
        if (end < 0)
            return error_errno(errno, "cannot read the size of '%s'", probe->filename);
        probe->length = (uint64_t)end;
    }
    if (probe->length > NODE_LENGTH_MAX)
        return error_new("'%s' is too large", probe->filename);
    return NULL;
}

/* Asks the kernel (6.1 and newer; some file systems). */
static bool alignment_from_kernel(struct probe *probe)
{
#ifdef STATX_DIOALIGN
    struct statx stx = { 0 };

    if (statx(probe->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 || !(stx.stx_mask & STATX_DIOALIGN) ||
        !is_power_of_two(stx.stx_dio_offset_align) || !is_power_of_two(stx.stx_dio_mem_align))
        return false;
    probe->request_alignment = stx.stx_dio_offset_align;
    probe->memory_alignment = stx.stx_dio_mem_align;
    return true;
#else
    (void)probe;
    return false;
#endif
}

/* Bytes of a sector of a block device; 0 where there is none. */
static uint32_t sector_bytes(const struct probe *probe)
{
    int sector = 0;

    if (!S_ISBLK(probe->st.st_mode) || ioctl(probe->fd, BLKSSZGET, &sector) < 0 || sector <= 0 ||
        !is_power_of_two((uint64_t)sector))
        return 0;
    return (uint32_t)sector;
}

static bool alignment_from_device(struct probe *probe, uint32_t sector)
{
    if (sector == 0)
        return false;
    probe->request_alignment = sector;
    probe->memory_alignment = sector < SECTOR ? SECTOR : sector;
    return true;
}

/* Would a direct read of @bytes into @memory be allowed? Other errors than EINVAL are the storage's. */
static bool read_is_allowed(int fd, void *memory, size_t bytes)
{
    ssize_t got;

    do {
        got = pread(fd, memory, bytes, 0);
    } while (got < 0 && errno == EINTR);
    return got >= 0 || errno != EINVAL;
}

/* The smallest that works. Where even one byte works (the file is empty, or its file system does not care), nothing
 * was learnt. */
static void alignment_by_trying(struct probe *probe)
{
    CLEANUP(free) char *memory = try_aligned_alloc(ALIGNMENT_MAX, 2 * ALIGNMENT_MAX);

    if (!memory || read_is_allowed(probe->fd, memory, 1))
        return;
    for (uint32_t i = ALIGNMENT_MAX; i >= SECTOR && read_is_allowed(probe->fd, memory, i); i /= 2)
        probe->request_alignment = i;
    for (uint32_t i = ALIGNMENT_MAX; i >= SECTOR && read_is_allowed(probe->fd, memory + i, ALIGNMENT_MAX); i /= 2)
        probe->memory_alignment = i;
}

void probe_alignment(struct probe *probe)
{
    uint32_t sector = sector_bytes(probe);

    probe->discard_granularity = sector ? sector : 1;
    if (!probe->direct) {
        probe->request_alignment = 1;
        probe->memory_alignment = 1;
        return;
    }
    if (alignment_from_kernel(probe) || alignment_from_device(probe, sector))
        return;
    probe->request_alignment = ALIGNMENT_MAX;
    probe->memory_alignment = ALIGNMENT_MAX;
    alignment_by_trying(probe);
}

static uint32_t extent_size_hint(int fd)
{
    struct fsxattr attributes;

    if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) < 0 || !(attributes.fsx_xflags & FS_XFLAG_EXTSIZE))
        return 0;
    return attributes.fsx_extsize;
}

static struct error *open_and_check(struct probe *probe)
{
    struct stat st;
    struct error *err = open_file(probe);

    if (err)
        return err;
    if (fstat(probe->fd, &st) < 0)
        return error_errno(errno, "cannot read the status of '%s'", probe->filename);
    err = check_same_file(probe, &st);
    return err ? err : find_length(probe, &st);
}

int probe_open(void *arg)
{
    struct probe *probe = arg;
    struct error *err = open_and_check(probe);

    if (err) {
        if (probe->fd >= 0)
            close_fd(steal_fd(&probe->fd));
        return fail(probe, err);
    }
    probe_alignment(probe);
    probe->extent_size_hint = probe->device ? 0 : extent_size_hint(probe->fd);
    probe->locks_work = locks_supported(probe->fd);
    return 0;
}
