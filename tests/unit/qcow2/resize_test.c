/* Changing the length: whatever lay behind the old end, what is added reads as zeroes. */
#include "blockcore/base/endian.h"
#include "tests/unit/qcow2/images.h"

struct disk {
    struct handle *handle;
    unsigned char *bytes;
    size_t length;
};

#define BYTES_MAX (8 * MIB)

static struct disk open_disk(size_t length)
{
    add_image("disk", in_dir("a.qcow2"));
    struct disk disk = { open_handle("disk", READ_WRITE_RESIZE), calloc(1, BYTES_MAX), length };
    expect(disk.bytes);
    expect_int(node_length(node_find("disk")), length);
    return disk;
}

static void close_disk(struct disk *disk)
{
    expect_content(disk->handle, disk->bytes, disk->length);
    handle_close(disk->handle);
    remove_image("disk");
    check_image("a.qcow2");
    save("model.raw", disk->bytes, disk->length);
    qemu_img("compare -q -f qcow2 -F raw '%s' '%s'", in_dir("a.qcow2"), in_dir("model.raw"));
    free(disk->bytes);
}

static void write_disk(struct disk *disk, size_t offset, size_t bytes, int fill)
{
    memset(disk->bytes + offset, fill, bytes);
    expect_int(put(disk->handle, offset, bytes, fill), 0);
}

static void resize(struct disk *disk, size_t length)
{
    expect_int(handle_truncate(disk->handle, length, TRUNCATE_SPARSE), 0);
    if (length < disk->length)
        memset(disk->bytes + length, 0, disk->length - length);
    disk->length = length;
    expect_int(node_length(node_find("disk")), length);
    expect_content(disk->handle, disk->bytes, length);
}

NODE_TEST(growing_needs_a_longer_l1_table)
{
    qemu_img("create -q -f qcow2 -o cluster_size=512 '%s' 64k", in_dir("a.qcow2"));
    struct disk disk = open_disk(65536);
    write_disk(&disk, 0, 65536, 1);
    for (size_t length = 2 * 65536; length <= BYTES_MAX; length *= 2) {
        resize(&disk, length);
        write_disk(&disk, length - 10000, 10000, 2);
    }
    close_disk(&disk);
}

NODE_TEST(what_was_cut_off_does_not_come_back)
{
    static const char *const options[] = { "cluster_size=512",
                                           "cluster_size=4096",
                                           "cluster_size=65536",
                                           "cluster_size=65536,compat=0.10",
                                           "cluster_size=65536,extended_l2=on",
                                           "cluster_size=16384,extended_l2=on" };
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        qemu_img("create -q -f qcow2 -o %s '%s' 4M", options[i], in_dir("a.qcow2"));
        struct disk disk = open_disk(4 * MIB);
        write_disk(&disk, 0, 4 * MIB, 3);
        resize(&disk, MIB + 512);
        resize(&disk, 6 * MIB);
        write_disk(&disk, 5 * MIB, 1000, 4);
        resize(&disk, 512);
        resize(&disk, 2 * MIB);
        resize(&disk, 0);
        resize(&disk, 3 * MIB);
        close_disk(&disk);
    }
}

/* An image that another program made shorter may have kept what was behind the end. */
NODE_TEST(what_another_program_cut_off_does_not_come_back)
{
    qemu_img("create -q -f qcow2 '%s' 4M", in_dir("a.qcow2"));
    struct disk disk = open_disk(4 * MIB);
    write_disk(&disk, 0, 4 * MIB, 5);
    close_disk(&disk);
    qemu_img("resize -q --shrink '%s' 1049088", in_dir("a.qcow2")); /* 1 MiB + 512 */
    disk = open_disk(MIB + 512);
    memset(disk.bytes, 5, MIB + 512);
    resize(&disk, 4 * MIB);
    close_disk(&disk);
}

NODE_TEST(a_longer_backing_file_does_not_show)
{
    static const char *const options[] = { "cluster_size=4096", "cluster_size=65536", "cluster_size=4096,compat=0.10",
                                           "cluster_size=65536,extended_l2=on" };
    unsigned char *base = malloc(3 * MIB);
    expect(base);
    memset(base, 6, 3 * MIB);
    save("base.raw", base, 3 * MIB);
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        qemu_img("create -q -f qcow2 -b base.raw -F raw -o %s '%s' 1049088", options[i], in_dir("a.qcow2"));
        struct disk disk = open_disk(MIB + 512);
        memset(disk.bytes, 6, MIB + 512);
        resize(&disk, 2 * MIB + 1024);
        resize(&disk, 5 * MIB);
        resize(&disk, MIB);
        resize(&disk, 3 * MIB);
        close_disk(&disk);
    }
    free(base);
}

NODE_TEST(space_is_taken_in_advance_when_asked)
{
    qemu_img("create -q -f qcow2 '%s' 1M", in_dir("a.qcow2"));
    struct disk disk = open_disk(MIB);
    expect_int(handle_truncate(disk.handle, 3 * MIB, TRUNCATE_FALLOC), 0);
    expect_int(handle_truncate(disk.handle, 5 * MIB, TRUNCATE_FULL), 0);
    disk.length = 5 * MIB;
    expect_text(map_text(disk.handle, ASK_ALLOCATED | ASK_MAP), "0+1024 1024+4096d@320");
    close_disk(&disk);
    struct stat st;
    expect(stat(in_dir("a.qcow2"), &st) == 0 && st.st_blocks * 512 >= 4 * MIB);
}

static void resize_under_a_snapshot(const char *options)
{
    unlink(in_dir("a.qcow2"));
    qemu_img("create -q -f qcow2 -o %s '%s' 2M", options, in_dir("a.qcow2"));
    struct disk disk = open_disk(2 * MIB);
    write_disk(&disk, 0, 2 * MIB, 7);
    close_disk(&disk);
    qemu_img("snapshot -c before '%s'", in_dir("a.qcow2"));
    disk = open_disk(2 * MIB);
    memset(disk.bytes, 7, 2 * MIB);
    resize(&disk, MIB);
    resize(&disk, 8 * MIB);
    write_disk(&disk, 0, 8 * MIB, 8);
    close_disk(&disk);
    qemu_img("snapshot -a before '%s'", in_dir("a.qcow2"));
    disk = open_disk(2 * MIB);
    memset(disk.bytes, 7, 2 * MIB);
    close_disk(&disk);
}

NODE_TEST(snapshots_keep_what_they_have)
{
    resize_under_a_snapshot("cluster_size=4096");
    resize_under_a_snapshot("cluster_size=65536,extended_l2=on");
}

/* The power went after the header said that the disk is shorter, and before entries behind its end were dropped. */
NODE_TEST(what_a_power_cut_left_behind_the_end_goes_when_the_image_is_opened)
{
    static const char *const options[] = { "cluster_size=512", "cluster_size=4096", "cluster_size=65536",
                                           "cluster_size=16384,extended_l2=on" };
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        qemu_img("create -q -f qcow2 -o %s '%s' 4M", options[i], in_dir("a.qcow2"));
        struct disk disk = open_disk(4 * MIB);
        write_disk(&disk, 0, 4 * MIB, 3);
        close_disk(&disk);
        unsigned char size[8];
        store_be64(size, MIB + 512);
        int fd = open(in_dir("a.qcow2"), O_RDWR | O_CLOEXEC);
        expect(fd >= 0 && pwrite(fd, size, sizeof(size), 24) == sizeof(size));
        close(fd);
        disk = open_disk(MIB + 512);
        memset(disk.bytes, 3, MIB + 512);
        close_disk(&disk);
        /* Another program makes it longer without a look at what is there. */
        qemu_img("resize -q '%s' 4M", in_dir("a.qcow2"));
        disk = open_disk(4 * MIB);
        memset(disk.bytes, 3, MIB + 512);
        expect_content(disk.handle, disk.bytes, MIB + 512);
        expect(reads_as(disk.handle, 2 * MIB, 2 * MIB, 0));
        handle_close(disk.handle);
        remove_image("disk");
        free(disk.bytes);
    }
}

NODE_TEST(space_taken_in_advance_shows_what_is_below_no_longer)
{
    unsigned char *base = malloc(4 * MIB);
    expect(base);
    memset(base, 6, 4 * MIB);
    save("base.raw", base, 4 * MIB);
    qemu_img("create -q -f qcow2 -b base.raw -F raw -o extended_l2=on '%s' 1049088", in_dir("a.qcow2"));
    struct disk disk = open_disk(MIB + 512);
    memset(disk.bytes, 6, MIB + 512);
    expect_int(handle_truncate(disk.handle, 3 * MIB, TRUNCATE_FALLOC), 0);
    expect_int(handle_truncate(disk.handle, 5 * MIB, TRUNCATE_FULL), 0);
    disk.length = 5 * MIB;
    close_disk(&disk);
    free(base);
}

NODE_TEST(what_cannot_be_is_refused)
{
    qemu_img("create -q -f qcow2 -o cluster_size=512,compat=0.10 '%s' 1M", in_dir("a.qcow2"));
    struct disk disk = open_disk(MIB);
    expect_int(handle_truncate(disk.handle, MIB + 1, TRUNCATE_SPARSE), -EINVAL);
    expect_int(handle_truncate(disk.handle, UINT64_C(1) << 40, TRUNCATE_SPARSE), -EFBIG);
    expect_int(handle_truncate(disk.handle, 512, TRUNCATE_FULL), -ENOTSUP);
    close_disk(&disk);
    qemu_img("snapshot -c first '%s'", in_dir("a.qcow2"));
    disk = open_disk(MIB);
    expect_int(handle_truncate(disk.handle, 2 * MIB, TRUNCATE_SPARSE), -ENOTSUP);
    close_disk(&disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growing_needs_a_longer_l1_table),
        cmocka_unit_test(what_was_cut_off_does_not_come_back),
        cmocka_unit_test(what_another_program_cut_off_does_not_come_back),
        cmocka_unit_test(a_longer_backing_file_does_not_show),
        cmocka_unit_test(space_is_taken_in_advance_when_asked),
        cmocka_unit_test(snapshots_keep_what_they_have),
        cmocka_unit_test(what_a_power_cut_left_behind_the_end_goes_when_the_image_is_opened),
        cmocka_unit_test(space_taken_in_advance_shows_what_is_below_no_longer),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
