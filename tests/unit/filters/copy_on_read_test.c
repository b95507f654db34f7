/* The filter 'copy-on-read'.
 *
 *     cor --file--> top (top.qcow2, on the gate "storage") --backing--> base (gate) --> base.img */
#include "tests/unit/qcow2/images.h"

#include "blockcore/filters/gate.h"

#define CLUSTER (64 * KIB)
#define DISK (4 * CLUSTER)
#define FILL 0x5b

/* The base has @base_bytes, all FILL but for a hole in its third cluster. */
static void make_chain(uint64_t base_bytes)
{
    make_file("base.img", base_bytes);
    add(file_options("base-file", in_dir("base.img")));
    struct handle *handle = open_handle("base-file", READ_WRITE);
    for (uint64_t at = 0; at < base_bytes; at += CLUSTER)
        if (at != 2 * CLUSTER)
            expect_int(put(handle, at, (size_t)min_u64(CLUSTER, base_bytes - at), FILL), 0);
    handle_close(handle);
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_GATE, .node_name = "base", .u.gate = { .file = by_name("base-file") } });
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("top.qcow2"), DISK);
    add(file_options("top-file", in_dir("top.qcow2")));
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_GATE, .node_name = "storage", .u.gate = { .file = by_name("top-file") } });
}

static struct blockdev_options top_options(const char *storage, const char *backing)
{
    static struct blockdev_ref_or_null ref;
    struct blockdev_options options = image_options("top", in_dir("top.qcow2"));
    ref = (struct blockdev_ref_or_null){ .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    if (backing)
        ref = (struct blockdev_ref_or_null){ .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE, .u.reference = backing };
    options.u.qcow2.file = by_name(storage);
    options.u.qcow2.backing = &ref;
    return options;
}

static struct blockdev_options cor_options(const char *file, const char *bottom)
{
    return with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_COPY_ON_READ,
        .node_name = "cor",
        .u.copy_on_read = { .file = by_name(file), .bottom = bottom },
    });
}

static struct handle *open_cor(uint64_t base_bytes)
{
    make_chain(base_bytes);
    add(top_options("storage", "base"));
    add(cor_options("top", NULL));
    return open_handle("cor", READ_WRITE);
}

static uint64_t base_reads(void)
{
    return gate_seen(node_find("base"), GATE_READ);
}

/* The depth of what decides the byte, and whether there is data. */
static struct extent status_at(struct handle *handle, uint64_t offset)
{
    struct extents extents;
    extents_init(&extents, 1);
    expect_int(handle_block_status(handle, range_make(offset, 1), ASK_ALL, NULL, false, &extents), 0);
    struct extent extent = extents.items[0];
    extents_fini(&extents);
    return extent;
}

static uint32_t depth_at(struct handle *handle, uint64_t offset)
{
    return status_at(handle, offset).depth;
}

/* A request on its way. */
struct running {
    struct handle *handle;
    uint64_t offset;
    size_t bytes;
    int fill; /* of a write; -1: a read */
    unsigned char data[CLUSTER];
    int ret;
    bool ended;
    struct co_event done;
};

static void run_entry(void *arg)
{
    struct running *running = arg;
    if (running->fill < 0)
        running->ret = get_bytes(running->handle, running->offset, running->data, running->bytes);
    else
        running->ret = put(running->handle, running->offset, running->bytes, running->fill);
    running->ended = true;
    co_event_set(&running->done);
}

static void start(struct running *running, struct handle *handle, uint64_t offset, size_t bytes, int fill)
{
    *running = (struct running){ .handle = handle, .offset = offset, .bytes = bytes, .fill = fill };
    co_event_init(&running->done);
    co_start("request", run_entry, running);
}

static void expect_data(struct running *running, int fill)
{
    co_event_wait(&running->done, "request");
    expect_int(running->ret, 0);
    for (size_t i = 0; i < running->bytes; i++)
        expect_int(running->data[i], fill);
}

/* Everything that can happen without another event has happened. */
static void settle(void)
{
    for (int i = 0; i < 100; i++)
        co_yield ();
}

static void close_all(struct handle *handle)
{
    handle_close(handle);
    blockdev_del_all();
    check_image("top.qcow2");
}

NODE_TEST(what_is_read_is_copied_in_whole_clusters)
{
    struct handle *handle = open_cor(DISK);
    expect_int(depth_at(handle, CLUSTER), 1);
    expect(reads_as(handle, CLUSTER + 1000, 3000, FILL));
    expect_int(base_reads(), 1);
    expect_int(depth_at(handle, CLUSTER), 0);
    expect_int(depth_at(handle, 2 * CLUSTER - 1), 0);
    expect_int(depth_at(handle, 0), 1);
    expect_int(depth_at(handle, 2 * CLUSTER), 1);
    expect(reads_as(handle, CLUSTER, CLUSTER, FILL));
    expect_int(base_reads(), 1);
    close_all(handle);
}

NODE_TEST(the_overlay_alone_has_what_was_read)
{
    struct handle *handle = open_cor(DISK);
    expect(reads_as(handle, 3 * CLUSTER - 10, 20, 0) == false);
    expect(reads_as(handle, 0, 1, FILL));
    handle_close(handle);
    blockdev_del_all();
    check_image("top.qcow2");
    add(file_options("storage", in_dir("top.qcow2")));
    add(top_options("storage", NULL));
    handle = open_handle("top", READ);
    expect(reads_as(handle, 0, CLUSTER, FILL));
    expect(reads_as(handle, CLUSTER, 2 * CLUSTER, 0)); /* never read; the hole */
    expect(reads_as(handle, 3 * CLUSTER, CLUSTER, FILL));
    handle_close(handle);
}

NODE_TEST(zeroes_are_copied_without_data)
{
    struct handle *handle = open_cor(DISK);
    expect(reads_as(handle, 2 * CLUSTER, 10, 0));
    expect_int(base_reads(), 0);
    struct extent extent = status_at(handle, 2 * CLUSTER);
    expect_int(extent.depth, 0);
    expect(extent.flags & EXTENT_ZERO && !(extent.flags & EXTENT_DATA));
    close_all(handle);
}

NODE_TEST(reads_that_overlap_copy_once)
{
    struct running first;
    struct running second;
    struct handle *handle = open_cor(DISK);
    struct node *base = node_find("base");
    gate_hold(base, GATE_READ, GATE_ALL);
    start(&first, handle, 0, 1000, -1);
    gate_wait_held(base, 1);
    start(&second, handle, 500, 5000, -1);
    settle();
    expect(!second.ended);
    expect_int(gate_held(base, GATE_READ), 1);
    gate_release(base, GATE_READ, GATE_ALL);
    expect_data(&first, FILL);
    expect_data(&second, FILL);
    expect_int(base_reads(), 1);
    close_all(handle);
}

NODE_TEST(reads_of_other_clusters_wait_for_nobody)
{
    struct running first;
    struct handle *handle = open_cor(DISK);
    struct node *base = node_find("base");
    gate_hold(base, GATE_READ, 1);
    start(&first, handle, 0, 1000, -1);
    gate_wait_held(base, 1);
    expect(reads_as(handle, CLUSTER, 1000, FILL));
    expect(!first.ended);
    gate_release(base, GATE_READ, GATE_ALL);
    expect_data(&first, FILL);
    close_all(handle);
}

NODE_TEST(a_write_is_not_undone_by_a_copy_of_older_data)
{
    struct running reading;
    struct running writing;
    struct handle *handle = open_cor(DISK);
    struct node *base = node_find("base");
    gate_hold(base, GATE_READ, GATE_ALL);
    start(&reading, handle, 0, 1000, -1);
    gate_wait_held(base, 1);
    start(&writing, handle, 8192, 4096, 0x11);
    settle();
    expect(!writing.ended);
    gate_release(base, GATE_READ, GATE_ALL);
    expect_data(&reading, FILL);
    co_event_wait(&writing.done, "write");
    expect_int(writing.ret, 0);
    expect(reads_as(handle, 0, 8192, FILL));
    expect(reads_as(handle, 8192, 4096, 0x11));
    expect(reads_as(handle, 12288, CLUSTER - 12288, FILL));
    close_all(handle);
}

/* The copy sees what the write has done, or comes after it. */
NODE_TEST(a_copy_waits_for_a_write_that_is_on_its_way)
{
    struct running reading;
    struct running writing;
    struct handle *handle = open_cor(DISK);
    struct node *storage = node_find("storage");
    gate_hold(storage, GATE_WRITE, GATE_ALL);
    start(&writing, handle, 0, 4096, 0x11);
    gate_wait_held(storage, 1);
    start(&reading, handle, 8192, 1000, -1);
    settle();
    expect(!reading.ended);
    expect_int(base_reads() > 1, false); /* the write may fill up its cluster */
    gate_release(storage, GATE_WRITE, GATE_ALL);
    co_event_wait(&writing.done, "write");
    expect_data(&reading, FILL);
    expect(reads_as(handle, 0, 4096, 0x11));
    expect(reads_as(handle, 4096, CLUSTER - 4096, FILL));
    close_all(handle);
}

/* It ends inside a cluster, at no multiple of anything. */
NODE_TEST(a_backing_file_that_is_shorter)
{
    uint64_t end = CLUSTER + 1001;
    struct handle *handle = open_cor(end);
    expect(reads_as(handle, end - 100, 100, FILL));
    expect(reads_as(handle, end, CLUSTER, 0));
    expect_int(depth_at(handle, CLUSTER), 0);
    expect(reads_as(handle, 0, end, FILL));
    expect(reads_as(handle, end, DISK - end, 0));
    uint64_t reads = base_reads();
    expect(reads_as(handle, end - 100, 100, FILL));
    expect_int(base_reads(), reads);
    close_all(handle);
}

/* base <- mid <- top: what mid has is copied, what base has is not. */
NODE_TEST(nothing_below_the_bottom_is_copied)
{
    make_chain(DISK);
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("mid.qcow2"), DISK);
    static struct blockdev_ref_or_null backing = { .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE, .u.reference = "base" };
    struct blockdev_options mid = image_options("mid", in_dir("mid.qcow2"));
    mid.u.qcow2.backing = &backing;
    add(mid);
    struct handle *handle = open_handle("mid", READ_WRITE);
    expect_int(put(handle, CLUSTER, CLUSTER, 0x22), 0);
    handle_close(handle);
    add(top_options("storage", "mid"));
    add_fails(cor_options("top", "nobody"), "bottom: Bottom node 'nobody' not found");
    add_fails(cor_options("top", "base"), "bottom: Bottom node 'base' is a filter");
    add(cor_options("top", "mid"));
    handle = open_handle("cor", READ_WRITE);
    expect(reads_as(handle, 0, CLUSTER, FILL));
    expect(reads_as(handle, CLUSTER, CLUSTER, 0x22));
    expect_int(depth_at(handle, 0), 2);
    expect_int(depth_at(handle, CLUSTER), 0);
    close_all(handle);
}

/* Who has nothing to write to is told when the filter gets users. */
NODE_TEST(an_overlay_that_is_read_only)
{
    struct handle *handle;
    make_chain(DISK);
    struct blockdev_options options = top_options("storage", "base");
    options.has_read_only = options.read_only = true;
    add(options);
    struct blockdev_options cor = cor_options("top", NULL);
    struct error *err = blockdev_add(&cor);
    if (!err)
        err = handle_open(node_find("cor"), "the test", READ, PERM_ALL, &handle);
    expect_error(err, "read-only");
}

NODE_TEST(nobody_else_writes_the_overlay)
{
    struct handle *other;
    struct handle *handle = open_cor(DISK);
    expect_error(handle_open(node_find("top"), "other", READ_WRITE, PERM_ALL, &other), "cor");
    handle_close(handle);
    other = open_handle("top", READ_WRITE); /* without users it holds nothing */
    handle_close(other);
}

NODE_TEST(block_status_is_that_of_the_overlay)
{
    struct handle *handle = open_cor(DISK);
    expect_int(put(handle, 0, 4096, 1), 0);
    struct handle *top;
    expect_success(handle_open(node_find("top"), "the test", READ, PERM_ALL, &top));
    char text[1024];
    snprintf(text, sizeof(text), "%s", map_text(top, ASK_ALL));
    expect_text(map_text(handle, ASK_ALL), text);
    expect_int(depth_at(handle, CLUSTER), 1); /* a question copies nothing */
    expect(reads_as(handle, 0, DISK, 0) == false);
    snprintf(text, sizeof(text), "%s", map_text(top, ASK_ALL));
    expect_text(map_text(handle, ASK_ALL), text);
    expect(status_at(handle, CLUSTER).layer == node_find("top"));
    handle_close(top);
    close_all(handle);
}

/* Errors ---------------------------------------------------------------------------------------------------------- */

static void add_errors(const char *image, struct blkdebug_inject_error_options rule)
{
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "errors",
        .u.blkdebug = { .image = by_name(image),
                        .has_inject_error = true,
                        .inject_error = &rule,
                        .inject_error_count = 1 },
    });
}

/* The next one tries again. */
NODE_TEST(a_copy_that_finds_no_space_is_no_failed_read)
{
    make_chain(DISK);
    add(top_options("storage", "base"));
    add_errors(
        "top",
        (struct blkdebug_inject_error_options){
            .event = BLKDEBUG_EVENT_COR_WRITE, .has_errno = true, .errno_ = ENOSPC, .has_once = true, .once = true });
    add(cor_options("errors", NULL));
    struct handle *handle = open_handle("cor", READ_WRITE);
    expect(reads_as(handle, 0, 1000, FILL));
    expect_int(depth_at(handle, 0), 1);
    expect(reads_as(handle, 0, 1000, FILL));
    expect_int(depth_at(handle, 0), 0);
    close_all(handle);
}

/* Only what nobody asked for cannot be read. */
NODE_TEST(a_bad_sector_beside_what_is_wanted)
{
    make_chain(DISK);
    add_errors("base", (struct blkdebug_inject_error_options){ .event = BLKDEBUG_EVENT_NONE,
                                                               .has_sector = true,
                                                               .sector = 100,
                                                               .has_iotype = true,
                                                               .iotype = BLKDEBUG_IO_TYPE_READ });
    add(top_options("storage", "errors"));
    add(cor_options("top", NULL));
    struct handle *handle = open_handle("cor", READ_WRITE);
    char data[512];
    expect(reads_as(handle, 0, 1000, FILL));
    expect_int(depth_at(handle, 0), 1);
    expect_int(get_bytes(handle, 51200, data, sizeof(data)), -EIO);
    expect(reads_as(handle, 51712, 1000, FILL));
    close_all(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_copied_in_whole_clusters),
        cmocka_unit_test(the_overlay_alone_has_what_was_read),
        cmocka_unit_test(zeroes_are_copied_without_data),
        cmocka_unit_test(reads_that_overlap_copy_once),
        cmocka_unit_test(reads_of_other_clusters_wait_for_nobody),
        cmocka_unit_test(a_write_is_not_undone_by_a_copy_of_older_data),
        cmocka_unit_test(a_copy_waits_for_a_write_that_is_on_its_way),
        cmocka_unit_test(a_backing_file_that_is_shorter),
        cmocka_unit_test(nothing_below_the_bottom_is_copied),
        cmocka_unit_test(an_overlay_that_is_read_only),
        cmocka_unit_test(nobody_else_writes_the_overlay),
        cmocka_unit_test(block_status_is_that_of_the_overlay),
        cmocka_unit_test(a_copy_that_finds_no_space_is_no_failed_read),
        cmocka_unit_test(a_bad_sector_beside_what_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
