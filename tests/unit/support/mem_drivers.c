#include "tests/unit/support/mem_drivers.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct mem_knobs mem_next;
unsigned mem_closing_coroutines;

/* The protocol ------------------------------------------------------------------------------------------------ */

static void apply_knobs(struct node *node, const struct mem_knobs *knobs)
{
    struct node_limits *limits = node_limits_mutable(node);
    if (knobs->alignment)
        limits->request_alignment = knobs->alignment;
    if (knobs->memory_alignment)
        limits->memory_alignment = knobs->memory_alignment;
    limits->max_transfer = knobs->max_transfer;
}

static struct error *mem_open(struct node *node, const struct blockdev_options *options,
                              const struct open_context *context)
{
    (void)context;
    struct mem *mem = node_state(node);
    mem->knobs = mem_next;
    mem_next = (struct mem_knobs){ 0 };
    mem->size = options->u.null_co.has_size ? (size_t)options->u.null_co.size : 4096;
    mem->bytes = xcalloc(mem->size, 1);
    mem->hole = xcalloc(mem->size, sizeof(bool));
    spinlock_init(&mem->lock);
    co_queue_init(&mem->held_queue);
    node_set_length(node, mem->size);
    apply_knobs(node, &mem->knobs);
    node_set_filename(node, "mem");
    if (mem->knobs.opening)
        co_event_wait(mem->knobs.opening, "test");
    return NULL;
}

static void mem_close(struct node *node)
{
    struct mem *mem = node_state(node);
    if (co_count() > mem_closing_coroutines)
        mem_closing_coroutines = co_count();
    free(mem->bytes);
    free(mem->hole);
}

static void wait_while_held(struct mem *mem)
{
    spinlock_lock(&mem->lock);
    while (mem->holding) {
        mem->held++;
        co_queue_wait_spin(&mem->held_queue, &mem->lock, "test");
        mem->held--;
    }
    spinlock_unlock(&mem->lock);
}

static int mem_enter(struct mem *mem)
{
    wait_while_held(mem);
    return atomic_exchange(&mem->fail_next, 0);
}

/* Whole units; the last one may be cut at the end of the node. */
static void check_request(struct node *node, struct range range, const struct iov *iov)
{
    const struct node_limits *limits = node_limits(node);
    const struct mem *mem = node_state(node);
    bool ends_the_node = range_end(range) == mem->size;
    assert_true(is_aligned(range.offset, limits->request_alignment));
    assert_true(is_aligned(range.bytes, limits->request_alignment) || ends_the_node);
    assert_true(range.bytes > 0);
    if (iov) {
        assert_int_equal(range.bytes, iov->bytes);
        assert_true(iov_is_aligned(iov, limits->memory_alignment) || ends_the_node);
    }
    if (limits->max_transfer && iov)
        assert_true(range.bytes <= limits->max_transfer);
}

/* Aligned requests may reach past an end that is not aligned. */
static size_t inside(const struct mem *mem, struct range range)
{
    return range.offset >= mem->size ? 0 : (size_t)min_u64(range.bytes, mem->size - range.offset);
}

static int mem_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)flags;
    struct mem *mem = node_state(node);
    check_request(node, range, iov);
    mem->reads++;
    int ret = mem_enter(mem);
    if (ret < 0)
        return ret;
    size_t bytes = inside(mem, range);
    struct iov front = iov_slice(iov, 0, bytes);
    struct iov rest = iov_slice(iov, bytes, iov->bytes - bytes);
    iov_copy_from(&front, mem->bytes + range.offset);
    iov_fill(&rest, 0);
    return 0;
}

static int mem_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct mem *mem = node_state(node);
    check_request(node, range, iov);
    assert_true(mem->knobs.fua || !(flags & REQ_FUA));
    mem->writes++;
    int ret = mem_enter(mem);
    if (ret < 0)
        return ret;
    size_t bytes = inside(mem, range);
    struct iov front = iov_slice(iov, 0, bytes);
    iov_copy_to(&front, mem->bytes + range.offset);
    memset(mem->hole + range.offset, 0, bytes * sizeof(bool));
    return 0;
}

static int mem_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    struct mem *mem = node_state(node);
    check_request(node, range, NULL);
    if (mem->knobs.no_zeroes)
        return -ENOTSUP;
    mem->zeroes++;
    int ret = mem_enter(mem);
    if (ret < 0)
        return ret;
    size_t bytes = inside(mem, range);
    memset(mem->bytes + range.offset, 0, bytes);
    memset(mem->hole + range.offset, (flags & REQ_MAY_UNMAP) != 0, bytes * sizeof(bool));
    return 0;
}

static int mem_pdiscard(struct node *node, struct range range)
{
    struct mem *mem = node_state(node);
    mem->discards++;
    size_t bytes = inside(mem, range);
    memset(mem->bytes + range.offset, 0, bytes);
    memset(mem->hole + range.offset, true, bytes * sizeof(bool));
    return 0;
}

static int mem_flush(struct node *node)
{
    struct mem *mem = node_state(node);
    mem->flushes++;
    wait_while_held(mem);
    return mem->fail_flushes_after && mem->flushes > mem->fail_flushes_after ? -EIO : 0;
}

/* Nobody else is here meanwhile, so the bytes may move. */
static int mem_truncate(struct node *node, uint64_t bytes, enum truncate_mode mode)
{
    struct mem *mem = node_state(node);
    (void)mode;
    wait_while_held(mem);
    size_t kept = (size_t)min_u64(mem->size, bytes);
    unsigned char *moved = xcalloc((size_t)bytes, 1);
    memcpy(moved, mem->bytes, kept);
    free(mem->bytes);
    mem->bytes = moved;
    free(mem->hole);
    mem->hole = xcalloc((size_t)bytes, sizeof(bool));
    mem->size = (size_t)bytes;
    node_set_length(node, bytes);
    return 0;
}

static int64_t mem_allocated_bytes(struct node *node)
{
    struct mem *mem = node_state(node);
    wait_while_held(mem);
    return (int64_t)mem->size;
}

static int mem_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    struct mem *mem = node_state(node);
    (void)ask;
    mem->questions++;
    for (uint64_t at = range.offset; at < range_end(range) && !extents_full(extents); at++) {
        bool hole = at >= mem->size || mem->hole[at];
        struct extent extent = {
            .offset = at,
            .bytes = 1,
            .flags = EXTENT_ALLOCATED | EXTENT_MAPPED | (hole ? EXTENT_ZERO : EXTENT_DATA),
            .file_offset = at,
        };
        extents_append(extents, &extent);
    }
    return 0;
}

static struct error *mem_set_permissions(struct node *node, unsigned perm, unsigned shared)
{
    struct mem *mem = node_state(node);
    struct co_event *locking = mem->locking;
    mem->locking = NULL;
    if (locking)
        co_event_wait(locking, "test");
    if (mem->knobs.fail_locks && (perm & PERM_WRITE))
        return error_new("the lock is taken");
    mem->perm = perm;
    mem->shared = shared;
    return NULL;
}

static struct error *mem_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                        struct reopen *reopen)
{
    struct mem *mem = node_state(node);
    struct co_event *preparing = mem->preparing;
    (void)options;
    (void)reopen;
    mem->preparing = NULL;
    if (preparing)
        co_event_wait(preparing, "test");
    return NULL;
}

static struct error *mem_reopen_enter(struct node *node, struct reopen *reopen)
{
    struct mem *mem = node_state(node);
    (void)reopen;
    return mem->fail_enter ? error_new("the storage does not like it") : NULL;
}

static void mem_reopen_commit(struct node *node, struct reopen *reopen)
{
    struct mem *mem = node_state(node);
    (void)reopen;
    mem->commits++;
}

static void mem_reopen_abort(struct node *node, struct reopen *reopen)
{
    struct mem *mem = node_state(node);
    (void)reopen;
    mem->aborts++;
}

static const struct driver mem_driver = {
    .name = "null-co",
    .kind = DRIVER_PROTOCOL,
    .state_size = sizeof(struct mem),
    .write_flags = REQ_FUA,
    .open = mem_open,
    .close = mem_close,
    .preadv = mem_preadv,
    .pwritev = mem_pwritev,
    .pwrite_zeroes = mem_pwrite_zeroes,
    .pdiscard = mem_pdiscard,
    .flush = mem_flush,
    .truncate = mem_truncate,
    .block_status = mem_block_status,
    .allocated_bytes = mem_allocated_bytes,
    .set_permissions = mem_set_permissions,
    .reopen_prepare = mem_reopen_prepare,
    .reopen_enter = mem_reopen_enter,
    .reopen_commit = mem_reopen_commit,
    .reopen_abort = mem_reopen_abort,
};

/* Does not know FUA: io/ has to flush. */
static const struct driver mem_driver_without_fua = {
    .name = "host_device",
    .kind = DRIVER_PROTOCOL,
    .state_size = sizeof(struct mem),
    .open = mem_open,
    .close = mem_close,
    .preadv = mem_preadv,
    .pwritev = mem_pwritev,
    .flush = mem_flush,
};

/* The overlay ------------------------------------------------------------------------------------------------- */

static struct error *cow_open(struct node *node, const struct blockdev_options *options,
                              const struct open_context *context)
{
    struct cow *cow = node_state(node);
    const struct blockdev_options_qcow2 *qcow2 = &options->u.qcow2;
    struct mem_knobs knobs = mem_next;
    mem_next = (struct mem_knobs){ 0 };
    struct error *err = child_open(node, "file", CHILD_DATA | CHILD_METADATA, qcow2->file, context, &cow->file);
    if (err)
        return err;
    if (qcow2->backing) {
        struct blockdev_ref ref = { .kind = BLOCKDEV_REF_KIND_REFERENCE };
        ref.u.reference = qcow2->backing->u.reference;
        struct child *backing;
        err = child_open(node, "backing", CHILD_BACKING, &ref, context, &backing);
        if (err)
            return err;
    }
    if (knobs.opening)
        co_event_wait(knobs.opening, "test");
    cow->size = (size_t)qcow2->cache_size;
    cow->state = xcalloc(cow->size, 1);
    cow->own = xcalloc(cow->size, 1);
    cow->answers_max = SIZE_MAX;
    node_set_length(node, cow->size);
    apply_knobs(node, &knobs);
    return NULL;
}

static void cow_close(struct node *node)
{
    struct cow *cow = node_state(node);
    free(cow->state);
    free(cow->own);
}

static uint64_t cow_run(const struct cow *cow, struct range range)
{
    uint64_t end = range.offset + 1;
    while (end < range_end(range) && end < cow->size && cow->state[end] == cow->state[range.offset])
        end++;
    return end - range.offset;
}

static int cow_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct cow *cow = node_state(node);
    for (uint64_t done = 0; done < range.bytes;) {
        struct range left = range_make(range.offset + done, range.bytes - done);
        struct range run = range_make(left.offset, left.offset >= cow->size ? left.bytes : cow_run(cow, left));
        struct iov part = iov_slice(iov, done, run.bytes);
        int ret = 0;
        unsigned state = run.offset >= cow->size ? COW_ZERO : cow->state[run.offset];
        if (state == COW_DATA)
            ret = child_preadv(cow->file, run, &part, flags);
        else if (state == COW_OWN)
            iov_copy_from(&part, cow->own + run.offset);
        else if (state == COW_ABSENT && node_backing(node))
            ret = child_preadv(node_backing(node), run, &part, flags);
        else
            iov_fill(&part, 0);
        if (ret < 0)
            return ret;
        done += run.bytes;
    }
    return 0;
}

static int cow_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct cow *cow = node_state(node);
    if (flags & REQ_COMPRESSED) {
        cow->compressed++;
        iov_copy_to(iov, cow->own + range.offset);
        memset(cow->state + range.offset, COW_OWN, range.bytes);
        return 0;
    }
    int ret = child_pwritev(cow->file, range, iov, flags);
    if (ret == 0)
        memset(cow->state + range.offset, COW_DATA, range.bytes);
    return ret;
}

static int cow_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    (void)ask;
    struct cow *cow = node_state(node);
    size_t answers = 0;
    cow->questions++;
    while (range.bytes > 0 && !extents_full(extents) && answers++ < cow->answers_max) {
        uint64_t run = range.offset >= cow->size ? range.bytes : cow_run(cow, range);
        struct extent extent = { .offset = range.offset, .bytes = run };
        unsigned state = range.offset >= cow->size ? COW_ZERO : cow->state[range.offset];
        if (state == COW_DATA) {
            extent.flags = EXTENT_ALLOCATED | EXTENT_DATA | EXTENT_MAPPED;
            extent.file.child = cow->file;
            extent.file_offset = range.offset;
        } else if (state == COW_ZERO) {
            extent.flags = EXTENT_ALLOCATED | EXTENT_ZERO;
        } else if (state == COW_OWN) {
            extent.flags = EXTENT_ALLOCATED | EXTENT_DATA | EXTENT_COMPRESSED;
        }
        extents_append(extents, &extent);
        range = range_make(range.offset + run, range.bytes - run);
    }
    return 0;
}

static struct error *cow_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                        struct reopen *reopen)
{
    (void)node;
    struct error *err = reopen_child(reopen, "file", options->u.qcow2.file);
    return err ? err : reopen_backing(reopen, options->u.qcow2.backing);
}

static const struct driver cow_driver = {
    .name = "qcow2",
    .kind = DRIVER_FORMAT,
    .supports_backing = true,
    .reopen_prepare = cow_reopen_prepare,
    .state_size = sizeof(struct cow),
    .write_flags = REQ_FUA | REQ_COMPRESSED,
    .open = cow_open,
    .close = cow_close,
    .preadv = cow_preadv,
    .pwritev = cow_pwritev,
    .block_status = cow_block_status,
};

/* The window -------------------------------------------------------------------------------------------------- */

struct window {
    struct child *file;
    uint64_t offset;
};

static struct error *window_open(struct node *node, const struct blockdev_options *options,
                                 const struct open_context *context)
{
    struct window *window = node_state(node);
    struct error *err = child_open(node, "file", CHILD_DATA, options->u.raw.file, context, &window->file);
    if (err)
        return err;
    window->offset = (uint64_t)options->u.raw.offset;
    node_set_length(node, (uint64_t)options->u.raw.size);
    return NULL;
}

static int window_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct window *window = node_state(node);
    return child_preadv(window->file, range_make(range.offset + window->offset, range.bytes), iov, flags);
}

static int window_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    (void)ask;
    struct window *window = node_state(node);
    struct extent extent = {
        .offset = range.offset,
        .bytes = range.bytes,
        .flags = EXTENT_ALLOCATED | EXTENT_MAPPED,
        .file.child = window->file,
        .file_offset = range.offset + window->offset,
    };
    extents_append(extents, &extent);
    return 0;
}

static const struct driver window_driver = {
    .name = "raw",
    .kind = DRIVER_FORMAT,
    .state_size = sizeof(struct window),
    .open = window_open,
    .preadv = window_preadv,
    .block_status = window_block_status,
};

/* The filter -------------------------------------------------------------------------------------------------- */

static struct error *filter_open(struct node *node, const struct blockdev_options *options,
                                 const struct open_context *context)
{
    struct child *file;
    apply_knobs(node, &mem_next);
    mem_next = (struct mem_knobs){ 0 };
    return child_open(node, "file", CHILD_FILTERED, options->u.gate.file, context, &file);
}

static struct error *filter_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                           struct reopen *reopen)
{
    (void)node;
    return reopen_child(reopen, "file", options->u.gate.file);
}

static const struct driver filter_driver = {
    .name = "gate",
    .kind = DRIVER_FILTER,
    .reopen_prepare = filter_reopen_prepare,
    .open = filter_open,
};

const struct driver *driver_find(const char *name)
{
    static const struct driver *const drivers[] = {
        &mem_driver, &mem_driver_without_fua, &cow_driver, &window_driver, &filter_driver,
    };
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    }
    return NULL;
}

/* For tests --------------------------------------------------------------------------------------------------- */

struct mem *mem_of(const char *node_name)
{
    struct node *node = node_find(node_name);
    assert_non_null(node);
    return node_state(node);
}

struct cow *cow_of(const char *node_name)
{
    struct node *node = node_find(node_name);
    assert_non_null(node);
    return node_state(node);
}

void mem_hold(struct mem *mem)
{
    spinlock_lock(&mem->lock);
    mem->holding = true;
    spinlock_unlock(&mem->lock);
}

void mem_release(struct mem *mem)
{
    spinlock_lock(&mem->lock);
    mem->holding = false;
    spinlock_unlock(&mem->lock);
    co_queue_wake_all(&mem->held_queue);
}

void mem_wait_held(struct mem *mem, unsigned count)
{
    while (mem->held < count)
        co_yield ();
}

static void pass_on_discards(struct blockdev_options *options)
{
    options->has_discard = true;
    options->discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP;
}

struct error *try_add_mem(const char *name, uint64_t size)
{
    struct blockdev_options options = { .node_name = name, .driver = BLOCKDEV_DRIVER_NULL_CO };
    pass_on_discards(&options);
    options.u.null_co.has_size = true;
    options.u.null_co.size = (int64_t)size;
    return blockdev_add(&options);
}

void add_mem(const char *name, uint64_t size)
{
    expect_success(try_add_mem(name, size));
}

void add_cow(const char *name, uint64_t size, const char *backing, const char *file)
{
    struct blockdev_ref file_ref = { .kind = BLOCKDEV_REF_KIND_REFERENCE };
    file_ref.u.reference = file;
    struct blockdev_ref_or_null backing_ref = { .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE };
    backing_ref.u.reference = backing;
    struct blockdev_options options = { .node_name = name, .driver = BLOCKDEV_DRIVER_QCOW2 };
    pass_on_discards(&options);
    options.u.qcow2.file = &file_ref;
    options.u.qcow2.backing = backing ? &backing_ref : NULL;
    options.u.qcow2.has_cache_size = true;
    options.u.qcow2.cache_size = (int64_t)size;
    expect_success(blockdev_add(&options));
}

void add_raw(const char *name, const char *file, uint64_t offset, uint64_t size)
{
    struct blockdev_ref file_ref = { .kind = BLOCKDEV_REF_KIND_REFERENCE };
    file_ref.u.reference = file;
    struct blockdev_options options = { .node_name = name, .driver = BLOCKDEV_DRIVER_RAW };
    pass_on_discards(&options);
    options.u.raw.file = &file_ref;
    options.u.raw.has_offset = true;
    options.u.raw.offset = (int64_t)offset;
    options.u.raw.has_size = true;
    options.u.raw.size = (int64_t)size;
    expect_success(blockdev_add(&options));
}

struct error *try_add_filter(const char *name, const char *file)
{
    struct blockdev_ref file_ref = { .kind = BLOCKDEV_REF_KIND_REFERENCE };
    file_ref.u.reference = file;
    struct blockdev_options options = { .node_name = name, .driver = BLOCKDEV_DRIVER_GATE };
    pass_on_discards(&options);
    options.u.gate.file = &file_ref;
    return blockdev_add(&options);
}

void add_filter(const char *name, const char *file)
{
    expect_success(try_add_filter(name, file));
}

struct with {
    void (*body)(void *arg);
    void *arg;
};

static void run_body(void *arg)
{
    struct with *with = arg;
    with->body(with->arg);
    blockdev_del_all();
    assert_null(node_next(NULL));
}

void with_runtime(unsigned io_loops, void (*body)(void *arg), void *arg)
{
    struct with with = { .body = body, .arg = arg };
    struct runtime_options options = { .io_loops = io_loops };
    expect_success(runtime_start(&options));
    runtime_run_coroutine("test", run_body, &with);
    runtime_stop(false);
}

void expect_error(struct error *err, const char *part)
{
    assert_non_null(err);
    if (!strstr(error_message(err), part))
        fail_msg("expected an error with '%s', got '%s'", part, error_message(err));
    error_free(err);
}

void expect_success(struct error *err)
{
    if (err)
        fail_msg("unexpected error: %s", error_message(err));
}
