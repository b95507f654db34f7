/* Changing the length: whatever lay behind the old end, what is added reads as zeroes. */
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
    static const char *const options[] = { "cluster_size=512", "cluster_size=4096", "cluster_size=65536",
                                           "cluster_size=65536,compat=0.10" };
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
    static const char *const options[] = { "cluster_size=4096", "cluster_size=65536", "cluster_size=4096,compat=0.10" };
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

NODE_TEST(snapshots_keep_what_they_have)
{
    qemu_img("create -q -f qcow2 -o cluster_size=4096 '%s' 2M", in_dir("a.qcow2"));
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
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
