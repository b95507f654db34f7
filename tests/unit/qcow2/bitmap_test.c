/* Dirty bitmaps in images that are damaged, full, or made by somebody who knows more than we do. */
#include "blockcore/base/endian.h"
#include "blockcore/drivers/qcow2/bitmap.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/reopen.h"
#include "schema/cairn_types.h"
#include "tests/unit/qcow2/images.h"

#include <errno.h>
#include <time.h>

#define IMAGE "a.qcow2"

static void make_image(const char *options)
{
    qemu_img("create -q -f qcow2 -o cluster_size=4096%s '%s' 4M", options, in_dir(IMAGE));
}

static uint64_t number_at(uint64_t offset, size_t bytes)
{
    uint8_t data[8] = { 0 };
    int fd = open(in_dir(IMAGE), O_RDONLY | O_CLOEXEC);
    expect(fd >= 0 && pread(fd, data + 8 - bytes, bytes, (off_t)offset) == (ssize_t)bytes);
    close(fd);
    return load_be64(data);
}

static void poke(uint64_t offset, const void *data, size_t bytes)
{
    int fd = open(in_dir(IMAGE), O_WRONLY | O_CLOEXEC);
    expect(fd >= 0 && pwrite(fd, data, bytes, (off_t)offset) == (ssize_t)bytes);
    close(fd);
}

static void poke_number(uint64_t offset, uint64_t value, size_t bytes)
{
    uint8_t data[8];
    store_be64(data, value);
    poke(offset, data + 8 - bytes, bytes);
}

/* Where the data of the header extension lies. */
static uint64_t extension(void)
{
    uint64_t at = number_at(100, 4);
    while (number_at(at, 4) != 0x23852875)
        at += 8 + align_up(number_at(at + 4, 4), 8);
    return at + 8;
}

static uint64_t directory(void)
{
    return number_at(extension() + 16, 8);
}

static struct dirty_bitmap *find_bitmap(const char *name)
{
    return dirty_bitmap_find(node_find("disk"), name);
}

static void fails(struct error *err, const char *message)
{
    expect(err);
    if (!strstr(error_message(err), message)) {
        print_error("'%s' is not in '%s'\n", message, error_message(err));
        abort();
    }
    error_free(err);
}

static void remove_bitmap(const char *name)
{
    struct dirty_bitmap *bitmap = find_bitmap(name);
    expect_success(qcow2_driver.bitmap_remove(node_find("disk"), name));
    if (bitmap)
        dirty_bitmap_destroy(bitmap);
}

NODE_TEST(a_damaged_directory_is_for_reading_without_bitmaps)
{
    make_image("");
    qemu_img("bitmap --add '%s' b", in_dir(IMAGE));
    poke_number(directory() + 18, 5000, 2); /* the length of the name */
    fails(blockdev_add(&(struct blockdev_options){
              .driver = BLOCKDEV_DRIVER_QCOW2, .node_name = "disk", .u.qcow2 = { .file = on_file(in_dir(IMAGE)) } }),
          "the bitmap directory is cut off");
    add(read_only(image_options("disk", in_dir(IMAGE))));
    expect(!find_bitmap("b"));
    remove_image("disk");
}

/* Its clusters may be somebody else's: they are leaked. */
NODE_TEST(a_bitmap_with_a_damaged_table_can_only_be_removed)
{
    make_image("");
    qemu_img("bitmap --add '%s' b", in_dir(IMAGE));
    qemu_img("bitmap --add '%s' good", in_dir(IMAGE));
    uint64_t table = number_at(directory(), 8);
    poke_number(table, number_at(40, 8), 8); /* the active L1 table */
    add_image("disk", in_dir(IMAGE));
    expect(dirty_bitmap_is_inconsistent(find_bitmap("b")));
    expect(!dirty_bitmap_is_inconsistent(find_bitmap("good")));
    remove_bitmap("b");
    expect(!find_bitmap("b"));
    remove_image("disk");
    expect_int(try_qemu_img("check -q '%s'", in_dir(IMAGE)), 3); /* leaks only */
    add(read_only(image_options("disk", in_dir(IMAGE))));
    expect(find_bitmap("good") && !find_bitmap("b"));
    remove_image("disk");
}

NODE_TEST(what_we_do_not_know_is_left_as_it_is)
{
    make_image("");
    qemu_img("bitmap --add '%s' other", in_dir(IMAGE));
    qemu_img("bitmap --add '%s' ours", in_dir(IMAGE));
    poke_number(directory() + 16, 7, 1); /* its type */
    uint64_t table = number_at(directory(), 8);
    add_image("disk", in_dir(IMAGE));
    expect(!find_bitmap("other") && find_bitmap("ours"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    uint8_t data[512] = { 1 };
    expect_int(put_bytes(disk, 0, data, sizeof(data)), 0);
    handle_close(disk);
    remove_image("disk");
    expect_int(number_at(extension(), 4), 2);
    expect_int(number_at(directory(), 8), table);
    expect_int(number_at(directory() + 16, 1), 7);
    /* It should have recorded that write. */
    expect_int(number_at(directory() + 12, 4), QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO);
}

NODE_TEST(another_program_that_does_not_know_bitmaps_makes_them_worthless)
{
    make_image("");
    qemu_img("bitmap --add '%s' b", in_dir(IMAGE));
    poke_number(88, 0, 8);
    add_image("disk", in_dir(IMAGE));
    expect(!find_bitmap("b"));
    struct dirty_bitmap *bitmap;
    expect_success(qcow2_driver.bitmap_check(node_find("disk"), "b", 4096));
    expect_success(dirty_bitmap_create(node_find("disk"), "b", 4096, &bitmap));
    dirty_bitmap_set_persistent(bitmap, true);
    dirty_bitmap_mark(bitmap, range_make(0, 4096));
    remove_image("disk");
    qemu_img("check -q -r leaks '%s'", in_dir(IMAGE));
    add_image("disk", in_dir(IMAGE));
    expect_int(dirty_bitmap_count(find_bitmap("b")), 4096);
    remove_image("disk");
    check_image(IMAGE);
}

/* The extension is appended where the name of the backing file was. */
NODE_TEST(the_name_of_the_backing_file_makes_room)
{
    qemu_img("create -q -f raw '%s' 4M", in_dir("base.raw"));
    make_image(",backing_file=base.raw,backing_fmt=raw");
    add(image_options("disk", in_dir(IMAGE)));
    struct dirty_bitmap *bitmap;
    expect_success(dirty_bitmap_create(node_find("disk"), "b", 512, &bitmap));
    dirty_bitmap_set_persistent(bitmap, true);
    dirty_bitmap_mark(bitmap, range_make(0, 4 * MIB));
    remove_image("disk");
    check_image(IMAGE);
    qemu_img("info '%s' | grep -q 'backing file: base.raw'", in_dir(IMAGE));
    qemu_img("bitmap --add --merge b '%s' c", in_dir(IMAGE));
    add_image("disk", in_dir(IMAGE));
    expect_int(dirty_bitmap_count(find_bitmap("b")), 4 * MIB);
    expect_int(dirty_bitmap_count(find_bitmap("c")), 4 * MIB);
    remove_bitmap("b");
    remove_bitmap("c");
    remove_image("disk");
    qemu_img("info '%s' | grep -q 'backing file: base.raw'", in_dir(IMAGE));
    check_image(IMAGE);
}

NODE_TEST(limits_are_checked_before_anything_is_made)
{
    make_image("");
    add_image("disk", in_dir(IMAGE));
    char name[QCOW2_BITMAP_NAME_MAX + 2];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    fails(qcow2_driver.bitmap_check(node_find("disk"), name, 512), "Name length exceeds maximum (1023 characters)");
    remove_image("disk");
    qemu_img("create -q -f qcow2 '%s' 16T", in_dir(IMAGE));
    add_image("disk", in_dir(IMAGE));
    fails(qcow2_driver.bitmap_check(node_find("disk"), "b", 512), "Use larger granularity");
    expect_success(qcow2_driver.bitmap_check(node_find("disk"), "b", 4096));
    remove_image("disk");
}

/* Parsing ----------------------------------------------------------------------------------------------------- */

static size_t put_entry(uint8_t *out, const char *name, uint64_t table, uint32_t entries)
{
    struct qcow2_bitmap bitmap = {
        .table_offset = table,
        .table_entries = entries,
        .type = 1,
        .granularity_bits = 16,
        .name = (char *)(uintptr_t)name,
        .name_bytes = (uint16_t)strlen(name),
    };
    qcow2_bitmaps_format(&bitmap, 1, out);
    return qcow2_bitmap_entry_bytes(&bitmap);
}

static void refused(const uint8_t *data, size_t bytes, uint32_t count, const char *message)
{
    struct qcow2_bitmap *list;
    fails(qcow2_bitmaps_parse(data, bytes, count, 16, &list), message);
}

/* Another node cannot be reopened, so nothing was written. */
NODE_TEST(a_reopen_that_is_undone_leaves_bitmaps)
{
    make_image("");
    qemu_img("bitmap --add '%s' kept", in_dir(IMAGE));
    qemu_img("create -q -f qcow2 '%s' 1M", in_dir("b.qcow2"));
    add(file_options("b-file", in_dir("b.qcow2")));
    add(file_options("elsewhere", in_dir("b.qcow2")));
    struct blockdev_options options[] = { image_options("disk", in_dir(IMAGE)), image_options("b", "") };
    options[1].u.qcow2.file = by_name("b-file");
    add(read_only(options[0]));
    add(read_only(options[1]));
    uint64_t flags = directory() + QCOW2_BITMAP_FLAGS_OFFSET;
    expect_int(number_at(flags, 4), QCOW2_BITMAP_AUTO);
    struct blockdev_options other = read_only(options[1]);
    other.u.qcow2.file = by_name("elsewhere");
    fails(blockdev_reopen((struct blockdev_options[]){ options[0], other }, 2), "cannot become node 'elsewhere'");
    expect_int(number_at(flags, 4), QCOW2_BITMAP_AUTO);
    expect(node_is_read_only(node_find("disk")));
    expect_success(blockdev_reopen(options, 1));
    expect_int(number_at(flags, 4), QCOW2_BITMAP_AUTO | QCOW2_BITMAP_IN_USE);
    expect_success(blockdev_reopen((struct blockdev_options[]){ read_only(options[0]) }, 1));
    expect_int(number_at(directory() + QCOW2_BITMAP_FLAGS_OFFSET, 4), QCOW2_BITMAP_AUTO);
    remove_image("disk");
    check_image(IMAGE);
}

NODE_TEST(directories_that_cannot_be)
{
    uint8_t data[200];
    size_t bytes = put_entry(data, "name", 0x10000, 1);
    refused(data, bytes, 0, "cannot have 0 bitmaps");
    refused(data, bytes, 65536, "cannot have 65536 bitmaps");
    refused(data, bytes, 2, "cannot have 2 bitmaps");
    refused(data, bytes - 8, 1, "is cut off");
    refused(data, bytes + 8, 1, "but its bitmaps take");
    size_t two = bytes + put_entry(data + bytes, "name", 0x20000, 1);
    refused(data, two, 2, "has a name twice");
    refused(data, put_entry(data, "name", 0x10001, 1), 1, "cannot be at offset");
    refused(data, put_entry(data, "name", 0, 1), 1, "cannot be at offset");
    refused(data, put_entry(data, "name", 0x10000, 0), 1, "which cannot be");
    refused(data, put_entry(data, "name", 0x10000, 0x8000000), 1, "which cannot be");
    refused(data, put_entry(data, "", 0x10000, 1), 1, "without a name");
}

static bool is_usable(const char *name)
{
    uint8_t data[2000];
    struct qcow2_bitmap *list;
    expect_success(qcow2_bitmaps_parse(data, put_entry(data, name, 0x10000, 1), 1, 16, &list));
    bool usable = list->usable;
    qcow2_bitmaps_free(list, 1);
    return usable;
}

NODE_TEST(names_are_text)
{
    expect(is_usable("monday"));
    expect(is_usable("gr\xc3\xb6\xc3\x9f"
                     "e"));
    expect(!is_usable("\xff"));
    expect(!is_usable("\xc0\x80"));
    expect(!is_usable("\xed\xa0\x80"));
    expect(!is_usable("cut\xe2\x82"));
}

static void make_bitmaps(int from, int to)
{
    for (int i = from; i < to; i++) {
        char name[16];
        snprintf(name, sizeof(name), "bitmap %d", i);
        struct dirty_bitmap *bitmap;
        expect_success(dirty_bitmap_create(node_find("disk"), name, 65536, &bitmap));
        dirty_bitmap_set_persistent(bitmap, true);
    }
}

static double processor_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Each new one was once compared with each that is there, for each new one: 5 seconds, in which nobody else had a turn.
 * Now a tenth of a second; sanitizers need ten times as much. */
NODE_TEST(many_bitmaps_are_stored_at_once)
{
    make_image("");
    add_image("disk", in_dir(IMAGE));
    make_bitmaps(0, 2000);
    remove_image("disk");
    add_image("disk", in_dir(IMAGE));
    make_bitmaps(2000, 4000);
    double before = processor_seconds();
    remove_image("disk");
    expect(processor_seconds() - before < 2.5);
    add_image("disk", in_dir(IMAGE));
    expect(find_bitmap("bitmap 0") && find_bitmap("bitmap 1999") && find_bitmap("bitmap 2000"));
    expect(!dirty_bitmap_is_inconsistent(find_bitmap("bitmap 3999")));
    remove_image("disk");
    check_image(IMAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_directory_is_for_reading_without_bitmaps),
        cmocka_unit_test(a_bitmap_with_a_damaged_table_can_only_be_removed),
        cmocka_unit_test(what_we_do_not_know_is_left_as_it_is),
        cmocka_unit_test(another_program_that_does_not_know_bitmaps_makes_them_worthless),
        cmocka_unit_test(the_name_of_the_backing_file_makes_room),
        cmocka_unit_test(limits_are_checked_before_anything_is_made),
        cmocka_unit_test(a_reopen_that_is_undone_leaves_bitmaps),
        cmocka_unit_test(directories_that_cannot_be),
        cmocka_unit_test(names_are_text),
        cmocka_unit_test(many_bitmaps_are_stored_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
