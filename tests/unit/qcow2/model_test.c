/* Random requests against a model in memory. After each round the image is closed, qemu-img looks at it, and finds the
 * same bytes and not a single cluster lost. */
#include "tests/unit/qcow2/images.h"

#define DISK_MAX (4 * MIB)

struct model {
    struct handle *disk;
    unsigned char *bytes;
    size_t length;
    bool packs;           /* clusters can be compressed */
    bool discard_is_zero; /* else a discarded byte may also keep what it was */
};

struct shape {
    const char *options; /* for qemu-img create */
    size_t length;
    size_t base_length; /* 0: no backing file */
    bool snapshot;      /* half-way, by qemu-img */
    bool data_file;
    bool raw;    /* the data file is the disk as well */
    bool direct; /* past the page cache: requests of the file have to be aligned */
};

static void fill_random(unsigned char *data, size_t bytes)
{
    int fill = (int)random_below(255) + 1;
    memset(data, fill, bytes);
}

static struct range random_range(const struct model *model)
{
    uint64_t offset = random_below(model->length);
    uint64_t most = min_u64(model->length - offset, 1 + random_below(random_below(4) ? 70000 : 800000));
    uint64_t bytes = 1 + random_below(most);
    if (random_below(2)) {
        offset = align_down(offset, 512);
        bytes = min_u64(align_up(bytes, 512), model->length - offset);
    }
    return range_make(offset, bytes);
}

static void do_write(struct model *model, struct range range)
{
    fill_random(model->bytes + range.offset, range.bytes);
    expect_int(put_bytes(model->disk, range.offset, model->bytes + range.offset, range.bytes), 0);
}

/* Whole clusters; some of them do not get smaller. */
static void do_write_compressed(struct model *model, struct range range)
{
    uint64_t cluster = node_limits(node_find("disk"))->optimal_transfer;
    range = range_align_out(range, cluster);
    range.bytes = min_u64(range.bytes, model->length - range.offset);
    if (random_below(4) == 0)
        fill_noise(model->bytes + range.offset, range.bytes);
    else
        fill_random(model->bytes + range.offset, range.bytes);
    expect_int(put_compressed(model->disk, range.offset, model->bytes + range.offset, range.bytes), 0);
}

static void do_read(struct model *model, struct range range)
{
    unsigned char *data = malloc(range.bytes);
    expect(data);
    expect_int(get_bytes(model->disk, range.offset, data, range.bytes), 0);
    expect(memcmp(data, model->bytes + range.offset, range.bytes) == 0);
    free(data);
}

static void do_zeroes(struct model *model, struct range range)
{
    unsigned flags = random_below(2) ? REQ_MAY_UNMAP : 0;
    memset(model->bytes + range.offset, 0, range.bytes);
    expect_int(handle_pwrite_zeroes(model->disk, range, flags), 0);
}

/* Afterwards each byte is zero or what it was. */
static void do_discard(struct model *model, struct range range)
{
    expect_int(handle_pdiscard(model->disk, range), 0);
    unsigned char *data = malloc(range.bytes);
    expect(data);
    expect_int(get_bytes(model->disk, range.offset, data, range.bytes), 0);
    for (size_t i = 0; i < range.bytes; i++)
        expect(data[i] == 0 || data[i] == model->bytes[range.offset + i]);
    memcpy(model->bytes + range.offset, data, range.bytes);
    free(data);
}

static void do_something(struct model *model)
{
    struct range range = random_range(model);
    switch (random_below(14)) {
    case 0:
    case 1:
        do_zeroes(model, range);
        break;
    case 2:
        do_discard(model, range);
        break;
    case 3:
        expect_int(handle_flush(model->disk), 0);
        break;
    case 4:
    case 5:
    case 6:
        do_read(model, range);
        break;
    case 7:
    case 8:
        if (model->packs)
            do_write_compressed(model, range);
        break;
    default:
        do_write(model, range);
    }
}

static void look_at_image(const struct model *model, bool raw)
{
    check_image("disk.qcow2");
    save("model.raw", model->bytes, model->length);
    qemu_img("compare -q -f qcow2 -F raw '%s' '%s'", in_dir("disk.qcow2"), in_dir("model.raw"));
    if (raw)
        qemu_img("compare -q -f raw -F raw '%s' '%s'", in_dir("data.raw"), in_dir("model.raw"));
}

static void open_disk(struct model *model, struct blockdev_options options)
{
    add(options);
    model->disk = open_handle("disk", READ_WRITE_RESIZE);
    expect_int(node_length(node_find("disk")), model->length);
}

static void close_disk(struct model *model)
{
    expect_content(model->disk, model->bytes, model->length);
    handle_close(model->disk);
    remove_image("disk");
}

/* Caches so small that tables come and go all the time. */
static struct blockdev_options with_small_caches(struct blockdev_options options)
{
    options.u.qcow2.has_l2_cache_size = true;
    options.u.qcow2.l2_cache_size = 1024;
    options.u.qcow2.has_l2_cache_entry_size = true;
    options.u.qcow2.l2_cache_entry_size = 512;
    return options;
}

static void make_base(const struct shape *shape, struct model *model)
{
    unsigned char *base = calloc(1, shape->base_length);
    expect(base);
    for (int i = 0; i < 6; i++) {
        size_t at = random_below(shape->base_length);
        size_t bytes = min_u64(shape->base_length - at, 1 + random_below(300000));
        fill_random(base + at, bytes);
    }
    save("base.raw", base, shape->base_length);
    memcpy(model->bytes, base, min_u64(shape->base_length, shape->length));
    free(base);
}

static bool can_be_direct(void)
{
    int fd = open(in_dir("disk.qcow2"), O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void make_image(const struct shape *shape, struct model *model)
{
    char data_file[200] = "";
    if (shape->data_file)
        snprintf(data_file, sizeof(data_file), ",data_file=%s%s", in_dir("data.raw"),
                 shape->raw ? ",data_file_raw=on" : "");
    if (shape->base_length)
        make_base(shape, model);
    qemu_img("create -q -f qcow2 %s -o %s%s '%s' %zu", shape->base_length ? "-b base.raw -F raw" : "", shape->options,
             data_file, in_dir("disk.qcow2"), shape->length);
}

static void run_shape(const struct shape *shape, int rounds, int steps)
{
    struct model model = { .bytes = calloc(1, DISK_MAX), .length = shape->length, .packs = !shape->data_file };
    expect(model.bytes);
    make_image(shape, &model);
    unsigned char *at_snapshot = malloc(shape->length);
    expect(at_snapshot);
    for (int round = 0; round < rounds; round++) {
        struct blockdev_options options = image_options("disk", in_dir("disk.qcow2"));
        struct blockdev_cache_options direct = { .has_direct = true, .direct = true };
        options.cache = shape->direct && can_be_direct() ? &direct : NULL;
        open_disk(&model, round % 2 ? with_small_caches(options) : options);
        for (int i = 0; i < steps; i++)
            do_something(&model);
        close_disk(&model);
        look_at_image(&model, shape->raw);
        if (shape->snapshot && round == 0) {
            qemu_img("snapshot -c before '%s'", in_dir("disk.qcow2"));
            memcpy(at_snapshot, model.bytes, shape->length);
        }
    }
    if (shape->snapshot) {
        qemu_img("snapshot -a before '%s'", in_dir("disk.qcow2"));
        memcpy(model.bytes, at_snapshot, shape->length);
        look_at_image(&model, shape->raw);
    }
    free(at_snapshot);
    free(model.bytes);
}

#define MODEL_TEST(name, rounds, steps, ...)                                                                           \
    NODE_TEST(name)                                                                                                    \
    {                                                                                                                  \
        random_seed(__LINE__);                                                                                         \
        run_shape(&(struct shape){ __VA_ARGS__ }, rounds, steps);                                                      \
    }

MODEL_TEST(usual_clusters, 4, 300, .options = "cluster_size=65536", .length = 4 * MIB)
MODEL_TEST(smallest_clusters, 4, 150, .options = "cluster_size=512", .length = 2 * MIB)
MODEL_TEST(small_clusters, 4, 200, .options = "cluster_size=4096", .length = 4 * MIB)
MODEL_TEST(large_clusters, 4, 150, .options = "cluster_size=524288", .length = 4 * MIB)
MODEL_TEST(largest_clusters, 4, 60, .options = "cluster_size=2M", .length = 4 * MIB)
MODEL_TEST(version_2, 4, 300, .options = "cluster_size=4096,compat=0.10", .length = 4 * MIB)
MODEL_TEST(a_length_that_is_no_multiple_of_clusters, 4, 300, .options = "cluster_size=65536", .length = 3 * MIB + 1536)
MODEL_TEST(on_a_backing_file, 4, 300, .options = "cluster_size=65536", .length = 4 * MIB, .base_length = 4 * MIB)
MODEL_TEST(on_a_shorter_backing_file, 4, 300, .options = "cluster_size=4096", .length = 4 * MIB,
           .base_length = 2 * MIB + 700)
MODEL_TEST(on_a_longer_backing_file, 4, 300, .options = "cluster_size=65536", .length = 2 * MIB + 512,
           .base_length = 4 * MIB)
MODEL_TEST(version_2_on_a_backing_file, 4, 300, .options = "cluster_size=16384,compat=0.10", .length = 4 * MIB,
           .base_length = 3 * MIB)
MODEL_TEST(with_a_snapshot, 5, 300, .options = "cluster_size=4096", .length = 4 * MIB, .snapshot = true)
MODEL_TEST(with_a_snapshot_and_a_backing_file, 5, 300, .options = "cluster_size=65536", .length = 4 * MIB,
           .base_length = 3 * MIB + 512, .snapshot = true)
MODEL_TEST(with_a_snapshot_and_smallest_clusters, 4, 150, .options = "cluster_size=512", .length = 2 * MIB,
           .snapshot = true)
MODEL_TEST(version_2_with_a_snapshot, 4, 300, .options = "cluster_size=4096,compat=0.10", .length = 4 * MIB,
           .snapshot = true)
MODEL_TEST(refcounts_of_one_bit, 4, 300, .options = "cluster_size=4096,refcount_bits=1", .length = 4 * MIB)
MODEL_TEST(refcounts_of_64_bits, 4, 200, .options = "cluster_size=512,refcount_bits=64", .length = 4 * MIB)
MODEL_TEST(refcounts_of_8_bits_with_a_snapshot, 4, 300, .options = "cluster_size=4096,refcount_bits=8",
           .length = 4 * MIB, .snapshot = true)
MODEL_TEST(past_the_page_cache, 4, 200, .options = "cluster_size=65536", .length = 4 * MIB, .direct = true)
MODEL_TEST(small_clusters_past_the_page_cache, 4, 100, .options = "cluster_size=512", .length = MIB, .base_length = MIB,
           .direct = true)
MODEL_TEST(packed_with_zstd, 4, 300, .options = "cluster_size=16384,compression_type=zstd", .length = 4 * MIB)
MODEL_TEST(preallocated_tables, 4, 300, .options = "cluster_size=4096,preallocation=metadata", .length = 4 * MIB)
MODEL_TEST(subclusters, 4, 300, .options = "cluster_size=65536,extended_l2=on", .length = 4 * MIB)
MODEL_TEST(smallest_subclusters, 4, 300, .options = "cluster_size=16384,extended_l2=on", .length = 2 * MIB + 512)
MODEL_TEST(largest_subclusters, 4, 100, .options = "cluster_size=2M,extended_l2=on", .length = 4 * MIB)
MODEL_TEST(subclusters_on_a_backing_file, 4, 300, .options = "cluster_size=65536,extended_l2=on", .length = 4 * MIB,
           .base_length = 3 * MIB + 700)
MODEL_TEST(subclusters_with_a_snapshot, 5, 300, .options = "cluster_size=32768,extended_l2=on", .length = 4 * MIB,
           .snapshot = true)
MODEL_TEST(subclusters_with_a_snapshot_and_a_backing_file, 5, 300, .options = "cluster_size=65536,extended_l2=on",
           .length = 4 * MIB, .base_length = 4 * MIB, .snapshot = true)
MODEL_TEST(preallocated_subclusters, 4, 300, .options = "cluster_size=65536,extended_l2=on,preallocation=metadata",
           .length = 4 * MIB)
MODEL_TEST(preallocated_subclusters_on_a_backing_file, 4, 300,
           .options = "cluster_size=65536,extended_l2=on,preallocation=metadata", .length = 4 * MIB,
           .base_length = 4 * MIB)
MODEL_TEST(subclusters_past_the_page_cache, 4, 150, .options = "cluster_size=16384,extended_l2=on", .length = MIB,
           .base_length = MIB, .direct = true)
MODEL_TEST(a_data_file, 4, 300, .options = "cluster_size=65536", .length = 4 * MIB, .data_file = true)
MODEL_TEST(a_data_file_and_smallest_clusters, 4, 150, .options = "cluster_size=512", .length = 2 * MIB,
           .data_file = true)
MODEL_TEST(a_data_file_and_a_backing_file, 4, 300, .options = "cluster_size=65536", .length = 4 * MIB,
           .data_file = true, .base_length = 3 * MIB + 512)
MODEL_TEST(a_data_file_and_subclusters, 4, 300, .options = "cluster_size=65536,extended_l2=on", .length = 4 * MIB,
           .data_file = true, .base_length = 4 * MIB)
MODEL_TEST(a_raw_data_file, 4, 300, .options = "cluster_size=65536", .length = 4 * MIB, .data_file = true, .raw = true)
MODEL_TEST(a_raw_data_file_and_subclusters, 4, 300, .options = "cluster_size=16384,extended_l2=on", .length = 4 * MIB,
           .data_file = true, .raw = true)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual_clusters),
        cmocka_unit_test(smallest_clusters),
        cmocka_unit_test(small_clusters),
        cmocka_unit_test(large_clusters),
        cmocka_unit_test(largest_clusters),
        cmocka_unit_test(version_2),
        cmocka_unit_test(a_length_that_is_no_multiple_of_clusters),
        cmocka_unit_test(on_a_backing_file),
        cmocka_unit_test(on_a_shorter_backing_file),
        cmocka_unit_test(on_a_longer_backing_file),
        cmocka_unit_test(version_2_on_a_backing_file),
        cmocka_unit_test(with_a_snapshot),
        cmocka_unit_test(with_a_snapshot_and_a_backing_file),
        cmocka_unit_test(with_a_snapshot_and_smallest_clusters),
        cmocka_unit_test(version_2_with_a_snapshot),
        cmocka_unit_test(refcounts_of_one_bit),
        cmocka_unit_test(refcounts_of_64_bits),
        cmocka_unit_test(refcounts_of_8_bits_with_a_snapshot),
        cmocka_unit_test(past_the_page_cache),
        cmocka_unit_test(small_clusters_past_the_page_cache),
        cmocka_unit_test(packed_with_zstd),
        cmocka_unit_test(preallocated_tables),
        cmocka_unit_test(a_data_file),
        cmocka_unit_test(a_data_file_and_smallest_clusters),
        cmocka_unit_test(a_data_file_and_a_backing_file),
        cmocka_unit_test(a_data_file_and_subclusters),
        cmocka_unit_test(a_raw_data_file),
        cmocka_unit_test(a_raw_data_file_and_subclusters),
        cmocka_unit_test(subclusters),
        cmocka_unit_test(smallest_subclusters),
        cmocka_unit_test(largest_subclusters),
        cmocka_unit_test(subclusters_on_a_backing_file),
        cmocka_unit_test(subclusters_with_a_snapshot),
        cmocka_unit_test(subclusters_with_a_snapshot_and_a_backing_file),
        cmocka_unit_test(preallocated_subclusters),
        cmocka_unit_test(preallocated_subclusters_on_a_backing_file),
        cmocka_unit_test(subclusters_past_the_page_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
