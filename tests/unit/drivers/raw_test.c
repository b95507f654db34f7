/* The driver 'raw': a node as it is, or a window of it. */
#include "tests/unit/drivers/nodes.h"

static struct blockdev_options raw_options(const char *node_name, const char *file)
{
    return with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_RAW,
        .node_name = node_name,
        .u.raw = { .file = by_name(file) },
    });
}

static struct blockdev_options window_options(const char *node_name, const char *file, int64_t offset, int64_t size)
{
    struct blockdev_options options = raw_options(node_name, file);
    options.u.raw.has_offset = offset != 0;
    options.u.raw.offset = offset;
    options.u.raw.has_size = size >= 0;
    options.u.raw.size = size;
    return options;
}

static void add_disk(uint64_t bytes)
{
    make_file("a.img", bytes);
    add(with_discard(file_options("disk", in_dir("a.img"))));
}

NODE_TEST(without_a_window_it_is_the_node_below)
{
    add_disk(MIB + 1);
    add(raw_options("raw", "disk"));
    expect_int(node_length(node_find("raw")), MIB + 1);
    expect_text(node_filename(node_find("raw")), in_dir("a.img"));
    struct handle *raw = open_handle("raw", READ_WRITE_RESIZE);
    struct handle *disk = open_handle("disk", READ);
    expect_int(put(raw, MIB, 1, 0x42), 0);
    expect(reads_as(disk, MIB, 1, 0x42));
    expect_int(handle_truncate(raw, 3 * MIB, TRUNCATE_SPARSE), 0);
    expect_int(node_length(node_find("disk")), 3 * MIB);
    expect_int(node_length(node_find("raw")), 3 * MIB);
    handle_close(disk);
    handle_close(raw);
}

NODE_TEST(it_is_as_long_as_the_node_below_becomes)
{
    add_disk(MIB);
    add(raw_options("raw", "disk"));
    struct handle *disk = open_handle("disk", READ_WRITE_RESIZE);
    expect_int(handle_truncate(disk, 2 * MIB, TRUNCATE_SPARSE), 0);
    expect_int(node_length(node_find("raw")), 2 * MIB);
    handle_close(disk);
}

NODE_TEST(a_window_shows_its_bytes_and_no_others)
{
    add_disk(MIB);
    add(window_options("raw", "disk", 1000, 2000));
    expect_int(node_length(node_find("raw")), 2000);
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct handle *raw = open_handle("raw", READ_WRITE);
    expect_int(put(disk, 0, MIB, 0x11), 0);
    expect_int(put(raw, 0, 2000, 0x22), 0);
    expect(reads_as(disk, 0, 1000, 0x11));
    expect(reads_as(disk, 1000, 2000, 0x22));
    expect(reads_as(disk, 3000, MIB - 3000, 0x11));
    expect_int(put(raw, 1999, 2, 0x33), -EINVAL);

    expect_int(handle_pwrite_zeroes(raw, range_make(0, 2000), 0), 0);
    expect(reads_as(disk, 0, 1000, 0x11));
    expect(reads_as(disk, 1000, 2000, 0));
    expect(reads_as(disk, 3000, MIB - 3000, 0x11));
    expect_int(handle_pdiscard(raw, range_make(0, 2000)), 0);
    expect(reads_as(disk, 3000, MIB - 3000, 0x11));
    handle_close(raw);
    handle_close(disk);
}

NODE_TEST(block_status_is_that_of_the_node_below_moved_by_the_offset)
{
    add_disk(4 * MIB);
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect_int(put(disk, MIB, MIB, 0x11), 0);
    add(raw_options("all", "disk"));
    add(window_options("window", "disk", 512 * KIB, MIB));
    add(window_options("tail", "disk", 512 * KIB, -1));
    struct handle *all = open_handle("all", READ);
    struct handle *window = open_handle("window", READ);
    struct handle *tail = open_handle("tail", READ);
    expect_text(map_text(all, ASK_ALL), "0+1024z@0 1024+1024d@1024 2048+2048z@2048");
    expect_text(map_text(window, ASK_ALL), "0+512z@512 512+512d@1024");
    expect_text(map_text(tail, ASK_ALL), "0+512z@512 512+1024d@1024 1536+2048z@2048");
    expect_text(map_text(window, ASK_ALLOCATED), "0+1024");
    handle_close(all);
    handle_close(window);
    handle_close(tail);
    handle_close(disk);
}

NODE_TEST(a_window_with_a_size_cannot_be_resized)
{
    add_disk(MIB);
    add(window_options("raw", "disk", 0, 4096));
    struct handle *raw = open_handle("raw", READ_WRITE_RESIZE);
    expect_int(handle_truncate(raw, 8192, TRUNCATE_SPARSE), -ENOTSUP);
    expect_int(node_length(node_find("raw")), 4096);
    expect_int(node_length(node_find("disk")), MIB);
    handle_close(raw);
}

NODE_TEST(a_window_up_to_the_end_moves_the_end)
{
    add_disk(MIB);
    add(window_options("raw", "disk", 4096, -1));
    struct handle *raw = open_handle("raw", READ_WRITE_RESIZE);
    expect_int(handle_truncate(raw, MIB, TRUNCATE_SPARSE), 0);
    expect_int(node_length(node_find("raw")), MIB);
    expect_int(node_length(node_find("disk")), MIB + 4096);
    handle_close(raw);
}

NODE_TEST(a_window_up_to_the_end_grows_by_what_is_written_past_it)
{
    add_disk(MIB);
    add(window_options("raw", "disk", 4096, -1));
    struct handle *raw = open_handle("raw", READ_WRITE_RESIZE);
    expect_int(append_bytes(raw, MIB, "end", 3), 0);
    expect_int(node_length(node_find("raw")), MIB + 3);
    expect_int(node_length(node_find("disk")), MIB + 4096 + 3);
    expect_int(child_pwrite_zeroes(handle_edge(raw), range_make(2 * MIB, 5), 0), 0);
    expect_int(node_length(node_find("raw")), 2 * MIB + 5);
    handle_close(raw);
}

NODE_TEST(a_window_with_a_size_takes_nothing_behind_it)
{
    add_disk(MIB);
    add(window_options("raw", "disk", 4096, 4096));
    struct handle *raw = open_handle("raw", READ_WRITE_RESIZE);
    char data[97] = "one byte too long";
    expect_int(append_bytes(raw, 4000, data, sizeof(data)), -ENOSPC);
    expect_int(child_pwrite_zeroes(handle_edge(raw), range_make(4096, 1), REQ_NO_FALLBACK), -ENOSPC);
    expect(reads_as(raw, 0, 4096, 0));
    handle_close(raw);
}

NODE_TEST(nobody_cuts_off_the_node_below_a_window)
{
    add_disk(MIB);
    add(window_options("raw", "disk", 4096, 4096));
    struct handle *handle;
    expect_error(handle_open(node_find("disk"), "the test", PERM_RESIZE, PERM_ALL, &handle),
                 "permission 'resize' on node 'disk'");
    expect_success(blockdev_del("raw"));
    expect_success(handle_open(node_find("disk"), "the test", PERM_RESIZE, PERM_ALL, &handle));
    handle_close(handle);
}

NODE_TEST(two_windows_side_by_side_are_written_at_once)
{
    add_disk(MIB);
    add(window_options("left", "disk", 0, 512 * KIB));
    add(window_options("right", "disk", 512 * KIB, 512 * KIB));
    struct handle *left = open_handle("left", READ_WRITE);
    struct handle *right = open_handle("right", READ_WRITE);
    struct handle *disk = open_handle("disk", READ);
    expect_int(put(left, 0, 512 * KIB, 1), 0);
    expect_int(put(right, 0, 512 * KIB, 2), 0);
    expect(reads_as(disk, 0, 512 * KIB, 1));
    expect(reads_as(disk, 512 * KIB, 512 * KIB, 2));
    handle_close(disk);
    handle_close(right);
    handle_close(left);
}

NODE_TEST(a_window_must_be_inside)
{
    add_disk(MIB);
    add_fails(window_options("raw", "disk", MIB + 1, -1), "offset: 1048577 is not inside the file of 1048576 bytes");
    add_fails(window_options("raw", "disk", 1, MIB), "size: 1048576 bytes from offset 1 on are not inside");
    add_fails(raw_options("raw", "nothing"), "nothing");
    add(window_options("empty", "disk", MIB, -1));
    expect_int(node_length(node_find("empty")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_window_it_is_the_node_below),
        cmocka_unit_test(it_is_as_long_as_the_node_below_becomes),
        cmocka_unit_test(a_window_shows_its_bytes_and_no_others),
        cmocka_unit_test(block_status_is_that_of_the_node_below_moved_by_the_offset),
        cmocka_unit_test(a_window_with_a_size_cannot_be_resized),
        cmocka_unit_test(a_window_up_to_the_end_moves_the_end),
        cmocka_unit_test(a_window_up_to_the_end_grows_by_what_is_written_past_it),
        cmocka_unit_test(a_window_with_a_size_takes_nothing_behind_it),
        cmocka_unit_test(nobody_cuts_off_the_node_below_a_window),
        cmocka_unit_test(two_windows_side_by_side_are_written_at_once),
        cmocka_unit_test(a_window_must_be_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
