/* The filter 'compress'.
 *
 *     comp --file--> image (a.qcow2, on the gate "storage")
 *
 * Its clusters are written whole and compressed, whatever its users write. */
#include "tests/unit/qcow2/images.h"

#include "blockcore/filters/gate.h"

#define CLUSTER (64 * KIB)
#define DISK (4 * CLUSTER + 1536) /* the last cluster is short */

static void add_storage(const char *create)
{
    qemu_img("create -q -f qcow2 %s '%s' %d", create, in_dir("a.qcow2"), DISK);
    add(file_options("file", in_dir("a.qcow2")));
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_GATE, .node_name = "storage", .u.gate = { .file = by_name("file") } });
    struct blockdev_options options = image_options("image", in_dir("a.qcow2"));
    options.u.qcow2.file = by_name("storage");
    add(options);
}

static struct blockdev_options compress_options(const char *file)
{
    return with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_COMPRESS, .node_name = "comp", .u.compress = { .file = by_name(file) } });
}

static struct handle *open_compress(void)
{
    add_storage("");
    add(compress_options("image"));
    return open_handle("comp", READ_WRITE);
}

static bool is_compressed(struct handle *handle, uint64_t offset)
{
    struct extents extents;
    extents_init(&extents, 1);
    expect_int(handle_block_status(handle, range_make(offset, 1), ASK_MAP, NULL, false, &extents), 0);
    bool compressed = extents.items[0].flags & EXTENT_COMPRESSED;
    extents_fini(&extents);
    return compressed;
}

static void close_all(struct handle *handle)
{
    handle_close(handle);
    blockdev_del_all();
    check_image("a.qcow2");
}

NODE_TEST(whole_clusters_are_compressed)
{
    struct handle *handle = open_compress();
    expect_int(put(handle, 0, 2 * CLUSTER, 0x11), 0);
    expect(is_compressed(handle, 0) && is_compressed(handle, CLUSTER));
    expect(!is_compressed(handle, 2 * CLUSTER));
    expect(reads_as(handle, 0, 2 * CLUSTER, 0x11));
    expect(reads_as(handle, 2 * CLUSTER, DISK - 2 * CLUSTER, 0));
    close_all(handle);
}

NODE_TEST(parts_of_clusters_are_filled_up)
{
    struct handle *handle = open_compress();
    expect_int(put(handle, 0, DISK, 0x11), 0);
    expect_int(put(handle, 1000, 100, 0x22), 0);
    expect_int(put(handle, CLUSTER - 1, CLUSTER + 2, 0x33), 0); /* an end, all, a beginning */
    for (uint64_t at = 0; at < DISK; at += CLUSTER)
        expect(is_compressed(handle, at));
    expect(reads_as(handle, 0, 1000, 0x11));
    expect(reads_as(handle, 1000, 100, 0x22));
    expect(reads_as(handle, 1100, CLUSTER - 1101, 0x11));
    expect(reads_as(handle, CLUSTER - 1, CLUSTER + 2, 0x33));
    expect(reads_as(handle, 2 * CLUSTER + 1, DISK - 2 * CLUSTER - 1, 0x11));
    close_all(handle);
}

NODE_TEST(the_last_cluster_is_short)
{
    struct handle *handle = open_compress();
    expect_int(put(handle, 4 * CLUSTER, 1536, 0x11), 0);
    expect(is_compressed(handle, 4 * CLUSTER));
    expect_int(put(handle, 4 * CLUSTER + 1000, 536, 0x22), 0);
    expect_int(put(handle, 4 * CLUSTER - 10, 20, 0x33), 0);
    expect(is_compressed(handle, 3 * CLUSTER) && is_compressed(handle, 4 * CLUSTER));
    expect(reads_as(handle, 4 * CLUSTER - 10, 20, 0x33));
    expect(reads_as(handle, 4 * CLUSTER + 10, 990, 0x11));
    expect(reads_as(handle, 4 * CLUSTER + 1000, 536, 0x22));
    close_all(handle);
}

NODE_TEST(noise_is_stored_as_it_is)
{
    struct handle *handle = open_compress();
    unsigned char data[CLUSTER];
    unsigned char read[CLUSTER];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)random_below(256);
    expect_int(put_bytes(handle, CLUSTER, data, sizeof(data)), 0);
    expect(!is_compressed(handle, CLUSTER));
    expect_int(put_bytes(handle, CLUSTER + 100, "x", 1), 0);
    data[100] = 'x';
    expect_int(get_bytes(handle, CLUSTER, read, sizeof(read)), 0);
    expect(memcmp(read, data, sizeof(data)) == 0);
    close_all(handle);
}

/* What a part of a cluster is filled up with comes from where it is read. */
NODE_TEST(parts_over_a_backing_file)
{
    make_file("base.img", DISK);
    add(file_options("base", in_dir("base.img")));
    struct handle *handle = open_handle("base", READ_WRITE);
    expect_int(put(handle, 0, DISK, 0x5b), 0);
    handle_close(handle);
    expect_success(blockdev_del("base"));
    char backing[200];
    snprintf(backing, sizeof(backing), "-b '%s' -F raw", in_dir("base.img"));
    add_storage(backing);
    add(compress_options("image"));
    handle = open_handle("comp", READ_WRITE);
    expect_int(put(handle, 1000, 100, 0x11), 0);
    expect(is_compressed(handle, 0));
    expect(reads_as(handle, 0, 1000, 0x5b));
    expect(reads_as(handle, 1000, 100, 0x11));
    expect(reads_as(handle, 1100, DISK - 1100, 0x5b));
    close_all(handle);
}

NODE_TEST(zeroes_and_discards_pass)
{
    struct handle *handle = open_compress();
    expect_int(put(handle, 0, DISK, 0x11), 0);
    expect_int(handle_pwrite_zeroes(handle, range_make(0, CLUSTER), 0), 0);
    expect_int(handle_pwrite_zeroes(handle, range_make(CLUSTER + 1000, 1000), REQ_MAY_UNMAP), 0);
    expect_int(handle_pdiscard(handle, range_make(2 * CLUSTER, CLUSTER)), 0);
    expect(!is_compressed(handle, 0) && !is_compressed(handle, 2 * CLUSTER));
    expect(reads_as(handle, 0, CLUSTER, 0));
    expect(reads_as(handle, CLUSTER, 1000, 0x11));
    expect(reads_as(handle, CLUSTER + 1000, 1000, 0));
    expect(reads_as(handle, CLUSTER + 2000, CLUSTER - 2000, 0x11));
    expect(reads_as(handle, 2 * CLUSTER, CLUSTER, 0));
    close_all(handle);
}

/* Several writers of one cluster ---------------------------------------------------------------------------------- */

#define WRITERS 8
#define PIECE 1000

struct writer {
    struct handle *handle;
    unsigned number;
    bool ended;
    struct co_event done;
};

/* Each has its own bytes in all clusters. */
static void writer_entry(void *arg)
{
    struct writer *writer = arg;
    for (int fill = 1; fill <= 20; fill++)
        for (uint64_t at = 0; at < 4 * CLUSTER; at += CLUSTER)
            expect_int(put(writer->handle, at + writer->number * PIECE, PIECE, fill + (int)writer->number), 0);
    co_event_set(&writer->done);
}

NODE_TEST(writers_of_one_cluster_lose_nothing)
{
    struct writer writers[WRITERS];
    struct handle *handle = open_compress();
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){ .handle = handle, .number = i };
        co_event_init(&writers[i].done);
        co_start_on(loop_io(i % loop_io_count()), "writer", writer_entry, &writers[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        co_event_wait(&writers[i].done, "writer");
    for (uint64_t at = 0; at < 4 * CLUSTER; at += CLUSTER) {
        expect(is_compressed(handle, at));
        for (unsigned i = 0; i < WRITERS; i++)
            expect(reads_as(handle, at + i * PIECE, PIECE, 20 + (int)i));
        expect(reads_as(handle, at + WRITERS * PIECE, CLUSTER - WRITERS * PIECE, 0));
    }
    close_all(handle);
}

static void zero_entry(void *arg)
{
    struct writer *writer = arg;
    expect_int(handle_pwrite_zeroes(writer->handle, range_make(0, CLUSTER), 0), 0);
    writer->ended = true;
    co_event_set(&writer->done);
}

static void write_entry(void *arg)
{
    struct writer *writer = arg;
    expect_int(put(writer->handle, 1000, 100, 0x22), 0);
    writer->ended = true;
    co_event_set(&writer->done);
}

/* What a write has read to fill up its cluster must not come back after it was zeroed. */
NODE_TEST(a_cluster_that_is_being_filled_up_is_not_zeroed_meanwhile)
{
    struct handle *handle = open_compress();
    struct node *storage = node_find("storage");
    struct writer writer = { .handle = handle };
    struct writer zeroer = { .handle = handle };
    co_event_init(&writer.done);
    co_event_init(&zeroer.done);
    expect_int(put(handle, 0, CLUSTER, 0x11), 0);
    expect_int(handle_flush(handle), 0);
    gate_hold(storage, GATE_READ | GATE_WRITE, GATE_ALL);
    co_start("write", write_entry, &writer);
    gate_wait_held(storage, 1);
    co_start("zero", zero_entry, &zeroer);
    for (int i = 0; i < 100; i++)
        co_yield ();
    expect(!writer.ended && !zeroer.ended);
    gate_release(storage, GATE_ANY, GATE_ALL);
    co_event_wait(&writer.done, "write");
    co_event_wait(&zeroer.done, "zero");
    expect(reads_as(handle, 0, CLUSTER, 0));
    close_all(handle);
}

/* What it stands on ----------------------------------------------------------------------------------------------- */

NODE_TEST(a_node_that_does_not_compress)
{
    make_file("raw.img", DISK);
    add(file_options("raw", in_dir("raw.img")));
    add_fails(compress_options("raw"), "file: driver 'file' of node 'raw' does not compress");
}

/* Nothing is compressed there, but nothing fails either. */
NODE_TEST(an_image_that_cannot_compress_after_all)
{
    qemu_img("create -q -f qcow2 -o data_file='%s' '%s' %d", in_dir("data.raw"), in_dir("a.qcow2"), DISK);
    add(file_options("data", in_dir("data.raw")));
    struct blockdev_options options = image_options("image", in_dir("a.qcow2"));
    options.u.qcow2.data_file = by_name("data");
    add(options);
    add(compress_options("image"));
    struct handle *handle = open_handle("comp", READ_WRITE);
    expect_int(put(handle, 0, 2 * CLUSTER, 0x11), 0);
    expect_int(put(handle, 1000, 100, 0x22), 0);
    expect(!is_compressed(handle, 0));
    expect(reads_as(handle, 0, 1000, 0x11));
    expect(reads_as(handle, 1000, 100, 0x22));
    expect(reads_as(handle, 1100, 2 * CLUSTER - 1100, 0x11));
    close_all(handle);
}

NODE_TEST(nobody_else_writes_below_while_somebody_may_write)
{
    struct handle *other;
    struct handle *handle = open_compress();
    expect_error(handle_open(node_find("image"), "other", READ_WRITE, PERM_ALL, &other), "comp");
    handle_close(handle);
    handle = open_handle("comp", READ);
    other = open_handle("image", READ_WRITE);
    handle_close(other);
    handle_close(handle);
}

/* The read that a part of a cluster needs fails: the write fails, and nothing has changed. */
NODE_TEST(a_cluster_that_cannot_be_read)
{
    add_storage("");
    add(compress_options("image"));
    struct handle *handle = open_handle("comp", READ_WRITE);
    expect_int(put(handle, 0, CLUSTER, 0x11), 0);
    close_all(handle);
    add(file_options("file", in_dir("a.qcow2")));
    struct blkdebug_inject_error_options rule = { .event = BLKDEBUG_EVENT_READ_COMPRESSED,
                                                  .has_once = true,
                                                  .once = true };
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "errors",
        .u.blkdebug = { .image = by_name("file"),
                        .has_inject_error = true,
                        .inject_error = &rule,
                        .inject_error_count = 1 },
    });
    struct blockdev_options options = image_options("image", in_dir("a.qcow2"));
    options.u.qcow2.file = by_name("errors");
    add(options);
    add(compress_options("image"));
    handle = open_handle("comp", READ_WRITE);
    expect_int(put(handle, 1000, 100, 0x22), -EIO);
    expect(reads_as(handle, 0, CLUSTER, 0x11));
    expect_int(put(handle, 1000, 100, 0x22), 0);
    expect(reads_as(handle, 1000, 100, 0x22));
    close_all(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_clusters_are_compressed),
        cmocka_unit_test(parts_of_clusters_are_filled_up),
        cmocka_unit_test(the_last_cluster_is_short),
        cmocka_unit_test(noise_is_stored_as_it_is),
        cmocka_unit_test(parts_over_a_backing_file),
        cmocka_unit_test(zeroes_and_discards_pass),
        cmocka_unit_test(writers_of_one_cluster_lose_nothing),
        cmocka_unit_test(a_cluster_that_is_being_filled_up_is_not_zeroed_meanwhile),
        cmocka_unit_test(a_node_that_does_not_compress),
        cmocka_unit_test(an_image_that_cannot_compress_after_all),
        cmocka_unit_test(nobody_else_writes_below_while_somebody_may_write),
        cmocka_unit_test(a_cluster_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
