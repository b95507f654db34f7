/* The filter 'preallocate': the file is longer than the filter while somebody writes, and never afterwards. */
#include "tests/unit/drivers/nodes.h"

#define AHEAD (4 * MIB)
#define BLOCK 4096

static struct blockdev_options preallocate_options(const char *node_name, const char *file, int64_t size)
{
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_PREALLOCATE,
        .node_name = node_name,
        .u.preallocate = { .file = by_name(file), .prealloc_align = MIB, .prealloc_size = size },
    };
}

static void add_ahead(void)
{
    make_file("a.img", 0);
    add(file_options("file", in_dir("a.img")));
    add(preallocate_options("ahead", "file", AHEAD));
}

static uint64_t size_of_file(void)
{
    struct stat st;
    expect(stat(in_dir("a.img"), &st) == 0);
    return (uint64_t)st.st_size;
}

static int append(struct handle *handle, uint64_t offset, size_t bytes, int fill)
{
    char *data = malloc(bytes);
    expect(data);
    memset(data, fill, bytes);
    int ret = append_bytes(handle, offset, data, bytes);
    free(data);
    return ret;
}

NODE_TEST(the_first_write_past_the_end_takes_storage)
{
    add_ahead();
    struct handle *handle = open_handle("ahead", READ_WRITE_RESIZE);
    expect_int(size_of_file(), 0);
    expect_int(append(handle, 0, 100, 1), 0);
    expect_int(node_length(node_find("ahead")), 100);
    expect_int(size_of_file(), AHEAD + MIB);
    expect_int(append(handle, 5 * MIB - 50, 50, 2), 0);
    expect_int(size_of_file(), AHEAD + MIB);
    expect_int(append(handle, 5 * MIB, 1, 3), 0);
    expect_int(size_of_file(), 5 * MIB + AHEAD + MIB);
    expect(reads_as(handle, 100, 5 * MIB - 150, 0) && reads_as(handle, 5 * MIB - 50, 50, 2));
    handle_close(handle);
    expect_int(size_of_file(), 5 * MIB + 1);
    expect_int(node_length(node_find("ahead")), 5 * MIB + 1);
}

NODE_TEST(whoever_may_not_change_the_length_takes_nothing)
{
    add_ahead();
    struct handle *handle = open_handle("ahead", READ_WRITE_RESIZE);
    expect_int(handle_resize(handle, MIB, TRUNCATE_SPARSE), 0);
    handle_close(handle);
    handle = open_handle("ahead", READ_WRITE);
    expect_int(put(handle, 0, MIB, 1), 0);
    expect_int(size_of_file(), MIB);
    struct handle *other = open_handle("file", READ_WRITE); /* the file is not the filter's alone */
    handle_close(other);
    handle_close(handle);
}

NODE_TEST(the_end_is_cut_off_before_the_length_changes)
{
    add_ahead();
    struct handle *handle = open_handle("ahead", READ_WRITE_RESIZE);
    expect_int(append(handle, 0, MIB, 1), 0);
    expect_int(handle_resize(handle, 1000, TRUNCATE_SPARSE), 0);
    expect_int(size_of_file(), 1000);
    expect_int(append(handle, 2000, 1, 2), 0);
    expect(reads_as(handle, 1000, 1000, 0));
    expect_int(handle_resize(handle, 3 * MIB, TRUNCATE_SPARSE), 0);
    expect_int(size_of_file(), 3 * MIB);
    expect(reads_as(handle, 2001, 3 * MIB - 2001, 0));
    expect_int(handle_pwrite_zeroes(handle, range_make(0, 3 * MIB), 0), 0);
    handle_close(handle);
    expect_int(size_of_file(), 3 * MIB);
}

NODE_TEST(while_it_works_it_has_the_file_to_itself)
{
    add_ahead();
    struct handle *handle = open_handle("ahead", READ_WRITE_RESIZE);
    expect_int(append(handle, 0, 1, 1), 0);
    struct handle *other;
    expect_error(handle_open(node_find("file"), "another", PERM_WRITE, PERM_ALL, &other), "does not share");
    handle_close(handle);
    other = open_handle("file", READ_WRITE_RESIZE);
    handle_close(other);
}

/* Writers on all loops, each with every WRITERS-th block, in the order in which an image grows. */
#define WRITERS 16
#define ROUNDS 100

struct writer {
    struct handle *handle;
    unsigned number;
    struct co_event done;
};

static void write_blocks(void *arg)
{
    struct writer *writer = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t offset = (uint64_t)(i * WRITERS + writer->number) * BLOCK;
        if (i % 10 == 9)
            expect_int(child_pwrite_zeroes(handle_edge(writer->handle), range_make(offset, BLOCK), 0), 0);
        else
            expect_int(append(writer->handle, offset, BLOCK, (int)writer->number + 1), 0);
    }
    co_event_set(&writer->done);
}

NODE_TEST(many_writers_make_it_grow)
{
    static struct writer writers[WRITERS];
    make_file("a.img", 0);
    add(file_options("file", in_dir("a.img")));
    add(preallocate_options("ahead", "file", MIB));
    struct handle *handle = open_handle("ahead", READ_WRITE_RESIZE);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){ .handle = handle, .number = i };
        co_event_init(&writers[i].done);
        co_start_on(loop_io(i % 2), "writer", write_blocks, &writers[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        co_event_wait(&writers[i].done, "a writer");
    expect_int(node_length(node_find("ahead")), WRITERS * ROUNDS * BLOCK);
    for (unsigned i = 0; i < WRITERS * ROUNDS; i++) {
        int fill = i / WRITERS % 10 == 9 ? 0 : (int)(i % WRITERS) + 1;
        expect(reads_as(handle, (uint64_t)i * BLOCK, BLOCK, fill));
    }
    handle_close(handle);
    expect_int(size_of_file(), WRITERS * ROUNDS * BLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_write_past_the_end_takes_storage),
        cmocka_unit_test(whoever_may_not_change_the_length_takes_nothing),
        cmocka_unit_test(the_end_is_cut_off_before_the_length_changes),
        cmocka_unit_test(while_it_works_it_has_the_file_to_itself),
        cmocka_unit_test(many_writers_make_it_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
