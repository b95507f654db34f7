/* blockdev-reopen of a file, and its return from another host: another way to open the same file. The descriptor keeps
 * its number, so requests need not know.
 *
 * Users may come and go between the steps, and with them, where the mode follows the writers, the mode. So each step
 * looks, under file->mode, at how the file is open now, and the decision whether the mode follows from now on falls
 * with the exchange of the descriptor. Commit, which cannot wait, has no part in it. */
#include "blockcore/drivers/file/file_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/reopen.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* How a file is open. */
struct mode {
    bool follows_writers;
    bool writing;
    bool direct;
};

struct file_reopen {
    struct file *file;
    struct mode old;
    struct mode new;
    bool read_only;
    bool auto_read_only;
    bool entered;
    bool switched; /* then spare is the old descriptor */
    struct mode restored;
    bool drop_cache;
    int spare;          /* the new descriptor, then the old one */
    struct probe probe; /* of an open file: without a name */
    struct error *err;
};

static int mode_flags(struct mode mode)
{
    return (mode.writing ? O_RDWR : O_RDONLY) | (mode.direct ? O_DIRECT : 0);
}

static struct mode mode_of(const struct file *file)
{
    return (struct mode){
        .follows_writers = file->follows_writers,
        .writing = file->open_for_writing,
        .direct = file->direct,
    };
}

static void set_mode(struct file *file, struct mode mode)
{
    file->follows_writers = mode.follows_writers;
    file->open_for_writing = mode.writing;
    file->direct = mode.direct;
    file_io_set_direct(file->io, mode.direct);
}

static bool opens_alike(struct mode a, struct mode b)
{
    return a.writing == b.writing && a.direct == b.direct;
}

static void choose_mode(struct file_reopen *own)
{
    own->old = mode_of(own->file);
    own->new.follows_writers = own->auto_read_only && !own->read_only;
    own->new.writing = own->new.follows_writers ? file_needs_writing(own->file->perm) : !own->read_only;
}

static struct error *open_in_new_mode(struct file_reopen *own)
{
    int fd = open_again(own->file->filename, file_io_fd(own->file->io), mode_flags(own->new));
    if (fd == -EINVAL && own->new.direct)
        return error_new("cannot open '%s' with cache.direct=on: its file system has no O_DIRECT", own->file->filename);
    if (fd < 0)
        return error_errno(-fd, "cannot open '%s'%s", own->file->filename, own->new.writing ? " for writing" : "");
    own->spare = fd;
    own->probe = (struct probe){ .fd = fd, .direct = own->new.direct };
    if (fstat(fd, &own->probe.st) < 0)
        return error_errno(errno, "cannot read the status of '%s'", own->file->filename);
    probe_alignment(&own->probe);
    return NULL;
}

static int prepare_blocking(void *arg)
{
    struct file_reopen *own = arg;
    struct error *err = NULL;
    if (own->auto_read_only && !own->read_only && file_is_not_writable(file_io_fd(own->file->io), own->file->filename))
        own->read_only = true;
    choose_mode(own);
    if (!opens_alike(own->new, own->old))
        err = open_in_new_mode(own);
    own->err = err;
    return err ? -1 : 0;
}

struct error *file_reopen_prepare(struct node *node, const struct blockdev_options *options, struct reopen *reopen)
{
    struct file *file = node_state(node);
    struct file_reopen *own = xcalloc(1, sizeof(*own));
    const struct blockdev_options_file *given = &options->u.file; /* 'host_device' has the same options */
    own->file = file;
    own->drop_cache = !given->has_drop_cache || given->drop_cache;
    own->spare = -1;
    own->new.direct = reopen_cache_direct(reopen);
    own->read_only = reopen_read_only(reopen);
    own->auto_read_only = reopen_auto_read_only(reopen) && !own->read_only;
    reopen_set_state(reopen, own);
    co_mutex_lock(&file->mode);
    int ret = file_io_blocking(file->io, prepare_blocking, own);
    co_mutex_unlock(&file->mode);
    if (own->read_only)
        reopen_set_read_only(reopen);
    /* The pool may have no thread for it. */
    return ret < 0 && !own->err ? error_errno(-ret, "cannot open '%s'", file->filename) : steal(&own->err);
}

/* Puts the spare descriptor in the place of the one in use, which becomes the spare one. */
static struct error *exchange(struct file_reopen *own)
{
    struct file *file = own->file;
    int fd = file_io_fd(file->io);
    struct error *err = file->locking ? locks_copy(&file->locks, own->spare, file->filename) : NULL;
    if (err)
        return err;
    CLEANUP(close_fd) int before = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (before < 0 || dup3(own->spare, fd, O_CLOEXEC) < 0)
        return error_errno(errno, "cannot change the access mode of '%s'", file->filename);
    /* The copies in the table must not be the last ones that hold the locks, nor hold them twice. */
    if (file->locking)
        locks_drop_all(before);
    close_fd(own->spare);
    own->spare = steal_fd(&before);
    return NULL;
}

static int enter_blocking(void *arg)
{
    struct file_reopen *own = arg;
    struct error *err = NULL;
    if (own->spare < 0)
        err = open_in_new_mode(own);
    if (!err)
        err = exchange(own);
    own->switched = !err;
    own->err = err;
    return err ? -1 : 0;
}

static int close_spare(void *arg)
{
    struct file_reopen *own = arg;
    if (own->spare >= 0)
        close_fd(steal_fd(&own->spare));
    return 0;
}

struct error *file_reopen_enter(struct node *node, struct reopen *reopen)
{
    struct file *file = node_state(node);
    struct file_reopen *own = reopen_state(reopen);
    struct mode wanted = own->new;
    co_mutex_lock(&file->mode);
    choose_mode(own);
    /* Users came or went since the other descriptor was opened. */
    if (!opens_alike(own->new, wanted) && own->spare >= 0 && file_io_blocking(file->io, close_spare, own) < 0)
        close_spare(own); /* no thread to be had: a descriptor must not leak */
    int ret = opens_alike(own->new, own->old) ? 0 : file_io_blocking(file->io, enter_blocking, own);
    if (ret == 0)
        set_mode(file, own->new);
    own->entered = ret == 0;
    co_mutex_unlock(&file->mode);
    return ret < 0 && !own->err ? error_errno(-ret, "cannot open '%s'", file->filename) : steal(&own->err);
}

void file_reopen_commit(struct node *node, struct reopen *reopen)
{
    struct file *file = node_state(node);
    const struct file_reopen *own = reopen_state(reopen);
    file->no_flush = reopen_cache_no_flush(reopen);
    file->drop_cache = own->drop_cache;
    if (own->switched) {
        struct node_limits *limits = node_limits_mutable(node);
        limits->request_alignment = own->probe.request_alignment;
        limits->memory_alignment = own->probe.memory_alignment;
    }
}

/* The old descriptor, unless users came or went meanwhile and another one is needed. */
static int restore_blocking(void *arg)
{
    struct file_reopen *own = arg;
    if (!own->switched || !opens_alike(own->old, own->restored))
        close_spare(own);
    own->new = own->restored;
    own->err = own->spare < 0 ? open_in_new_mode(own) : NULL;
    if (!own->err)
        own->err = exchange(own);
    return own->err ? -1 : 0;
}

/* It was open in this mode before. If that fails all the same it stays as it is. */
static void restore(struct file *file, struct file_reopen *own) CO_FN;

static void restore(struct file *file, struct file_reopen *own)
{
    co_mutex_lock(&file->mode);
    struct mode now = mode_of(file);
    own->restored = own->old;
    if (own->old.follows_writers)
        own->restored.writing = file_needs_writing(file->perm);
    int ret = opens_alike(own->restored, now) ? 0 : file_io_blocking(file->io, restore_blocking, own);
    if (ret == 0)
        set_mode(file, own->restored);
    co_mutex_unlock(&file->mode);
}

void file_reopen_end(struct node *node, struct reopen *reopen)
{
    struct file *file = node_state(node);
    struct file_reopen *own = reopen_state(reopen);
    if (own->spare >= 0 && file_io_blocking(file->io, close_spare, own) < 0)
        close_spare(own); /* no thread to be had: a descriptor must not leak */
    free(own);
}

void file_reopen_abort(struct node *node, struct reopen *reopen)
{
    struct file *file = node_state(node);
    struct file_reopen *own = reopen_state(reopen);
    if (!own)
        return;
    if (own->entered)
        restore(file, own);
    error_free(steal(&own->err));
    file_reopen_end(node, reopen);
}

struct look_again {
    struct file *file;
    uint64_t length;
};

/* What the kernel keeps of a file on a network may be out of date. */
static int look_again(void *arg)
{
    struct look_again *look = arg;
    int fd = file_io_fd(look->file->io);
    struct stat st;
    if (look->file->drop_cache)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (fstat(fd, &st) < 0)
        return -errno;
    look->length = (uint64_t)st.st_size;
    return 0;
}

struct error *file_activate(struct node *node)
{
    struct file *file = node_state(node);
    struct look_again look = { .file = file };
    int ret = file_io_blocking(file->io, look_again, &look);
    if (ret < 0)
        return error_errno(-ret, "cannot read the size of '%s'", file->filename);
    if (!file->device)
        node_set_length(node, look.length);
    known_data_forget(&file->known_data);
    return NULL;
}
