/* blockdev-create: what is made is what was asked for, and qemu-img agrees. */
#include "tests/unit/qcow2/images.h"

static struct blockdev_create_options create_options(uint64_t size)
{
    return (struct blockdev_create_options){
        .driver = BLOCKDEV_DRIVER_QCOW2,
        .u.qcow2 = { .file = by_name("file"), .size = size },
    };
}

static struct error *create(struct blockdev_create_options options)
{
    make_file("a.qcow2", 0);
    add(file_options("file", in_dir("a.qcow2")));
    struct error *err = qcow2_driver.create(&options);
    remove_image("file");
    return err;
}

static void create_fails(struct blockdev_create_options options, const char *part)
{
    expect_error(create(options), part);
}

/* Made, checked, filled, checked again. */
static void create_and_use(struct blockdev_create_options options)
{
    uint64_t size = options.u.qcow2.size;
    expect_success(create(options));
    check_image("a.qcow2");
    struct blockdev_options node = image_options("disk", in_dir("a.qcow2"));
    struct blockdev_ref_or_null none = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    node.u.qcow2.backing = &none;
    add(node);
    expect_int(node_length(node_find("disk")), size);
    struct handle *disk = open_handle("disk", READ_WRITE);
    size_t bytes = (size_t)min_u64(size, 2 * MIB);
    for (uint64_t at = 0; at < size; at += max_u64(size / 3, bytes)) {
        size_t here = (size_t)min_u64(size - at, bytes);
        expect(reads_as(disk, at, here, 0));
        expect_int(put(disk, at, here, 0x21), 0);
        expect(reads_as(disk, at, here, 0x21));
    }
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

static struct blockdev_create_options with_cluster(uint64_t size, uint64_t cluster)
{
    struct blockdev_create_options options = create_options(size);
    options.u.qcow2.has_cluster_size = true;
    options.u.qcow2.cluster_size = cluster;
    return options;
}

static void expect_info(const char *part)
{
    char command[300];
    char output[4096];
    snprintf(command, sizeof(command), "qemu-img info --output=json '%s'", in_dir("a.qcow2"));
    expect_int(run_command(command, output, sizeof(output)), 0);
    if (!strstr(output, part))
        print_error("%s\n", output);
    expect(strstr(output, part));
}

NODE_TEST(sizes_from_nothing_to_huge)
{
    create_and_use(create_options(0));
    create_and_use(create_options(512));
    create_and_use(create_options(10 * MIB + 512));
    create_and_use(create_options(UINT64_C(1) << 44));
    create_and_use(with_cluster(64 * MIB, 512));
    create_and_use(with_cluster(64 * MIB, 2 * MIB));
}

NODE_TEST(versions_and_widths)
{
    struct blockdev_create_options options = create_options(8 * MIB);
    options.u.qcow2.has_version = true;
    options.u.qcow2.version = BLOCKDEV_QCOW2_VERSION_V2;
    create_and_use(options);
    expect_info("\"compat\": \"0.10\"");
    options.u.qcow2.has_version = false;
    options.u.qcow2.has_refcount_bits = true;
    for (int64_t bits = 1; bits <= 64; bits *= 2) {
        options.u.qcow2.refcount_bits = bits;
        create_and_use(options);
        char expected[40];
        snprintf(expected, sizeof(expected), "\"refcount-bits\": %lld", (long long)bits);
        expect_info(expected);
    }
}

NODE_TEST(features)
{
    struct blockdev_create_options options = create_options(8 * MIB);
    options.u.qcow2.has_lazy_refcounts = true;
    options.u.qcow2.lazy_refcounts = true;
    options.u.qcow2.has_compression_type = true;
    options.u.qcow2.compression_type = QCOW2_COMPRESSION_TYPE_ZSTD;
    create_and_use(options);
    expect_info("\"lazy-refcounts\": true");
    expect_info("\"compression-type\": \"zstd\"");
}

/* Every cluster has its place from the beginning: writing makes the file no longer. */
static void create_preallocated(struct blockdev_create_options options, enum prealloc_mode mode)
{
    options.u.qcow2.has_preallocation = true;
    options.u.qcow2.preallocation = mode;
    expect_success(create(options));
    check_image("a.qcow2");
    struct stat before;
    struct stat after;
    expect(stat(in_dir("a.qcow2"), &before) == 0);
    expect(mode == PREALLOC_MODE_METADATA || before.st_blocks * 512 >= 9 * MIB);
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect(reads_as(disk, 0, 9 * MIB + 512, 0));
    expect_int(put(disk, 5000, 8 * MIB, 0x31), 0);
    expect(reads_as(disk, 0, 5000, 0));
    expect(reads_as(disk, 5000, 8 * MIB, 0x31));
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
    expect(stat(in_dir("a.qcow2"), &after) == 0);
    expect_int(after.st_size, before.st_size);
}

NODE_TEST(preallocation)
{
    static const enum prealloc_mode modes[] = { PREALLOC_MODE_METADATA, PREALLOC_MODE_FALLOC, PREALLOC_MODE_FULL };
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        static const uint64_t clusters[] = { 512, 4096, 65536, 2 * MIB };
        for (size_t k = 0; k < ARRAY_SIZE(clusters); k++) {
            struct blockdev_create_options options = with_cluster(9 * MIB + 512, clusters[k]);
            create_preallocated(options, modes[i]);
            options.u.qcow2.has_extended_l2 = true;
            options.u.qcow2.extended_l2 = true;
            if (clusters[k] >= 16384)
                create_preallocated(options, modes[i]);
        }
    }
}

NODE_TEST(subclusters)
{
    static const uint64_t clusters[] = { 16384, 65536, 2 * MIB };
    for (size_t i = 0; i < ARRAY_SIZE(clusters); i++) {
        struct blockdev_create_options options = with_cluster(64 * MIB + 512, clusters[i]);
        options.u.qcow2.has_extended_l2 = true;
        options.u.qcow2.extended_l2 = true;
        create_and_use(options);
        expect_info("\"extended-l2\": true");
    }
}

/* Subclusters have room, and still show what is below until they are written. */
NODE_TEST(preallocation_on_a_backing_file)
{
    unsigned char data[4096];
    memset(data, 0x71, sizeof(data));
    save("base.raw", data, sizeof(data));
    struct blockdev_create_options options = create_options(9 * MIB);
    options.u.qcow2.backing_file = "base.raw";
    options.u.qcow2.has_backing_fmt = true;
    options.u.qcow2.backing_fmt = BLOCKDEV_DRIVER_RAW;
    options.u.qcow2.has_preallocation = true;
    options.u.qcow2.preallocation = PREALLOC_MODE_METADATA;
    create_fails(options, "preallocation: would hide backing-file 'base.raw'");
    options.u.qcow2.has_extended_l2 = true;
    options.u.qcow2.extended_l2 = true;
    expect_success(create(options));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect(reads_as(disk, 0, 4096, 0x71));
    expect_int(put(disk, 100, 100, 0x72), 0);
    expect(reads_as(disk, 200, 3896, 0x71));
    expect(reads_as(disk, 4096, MIB, 0));
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

/* With a data file, which had content before. */
static void create_with_data_file(struct blockdev_create_options options, bool raw)
{
    uint64_t size = options.u.qcow2.size;
    unsigned char *old = malloc(size);
    expect(old);
    memset(old, 0x66, size);
    save("data.raw", old, size);
    add(file_options("data", in_dir("data.raw")));
    options.u.qcow2.data_file = by_name("data");
    options.u.qcow2.has_data_file_raw = true;
    options.u.qcow2.data_file_raw = raw;
    expect_success(create(options));
    remove_image("data");
    check_image("a.qcow2");
    expect_info(raw ? "\"data-file-raw\": true" : "\"data-file-raw\": false");
    struct stat st;
    expect(stat(in_dir("data.raw"), &st) == 0 && st.st_size == (off_t)size);
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect(reads_as(disk, 0, size, raw ? 0x66 : 0));
    expect_int(put(disk, 5000, size / 2, 0x31), 0);
    expect(reads_as(disk, 5000, size / 2, 0x31));
    expect(reads_as(disk, 5000 + size / 2, size - 5000 - size / 2, raw ? 0x66 : 0));
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
    free(old);
}

NODE_TEST(data_files)
{
    static const enum prealloc_mode modes[] = { PREALLOC_MODE_OFF, PREALLOC_MODE_METADATA, PREALLOC_MODE_FALLOC,
                                                PREALLOC_MODE_FULL };
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        for (int kind = 0; kind < 4; kind++) {
            struct blockdev_create_options options = create_options(3 * MIB + 512);
            options.u.qcow2.has_preallocation = true;
            options.u.qcow2.preallocation = modes[i];
            options.u.qcow2.has_extended_l2 = true;
            options.u.qcow2.extended_l2 = kind & 2;
            create_with_data_file(options, kind & 1);
        }
    }
}

NODE_TEST(a_backing_file_is_named)
{
    make_file("base.raw", MIB);
    struct blockdev_create_options options = create_options(2 * MIB);
    options.u.qcow2.backing_file = "base.raw";
    create_fails(options, "backing-fmt");
    options.u.qcow2.has_backing_fmt = true;
    options.u.qcow2.backing_fmt = BLOCKDEV_DRIVER_RAW;
    create_and_use(options);
    expect_info("\"backing-filename\": \"base.raw\"");
    expect_info("\"backing-filename-format\": \"raw\"");
    add_image("disk", in_dir("a.qcow2"));
    expect(node_backing(node_find("disk")));
}

/* What was in the file before cannot be seen any more. */
NODE_TEST(old_content_does_not_show)
{
    unsigned char data[65536];
    memset(data, 0x99, sizeof(data));
    for (int i = 0; i < 2; i++) {
        struct blockdev_create_options options = create_options(8 * MIB);
        options.u.qcow2.has_preallocation = i > 0;
        options.u.qcow2.preallocation = PREALLOC_MODE_METADATA;
        make_file("a.qcow2", 0);
        int fd = open(in_dir("a.qcow2"), O_WRONLY | O_CLOEXEC);
        for (off_t at = 0; at < 16 * MIB; at += (off_t)sizeof(data))
            expect(pwrite(fd, data, sizeof(data), at) == sizeof(data));
        close(fd);
        add(file_options("file", in_dir("a.qcow2")));
        expect_success(qcow2_driver.create(&options));
        remove_image("file");
        check_image("a.qcow2");
        add_image("disk", in_dir("a.qcow2"));
        struct handle *disk = open_handle("disk", READ_WRITE);
        expect(reads_as(disk, 0, 8 * MIB, 0));
        expect_int(put(disk, 70000, 10, 1), 0);
        expect(reads_as(disk, 65536, 4464, 0));
        handle_close(disk);
        remove_image("disk");
    }
}

NODE_TEST(wrong_options_are_refused)
{
    create_fails(create_options(UINT64_MAX - 511), "too large");
    create_fails(create_options(UINT64_C(1) << 60), "too large for clusters of 65536 bytes");
    create_fails(with_cluster(MIB, 3000), "cluster-size: 3000");
    struct blockdev_create_options options = create_options(MIB);
    options.u.qcow2.has_refcount_bits = true;
    options.u.qcow2.refcount_bits = 3;
    create_fails(options, "refcount-bits: 3");
    options.u.qcow2.refcount_bits = 8;
    options.u.qcow2.has_version = true;
    options.u.qcow2.version = BLOCKDEV_QCOW2_VERSION_V2;
    create_fails(options, "needs version 'v3'");
    options = create_options(MIB);
    options.u.qcow2.has_extended_l2 = true;
    options.u.qcow2.extended_l2 = true;
    options.u.qcow2.has_cluster_size = true;
    options.u.qcow2.cluster_size = 8192;
    create_fails(options, "extended-l2: needs a cluster-size of at least 16 KiB, not 8192");
    options.u.qcow2.cluster_size = 65536;
    options.u.qcow2.has_version = true;
    options.u.qcow2.version = BLOCKDEV_QCOW2_VERSION_V2;
    create_fails(options, "extended-l2: needs version 'v3'");
    options = create_options(MIB);
    options.u.qcow2.data_file = by_name("file");
    create_fails(options, "blockdev-create");
    options.u.qcow2.has_version = true;
    options.u.qcow2.version = BLOCKDEV_QCOW2_VERSION_V2;
    create_fails(options, "data-file: needs version 'v3'");
    options = create_options(MIB);
    options.u.qcow2.has_data_file_raw = true;
    options.u.qcow2.data_file_raw = true;
    create_fails(options, "data-file-raw: needs data-file");
    options.u.qcow2.data_file = by_name("nobody");
    create_fails(options, "data-file: ");
    options.u.qcow2.backing_file = "base.raw";
    options.u.qcow2.has_backing_fmt = true;
    options.u.qcow2.backing_fmt = BLOCKDEV_DRIVER_RAW;
    create_fails(options, "data-file-raw: a raw data file cannot show backing-file 'base.raw'");
    options = create_options(MIB);
    options.u.qcow2.file = by_name("nobody");
    create_fails(options, "nobody");
    static char name[1100];
    memset(name, 'x', sizeof(name) - 1);
    options = create_options(MIB);
    options.u.qcow2.backing_file = name;
    options.u.qcow2.has_backing_fmt = true;
    options.u.qcow2.backing_fmt = BLOCKDEV_DRIVER_RAW;
    create_fails(options, "backing-file: the name is too long");
}

NODE_TEST(a_file_in_use_is_not_overwritten)
{
    qemu_img("create -q -f qcow2 '%s' 1M", in_dir("a.qcow2"));
    add(file_options("file", in_dir("a.qcow2")));
    struct blockdev_options image = image_options("disk", "");
    image.u.qcow2.file = by_name("file");
    add(image);
    struct blockdev_create_options options = create_options(8 * MIB);
    expect_error(qcow2_driver.create(&options), "node 'disk'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_from_nothing_to_huge),
        cmocka_unit_test(versions_and_widths),
        cmocka_unit_test(features),
        cmocka_unit_test(preallocation),
        cmocka_unit_test(subclusters),
        cmocka_unit_test(preallocation_on_a_backing_file),
        cmocka_unit_test(data_files),
        cmocka_unit_test(a_backing_file_is_named),
        cmocka_unit_test(old_content_does_not_show),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(a_file_in_use_is_not_overwritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
