#include "blockcore/drivers/file/file_private.h"

#include "blockcore/runtime/path_policy.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define EXTENT_SIZE_HINT (1024 * 1024) /* default, as in QEMU */

struct creation {
    const struct blockdev_create_options_file *options;
    enum truncate_mode mode;
    struct error *err;
};

static struct error *parse_options(struct creation *creation)
{
    const struct blockdev_create_options_file *options = creation->options;

    switch (options->has_preallocation ? options->preallocation : PREALLOC_MODE_OFF) {
    case PREALLOC_MODE_OFF:
        creation->mode = TRUNCATE_SPARSE;
        return NULL;
    case PREALLOC_MODE_FALLOC:
        creation->mode = TRUNCATE_FALLOC;
        return NULL;
    case PREALLOC_MODE_FULL:
        creation->mode = TRUNCATE_FULL;
        return NULL;
    default:
        return error_new("preallocation: 'metadata' is for formats, a file has none");
    }
}

/* Opening anything but a regular file may wait for ever (a FIFO), and emptying it would be wrong. */
static struct error *open_regular(const char *filename, int *fd)
{
    struct stat st;
    struct error *refusal = NULL;

    int ret = path_stat(filename, &st, &refusal);
    if (ret == 0 && !S_ISREG(st.st_mode))
        return error_new("'%s' exists and is not a regular file", filename);
    if (!refusal)
        *fd = path_open(filename, O_RDWR | O_CREAT, 0644, &refusal);
    if (refusal)
        return refusal;
    return *fd < 0 ? error_errno(-*fd, "cannot create '%s'", filename) : NULL;
}

/* Somebody else may use the file, and must not lose it. The locks end with the descriptor. */
static struct error *claim(int fd, const char *filename)
{
    struct locks locks = { 0 };

    if (!locks_supported(fd))
        return NULL;
    return locks_change(&locks, fd, filename, PERM_WRITE | PERM_RESIZE, PERM_ALL & ~PERM_RESIZE);
}

/* Hints to the file system, which need not know them. They take effect on an empty file only. */
static void give_hints(int fd, const struct blockdev_create_options_file *options)
{
    int flags;
    struct fsxattr attributes;

    if (options->has_nocow && options->nocow && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) == 0) {
        uint64_t hint = options->has_extent_size_hint ? options->extent_size_hint : EXTENT_SIZE_HINT;
        attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
        attributes.fsx_extsize = (uint32_t)hint;
        ioctl(fd, FS_IOC_FSSETXATTR, &attributes);
    }
}

static struct error *make_file(const struct creation *creation)
{
    const struct blockdev_create_options_file *options = creation->options;
    CLEANUP(close_fd) int fd = -1;
    struct error *err = open_regular(options->filename, &fd);

    if (!err)
        err = claim(fd, options->filename);
    if (err)
        return err;
    if (ftruncate(fd, 0) < 0)
        return error_errno(errno, "cannot empty '%s'", options->filename);
    give_hints(fd, options);
    int ret = resize_file(fd, options->size, creation->mode);
    if (ret < 0)
        return error_errno(-ret, "cannot make '%s' %llu bytes long", options->filename,
                           (unsigned long long)options->size);
    if (close(steal_fd(&fd)) < 0)
        return error_errno(errno, "cannot close '%s'", options->filename);
    return NULL;
}

static int make_file_blocking(void *arg)
{
    struct creation *creation = arg;

    creation->err = make_file(creation);
    return 0;
}

struct error *file_create(const struct blockdev_create_options *options)
{
    struct creation creation = { .options = &options->u.file };
    struct error *err = parse_options(&creation);

    if (err)
        return err;
    struct pool_domain *domain = pool_domain_create(options->u.file.filename, 1);
    (void)co_blocking(domain, make_file_blocking, &creation);
    pool_domain_unref(domain);
    return creation.err;
}
