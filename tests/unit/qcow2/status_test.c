/* What an image says of its ranges. */
#include "tests/unit/qcow2/images.h"

#define CLUSTER 65536

/* Three clusters each of: nothing, data, zeroes, zeroes that keep their place. */
static struct handle *make_disk(const char *create)
{
    qemu_img("create -q -f qcow2 %s '%s' 1M", create, in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect_int(put(disk, 3 * CLUSTER, 3 * CLUSTER, 1), 0);
    expect_int(handle_pwrite_zeroes(disk, range_make(6 * CLUSTER, 3 * CLUSTER), REQ_MAY_UNMAP), 0);
    expect_int(put(disk, 9 * CLUSTER, 3 * CLUSTER, 1), 0);
    expect_int(handle_pwrite_zeroes(disk, range_make(9 * CLUSTER, 3 * CLUSTER), 0), 0);
    return disk;
}

/* Header, refcount table, refcount block, L1, and one L2 table are before the data. */
NODE_TEST(each_kind_of_cluster_is_told)
{
    struct handle *disk = make_disk("");
    expect_text(map_text(disk, ASK_MAP), "0+192 192+192d@320 384+192 576+192@512 768+256");
    expect_text(map_text(disk, ASK_ZERO), "0+192z 192+192 384+640z");
    handle_close(disk);
}

/* The layer itself: @depth and allocation as the overlay chain has them. */
static void expect_allocation(struct handle *disk, uint64_t at, uint64_t bytes, bool allocated, unsigned depth)
{
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 100);
    expect_int(handle_block_status(disk, range_make(at, bytes), ASK_ALLOCATED, NULL, false, &extents), 0);
    expect_int(extents.count, 1);
    expect_int(extents.items[0].bytes, bytes);
    expect_int((extents.items[0].flags & EXTENT_PRESENT) != 0, allocated);
    if (allocated)
        expect_int(extents.items[0].depth, depth);
}

NODE_TEST(what_the_overlay_has_not_is_the_backing_files)
{
    unsigned char data[2 * CLUSTER] = { 1 };
    save("base.raw", data, sizeof(data));
    struct handle *disk = make_disk("-b base.raw -F raw");
    expect_allocation(disk, 0, 2 * CLUSTER, true, 1);
    expect_allocation(disk, 3 * CLUSTER, 9 * CLUSTER, true, 0);
    handle_close(disk);
}

#define LARGE (2 * MIB)
#define LARGE_COUNT 40
#define PIECE 4096

/* Writes large clusters from the last one to the first; where the first one lies. */
static uint64_t write_backwards(void)
{
    struct handle *disk = open_handle("disk", READ_WRITE);
    for (unsigned i = LARGE_COUNT; i-- > 0;)
        expect_int(put(disk, i * LARGE, 1, 1), 0);
    expect_int(handle_flush(disk), 0);
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 1);
    expect_int(handle_block_status(disk, range_make(0, 1), ASK_MAP, NULL, false, &extents), 0);
    handle_close(disk);
    return extents.items[0].file_offset;
}

/* A disk that was written from its end to its begin, in a file in which every second piece is a hole: more pieces than
 * are looked for at a time, in an order that is not that of the file. */
NODE_TEST(a_disk_written_backwards_in_a_file_full_of_holes)
{
    qemu_img("create -q -f qcow2 -o cluster_size=2M '%s' %d", in_dir("a.qcow2"), LARGE_COUNT * LARGE);
    add_image("disk", in_dir("a.qcow2"));
    uint64_t last = write_backwards();
    remove_image("disk");
    CLEANUP(close_fd) int fd = open(in_dir("a.qcow2"), O_RDWR | O_CLOEXEC);
    expect(fd >= 0 && ftruncate(fd, (off_t)(last + LARGE)) == 0);
    for (uint64_t at = last + LARGE - LARGE_COUNT * LARGE; at < last + LARGE; at += 2 * PIECE)
        expect(pwrite(fd, "x", 1, (off_t)at) == 1);

    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, LARGE_COUNT * LARGE / PIECE + 1);
    expect_int(handle_block_status(disk, range_make(0, LARGE_COUNT * LARGE), ASK_ALL, NULL, false, &extents), 0);
    expect_int(extents.count, LARGE_COUNT * LARGE / PIECE);
    for (uint64_t i = 0; i < extents.count; i++) {
        const struct extent *extent = &extents.items[i];
        uint64_t offset = i * PIECE;
        expect_int(extent->offset, offset);
        expect_int(extent->bytes, PIECE);
        expect_int(extent->file_offset, last - offset / LARGE * LARGE + offset % LARGE);
        expect(!(extent->flags & EXTENT_ZERO) == !(i % 2) && (extent->flags & EXTENT_DATA));
    }
    handle_close(disk);
}

/* So many clusters of so few bytes that the tables are read past the cache, which holds two of them. */
#define SMALL_CLUSTER 512
#define SMALL_CLUSTERS 16384

static void expect_each_second(struct handle *disk, unsigned count)
{
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 2 * SMALL_CLUSTERS);
    struct range all = range_make(0, SMALL_CLUSTERS * SMALL_CLUSTER);
    expect_int(handle_block_status(disk, all, ASK_ALLOCATED, NULL, false, &extents), 0);
    expect_int(extents.count, count);
    for (uint64_t i = 0; i < extents.count; i++)
        expect_int((extents.items[i].flags & EXTENT_PRESENT) != 0, i % 2 == 0);
}

/* Tables that are not written back, tables that are, and those that somebody wrote back in between. */
NODE_TEST(what_is_read_past_the_cache_is_up_to_date)
{
    qemu_img("create -q -f qcow2 -o cluster_size=512 '%s' 8M", in_dir("a.qcow2"));
    struct blockdev_options options = image_options("disk", in_dir("a.qcow2"));
    options.u.qcow2.has_l2_cache_size = true;
    options.u.qcow2.l2_cache_size = 2 * SMALL_CLUSTER;
    add(options);
    struct handle *disk = open_handle("disk", READ_WRITE);
    for (unsigned i = 0; i < SMALL_CLUSTERS; i += 2)
        expect_int(put(disk, i * SMALL_CLUSTER, SMALL_CLUSTER, 1), 0);
    expect_each_second(disk, SMALL_CLUSTERS);
    expect_int(handle_flush(disk), 0);
    expect_each_second(disk, SMALL_CLUSTERS);
    expect_int(put(disk, SMALL_CLUSTER, SMALL_CLUSTER, 1), 0);
    expect_each_second(disk, SMALL_CLUSTERS - 2);
    handle_close(disk);
}

NODE_TEST(compressed_clusters_lie_nowhere)
{
    unsigned char *data = malloc(MIB);
    expect(data);
    memset(data, 5, MIB);
    save("content.raw", data, MIB);
    free(data);
    qemu_img("convert -c -f raw -O qcow2 '%s' '%s'", in_dir("content.raw"), in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ);
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 100);
    expect_int(handle_block_status(disk, range_make(0, MIB), ASK_ALL, NULL, false, &extents), 0);
    expect_int(extents.count, 1);
    expect_int(extents.items[0].bytes, MIB);
    expect_int(extents.items[0].flags, EXTENT_ALLOCATED | EXTENT_PRESENT | EXTENT_DATA | EXTENT_COMPRESSED);
    handle_close(disk);
}

/* A cluster that is allocated over a hole of the file has storage as far as this image knows, and reads as zeroes. */
NODE_TEST(preallocated_clusters_are_data_and_zero)
{
    qemu_img("create -q -f qcow2 -o preallocation=metadata '%s' 1M", in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ);
    expect_text(map_text(disk, ASK_MAP | ASK_ZERO), "0+1024dz@320");
    handle_close(disk);
}

/* Subclusters of 2 KiB: nothing, data, zeroes, and again nothing where the cluster has room. */
NODE_TEST(each_kind_of_subcluster_is_told)
{
    qemu_img("create -q -f qcow2 -o extended_l2=on '%s' 1M", in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect_int(put(disk, 4096, 6144, 1), 0);
    expect_int(handle_pwrite_zeroes(disk, range_make(6144, 2048), 0), 0);
    expect_int(handle_pwrite_zeroes(disk, range_make(65536, 4096), REQ_MAY_UNMAP), 0);
    expect_text(map_text(disk, ASK_MAP), "0+4 4+2d@324 6+2@326 8+2d@328 10+1014");
    expect_text(map_text(disk, ASK_ZERO), "0+4z 4+2 6+2z 8+2 10+1014z");
    expect_allocation(disk, 0, 4096, false, 0);
    expect_allocation(disk, 4096, 6144, true, 0);
    expect_allocation(disk, 10240, 65536 - 10240, false, 0);
    expect_allocation(disk, 65536, 4096, true, 0);
    expect_allocation(disk, 69632, 65536, false, 0);
    handle_close(disk);
}

/* Holes of many L2 tables are one answer. */
NODE_TEST(an_empty_disk_is_one_extent)
{
    qemu_img("create -q -f qcow2 '%s' 8T", in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 100);
    expect_int(handle_block_status(disk, range_make(0, UINT64_C(8) << 40), ASK_ALL, NULL, false, &extents), 0);
    expect_int(extents.count, 1);
    expect_int(extents.items[0].bytes, UINT64_C(8) << 40);
    handle_close(disk);
}

/* Asked in pieces or at once, the answer is the same; and reading proves what is said of zeroes. */
static void ask_in_many_ways(const char *create)
{
    random_seed(7);
    unsigned char *base = calloc(1, MIB);
    expect(base);
    memset(base + 300000, 9, 200000);
    save("base.raw", base, MIB);
    free(base);
    qemu_img("create -q -f qcow2 -o %s -b base.raw -F raw '%s' 1M", create, in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    for (int i = 0; i < 200; i++) {
        struct range range = range_make(random_below(MIB - 8192), 1 + random_below(8192));
        if (random_below(3))
            expect_int(put(disk, range.offset, range.bytes, 4), 0);
        else
            expect_int(handle_pwrite_zeroes(disk, range, random_below(2) ? REQ_MAY_UNMAP : 0), 0);
    }
    CLEANUP(extents_fini) struct extents whole;
    extents_init(&whole, 10000);
    expect_int(handle_block_status(disk, range_make(0, MIB), ASK_ALL, NULL, false, &whole), 0);
    expect(whole.count > 50);
    size_t at = 0;
    for (uint64_t offset = 0; offset < MIB;) {
        struct range range = range_make(offset, 1 + random_below(3000));
        range.bytes = min_u64(range.bytes, MIB - offset);
        CLEANUP(extents_fini) struct extents part;
        extents_init(&part, 1);
        expect_int(handle_block_status(disk, range, ASK_ALL, NULL, false, &part), 0);
        while (whole.items[at].offset + whole.items[at].bytes <= offset)
            at++;
        expect_int(part.items[0].flags, whole.items[at].flags);
        expect_int(part.items[0].depth, whole.items[at].depth);
        uint64_t end = min_u64(whole.items[at].offset + whole.items[at].bytes, range_end(range));
        expect_int(part.items[0].offset + part.items[0].bytes, end);
        if (part.items[0].flags & EXTENT_ZERO)
            expect(reads_as(disk, offset, part.items[0].bytes, 0));
        offset = end;
    }
    handle_close(disk);
    remove_image("disk");
}

NODE_TEST(answers_do_not_depend_on_how_one_asks)
{
    ask_in_many_ways("cluster_size=512");
    ask_in_many_ways("cluster_size=16384,extended_l2=on");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_cluster_is_told),
        cmocka_unit_test(what_the_overlay_has_not_is_the_backing_files),
        cmocka_unit_test(a_disk_written_backwards_in_a_file_full_of_holes),
        cmocka_unit_test(what_is_read_past_the_cache_is_up_to_date),
        cmocka_unit_test(compressed_clusters_lie_nowhere),
        cmocka_unit_test(preallocated_clusters_are_data_and_zero),
        cmocka_unit_test(each_kind_of_subcluster_is_told),
        cmocka_unit_test(an_empty_disk_is_one_extent),
        cmocka_unit_test(answers_do_not_depend_on_how_one_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
