/* Images whose data lies in a file of its own. */
#include "tests/unit/qcow2/images.h"

#define BYTES (3 * MIB + 512)
#define CLUSTER 65536

static void expect_file(const char *name, const unsigned char *expected, size_t bytes)
{
    unsigned char *data = malloc(bytes);
    int fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
    expect(data && fd >= 0 && pread(fd, data, bytes, 0) == (ssize_t)bytes);
    expect(memcmp(data, expected, bytes) == 0);
    close(fd);
    free(data);
}

static struct handle *open_image(void)
{
    add_image("disk", in_dir("a.qcow2"));
    return open_handle("disk", READ_WRITE_RESIZE);
}

static void close_image(struct handle *disk)
{
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

static void make_image(const char *options)
{
    qemu_img("create -q -f qcow2 -o data_file='%s'%s '%s' %d", in_dir("a.raw"), options, in_dir("a.qcow2"), BYTES);
}

static void use_image(const char *options, bool raw)
{
    unsigned char *data = calloc(1, BYTES);
    expect(data);
    make_image(options);
    struct handle *disk = open_image();
    expect_content(disk, data, BYTES);
    for (size_t at = 100; at < BYTES; at += 400000) {
        size_t bytes = min_u64(150000, BYTES - at);
        memset(data + at, 0x77, bytes);
        expect_int(put_bytes(disk, at, data + at, bytes), 0);
    }
    memset(data + 65536, 0, 131072 + 100);
    expect_int(handle_pwrite_zeroes(disk, range_make(65536, 131072 + 100), REQ_MAY_UNMAP), 0);
    memset(data + 900000, 0, 200000);
    expect_int(handle_pwrite_zeroes(disk, range_make(900000, 200000), 0), 0);
    expect_content(disk, data, BYTES);
    close_image(disk);
    save("model.raw", data, BYTES);
    qemu_img("compare -q -f raw -F qcow2 '%s' '%s'", in_dir("model.raw"), in_dir("a.qcow2"));
    if (raw)
        expect_file("a.raw", data, BYTES);
    free(data);
}

NODE_TEST(images_that_qemu_img_made)
{
    use_image("", false);
    use_image(",cluster_size=512", false);
    use_image(",cluster_size=2M", false);
    use_image(",preallocation=metadata", false);
    use_image(",preallocation=falloc", false);
    use_image(",preallocation=full", false);
    use_image(",extended_l2=on", false);
    use_image(",extended_l2=on,preallocation=metadata", false);
    use_image(",refcount_bits=1", false);
    use_image(",data_file_raw=on", true);
    use_image(",data_file_raw=on,cluster_size=4096", true);
    use_image(",data_file_raw=on,extended_l2=on", true);
    use_image(",data_file_raw=on,preallocation=full", true);
}

/* What was there before is not shown by an image that says nothing of it. */
NODE_TEST(what_the_data_file_held_before_does_not_show)
{
    make_image("");
    make_file("a.raw", BYTES);
    unsigned char *old = malloc(BYTES);
    expect(old);
    memset(old, 0x99, BYTES);
    save("a.raw", old, BYTES);
    struct handle *disk = open_image();
    expect(reads_as(disk, 0, BYTES, 0));
    expect_int(put(disk, 70000, 10, 1), 0);
    expect(reads_as(disk, 65536, 70000 - 65536, 0));
    expect(reads_as(disk, 70010, 60000, 0));
    expect_int(handle_pdiscard(disk, range_make(65536, 65536)), 0);
    expect(reads_as(disk, 65536, 65536, 0));
    close_image(disk);
    free(old);
}

/* Somebody who knows nothing of the image may write a raw data file, and the image shows it. */
NODE_TEST(a_raw_data_file_is_the_disk)
{
    make_image(",data_file_raw=on");
    unsigned char *data = malloc(BYTES);
    expect(data);
    for (size_t i = 0; i < BYTES; i++)
        data[i] = (unsigned char)(i / 1000 + 1);
    save("a.raw", data, BYTES);
    struct handle *disk = open_image();
    expect_content(disk, data, BYTES);
    /* A discard does the same to both. */
    expect_int(handle_pdiscard(disk, range_make(CLUSTER, 4 * CLUSTER)), 0);
    expect(reads_as(disk, CLUSTER, 4 * CLUSTER, 0));
    memset(data + CLUSTER, 0, 4 * CLUSTER);
    close_image(disk);
    expect_file("a.raw", data, BYTES);
    free(data);
}

NODE_TEST(the_promise_of_a_raw_data_file_is_kept)
{
    make_image(",data_file_raw=on");
    struct handle *disk = open_image();
    expect_int(put(disk, 0, BYTES, 1), 0);
    close_image(disk);
    char command[300];
    char output[4096];
    snprintf(command, sizeof(command), "qemu-img info --output=json '%s'", in_dir("a.qcow2"));
    expect_int(run_command(command, output, sizeof(output)), 0);
    expect(strstr(output, "\"data-file-raw\": true"));
}

NODE_TEST(data_is_found_in_the_data_file)
{
    make_image("");
    struct handle *disk = open_image();
    expect_int(put(disk, 3 * CLUSTER, 3 * CLUSTER, 1), 0);
    expect_int(handle_pwrite_zeroes(disk, range_make(4 * CLUSTER, CLUSTER), 0), 0);
    expect_text(map_text(disk, ASK_MAP), "0+192 192+64d@192 256+64@256 320+64d@320 384+2688");
    struct node *image = node_find("disk");
    expect_int(child_role(node_child(image, "file")), CHILD_METADATA);
    expect_int(child_role(node_child(image, "data-file")), CHILD_DATA);
    close_image(disk);
}

/* Holes of a raw data file are holes of the disk, though the tables say data everywhere. */
NODE_TEST(holes_of_a_raw_data_file_are_told)
{
    qemu_img("create -q -f qcow2 -o data_file='%s',data_file_raw=on '%s' 1M", in_dir("a.raw"), in_dir("a.qcow2"));
    make_file("a.raw", MIB); /* of qemu-img the first block is data */
    struct handle *disk = open_image();
    expect_int(put(disk, 2 * CLUSTER, 2 * CLUSTER, 1), 0);
    expect_text(map_text(disk, ASK_MAP | ASK_ZERO), "0+128z@0 128+128d@128 256+768z@256");
    close_image(disk);
}

/* Somebody cut it off, or never made it longer: what is missing reads as zeroes, and is known to. */
NODE_TEST(a_data_file_may_be_shorter_than_the_disk)
{
    static const char *const kinds[] = { ",preallocation=metadata", ",data_file_raw=on" };
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        qemu_img("create -q -f qcow2 -o data_file='%s'%s '%s' 1M", in_dir("a.raw"), kinds[i], in_dir("a.qcow2"));
        make_file("a.raw", 100 * KIB);
        struct handle *disk = open_image();
        expect(reads_as(disk, 0, MIB, 0));
        expect_text(map_text(disk, ASK_ZERO), "0+1024z");
        expect_text(map_text(disk, ASK_ALL), i == 0 ? "0+100dz@0 100+924dz" : "0+100z@0 100+924z");
        expect_int(put(disk, 500 * KIB, 4096, 7), 0);
        expect(reads_as(disk, 100 * KIB, 400 * KIB, 0));
        expect(reads_as(disk, 500 * KIB, 4096, 7));
        close_image(disk);
    }
}

NODE_TEST(resized_both_ways)
{
    static const char *const kinds[] = { "", ",data_file_raw=on", ",extended_l2=on", ",cluster_size=4096" };
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        unsigned char *data = calloc(1, 8 * MIB);
        expect(data);
        make_image(kinds[i]);
        struct handle *disk = open_image();
        memset(data, 3, BYTES);
        expect_int(put(disk, 0, BYTES, 3), 0);
        expect_int(handle_truncate(disk, MIB + 512, TRUNCATE_SPARSE), 0);
        memset(data + MIB + 512, 0, 8 * MIB - MIB - 512);
        struct stat st;
        expect(stat(in_dir("a.raw"), &st) == 0);
        expect_int(st.st_size, MIB + 512);
        expect_int(handle_truncate(disk, 4 * MIB, TRUNCATE_SPARSE), 0);
        expect_content(disk, data, 4 * MIB);
        expect_int(handle_truncate(disk, 6 * MIB, TRUNCATE_FALLOC), 0);
        expect_int(handle_truncate(disk, 8 * MIB, TRUNCATE_FULL), 0);
        expect_content(disk, data, 8 * MIB);
        close_image(disk);
        save("model.raw", data, 8 * MIB);
        qemu_img("compare -q -f raw -F qcow2 '%s' '%s'", in_dir("model.raw"), in_dir("a.qcow2"));
        if (strstr(kinds[i], "raw"))
            expect_file("a.raw", data, 8 * MIB);
        expect(stat(in_dir("a.raw"), &st) == 0 && st.st_blocks * 512 >= 4 * MIB);
        free(data);
    }
}

/* Behind the end of the disk a data file may hold anything. */
NODE_TEST(what_lies_behind_the_end_does_not_show_after_growing)
{
    static const char *const kinds[] = { "", ",data_file_raw=on" };
    unsigned char *data = malloc(8 * MIB);
    expect(data);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        make_image(kinds[i]);
        struct handle *disk = open_image();
        expect_int(put(disk, 0, BYTES, 5), 0);
        close_image(disk);
        memset(data, 5, 8 * MIB);
        save("a.raw", data, 8 * MIB);
        disk = open_image();
        expect_int(handle_truncate(disk, 6 * MIB, TRUNCATE_SPARSE), 0);
        memset(data + BYTES, 0, 8 * MIB - BYTES);
        expect_content(disk, data, 6 * MIB);
        close_image(disk);
        if (i == 1)
            expect_file("a.raw", data, 6 * MIB);
    }
    free(data);
}

NODE_TEST(a_backing_file_shows_through)
{
    unsigned char *data = malloc(BYTES);
    expect(data);
    memset(data, 0x44, BYTES);
    save("base.raw", data, BYTES);
    qemu_img("create -q -f qcow2 -b base.raw -F raw -o data_file='%s' '%s'", in_dir("a.raw"), in_dir("a.qcow2"));
    struct handle *disk = open_image();
    expect_int(put(disk, 70000, 1000, 0x45), 0);
    memset(data + 70000, 0x45, 1000);
    expect_int(handle_pdiscard(disk, range_make(2 * CLUSTER, CLUSTER)), 0);
    memset(data + 2 * CLUSTER, 0, CLUSTER);
    expect_content(disk, data, BYTES);
    close_image(disk);
    free(data);
}

NODE_TEST(a_raw_data_file_shows_nothing_from_below)
{
    make_image(",data_file_raw=on");
    make_file("base.raw", BYTES);
    add(file_options("base", in_dir("base.raw")));
    struct blockdev_options options = image_options("disk", in_dir("a.qcow2"));
    struct blockdev_ref_or_null base = { .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE, .u.reference = "base" };
    options.u.qcow2.backing = &base;
    add_fails(options, "backing: the raw data file");
    add_image("disk", in_dir("a.qcow2"));
    expect_error(qcow2_driver.change_backing_file(node_find("disk"), "base.raw", "raw"), "raw data file");
}

/* Which file ----------------------------------------------------------------------------------------------------- */

static struct blockdev_options with_data_file(struct blockdev_ref *data_file)
{
    struct blockdev_options options = image_options("disk", in_dir("a.qcow2"));
    options.u.qcow2.data_file = data_file;
    return options;
}

NODE_TEST(the_option_goes_before_the_name_in_the_header)
{
    make_image("");
    struct handle *disk = open_image();
    expect_int(put(disk, 0, CLUSTER, 6), 0);
    close_image(disk);
    expect(rename(in_dir("a.raw"), in_dir("b.raw")) == 0);
    add_fails(image_options("disk", in_dir("a.qcow2")), "data-file");
    add(with_data_file(on_file(in_dir("b.raw"))));
    disk = open_handle("disk", READ_WRITE);
    expect(reads_as(disk, 0, CLUSTER, 6));
    handle_close(disk);
    remove_image("disk");
}

static void name_data_file(const char *name)
{
    unlink(in_dir("a.qcow2"));
    make_image("");
    char command[400];
    char output[100];
    snprintf(
        command, sizeof(command),
        "/usr/bin/python3 -c 'import sys,struct; f=open(sys.argv[1],\"r+b\"); h=bytearray(f.read(65536)); "
        "i=h.index(b\"DATA\"); n=sys.argv[2].encode(); o=struct.unpack(\">I\",h[i+4:i+8])[0]; r=h[i+8+(o+7)//8*8:]; "
        "f.seek(i+4); f.write((struct.pack(\">I\",len(n))+n+bytes(-len(n)%%8)+r)[:65536-i-4])' '%s' '%s'",
        in_dir("a.qcow2"), name);
    expect_int(run_command(command, output, sizeof(output)), 0);
}

NODE_TEST(names_in_the_header_are_plain_paths_relative_to_the_image)
{
    name_data_file("a.raw");
    struct handle *disk = open_image();
    expect_int(put(disk, 0, CLUSTER, 6), 0);
    handle_close(disk);
    remove_image("disk");
    name_data_file("json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}");
    add_fails(image_options("disk", in_dir("a.qcow2")), "image policy does not allow");
    name_data_file("nbd://localhost/");
    add_fails(image_options("disk", in_dir("a.qcow2")), "image policy does not allow");
    name_data_file("nobody.raw");
    add_fails(image_options("disk", in_dir("a.qcow2")), "nobody.raw");
}

NODE_TEST(a_data_file_where_there_is_none_is_refused)
{
    qemu_img("create -q -f qcow2 '%s' 1M", in_dir("a.qcow2"));
    make_file("b.raw", MIB);
    add_fails(with_data_file(on_file(in_dir("b.raw"))), "data-file: the image has no external data file");
}

NODE_TEST(a_data_file_belongs_to_one_image)
{
    make_image("");
    add(file_options("data", in_dir("a.raw")));
    add(with_data_file(by_name("data")));
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct handle *other;
    struct error *err = handle_open(node_find("data"), "somebody", PERM_WRITE, PERM_ALL, &other);
    expect_error(err, "node 'disk'");
    expect_success(handle_open(node_find("data"), "somebody", PERM_CONSISTENT_READ, PERM_ALL, &other));
    handle_close(other);
    handle_close(disk);
}

NODE_TEST(read_only_images_open_their_data_file_read_only)
{
    make_image("");
    expect(chmod(in_dir("a.raw"), 0444) == 0 && chmod(in_dir("a.qcow2"), 0444) == 0);
    add(read_only(image_options("disk", in_dir("a.qcow2"))));
    expect(node_is_read_only(child_node(node_child(node_find("disk"), "data-file"))));
    struct handle *disk = open_handle("disk", READ);
    expect(reads_as(disk, 0, BYTES, 0));
    handle_close(disk);
}

NODE_TEST(entries_that_lead_elsewhere_are_damage)
{
    make_image("");
    struct handle *disk = open_image();
    expect_int(put(disk, 0, 2 * CLUSTER, 1), 0);
    close_image(disk);
    unsigned char entry[8] = { 0x80, 0, 0, 0, 0, 5, 0, 0 };
    int fd = open(in_dir("a.qcow2"), O_RDWR | O_CLOEXEC);
    expect(fd >= 0 && pwrite(fd, entry, sizeof(entry), 4 * CLUSTER + 8) == sizeof(entry));
    close(fd);
    disk = open_image();
    unsigned char data[16];
    expect_int(get_bytes(disk, 0, data, sizeof(data)), 0);
    expect_int(get_bytes(disk, CLUSTER, data, sizeof(data)), -EIO);
    handle_close(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_that_qemu_img_made),
        cmocka_unit_test(what_the_data_file_held_before_does_not_show),
        cmocka_unit_test(a_raw_data_file_is_the_disk),
        cmocka_unit_test(the_promise_of_a_raw_data_file_is_kept),
        cmocka_unit_test(data_is_found_in_the_data_file),
        cmocka_unit_test(holes_of_a_raw_data_file_are_told),
        cmocka_unit_test(a_data_file_may_be_shorter_than_the_disk),
        cmocka_unit_test(resized_both_ways),
        cmocka_unit_test(what_lies_behind_the_end_does_not_show_after_growing),
        cmocka_unit_test(a_backing_file_shows_through),
        cmocka_unit_test(a_raw_data_file_shows_nothing_from_below),
        cmocka_unit_test(the_option_goes_before_the_name_in_the_header),
        cmocka_unit_test(names_in_the_header_are_plain_paths_relative_to_the_image),
        cmocka_unit_test(a_data_file_where_there_is_none_is_refused),
        cmocka_unit_test(a_data_file_belongs_to_one_image),
        cmocka_unit_test(read_only_images_open_their_data_file_read_only),
        cmocka_unit_test(entries_that_lead_elsewhere_are_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
