/* Compressed clusters: how they are stored, and what happens to them afterwards. qemu-img is the witness. */
#include "tests/unit/qcow2/images.h"

#define CLUSTER 65536
#define DISK (4 * MIB)

static struct handle *open_disk(void)
{
    add_image("disk", in_dir("a.qcow2"));
    return open_handle("disk", READ_WRITE);
}

/* The image is sound and reads as these bytes, for qemu-img as well. */
static void close_disk(struct handle *disk, const unsigned char *expected, size_t bytes)
{
    expect_content(disk, expected, bytes);
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
    save("expected.raw", expected, bytes);
    qemu_img("compare -q -f qcow2 -F raw '%s' '%s'", in_dir("a.qcow2"), in_dir("expected.raw"));
}

static size_t bytes_of_image(void)
{
    struct stat st;
    expect(stat(in_dir("a.qcow2"), &st) == 0);
    return (size_t)st.st_size;
}

/* Text: about a third of its size when it is packed. */
static unsigned char *make_text(size_t bytes)
{
    static const char *const words[] = {
        "node ", "driver ", "child ", "edge ", "role ", "filter ", "overlay ", "base "
    };
    unsigned char *text = malloc(bytes + 16);
    expect(text);
    for (size_t at = 0; at < bytes;)
        at += (size_t)sprintf((char *)text + at, "%s", words[random_below(ARRAY_SIZE(words))]);
    return text;
}

static void write_and_compare(const char *create, size_t disk_bytes)
{
    random_seed(disk_bytes);
    unsigned char *text = make_text(disk_bytes);
    qemu_img("create -q -f qcow2 -o %s '%s' %zu", create, in_dir("a.qcow2"), disk_bytes);
    struct handle *disk = open_disk();
    expect_int(put_compressed(disk, 0, text, disk_bytes), 0);
    close_disk(disk, text, disk_bytes);
    disk = open_disk();
    close_disk(disk, text, disk_bytes);
    free(text);
}

NODE_TEST(what_is_written_compressed_is_read_by_everybody)
{
    static const char *const shapes[] = {
        "cluster_size=65536",
        "cluster_size=65536,compression_type=zstd",
        "cluster_size=512",
        "cluster_size=512,compression_type=zstd",
        "cluster_size=2M",
        "cluster_size=2M,compression_type=zstd",
        "cluster_size=4096,compat=0.10",
        "cluster_size=4096,refcount_bits=1",
        "cluster_size=4096,refcount_bits=2",
        "cluster_size=4096,refcount_bits=64",
    };
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
        write_and_compare(shapes[i], DISK / 2);
    write_and_compare("cluster_size=65536", MIB + 1536);
}

NODE_TEST(packed_clusters_lie_side_by_side)
{
    unsigned char *text = make_text(DISK);
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk = open_disk();
    expect_int(put_compressed(disk, 0, text, DISK), 0);
    close_disk(disk, text, DISK);
    size_t ours = bytes_of_image();
    qemu_img("convert -q -c -O qcow2 -f raw '%s' '%s'", in_dir("expected.raw"), in_dir("a.qcow2"));
    size_t theirs = bytes_of_image();
    expect(ours < DISK / 2);
    expect(ours <= theirs + 2 * CLUSTER);
    free(text);
}

/* Two hundred clusters of nothing but sevens: all of them in one host cluster, while one bit can count only one. */
NODE_TEST(a_host_cluster_has_as_many_users_as_its_refcount_can_say)
{
    unsigned char *sevens = malloc(DISK);
    expect(sevens);
    memset(sevens, 7, DISK);
    qemu_img("create -q -f qcow2 -o refcount_bits=16 '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk = open_disk();
    expect_int(put_compressed(disk, 0, sevens, DISK), 0);
    close_disk(disk, sevens, DISK);
    size_t shared = bytes_of_image();
    expect(shared <= 6 * CLUSTER);

    qemu_img("create -q -f qcow2 -o refcount_bits=1 '%s' %d", in_dir("a.qcow2"), DISK);
    disk = open_disk();
    expect_int(put_compressed(disk, 0, sevens, DISK), 0);
    close_disk(disk, sevens, DISK);
    expect(bytes_of_image() >= DISK);
    free(sevens);
}

NODE_TEST(what_does_not_shrink_is_written_plainly)
{
    unsigned char *noise = malloc(DISK);
    expect(noise);
    random_seed(1);
    fill_noise(noise, DISK);
    memset(noise + 3 * CLUSTER, 5, CLUSTER);
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk = open_disk();
    expect_int(put_compressed(disk, 0, noise, DISK), 0);
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 10);
    expect_int(handle_block_status(disk, range_make(0, DISK), ASK_ALL, NULL, false, &extents), 0);
    for (size_t i = 0; i < extents.count; i++) {
        bool packed = extents.items[i].offset == 3 * CLUSTER;
        expect(!(extents.items[i].flags & EXTENT_COMPRESSED) == !packed);
    }
    close_disk(disk, noise, DISK);
    free(noise);
}

NODE_TEST(only_whole_clusters_are_compressed)
{
    unsigned char *text = make_text(2 * CLUSTER);
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("a.qcow2"), CLUSTER + 1024);
    struct handle *disk = open_disk();
    expect_int(put_compressed(disk, 512, text, CLUSTER), -EINVAL);
    expect_int(put_compressed(disk, 0, text, 512), -EINVAL);
    expect_int(put_compressed(disk, CLUSTER, text, 512), -EINVAL);
    expect_int(put_compressed(disk, 0, text, CLUSTER), 0);
    expect_int(put_compressed(disk, CLUSTER, text + CLUSTER, 1024), 0);
    close_disk(disk, text, CLUSTER + 1024);
    free(text);
}

/* The same clusters, in every order of plain, packed, zero and discarded. */
NODE_TEST(packed_clusters_are_overwritten)
{
    unsigned char *bytes = calloc(1, DISK);
    unsigned char *noise = malloc(CLUSTER);
    expect(bytes && noise);
    random_seed(2);
    fill_noise(noise, CLUSTER);
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk = open_disk();
    for (int i = 0; i < 400; i++) {
        uint64_t at = random_below(DISK / CLUSTER) * CLUSTER;
        int fill = 1 + (int)random_below(250);
        switch (random_below(6)) {
        case 0:
            memset(bytes + at + 512, fill, 4096);
            expect_int(put(disk, at + 512, 4096, fill), 0);
            break;
        case 1:
            memset(bytes + at, 0, CLUSTER);
            expect_int(handle_pdiscard(disk, range_make(at, CLUSTER)), 0);
            break;
        case 2:
            memset(bytes + at, 0, CLUSTER);
            expect_int(handle_pwrite_zeroes(disk, range_make(at, CLUSTER), REQ_MAY_UNMAP), 0);
            break;
        case 3:
            memcpy(bytes + at, noise, CLUSTER);
            expect_int(put_compressed(disk, at, noise, CLUSTER), 0);
            break;
        default:
            memset(bytes + at, fill, CLUSTER);
            expect_int(put_compressed(disk, at, bytes + at, CLUSTER), 0);
        }
        if (random_below(30) == 0)
            expect_int(handle_flush(disk), 0);
    }
    close_disk(disk, bytes, DISK);
    free(bytes);
    free(noise);
}

/* Space that everybody has left is used again, by packed clusters and by others. */
NODE_TEST(overwriting_for_ever_does_not_grow_the_image)
{
    unsigned char *text = make_text(DISK);
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk = open_disk();
    expect_int(put_compressed(disk, 0, text, DISK), 0);
    size_t once = bytes_of_image();
    for (int i = 0; i < 12; i++) {
        expect_int(put_compressed(disk, 0, text, DISK), 0);
        expect_int(handle_flush(disk), 0);
        expect_int(handle_flush(disk), 0);
    }
    close_disk(disk, text, DISK);
    expect(bytes_of_image() <= 3 * once);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_compressed_is_read_by_everybody),
        cmocka_unit_test(packed_clusters_lie_side_by_side),
        cmocka_unit_test(a_host_cluster_has_as_many_users_as_its_refcount_can_say),
        cmocka_unit_test(what_does_not_shrink_is_written_plainly),
        cmocka_unit_test(only_whole_clusters_are_compressed),
        cmocka_unit_test(packed_clusters_are_overwritten),
        cmocka_unit_test(overwriting_for_ever_does_not_grow_the_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
