/* Any image at all, in memory: its tables (L1, L2, refcounts, snapshots, bitmaps) must neither crash the driver nor
 * lead it anywhere. It is checked, used, and repaired; what a repair calls whole has to be found whole. */
#include "blockcore/drivers/drivers.h"
#include "blockcore/drivers/qcow2/qcow2_private.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/handle.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/check.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IMAGE_BYTES_MAX (1024 * 1024) /* how long an image may become */
#define INPUT_BYTES_MAX (256 * 1024)
#define PIECE 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* The file ------------------------------------------------------------------------------------------------------- */

static struct {
    uint8_t bytes[IMAGE_BYTES_MAX];
    size_t length;
} file;

static struct error *memory_open(struct node *node, const struct blockdev_options *options,
                                 const struct open_context *context)
{
    (void)options;
    (void)context;
    node_set_length(node, file.length);
    return NULL;
}

static int memory_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)node;
    (void)flags;
    iov_copy_from(iov, file.bytes + range.offset);
    return 0;
}

static int memory_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    (void)flags;
    if (!range_inside(range, IMAGE_BYTES_MAX))
        return -ENOSPC;
    iov_copy_to(iov, file.bytes + range.offset);
    file.length = (size_t)max_u64(file.length, range_end(range));
    node_grow_length(node, file.length);
    return 0;
}

static int memory_flush(struct node *node)
{
    (void)node;
    return 0;
}

static const struct driver memory_driver = {
    .name = "null-co",
    .kind = DRIVER_PROTOCOL,
    .open = memory_open,
    .preadv = memory_preadv,
    .pwritev = memory_pwritev,
    .flush = memory_flush,
};

const struct driver *driver_find(const char *name)
{
    if (strcmp(name, "null-co") == 0)
        return &memory_driver;
    return strcmp(name, "qcow2") == 0 ? &qcow2_driver : NULL;
}

/* Using it ------------------------------------------------------------------------------------------------------- */

static struct blockdev_options image_options(bool read_only)
{
    static struct blockdev_options memory = { .driver = BLOCKDEV_DRIVER_NULL_CO };
    static struct blockdev_ref ref = { .kind = BLOCKDEV_REF_KIND_DEFINITION, .u.definition = &memory };
    static struct blockdev_ref_or_null none = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_QCOW2,
        .node_name = "image",
        .has_read_only = true,
        .read_only = read_only,
        .has_discard = true,
        .discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP,
        .u.qcow2 = { .file = &ref, .backing = &none },
    };
}

static void read_some(struct handle *handle, struct range range)
{
    static uint8_t data[PIECE];
    struct iovec piece;
    struct iov iov = iov_of(&piece, data, (size_t)range.bytes);
    (void)handle_preadv(handle, range, &iov);
}

static void write_some(struct handle *handle, struct range range, unsigned flags)
{
    static uint8_t data[PIECE];
    struct iovec piece;
    struct iov iov = iov_of(&piece, data, (size_t)range.bytes);
    data[0]++;
    (void)handle_pwritev(handle, range, &iov, flags);
}

static void ask_some(struct handle *handle, struct range range)
{
    struct extents extents;
    extents_init(&extents, 64);
    (void)handle_block_status(handle, range, ASK_ALL, NULL, false, &extents);
    extents_fini(&extents);
}

/* The first clusters of the disk and its last ones, where short tables have their entries. */
static void use(struct handle *handle)
{
    uint64_t length = node_length(handle_node(handle));
    struct range first = range_make(0, min_u64(length, PIECE));
    struct range last = range_between(length - first.bytes, length);
    ask_some(handle, range_make(0, length));
    read_some(handle, first);
    read_some(handle, last);
    write_some(handle, last, 0);
    write_some(handle, first, REQ_COMPRESSED);
    (void)handle_pdiscard(handle, range_make(0, first.bytes / 2));
    (void)handle_pwrite_zeroes(handle, first, REQ_MAY_UNMAP);
    write_some(handle, range_make(first.bytes / 4, first.bytes / 2), 0);
    (void)handle_flush(handle);
    read_some(handle, first);
}

static void open_and_use(bool read_only)
{
    struct blockdev_options options = image_options(read_only);
    struct error *err = blockdev_add(&options);
    struct handle *handle;
    if (!err) {
        unsigned perm = PERM_CONSISTENT_READ | (read_only ? 0 : PERM_WRITE);
        err = handle_open(node_find("image"), "fuzzer", perm, PERM_ALL, &handle);
        if (!err) {
            use(handle);
            handle_close(handle);
        }
        error_free(err);
        err = blockdev_del("image");
    }
    error_free(err);
}

/* Checking it ---------------------------------------------------------------------------------------------------- */

/* False when it cannot be checked. */
static bool check(enum image_repair repair, struct image_check *found)
{
    struct blockdev_options options = image_options(repair == IMAGE_REPAIR_NONE);
    struct node *node;
    *found = (struct image_check){ 0 };
    struct error *err = node_open_for_check(&options, &node);
    if (!err) {
        err = node_check(node, repair, found);
        node_unref(node);
    }
    bool checked = !err;
    error_free(err);
    return checked;
}

static void check_and_repair(void)
{
    struct image_check found;
    struct image_check again;
    if (!check(IMAGE_REPAIR_NONE, &found) || !check(IMAGE_REPAIR_ALL, &found) || !check(IMAGE_REPAIR_NONE, &again))
        return;
    if (again.corruptions > found.corruptions || again.leaks > found.leaks)
        abort(); /* a repair left more than it said */
}

static void load(const uint8_t *data, size_t bytes)
{
    if (file.length > bytes)
        memset(file.bytes + bytes, 0, file.length - bytes); /* behind it all are zeroes: it only grows by writes */
    memcpy(file.bytes, data, bytes);
    file.length = bytes;
}

struct input {
    const uint8_t *data;
    size_t bytes;
};

static void run(void *arg)
{
    const struct input *input = arg;
    load(input->data, input->bytes);
    open_and_use(true);
    open_and_use(false);
    load(input->data, input->bytes);
    check_and_repair();
    open_and_use(false);
    struct image_check found;
    (void)check(IMAGE_REPAIR_NONE, &found);
}

static void stop(void)
{
    runtime_stop(false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static bool started;
    if (!started) {
        error_free(runtime_start(&(struct runtime_options){ .io_loops = 1 }));
        atexit(stop);
    }
    started = true;
    struct input input = { data, bytes };
    if (bytes <= INPUT_BYTES_MAX)
        runtime_run_coroutine("fuzzer", run, &input);
    return 0;
}
