/* Images that qemu-img made, with every option that matters, read, written and left clean; and those that are refused,
 * with words that say why. */
#include "tests/unit/qcow2/images.h"

#include "blockcore/base/endian.h"

#define BYTES (3 * MIB + 512)

/* Compressible, but not the same anywhere. */
static unsigned char *content(void)
{
    unsigned char *data = calloc(1, BYTES);
    expect(data);
    for (size_t i = 0; i < BYTES; i += 8) {
        uint64_t value = i / 300000 % 2 ? i / 64 : 0;
        memcpy(data + i, &value, sizeof(value));
    }
    return data;
}

/* Converts the content, reads it, changes some of it, and has qemu-img look at it. */
static void read_and_change(const char *arguments)
{
    unsigned char *data = content();
    save("content.raw", data, BYTES);
    qemu_img("convert -q -f raw -O qcow2 %s '%s' '%s'", arguments, in_dir("content.raw"), in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect_content(disk, data, BYTES);
    for (size_t at = 100; at < BYTES; at += 400000) {
        size_t bytes = min_u64(5000, BYTES - at);
        memset(data + at, 0x77, bytes);
        expect_int(put_bytes(disk, at, data + at, bytes), 0);
    }
    expect_content(disk, data, BYTES);
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
    save("content.raw", data, BYTES);
    qemu_img("compare -q -f raw -F qcow2 '%s' '%s'", in_dir("content.raw"), in_dir("a.qcow2"));
    free(data);
}

NODE_TEST(plain_images)
{
    read_and_change("-o compat=1.1");
    read_and_change("-o compat=0.10");
    read_and_change("-o cluster_size=512");
    read_and_change("-o cluster_size=2M");
    read_and_change("-o lazy_refcounts=on");
    read_and_change("-o refcount_bits=1");
    read_and_change("-o refcount_bits=2");
    read_and_change("-o refcount_bits=32");
}

NODE_TEST(images_with_subclusters)
{
    read_and_change("-o extended_l2=on");
    read_and_change("-o extended_l2=on,cluster_size=16384");
    read_and_change("-o extended_l2=on,cluster_size=2M");
    read_and_change("-o extended_l2=on,preallocation=metadata");
    read_and_change("-o extended_l2=on,preallocation=full");
    read_and_change("-c -o extended_l2=on");
    read_and_change("-c -o extended_l2=on,cluster_size=16384,compression_type=zstd");
}

NODE_TEST(preallocated_images)
{
    read_and_change("-o preallocation=metadata");
    read_and_change("-o preallocation=falloc");
    read_and_change("-o preallocation=full");
}

NODE_TEST(compressed_images)
{
    read_and_change("-c -o cluster_size=512");
    read_and_change("-c -o cluster_size=4096");
    read_and_change("-c -o cluster_size=65536");
    read_and_change("-c -o cluster_size=2M");
    read_and_change("-c -o compat=0.10");
    read_and_change("-c -o compression_type=zstd");
    read_and_change("-c -o compression_type=zstd,cluster_size=4096");
}

/* Reading after a write must not disturb neighbours that share a host cluster with what was overwritten. */
NODE_TEST(each_compressed_cluster_can_be_overwritten_alone)
{
    unsigned char *data = content();
    save("content.raw", data, BYTES);
    qemu_img("convert -q -c -f raw -O qcow2 -o cluster_size=4096 '%s' '%s'", in_dir("content.raw"), in_dir("a.qcow2"));
    for (int round = 0; round < 3; round++) {
        add_image("disk", in_dir("a.qcow2"));
        struct handle *disk = open_handle("disk", READ_WRITE);
        for (size_t at = (size_t)round * 4096; at < MIB; at += 3 * 4096) {
            memset(data + at + 100, 0x30 + round, 100);
            expect_int(put_bytes(disk, at + 100, data + at + 100, 100), 0);
        }
        expect_content(disk, data, BYTES);
        handle_close(disk);
        remove_image("disk");
        check_image("a.qcow2");
    }
    free(data);
}

NODE_TEST(unknown_header_extensions_and_names_stay)
{
    qemu_img("create -q -f qcow2 '%s' 1M", in_dir("a.qcow2"));
    unsigned char header[65536];
    unsigned char after[65536];
    int fd = open(in_dir("a.qcow2"), O_RDWR | O_CLOEXEC);
    expect(pread(fd, header, sizeof(header), 0) == sizeof(header));
    /* Before all others, which move behind it. */
    memmove(header + 112 + 24, header + 112, 2000);
    store_be32(header + 112, 0xabcdef01);
    store_be32(header + 116, 16);
    memset(header + 120, 0x5a, 16);
    expect(pwrite(fd, header, sizeof(header), 0) == sizeof(header));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE_RESIZE);
    expect_int(put(disk, 0, MIB, 1), 0);
    expect_int(handle_truncate(disk, 64 * MIB, TRUNCATE_SPARSE), 0);
    /* There, and back again. */
    expect_success(qcow2_driver.change_backing_file(node_find("disk"), "base.raw", "raw"));
    expect_success(qcow2_driver.change_backing_file(node_find("disk"), NULL, NULL));
    handle_close(disk);
    remove_image("disk");
    expect(pread(fd, after, sizeof(after), 0) == sizeof(after));
    expect(memcmp(header + 112, after + 112, sizeof(header) - 112) == 0);
    close(fd);
    check_image("a.qcow2");
}

static void set_field(const char *name, off_t at, uint64_t value)
{
    unsigned char field[8];
    store_be64(field, value);
    int fd = open(in_dir(name), O_WRONLY | O_CLOEXEC);
    expect(fd >= 0 && pwrite(fd, field, sizeof(field), at) == sizeof(field));
    close(fd);
}

static uint64_t get_field(const char *name, off_t at)
{
    unsigned char field[8];
    int fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
    expect(fd >= 0 && pread(fd, field, sizeof(field), at) == sizeof(field));
    close(fd);
    return load_be64(field);
}

NODE_TEST(promises_are_taken_back_before_the_first_write)
{
    qemu_img("create -q -f qcow2 '%s' 1M", in_dir("a.qcow2"));
    qemu_img("bitmap --add '%s' changes", in_dir("a.qcow2"));
    set_field("a.qcow2", 88, UINT64_C(1) << 40 | 1);
    add(read_only(image_options("disk", in_dir("a.qcow2"))));
    remove_image("disk");
    expect_int(get_field("a.qcow2", 88), UINT64_C(1) << 40 | 1);
    add_image("disk", in_dir("a.qcow2"));
    expect_int(get_field("a.qcow2", 88), 1);
    remove_image("disk");
}

NODE_TEST(a_dirty_image_is_repaired_before_it_is_written)
{
    qemu_img("create -q -f qcow2 -o lazy_refcounts=on '%s' 1M", in_dir("a.qcow2"));
    set_field("a.qcow2", 72, 1);
    add(read_only(image_options("disk", in_dir("a.qcow2"))));
    struct handle *disk = open_handle("disk", READ);
    expect(reads_as(disk, 0, MIB, 0));
    handle_close(disk);
    remove_image("disk");
    expect_int(get_field("a.qcow2", 72), 1);
    add_image("disk", in_dir("a.qcow2"));
    expect_int(get_field("a.qcow2", 72), 0);
    remove_image("disk");
    check_image("a.qcow2");
}

NODE_TEST(a_corrupt_image_is_for_reading)
{
    qemu_img("create -q -f qcow2 '%s' 1M", in_dir("a.qcow2"));
    set_field("a.qcow2", 72, 2);
    add_fails(image_options("disk", in_dir("a.qcow2")), "marked as corrupt");
    add(read_only(image_options("disk", in_dir("a.qcow2"))));
}

/* qemu-img measures its own speed for that, and now and then gives up ("Unable to get accurate CPU usage"). */
static void make_encrypted(const char *name)
{
    int tries = 0;
    while (try_qemu_img("create -q --object secret,id=s,data=x -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,"
                        "encrypt.iter-time=10 '%s' 1M",
                        in_dir(name)) != 0)
        expect(++tries < 20);
}

NODE_TEST(what_is_not_supported_is_named)
{
    make_encrypted("c.qcow2");
    add_fails(image_options("disk", in_dir("c.qcow2")), "encrypted");
    qemu_img("create -q -f qcow2 '%s' 1M", in_dir("d.qcow2"));
    set_field("d.qcow2", 72, UINT64_C(1) << 50);
    add_fails(image_options("disk", in_dir("d.qcow2")), "'incompatible feature bit 50'");
}

/* Files that are no images ------------------------------------------------------------------------------------- */

NODE_TEST(what_is_no_image_is_refused)
{
    save("a.qcow2", "", 0);
    add_fails(image_options("disk", in_dir("a.qcow2")), "not a qcow2 image");
    make_file("a.qcow2", MIB);
    add_fails(image_options("disk", in_dir("a.qcow2")), "not a qcow2 image");
    add_fails(image_options("disk", in_dir("missing.qcow2")), "No such file");
}

NODE_TEST(an_image_that_is_cut_off_is_refused)
{
    qemu_img("create -q -f qcow2 '%s' 1G", in_dir("a.qcow2"));
    struct stat st;
    expect(stat(in_dir("a.qcow2"), &st) == 0);
    for (off_t bytes = st.st_size - 1; bytes > 0; bytes -= 4000) {
        expect(truncate(in_dir("a.qcow2"), bytes) == 0);
        struct blockdev_options options = image_options("disk", in_dir("a.qcow2"));
        struct error *err = blockdev_add(&options);
        expect(err);
        error_free(err);
    }
}

/* Data behind the end of a file that was cut off is no zeroes: it is missing. */
NODE_TEST(clusters_that_are_cut_off_cannot_be_read)
{
    unsigned char *data = content();
    save("content.raw", data, BYTES);
    qemu_img("convert -q -f raw -O qcow2 '%s' '%s'", in_dir("content.raw"), in_dir("a.qcow2"));
    struct stat st;
    expect(stat(in_dir("a.qcow2"), &st) == 0);
    expect(truncate(in_dir("a.qcow2"), st.st_size - 200000) == 0);
    add(read_only(image_options("disk", in_dir("a.qcow2"))));
    struct handle *disk = open_handle("disk", READ);
    expect_int(get_bytes(disk, 300000, data, 4096), 0);
    expect_int(get_bytes(disk, 2900000, data, 60000), -EIO);
    expect_int(get_bytes(disk, 2700000, data, 260000), -EIO); /* its first clusters are there */
    handle_close(disk);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_images),
        cmocka_unit_test(images_with_subclusters),
        cmocka_unit_test(preallocated_images),
        cmocka_unit_test(compressed_images),
        cmocka_unit_test(each_compressed_cluster_can_be_overwritten_alone),
        cmocka_unit_test(unknown_header_extensions_and_names_stay),
        cmocka_unit_test(promises_are_taken_back_before_the_first_write),
        cmocka_unit_test(a_dirty_image_is_repaired_before_it_is_written),
        cmocka_unit_test(a_corrupt_image_is_for_reading),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(what_is_no_image_is_refused),
        cmocka_unit_test(an_image_that_is_cut_off_is_refused),
        cmocka_unit_test(clusters_that_are_cut_off_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
