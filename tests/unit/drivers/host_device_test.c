/* The driver 'host_device', on a loop device; only root may make one. */
#include "tests/unit/drivers/loop_device.h"
#include "tests/unit/drivers/nodes.h"

static struct blockdev_options device_options(const char *node_name, const char *filename)
{
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_HOST_DEVICE,
        .node_name = node_name,
        .has_discard = true,
        .discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP,
        .u.host_device = { .filename = filename },
    };
}

static void use_device(const struct blockdev_options *options)
{
    add(*options);
    struct node *node = node_find("disk");
    expect_int(node_length(node), 4 * MIB);
    struct handle *handle = open_handle("disk", READ_WRITE_RESIZE);
    expect_int(put(handle, 0, 4 * MIB, 0x11), 0);
    expect_int(put(handle, 1000, 3000, 0x22), 0);
    expect(reads_as(handle, 0, 1000, 0x11));
    expect(reads_as(handle, 1000, 3000, 0x22));
    expect_int(handle_flush(handle), 0);

    expect_int(handle_pwrite_zeroes(handle, range_make(MIB, MIB), 0), 0);
    expect_int(handle_pwrite_zeroes(handle, range_make(2 * MIB + 100, 1000), REQ_MAY_UNMAP), 0);
    expect_int(handle_pdiscard(handle, range_make(100, 100)), 0); /* no whole sector: nothing happens */
    expect_int(handle_pdiscard(handle, range_make(3 * MIB - 100, MIB + 100)), 0);
    expect(reads_as(handle, 4000, MIB - 4000, 0x11));
    expect(reads_as(handle, MIB, MIB, 0));
    expect(reads_as(handle, 2 * MIB, 100, 0x11));
    expect(reads_as(handle, 2 * MIB + 100, 1000, 0));
    expect(reads_as(handle, 2 * MIB + 1100, MIB - 1100, 0x11));
    expect(reads_as(handle, 3 * MIB, MIB, 0)); /* whole sectors are given back: a loop device punches a hole */

    expect_text(map_text(handle, ASK_ALL), "0+4096d@0");
    expect_int(handle_truncate(handle, MIB, TRUNCATE_SPARSE), -ENOTSUP);
    expect_int(handle_truncate(handle, 8 * MIB, TRUNCATE_SPARSE), -ENOTSUP);
    expect_int(handle_truncate(handle, 4 * MIB, TRUNCATE_SPARSE), 0);
    handle_close(handle);
    expect_success(blockdev_del("disk"));
}

NODE_TEST(a_block_device_is_storage_of_its_size)
{
    struct loop_device device;
    make_file("a.img", 4 * MIB);
    if (!loop_attach(&device, in_dir("a.img"), false))
        return;
    struct blockdev_options options = device_options("disk", device.path);
    use_device(&options);
    struct blockdev_cache_options cache = { .has_direct = true, .direct = true };
    options.cache = &cache;
    use_device(&options);
    close(device.fd);
}

NODE_TEST(a_device_that_grew_is_as_long_as_block_resize_says)
{
    struct loop_device device;
    make_file("a.img", 4 * MIB);
    if (!loop_attach(&device, in_dir("a.img"), false))
        return;
    add(device_options("disk", device.path));
    expect(truncate(in_dir("a.img"), 8 * MIB) == 0 && ioctl(device.fd, LOOP_SET_CAPACITY) == 0);
    struct handle *handle = open_handle("disk", READ_WRITE_RESIZE);
    expect_int(node_length(node_find("disk")), 4 * MIB);
    expect_int(handle_truncate(handle, 8 * MIB, TRUNCATE_SPARSE), 0);
    expect_int(node_length(node_find("disk")), 8 * MIB);
    handle_close(handle);
    close(device.fd);
}

NODE_TEST(a_device_that_is_read_only_is_not_opened_for_writing)
{
    struct loop_device device;
    make_file("a.img", 4 * MIB);
    if (!loop_attach(&device, in_dir("a.img"), true))
        return;
    struct blockdev_options options = device_options("disk", device.path);
    add_fails(options, "device is read-only");
    options.has_auto_read_only = options.auto_read_only = true;
    add(options);
    expect(node_is_read_only(node_find("disk")));
    close(device.fd);
}

NODE_TEST(regular_files_are_no_devices)
{
    make_file("a.img", 4 * MIB);
    add_fails(device_options("disk", in_dir("a.img")),
              "is a regular file; this driver needs a block or character device");
}

NODE_TEST(a_character_device_can_be_opened)
{
    add(device_options("disk", "/dev/zero"));
    expect_int(node_length(node_find("disk")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_device_is_storage_of_its_size),
        cmocka_unit_test(a_device_that_grew_is_as_long_as_block_resize_says),
        cmocka_unit_test(a_device_that_is_read_only_is_not_opened_for_writing),
        cmocka_unit_test(regular_files_are_no_devices),
        cmocka_unit_test(a_character_device_can_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
