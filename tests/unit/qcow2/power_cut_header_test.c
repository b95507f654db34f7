/* The power may go at any moment: while a header is written that takes more than one sector. */
#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/header.h"
#include "tests/unit/qcow2/power_cut.h"

#define TORN 40 /* disks that are looked at at each moment, with any of the sectors under way */
#define NAME "a name that lies beyond the first sector, behind the extensions"
#define FEATURE_NAMES 0x6803f857
#define OF_OTHERS 0xabcdef01 /* an extension that nobody knows */

static struct error *parse(struct image image, struct qcow2_header *header)
{
    return qcow2_header_parse(image.bytes, image.length, header);
}

static bool is_text(const char *text, const char *expected)
{
    return text && expected ? strcmp(text, expected) == 0 : !text && !expected;
}

static bool has_name_of(struct image image, const char *name)
{
    CLEANUP(qcow2_header_fini) struct qcow2_header header = { 0 };
    expect_success(parse(image, &header));
    return is_text(header.backing_file, name);
}

/* A new image over an old one, on storage of a fixed length: at any moment there is the old one, none, or the new one.
 */
NODE_TEST(a_new_image_over_an_old_one)
{
    memset(&guest, 0, sizeof(guest));
    random_seed(1);
    qemu_img("create -q -f qcow2 -o cluster_size=512,preallocation=full '%s' 1M", in_dir("disk.qcow2"));
    recorder_load(in_dir("disk.qcow2"));
    add((struct blockdev_options){ .driver = BLOCKDEV_DRIVER_NULL_CO, .node_name = "recorder" });
    struct blockdev_create_options options = {
        .driver = BLOCKDEV_DRIVER_QCOW2,
        .u.qcow2 = { .file = by_name("recorder"),
                     .size = 256 * KIB,
                     .has_cluster_size = true,
                     .cluster_size = 4096,
                     .backing_file = NAME,
                     .has_backing_fmt = true,
                     .backing_fmt = BLOCKDEV_DRIVER_RAW },
    };
    expect_success(qcow2_driver.create(&options));
    struct moment moment = moment_begin(in_dir("disk.qcow2"));
    unsigned images = 0;
    for (; moment.time < recorder.event_count; moment_advance(&moment)) {
        for (int survivors = 0; survivors < SURVIVORS_COUNT; survivors++) {
            struct trial trial = { .moment = &moment, .length = moment.length };
            trial_begin(&trial, (enum survivors)survivors);
            struct image image = { .bytes = moment.bytes, .length = trial.length };
            struct findings findings = { 0 };
            bool is_image = memcmp(moment.bytes, "QFI\xfb", 4) == 0;
            if (is_image)
                check(image, &findings);
            if (findings.corruptions || (is_image && !has_name_of(image, NULL) && !has_name_of(image, NAME)))
                give_up(image, &moment, (enum survivors)survivors);
            images += is_image;
            trial_end(&trial);
        }
    }
    expect(images > 0);
    moment_end(&moment);
    recorder_free();
}

/* Another backing file ---------------------------------------------------------------------------------------- */

struct backing_name {
    const char *file;
    const char *format;
};

struct change {
    const char *create; /* options of qemu-img */
    struct backing_name old;
    struct backing_name new;
    size_t extension_bytes; /* of an extension that nobody knows; 0: there is none */
    bool bitmap;
    const char *refused; /* why it cannot be done; the image stays as it is then */
};

/* Behind all others. */
static void add_extension(size_t bytes)
{
    unsigned char header[65536] = { 0 };
    int fd = open(in_dir("disk.qcow2"), O_RDWR | O_CLOEXEC);
    expect(fd >= 0 && pread(fd, header, sizeof(header), 0) > 0);
    size_t at = load_be32(header + 100);
    while (load_be32(header + at))
        at += 8 + (size_t)align_up(load_be32(header + at + 4), 8);
    store_be32(header + at, OF_OTHERS);
    store_be32(header + at + 4, (uint32_t)bytes);
    memset(header + at + 8, 0x5a, bytes);
    expect(pwrite(fd, header, at + 8 + bytes, 0) > 0);
    close(fd);
}

static struct blockdev_options without_backing(struct blockdev_options options)
{
    static const struct blockdev_ref_or_null none = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    options.u.qcow2.backing = &none;
    return options;
}

static void make_image(const struct change *change)
{
    qemu_img("create -q -f qcow2 -o %s '%s' 1M", change->create, in_dir("disk.qcow2"));
    if (change->extension_bytes)
        add_extension(change->extension_bytes);
    if (change->bitmap)
        qemu_img("bitmap --add '%s' kept", in_dir("disk.qcow2"));
    add(without_backing(image_options("disk", in_dir("disk.qcow2"))));
    expect_success(qcow2_driver.change_backing_file(node_find("disk"), change->old.file, change->old.format));
    remove_image("disk");
}

static bool is_named(const struct qcow2_header *header, struct backing_name name)
{
    return is_text(header->backing_file, name.file) && is_text(header->backing_format, name.format);
}

static size_t extension_bytes(const struct qcow2_header *header, uint32_t type)
{
    for (size_t i = 0; i < header->kept_count; i++) {
        if (header->kept[i].type == type)
            return header->kept[i].bytes;
    }
    return 0;
}

/* Either the old backing file or the new one, and everything else. */
static void check_header(const struct change *change, struct image image, const struct moment *moment,
                         enum survivors survivors)
{
    CLEANUP(qcow2_header_fini) struct qcow2_header header = { 0 };
    CLEANUP(error_free) struct error *err = parse(image, &header);
    if (err || !(is_named(&header, change->old) || is_named(&header, change->new)) ||
        header.has_bitmaps != change->bitmap || extension_bytes(&header, OF_OTHERS) != change->extension_bytes) {
        print_error("%s; backing file '%s', format '%s'\n", err ? error_message(err) : "it opens",
                    header.backing_file ? header.backing_file : "", header.backing_format ? header.backing_format : "");
        give_up(image, moment, survivors);
    }
    bool over = moment->time == recorder.event_count && survivors == ALL;
    if (over && !is_named(&header, change->refused ? change->old : change->new))
        give_up(image, moment, survivors);
    struct findings findings = { 0 };
    check(image, &findings);
    /* The bitmap is stored anew when the image is closed. */
    if (findings.corruptions || (findings.leaks && !change->bitmap))
        give_up(image, moment, survivors);
}

static void look(const struct change *change, struct moment *moment, enum survivors survivors)
{
    struct trial trial = { .moment = moment, .length = moment->length };
    trial_begin(&trial, survivors);
    struct image image = { .bytes = moment->bytes, .length = trial.length };
    check_header(change, image, moment, survivors);
    if (survivors == SOME_WRITES) {
        save("cut.qcow2", image.bytes, image.length);
        qemu_img("info -U '%s' > '%s'", in_dir("cut.qcow2"), in_dir("info"));
    }
    trial_end(&trial);
}

static void change_and_cut(const struct change *change, uint64_t seed)
{
    random_seed(seed);
    make_image(change);
    recorder_load(in_dir("disk.qcow2"));
    add((struct blockdev_options){ .driver = BLOCKDEV_DRIVER_NULL_CO, .node_name = "recorder" });
    add(without_backing((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_QCOW2,
        .node_name = "disk",
        .u.qcow2 = { .file = by_name("recorder") },
    }));
    struct error *err = qcow2_driver.change_backing_file(node_find("disk"), change->new.file, change->new.format);
    if (change->refused)
        expect_error(err, change->refused);
    else
        expect_success(err);
    remove_image("disk");
    struct moment moment = moment_begin(in_dir("disk.qcow2"));
    for (;; moment_advance(&moment)) {
        for (int survivors = 0; survivors < SURVIVORS_COUNT; survivors++)
            look(change, &moment, (enum survivors)survivors);
        for (int i = 0; i < TORN; i++)
            look(change, &moment, SOME_SECTORS);
        if (moment.time == recorder.event_count)
            break;
    }
    moment_end(&moment);
    recorder_free();
}

#define CHANGE(name, ...)                                                                                              \
    NODE_TEST(name)                                                                                                    \
    {                                                                                                                  \
        change_and_cut(&(struct change){ __VA_ARGS__ }, __LINE__);                                                     \
    }

#define TEN "xxxxxxxxxx"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define THOUSAND HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED

CHANGE(another_file, .create = "cluster_size=65536", .old = { "base.raw", "raw" }, .new = { "other.qcow2", "qcow2" })
CHANGE(a_file_where_there_was_none, .create = "cluster_size=65536", .new = { "base.raw", "raw" })
CHANGE(no_file_any_more, .create = "cluster_size=65536", .old = { "base.raw", "raw" })
CHANGE(a_format_where_there_was_none, .create = "cluster_size=65536", .old = { "base.raw", NULL },
       .new = { "base.qcow2", "qcow2" })
CHANGE(a_longer_format, .create = "cluster_size=65536", .old = { "base.raw", "raw" },
       .new = { "/dev/base", "host_device" })
CHANGE(names_of_version_2, .create = "cluster_size=65536,compat=0.10", .old = { "base.raw", "raw" },
       .new = { "other.qcow2", "qcow2" })
CHANGE(long_names_of_version_2, .create = "cluster_size=65536,compat=0.10", .old = { THOUSAND, "raw" },
       .new = { "y" THOUSAND, "qcow2" })
CHANGE(names_in_smallest_clusters, .create = "cluster_size=512", .old = { HUNDRED, "raw" },
       .new = { "y" HUNDRED, "qcow2" })
CHANGE(names_in_small_clusters, .create = "cluster_size=1024", .old = { HUNDRED, "raw" },
       .new = { "y" HUNDRED, "qcow2" })
CHANGE(longest_names, .create = "cluster_size=4096", .old = { THOUSAND, "raw" }, .new = { "y" THOUSAND, "qcow2" })
CHANGE(a_short_name_for_a_long_one, .create = "cluster_size=4096", .old = { THOUSAND, "raw" }, .new = { "y", NULL })
CHANGE(beside_other_extensions, .create = "cluster_size=65536", .old = { "base.raw", "raw" },
       .new = { "other", "host_device" }, .extension_bytes = 64, .bitmap = true)
CHANGE(no_room_for_two_names, .create = "cluster_size=1024", .old = { HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED, "raw" },
       .new = { "y" HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED, "raw" }, .refused = "no room for the names")
CHANGE(extensions_beyond_the_first_sector, .create = "cluster_size=65536", .old = { NULL, NULL },
       .new = { "other", "raw" }, .extension_bytes = 600, .refused = "do not fit into its first sector")

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_image_over_an_old_one),
        cmocka_unit_test(another_file),
        cmocka_unit_test(a_file_where_there_was_none),
        cmocka_unit_test(no_file_any_more),
        cmocka_unit_test(a_format_where_there_was_none),
        cmocka_unit_test(a_longer_format),
        cmocka_unit_test(names_of_version_2),
        cmocka_unit_test(long_names_of_version_2),
        cmocka_unit_test(names_in_smallest_clusters),
        cmocka_unit_test(names_in_small_clusters),
        cmocka_unit_test(longest_names),
        cmocka_unit_test(a_short_name_for_a_long_one),
        cmocka_unit_test(beside_other_extensions),
        cmocka_unit_test(no_room_for_two_names),
        cmocka_unit_test(extensions_beyond_the_first_sector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
