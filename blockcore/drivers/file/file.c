/* file and host_device - storage of the host, opened by name. */
#include "blockcore/drivers/file/file_private.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/io/offload.h"
#include "blockcore/runtime/coroutine.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

static struct error *check_options(const struct blockdev_options *options, const struct blockdev_options_file *own)
{
    bool direct = options->cache && options->cache->has_direct && options->cache->direct;

    if (own->pr_manager)
        return error_new("pr-manager: '%s' does not exist", own->pr_manager);
    if (own->has_aio && own->aio == BLOCKDEV_AIO_OPTIONS_NATIVE && !direct)
        return error_new("aio: 'native' needs cache.direct to be true");
    return NULL;
}

static struct probe *probe_new(const struct blockdev_options *options, const struct blockdev_options_file *own,
                               const struct open_context *context, bool device)
{
    struct probe *probe = xmalloc(sizeof(*probe));

    *probe = (struct probe){
        .filename = xstrdup(own->filename),
        .device = device,
        .direct = options->cache && options->cache->has_direct && options->cache->direct,
        .read_only = open_read_only(context),
        .auto_read_only = open_auto_read_only(context) && !open_read_only(context),
        .directories = open_directories(context),
        .fd = -1,
    };
    return probe;
}

/* Blocks when the file is open. */
static void probe_free(void *arg)
{
    struct probe *probe = arg;

    if (probe->fd >= 0)
        close(probe->fd);
    error_free(probe->err);
    free(probe->filename);
    free(probe);
}

/* *probe becomes NULL when it was left behind. The pool may have no thread for it. */
static struct error *run_step(struct pool_domain *domain, int (*step)(void *probe), struct probe **probe) CO_FN;

static struct error *run_step(struct pool_domain *domain, int (*step)(void *probe), struct probe **probe)
{
    int ret;

    if (!co_blocking_or_leave(domain, step, probe_free, *probe, &ret)) {
        *probe = NULL;
        return error_errno(ECANCELED, "opening the file");
    }
    return ret < 0 && !(*probe)->err ? error_errno(-ret, "cannot open '%s'", (*probe)->filename)
                                     : steal(&(*probe)->err);
}

/* Looks first and opens second: a file that would close a loop is not even opened. */
static struct error *look_and_open(struct probe **probe, struct node *node, struct pool_domain *domain,
                                   const struct open_context *context) CO_FN;

static struct error *look_and_open(struct probe **probe, struct node *node, struct pool_domain *domain,
                                   const struct open_context *context)
{
    dev_t device;
    ino_t inode;

    struct error *err = run_step(domain, probe_name, probe);
    if (err)
        return err;
    probe_identity(*probe, &device, &inode);
    err = open_check_loop(context, device, inode, (*probe)->filename);
    if (!err)
        err = run_step(domain, probe_open, probe);
    if (!err)
        node_set_identity(node, device, inode);
    return err;
}

static void set_limits(struct node *node, const struct probe *probe)
{
    struct node_limits *limits = node_limits_mutable(node);

    limits->request_alignment = probe->request_alignment;
    limits->memory_alignment = probe->memory_alignment;
    limits->discard_granularity = probe->discard_granularity;
}

static void set_state(struct node *node, const struct blockdev_options *options,
                      const struct blockdev_options_file *own, const struct probe *probe)
{
    struct file *file = node_state(node);
    const struct blockdev_cache_options *cache = options->cache;

    co_mutex_init(&file->mode);
    co_mutex_init(&file->flusher.running);
    spinlock_init(&file->known_data.lock);
    file->filename = xstrdup(own->filename);
    file->device = probe->device;
    file->direct = probe->direct;
    file->no_flush = cache && cache->has_no_flush && cache->no_flush;
    file->drop_cache = !own->has_drop_cache || own->drop_cache;
    file->locking = probe->locks_work && !(own->has_locking && own->locking == ON_OFF_AUTO_OFF);
    file->extent_size_hint = probe->extent_size_hint;
    file->follows_writers = probe->auto_read_only && !probe->read_only;
    file->open_for_writing = !probe->auto_read_only && !probe->read_only;
}

/* What was found goes over to the node. */
static void take_over(struct node *node, const struct blockdev_options *options,
                      const struct blockdev_options_file *own, struct probe *probe, struct pool_domain *domain)
{
    struct file_io_options io_options = {
        .direct = probe->direct,
        .use_threads = own->has_aio && own->aio == BLOCKDEV_AIO_OPTIONS_THREADS,
    };

    set_state(node, options, own, probe);
    ((struct file *)node_state(node))->io = file_io_create(steal_fd(&probe->fd), domain, &io_options);
    set_limits(node, probe);
    node_set_read_only(node, probe->read_only);
    node_set_length(node, probe->length);
    node_set_filename(node, own->filename);
}

static struct error *open_any(struct node *node, const struct blockdev_options *options,
                              const struct blockdev_options_file *own, const struct open_context *context, bool device)
    CO_FN;

static struct error *open_any(struct node *node, const struct blockdev_options *options,
                              const struct blockdev_options_file *own, const struct open_context *context, bool device)
{
    struct error *err = check_options(options, own);
    if (err)
        return err;
    struct pool_domain *domain = pool_domain_create(own->filename, 0);
    struct probe *probe = probe_new(options, own, context, device);
    err = look_and_open(&probe, node, domain, context);
    if (!err && own->has_locking && own->locking == ON_OFF_AUTO_ON && !probe->locks_work) {
        co_close(domain, steal_fd(&probe->fd));
        err = error_new("locking: '%s' cannot be locked on this system", own->filename);
    }
    if (err)
        pool_domain_unref(domain);
    else
        take_over(node, options, own, probe, domain);
    if (probe)
        probe_free(probe);
    return err;
}

static struct error *file_open(struct node *node, const struct blockdev_options *options,
                               const struct open_context *context)
{
    return open_any(node, options, &options->u.file, context, false);
}

static struct error *host_device_open(struct node *node, const struct blockdev_options *options,
                                      const struct open_context *context)
{
    return open_any(node, options, &options->u.host_device, context, true);
}

static void file_close(struct node *node)
{
    struct file *file = node_state(node);

    /* What close(2) says is news about writes that a flush has answered for already. */
    file_io_destroy(file->io);
    co_mutex_fini(&file->flusher.running);
    co_mutex_fini(&file->mode);
    free(file->filename);
}

static int file_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct file *file = node_state(node);

    (void)flags;
    return file_io_preadv(file->io, range.offset, iov);
}

struct tail_write {
    int fd;
    uint64_t offset;
    const struct iov *iov;
};

/* Past O_DIRECT, which writes whole units only. The kernel keeps what it caches and direct access in step; it shall not
 * keep the bytes for later, since no flush of ours would learn that they were lost. */
static int write_tail(void *arg)
{
    const struct tail_write *tail = arg;
    CLEANUP(close_fd) int fd = reopen_descriptor(tail->fd, O_WRONLY | O_DSYNC);
    struct iovec vec[64];

    if (fd < 0)
        return fd;
    for (size_t done = 0; done < tail->iov->bytes;) {
        struct iov rest = iov_slice(tail->iov, done, tail->iov->bytes - done);
        size_t exported;
        int count = iov_export(&rest, vec, ARRAY_SIZE(vec), &exported);
        ssize_t ret = pwritev(fd, vec, count, (off_t)(tail->offset + done));
        if (ret < 0 && errno == EINTR)
            continue;
        if (ret <= 0)
            return ret < 0 ? -errno : -EIO;
        done += (size_t)ret;
    }
    return 0;
}

/* The file ends inside a unit: what lies in front of that goes the usual way. */
static int write_with_tail(struct file *file, struct range range, const struct iov *iov, size_t tail_bytes)
{
    struct iov front = iov_slice(iov, 0, iov->bytes - tail_bytes);
    struct iov rest = iov_slice(iov, front.bytes, tail_bytes);
    struct tail_write tail = { .fd = file_io_fd(file->io), .offset = range.offset + front.bytes, .iov = &rest };
    int ret = front.bytes ? file_io_pwritev(file->io, range.offset, &front) : 0;

    return ret < 0 ? ret : file_io_blocking(file->io, write_tail, &tail);
}

static int file_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct file *file = node_state(node);
    size_t tail_bytes = range.bytes & (node_limits(node)->request_alignment - 1);
    int ret = tail_bytes ? write_with_tail(file, range, iov, tail_bytes) : file_io_pwritev(file->io, range.offset, iov);

    (void)flags;
    file_written(file);
    if (ret == 0 && !file->device && range_end(range) > node_length(node))
        node_grow_length(node, range_end(range));
    return ret;
}

/* When fdatasync has failed, the kernel may have dropped the pages and called them clean: the next one would succeed
 * and mean nothing. So nothing is on stable storage any more until the file is opened again. With O_DIRECT the
 * page cache has no part in it. */
static int sync_data(struct file *file) CO_FN;

static int sync_data(struct file *file)
{
    struct flusher *flusher = &file->flusher;

    if (flusher->failed)
        return -flusher->failed;
    if (!atomic_exchange(&flusher->written, false))
        return 0;
    int ret = file_io_fdatasync(file->io);
    if (ret < 0)
        atomic_store(&flusher->written, true);
    if (ret < 0 && !file->direct)
        flusher->failed = -ret;
    return ret;
}

static int file_flush(struct node *node)
{
    struct file *file = node_state(node);
    struct flusher *flusher = &file->flusher;

    if (file->no_flush)
        return 0;
    uint64_t mine = atomic_fetch_add(&flusher->asked, 1) + 1;
    CLEANUP(co_mutex_release) struct co_mutex *running = co_mutex_hold(&flusher->running);
    if (flusher->answered < mine) {
        uint64_t asked = atomic_load(&flusher->asked);
        flusher->result = sync_data(file);
        flusher->answered = asked;
    }
    return flusher->result;
}

/* A guest may wait for a small piece, which shall not queue behind the large ones of a job. */
#define CARRY_BYTES_MIN (256u * 1024)

/* By the file system, or else by a thread. */
static int copy_in(struct file *file, struct range range, const struct file *from, const struct copy_source *source)
    CO_FN;

static int copy_in(struct file *file, struct range range, const struct file *from, const struct copy_source *source)
{
    if (*source->offload >= OFFLOAD_SHARE) {
        bool move = *source->offload == OFFLOAD_ALWAYS && !file->direct && !from->direct;
        int ret = file_io_copy(file->io, range.offset, from->io, source->offset, range.bytes, move);
        if (ret == -EOPNOTSUPP)
            *source->offload = OFFLOAD_CARRY;
        *source->done = ret == 0 ? range.bytes : 0;
    }
    if (*source->done < range.bytes && *source->offload == OFFLOAD_CARRY && range.bytes >= CARRY_BYTES_MIN) {
        int64_t done = file_io_carry(file->io, range.offset, from->io, source->offset, range.bytes, source->zero_unit);
        if (done < 0)
            return -EOPNOTSUPP;
        *source->done = (uint64_t)done;
    }
    return *source->done == range.bytes ? 0 : -ENOTSUP;
}

static int file_copy_in(struct node *node, struct range range, const struct copy_source *source)
{
    struct file *file = node_state(node);

    if (node_driver(source->node)->copy_in != file_copy_in)
        return -EOPNOTSUPP;
    int ret = copy_in(file, range, node_state(source->node), source);

    known_data_forget(&file->known_data);
    file_written(file);
    return ret;
}

static int64_t file_allocated_bytes(struct node *node)
{
    struct file *file = node_state(node);
    struct stat st;
    int ret = file_io_fstat(file->io, &st);

    return ret < 0 ? ret : (int64_t)st.st_blocks * 512; /* the unit of st_blocks, whatever the file system */
}

/* Clients made for servers before QEMU 8 know no format-specific part of files: there is none without a hint to tell.
 */
static void file_describe(struct node *node, struct image_info *info, struct arena *arena)
{
    const struct file *file = node_state(node);
    if (file->extent_size_hint == 0)
        return;
    struct image_info_specific *specific = arena_alloc(arena, sizeof(*specific));
    struct image_info_specific_file *own = arena_alloc(arena, sizeof(*own));

    own->has_extent_size_hint = true;
    own->extent_size_hint = file->extent_size_hint;
    specific->type = IMAGE_INFO_SPECIFIC_KIND_FILE;
    specific->u.file.data = own;
    info->format_specific = specific;
}

static bool file_describe_stats(struct node *node, struct block_stats_specific *specific, struct arena *arena)
{
    const struct file *file = node_state(node);
    const struct block_stats_specific_file own = {
        .discard_nb_ok = atomic_load_explicit(&file->discards_done, memory_order_relaxed),
        .discard_nb_failed = atomic_load_explicit(&file->discards_failed, memory_order_relaxed),
        .discard_bytes_ok = atomic_load_explicit(&file->discarded_bytes, memory_order_relaxed),
    };

    (void)arena;
    if (file->device) {
        specific->driver = BLOCKDEV_DRIVER_HOST_DEVICE;
        specific->u.host_device = own;
    } else {
        specific->driver = BLOCKDEV_DRIVER_FILE;
        specific->u.file = own;
    }
    return true;
}

static const char *const file_reopenable[] = { "drop-cache", "x-check-cache-dropped", NULL };

/* A device is a file that cannot be made or cut, whose length is looked up elsewhere. */
#define ON_HOST_STORAGE                                                                                                \
    .kind = DRIVER_PROTOCOL, .state_size = sizeof(struct file), .close = file_close, .preadv = file_preadv,            \
    .pwritev = file_pwritev, .copy_in = file_copy_in, .pwrite_zeroes = file_pwrite_zeroes, .pdiscard = file_pdiscard,  \
    .flush = file_flush, .truncate = file_truncate, .block_status = file_block_status,                                 \
    .allocated_bytes = file_allocated_bytes, .set_permissions = file_set_permissions,                                  \
    .describe_stats = file_describe_stats, .activate = file_activate, .reopen_prepare = file_reopen_prepare,           \
    .reopen_enter = file_reopen_enter, .reopen_commit = file_reopen_commit, .reopen_abort = file_reopen_abort,         \
    .reopen_end = file_reopen_end, .reopenable = file_reopenable

const struct driver file_driver = {
    .name = "file",
    .open = file_open,
    .describe = file_describe,
    .create = file_create,
    ON_HOST_STORAGE,
};

const struct driver host_device_driver = {
    .name = "host_device",
    .open = host_device_open,
    ON_HOST_STORAGE,
};
