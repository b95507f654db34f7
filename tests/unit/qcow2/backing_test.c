/* Backing files: where they come from, and what is refused. */
#include "tests/unit/qcow2/images.h"

static struct blockdev_options with_backing(struct blockdev_options options, const struct blockdev_ref_or_null *backing)
{
    options.u.qcow2.backing = backing;
    return options;
}

static void make_raw_base(const char *name, int fill)
{
    unsigned char data[65536];
    memset(data, fill, sizeof(data));
    save(name, data, sizeof(data));
}

static void expect_shown(const char *node_name, int fill)
{
    struct handle *disk = open_handle(node_name, READ);
    expect(reads_as(disk, 0, 65536, fill));
    handle_close(disk);
}

NODE_TEST(the_header_names_it_relative_to_the_overlay)
{
    make_raw_base("base.raw", 0x11);
    qemu_img("create -q -f qcow2 -b base.raw -F raw '%s' 1M", in_dir("over.qcow2"));
    add_image("disk", in_dir("over.qcow2"));
    expect_shown("disk", 0x11);
    const struct child *backing = node_backing(node_find("disk"));
    expect(backing && node_is_read_only(child_node(backing)));
    expect_text(node_filename(child_node(backing)), in_dir("base.raw"));
}

NODE_TEST(the_header_names_it_absolutely_or_as_a_file)
{
    make_raw_base("base.raw", 0x12);
    qemu_img("create -q -f qcow2 -b '%s' -F raw '%s' 1M", in_dir("base.raw"), in_dir("over.qcow2"));
    add_image("disk", in_dir("over.qcow2"));
    expect_shown("disk", 0x12);
    qemu_img("create -q -f qcow2 -b 'file:%s' -F raw '%s' 1M", in_dir("base.raw"), in_dir("other.qcow2"));
    add_image("other", in_dir("other.qcow2"));
    expect_shown("other", 0x12);
}

NODE_TEST(chains_are_followed)
{
    make_raw_base("base.raw", 0x13);
    qemu_img("create -q -f qcow2 -b base.raw -F raw '%s' 1M", in_dir("1.qcow2"));
    qemu_img("create -q -f qcow2 -b 1.qcow2 -F qcow2 '%s' 1M", in_dir("2.qcow2"));
    qemu_img("create -q -f qcow2 -b 2.qcow2 -F qcow2 '%s' 1M", in_dir("3.qcow2"));
    add_image("disk", in_dir("3.qcow2"));
    expect_shown("disk", 0x13);
}

NODE_TEST(options_win_over_the_header)
{
    make_raw_base("base.raw", 0x14);
    make_raw_base("other.raw", 0x15);
    qemu_img("create -q -f qcow2 -b base.raw -F raw '%s' 1M", in_dir("over.qcow2"));
    add(file_options("other", in_dir("other.raw")));
    struct blockdev_ref_or_null by_node = { .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE, .u.reference = "other" };
    add(with_backing(image_options("disk", in_dir("over.qcow2")), &by_node));
    expect_shown("disk", 0x15);
    remove_image("disk");

    struct blockdev_options inside = file_options(NULL, in_dir("other.raw"));
    struct blockdev_ref_or_null inline_node = { .kind = BLOCKDEV_REF_OR_NULL_KIND_DEFINITION, .u.definition = &inside };
    add(with_backing(image_options("disk", in_dir("over.qcow2")), &inline_node));
    expect_shown("disk", 0x15);
    remove_image("disk");

    struct blockdev_ref_or_null none = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    add(with_backing(image_options("disk", in_dir("over.qcow2")), &none));
    expect_shown("disk", 0);
    remove_image("disk");

    struct blockdev_ref_or_null empty = { .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE, .u.reference = "" };
    add(with_backing(image_options("disk", in_dir("over.qcow2")), &empty));
    expect_shown("disk", 0);
}

/* What was zeroed while the backing file was not there stays zero when it comes back. */
NODE_TEST(zeroes_hide_a_backing_file_that_was_left_out)
{
    make_raw_base("base.raw", 0x16);
    qemu_img("create -q -f qcow2 -b base.raw -F raw '%s' 1M", in_dir("over.qcow2"));
    struct blockdev_ref_or_null none = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    add(with_backing(image_options("disk", in_dir("over.qcow2")), &none));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect_int(handle_pwrite_zeroes(disk, range_make(0, 65536), REQ_MAY_UNMAP), 0);
    handle_close(disk);
    remove_image("disk");
    add_image("disk", in_dir("over.qcow2"));
    expect_shown("disk", 0);
}

NODE_TEST(a_format_is_never_guessed)
{
    make_raw_base("base.raw", 0x17);
    qemu_img("create -q -f qcow2 -u -b base.raw -F raw '%s' 1M", in_dir("over.qcow2"));
    /* The first extension is the name of the format; make it one that nobody knows. */
    int fd = open(in_dir("over.qcow2"), O_WRONLY | O_CLOEXEC);
    expect(fd >= 0 && pwrite(fd, "none", 4, 112) == 4);
    close(fd);
    add_fails(image_options("disk", in_dir("over.qcow2")), "give 'backing' with a driver");
    struct blockdev_ref_or_null none = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    add(with_backing(image_options("disk", in_dir("over.qcow2")), &none));
}

static void name_backing(const char *name, const char *format)
{
    unlink(in_dir("over.qcow2"));
    qemu_img("create -q -f qcow2 -u -b '%s' -F %s '%s' 1M", name, format, in_dir("over.qcow2"));
}

NODE_TEST(only_plain_paths_and_known_formats_are_opened)
{
    name_backing("nbd://localhost/x", "raw");
    add_fails(image_options("disk", in_dir("over.qcow2")), "'nbd://localhost/x'");
    name_backing("json:{\"driver\":\"null-co\"}", "raw");
    add_fails(image_options("disk", in_dir("over.qcow2")), "image policy does not allow");
    name_backing("fat:x", "raw");
    add_fails(image_options("disk", in_dir("over.qcow2")), "not a plain path");
    name_backing("base.vmdk", "vmdk");
    add_fails(image_options("disk", in_dir("over.qcow2")), "'vmdk'");
    name_backing("missing.raw", "raw");
    add_fails(image_options("disk", in_dir("over.qcow2")), "missing.raw': No such file");
}

NODE_TEST(a_chain_that_loops_is_refused)
{
    qemu_img("create -q -f qcow2 '%s' 1M", in_dir("a.qcow2"));
    qemu_img("create -q -f qcow2 -b a.qcow2 -F qcow2 '%s' 1M", in_dir("b.qcow2"));
    qemu_img("rebase -q -u -f qcow2 -b b.qcow2 -F qcow2 '%s'", in_dir("a.qcow2"));
    add_fails(image_options("disk", in_dir("b.qcow2")), "loop");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_header_names_it_relative_to_the_overlay),
        cmocka_unit_test(the_header_names_it_absolutely_or_as_a_file),
        cmocka_unit_test(chains_are_followed),
        cmocka_unit_test(options_win_over_the_header),
        cmocka_unit_test(zeroes_hide_a_backing_file_that_was_left_out),
        cmocka_unit_test(a_format_is_never_guessed),
        cmocka_unit_test(only_plain_paths_and_known_formats_are_opened),
        cmocka_unit_test(a_chain_that_loops_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
