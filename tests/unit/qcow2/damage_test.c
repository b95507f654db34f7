/* Damaged images: an entry that cannot be right fails the request that meets it, the image is marked as corrupt, and
 * nothing is made worse. */
#include "tests/unit/qcow2/images.h"

#include "blockcore/base/endian.h"
#include "blockcore/drivers/qcow2/qcow2_private.h"
#include "blockcore/io/check.h"
#include "schema/cairn_types.h"

#define CLUSTER 65536
#define COPIED (UINT64_C(1) << 63)
#define BEHIND_END UINT64_C(0x00ffffffffff0000)

/* Fields of the file --------------------------------------------------------------------------------------------- */

static uint64_t get64(uint64_t at)
{
    unsigned char field[8];
    int fd = open(in_dir("a.qcow2"), O_RDONLY | O_CLOEXEC);
    expect(fd >= 0 && pread(fd, field, sizeof(field), (off_t)at) == sizeof(field));
    close(fd);
    return load_be64(field);
}

static void set64(uint64_t at, uint64_t value)
{
    unsigned char field[8];
    store_be64(field, value);
    int fd = open(in_dir("a.qcow2"), O_WRONLY | O_CLOEXEC);
    expect(fd >= 0 && pwrite(fd, field, sizeof(field), (off_t)at) == sizeof(field));
    close(fd);
}

static uint64_t l1_table(void)
{
    return get64(40);
}

static uint64_t l2_table(void)
{
    return get64(l1_table()) & ~COPIED;
}

static uint64_t refcount_table(void)
{
    return get64(48);
}

static uint64_t refcount_block(void)
{
    return get64(refcount_table());
}

static bool is_marked(void)
{
    return get64(72) & 2;
}

/* The image of all tests: 16 clusters of data from the beginning of the disk. */
static void make_image(void)
{
    qemu_img("create -q -f qcow2 '%s' 8M", in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect_int(put(disk, 0, 16 * CLUSTER, 1), 0);
    handle_close(disk);
    remove_image("disk");
}

static struct handle *open_disk(void)
{
    add_image("disk", in_dir("a.qcow2"));
    return open_handle("disk", READ_WRITE);
}

static void close_disk(struct handle *disk)
{
    handle_close(disk);
    remove_image("disk");
}

/* Once damage was found nothing is written any more, and the image says so. */
static void expect_stopped(struct handle *disk)
{
    expect_int(put(disk, 3 * CLUSTER, 512, 9), -EIO);
    expect_int(put(disk, 100 * CLUSTER, 512, 9), -EIO);
    expect_int(handle_pwrite_zeroes(disk, range_make(3 * CLUSTER, CLUSTER), 0), -EIO);
    expect(reads_as(disk, 3 * CLUSTER, CLUSTER, 1));
    expect(is_marked());
    close_disk(disk);
    add_fails(image_options("disk", in_dir("a.qcow2")), "marked as corrupt");
}

/* Data that seems to lie on a table --------------------------------------------------------------------------- */

static void expect_table_is_kept(uint64_t table)
{
    unsigned char before[CLUSTER];
    unsigned char after[CLUSTER];
    make_image();
    uint64_t entry = l2_table() + 8;
    set64(entry, (table ? table : l2_table()) | COPIED);
    uint64_t place = table ? table : l2_table();
    int fd = open(in_dir("a.qcow2"), O_RDONLY | O_CLOEXEC);
    ssize_t bytes = pread(fd, before, CLUSTER, (off_t)place);
    struct handle *disk = open_disk();
    expect_int(put(disk, CLUSTER, 512, 9), -EIO);
    expect_stopped(disk);
    expect(pread(fd, after, CLUSTER, (off_t)place) == bytes);
    expect(memcmp(before, after, (size_t)bytes) == 0);
    close(fd);
    unlink(in_dir("a.qcow2"));
}

NODE_TEST(a_write_does_not_hit_tables)
{
    make_image();
    uint64_t tables[] = { l1_table(), refcount_table(), refcount_block(), 0 };
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        expect_table_is_kept(tables[i]);
}

/* overlap-check -------------------------------------------------------------------------------------------------- */

static int write_on(uint64_t table, struct qcow2_overlap_checks *checks)
{
    set64(l2_table() + 8, table | COPIED);
    struct blockdev_options options = image_options("disk", in_dir("a.qcow2"));
    options.u.qcow2.overlap_check = checks;
    add(options);
    struct handle *disk = open_handle("disk", READ_WRITE);
    int ret = put(disk, CLUSTER + 4096, 512, 9);
    close_disk(disk);
    return ret;
}

static int write_on_with_mode(uint64_t (*table)(void), enum qcow2_overlap_check_mode mode)
{
    make_image();
    struct qcow2_overlap_checks checks = { .kind = QCOW2_OVERLAP_CHECKS_KIND_MODE, .u.mode = mode };
    int ret = write_on(table(), &checks);
    unlink(in_dir("a.qcow2"));
    return ret;
}

NODE_TEST(overlap_check_says_what_is_protected)
{
    expect_int(write_on_with_mode(refcount_block, QCOW2_OVERLAP_CHECK_MODE_CACHED), -EIO);
    expect_int(write_on_with_mode(refcount_block, QCOW2_OVERLAP_CHECK_MODE_CONSTANT), 0);
    expect_int(write_on_with_mode(refcount_table, QCOW2_OVERLAP_CHECK_MODE_CONSTANT), -EIO);
    expect_int(write_on_with_mode(l2_table, QCOW2_OVERLAP_CHECK_MODE_CACHED), -EIO);
    expect_int(write_on_with_mode(l1_table, QCOW2_OVERLAP_CHECK_MODE_NONE), 0);
}

NODE_TEST(overlap_check_flags_change_a_template)
{
    make_image();
    struct qcow2_overlap_check_flags flags = { .has_template = true, .template_ = QCOW2_OVERLAP_CHECK_MODE_NONE };
    flags.has_refcount_block = flags.refcount_block = true;
    struct qcow2_overlap_checks checks = { .kind = QCOW2_OVERLAP_CHECKS_KIND_FLAGS, .u.flags = &flags };
    expect_int(write_on(refcount_block(), &checks), -EIO);

    make_image();
    expect_int(write_on(l1_table(), &checks), 0);
}

/* Only with "all" are the L2 tables of snapshots read to be known. */
NODE_TEST(overlap_check_knows_l2_tables_of_snapshots_when_asked)
{
    for (int all = 0; all < 2; all++) {
        make_image();
        qemu_img("snapshot -c first '%s'", in_dir("a.qcow2"));
        uint64_t of_snapshot = l2_table();
        struct handle *disk = open_disk();
        expect_int(put(disk, 0, 512, 3), 0); /* the active L2 table is a copy from now on */
        close_disk(disk);
        expect(l2_table() != of_snapshot);
        struct qcow2_overlap_checks checks = { .kind = QCOW2_OVERLAP_CHECKS_KIND_MODE };
        checks.u.mode = all ? QCOW2_OVERLAP_CHECK_MODE_ALL : QCOW2_OVERLAP_CHECK_MODE_CACHED;
        expect_int(write_on(of_snapshot, &checks), all ? -EIO : 0);
        unlink(in_dir("a.qcow2"));
    }
}

NODE_TEST(a_discard_does_not_give_up_tables)
{
    make_image();
    set64(l2_table() + 8, refcount_block() | COPIED);
    struct handle *disk = open_disk();
    expect_int(handle_pdiscard(disk, range_make(CLUSTER, CLUSTER)), 0);
    expect_stopped(disk);
}

/* Refcounts that say that the tables are free, too. */
NODE_TEST(tables_are_not_allocated_again)
{
    make_image();
    set64(refcount_block(), 0); /* clusters 0 to 3 */
    struct handle *disk = open_disk();
    expect_int(put(disk, 20 * CLUSTER, 512, 9), -EIO);
    expect_stopped(disk);
}

NODE_TEST(an_l1_table_of_a_snapshot_is_not_written)
{
    make_image();
    qemu_img("snapshot -c first '%s'", in_dir("a.qcow2"));
    uint64_t l1_of_snapshot = get64(get64(64));
    set64(l2_table() + 8, l1_of_snapshot | COPIED);
    set64(l1_table(), l2_table() | COPIED);
    struct handle *disk = open_disk();
    expect_int(put(disk, CLUSTER, 512, 9), -EIO);
    expect_stopped(disk);
}

/* An L1 entry that says that its table is shared counts for everything in the table, whatever that says. */
NODE_TEST(nothing_of_a_shared_table_is_written_in_place)
{
    make_image();
    uint64_t old_table = l2_table();
    uint64_t old_cluster = get64(old_table + 8) & ~COPIED;
    set64(l1_table(), old_table);
    struct handle *disk = open_disk();
    expect_int(put(disk, CLUSTER, 512, 9), 0);
    expect_int(put(disk, 2 * CLUSTER, 512, 9), 0);
    expect(reads_as(disk, CLUSTER + 512, CLUSTER - 512, 1));
    close_disk(disk);
    expect(l2_table() != old_table);
    expect((get64(l2_table() + 8) & ~COPIED) != old_cluster);
    expect_int(get64(old_cluster), UINT64_C(0x0101010101010101));
    expect_int(get64(old_table + 8), old_cluster | COPIED);
}

/* Entries that cannot be ---------------------------------------------------------------------------------------- */

static void expect_refused_entry(uint64_t entry)
{
    make_image();
    set64(l2_table() + 8, entry);
    struct handle *disk = open_disk();
    unsigned char data[512];
    expect_int(get_bytes(disk, CLUSTER, data, sizeof(data)), -EIO);
    expect_int(get_bytes(disk, 0, data, sizeof(data)), 0);
    expect_stopped(disk);
    unlink(in_dir("a.qcow2"));
}

static void expect_no_zeroes(uint64_t entry)
{
    make_image();
    set64(l2_table() + 8, entry);
    struct handle *disk = open_disk();
    expect_int(handle_pwrite_zeroes(disk, range_make(0, 2 * CLUSTER), 0), -EIO);
    expect(reads_as(disk, 0, CLUSTER, 1));
    expect_stopped(disk);
    unlink(in_dir("a.qcow2"));
}

static void expect_no_write(uint64_t entry)
{
    make_image();
    set64(l2_table() + 8, entry);
    struct stat before;
    struct stat after;
    expect(stat(in_dir("a.qcow2"), &before) == 0);
    struct handle *disk = open_disk();
    expect_int(put(disk, CLUSTER, 512, 9), -EIO);
    expect_stopped(disk);
    expect(stat(in_dir("a.qcow2"), &after) == 0);
    expect_int(before.st_size, after.st_size);
    unlink(in_dir("a.qcow2"));
}

NODE_TEST(l2_entries_that_cannot_be)
{
    expect_refused_entry(COPIED | (5 * CLUSTER + 512));
    expect_refused_entry(COPIED);
    expect_refused_entry(UINT64_C(1) << 62 | COPIED | (5 * CLUSTER));
    expect_refused_entry(UINT64_C(1) << 62 | 100);
    expect_refused_entry(COPIED | BEHIND_END);
    expect_no_zeroes(COPIED | (5 * CLUSTER + 512));
    expect_no_zeroes(COPIED);
    expect_no_write(COPIED | (5 * CLUSTER + 512));
    expect_no_write(COPIED | BEHIND_END);
    expect_no_write(COPIED | BEHIND_END | 1);
    expect_no_write(COPIED | (300 * CLUSTER) | 1); /* a free cluster, kept behind a zero flag */
}

NODE_TEST(l1_entries_that_cannot_be)
{
    make_image();
    uint64_t wrong[] = { l2_table() + 512, BEHIND_END, l1_table(), refcount_table(), 512 };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        make_image();
        set64(l1_table(), wrong[i] | COPIED);
        struct handle *disk = open_disk();
        unsigned char data[512];
        expect_int(get_bytes(disk, 0, data, sizeof(data)), -EIO);
        expect_int(put(disk, 0, 512, 9), -EIO);
        expect(is_marked());
        close_disk(disk);
        unlink(in_dir("a.qcow2"));
    }
}

NODE_TEST(refcount_blocks_that_cannot_be)
{
    make_image();
    uint64_t wrong[] = { refcount_block() + 512, UINT64_C(1) << 50, l1_table(), refcount_table(), 1 };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        make_image();
        set64(refcount_table(), wrong[i]);
        struct handle *disk = open_disk();
        expect(reads_as(disk, 0, CLUSTER, 1));
        expect_int(put(disk, 0, 512, 1), 0); /* in place: needs no refcounts */
        expect_int(put(disk, 20 * CLUSTER, 512, 9), -EIO);
        expect_stopped(disk);
        unlink(in_dir("a.qcow2"));
    }
}

NODE_TEST(tables_on_top_of_each_other_are_for_reading)
{
    make_image();
    set64(refcount_table() + 8, l2_table());
    add_fails(image_options("disk", in_dir("a.qcow2")), "overlap");
    add(read_only(image_options("disk", in_dir("a.qcow2"))));
    struct handle *disk = open_handle("disk", READ);
    expect(reads_as(disk, 0, CLUSTER, 1));
    handle_close(disk);
}

/* Without entries a table is nowhere; only its offset, which some header still has, lies between free clusters. */
NODE_TEST(a_table_without_entries_is_in_nobody_s_way)
{
    make_image();
    set64(64, 24 * CLUSTER); /* snapshots_offset */
    struct handle *disk = open_disk();
    expect_int(put(disk, 16 * CLUSTER, 8 * CLUSTER, 2), 0);
    close_disk(disk);
    expect(!is_marked());
    check_image("a.qcow2");
}

/* Bitmaps that another program has not kept up may have lost their place. */
NODE_TEST(inconsistent_bitmaps_are_in_nobody_s_way)
{
    make_image();
    qemu_img("bitmap --add '%s' b", in_dir("a.qcow2"));
    uint64_t at = 104;
    while (get64(at) >> 32 != 0x23852875)
        at += 8;
    set64(at + 24, 5 * CLUSTER); /* the first cluster of data */
    set64(88, 0);                /* autoclear features */
    struct handle *disk = open_disk();
    expect_int(put(disk, 0, CLUSTER, 2), 0);
    close_disk(disk);
    expect(!is_marked());
}

NODE_TEST(single_tables_on_top_of_each_other_are_for_reading)
{
    make_image();
    set64(40, refcount_table()); /* l1_table_offset */
    add_fails(image_options("disk", in_dir("a.qcow2")), "overlap");

    make_image();
    qemu_img("snapshot -c first '%s'", in_dir("a.qcow2"));
    set64(get64(64), l1_table());
    add_fails(image_options("disk", in_dir("a.qcow2")), "overlap");
}

NODE_TEST(a_zero_flag_in_version_2)
{
    qemu_img("create -q -f qcow2 -o compat=0.10 '%s' 8M", in_dir("a.qcow2"));
    struct handle *disk = open_disk();
    expect_int(put(disk, 0, CLUSTER, 1), 0);
    close_disk(disk);
    set64(l2_table(), get64(l2_table()) | 1);
    disk = open_disk();
    unsigned char data[512];
    expect_int(get_bytes(disk, 0, data, sizeof(data)), -EIO);
    expect_int(put(disk, 5 * CLUSTER, 512, 9), -EIO);
    close_disk(disk);
    expect_int(get64(0), UINT64_C(0x514649fb00000002)); /* there is no bit to set */
}

NODE_TEST(a_snapshot_table_that_cannot_be)
{
    make_image();
    qemu_img("snapshot -c first '%s'", in_dir("a.qcow2"));
    uint64_t table = get64(64);
    uint64_t right = get64(table);
    set64(table, 77);
    add_fails(image_options("disk", in_dir("a.qcow2")), "L1 table of a snapshot");
    set64(table, UINT64_C(1) << 50);
    add_fails(image_options("disk", in_dir("a.qcow2")), "not inside the file");
    set64(table, right);
    set64(64, UINT64_C(1) << 50);
    add_fails(image_options("disk", in_dir("a.qcow2")), "snapshot table");
}

/* One bad cluster is an error of one request, not the end of the image. */
NODE_TEST(compressed_data_that_does_not_unpack)
{
    unsigned char data[4 * CLUSTER / 8];
    memset(data, 7, sizeof(data));
    save("content.raw", data, sizeof(data));
    qemu_img("convert -q -c -f raw -O qcow2 -o cluster_size=4096 '%s' '%s'", in_dir("content.raw"), in_dir("a.qcow2"));
    uint64_t packed = get64(l2_table()) & 0xffffff;
    set64(packed, UINT64_MAX);
    struct handle *disk = open_disk();
    expect_int(get_bytes(disk, 0, data, 512), -EIO);
    expect_int(put(disk, 512, 512, 9), -EIO); /* the rest of the cluster cannot be had */
    expect_int(put(disk, 0, 4096, 9), 0);
    expect(reads_as(disk, 0, 4096, 9));
    expect(reads_as(disk, 4096, 4096, 7));
    expect(!is_marked());
    close_disk(disk);
    check_image("a.qcow2");
}

/* The entries of what was discarded last are not written any more, so they are in use still after the repair. */
NODE_TEST(what_was_discarded_before_the_damage_is_not_free_after_a_repair)
{
    make_image();
    struct handle *disk = open_disk();
    expect_int(handle_pdiscard(disk, range_make(0, 4 * CLUSTER)), 0);
    struct qcow2 *q = node_state(node_find("disk"));
    expect_int(qcow2_corrupt(q, range_make(0, 0), "as if something were damaged"), -EIO);
    handle_close(disk);
    struct image_check result = { 0 };
    expect_success(node_check(node_find("disk"), IMAGE_REPAIR_ALL, &result));
    disk = open_handle("disk", READ_WRITE);
    expect_int(put(disk, 4 * MIB, MIB, 7), 0);
    expect_int(handle_flush(disk), 0);
    expect_int(qcow2_reclaim(q), 0);
    expect_int(put(disk, 6 * MIB, MIB, 8), 0);
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

/* After a repair all tables are read again. Where that fails the old ones are good enough to go on reading. */
NODE_TEST(tables_that_cannot_be_read_again_after_a_repair)
{
    make_image();
    struct blkdebug_inject_error_options error = {
        .event = BLKDEBUG_EVENT_REFTABLE_LOAD, .has_state = true, .state = 2, .has_once = true, .once = true
    };
    struct blkdebug_set_state_options opened = {
        .event = BLKDEBUG_EVENT_REFTABLE_LOAD, .has_state = true, .state = 1, .new_state = 2
    };
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "blkdebug",
        .u.blkdebug = { .image = on_file(in_dir("a.qcow2")),
                        .has_inject_error = true,
                        .inject_error = &error,
                        .inject_error_count = 1,
                        .has_set_state = true,
                        .set_state = &opened,
                        .set_state_count = 1 },
    });
    struct blockdev_options options = image_options("disk", "");
    options.u.qcow2.file = by_name("blkdebug");
    add(options);
    struct image_check result = { 0 };
    expect_error(node_check(node_find("disk"), IMAGE_REPAIR_ALL, &result), "cannot check");
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect(reads_as(disk, 0, CLUSTER, 1));
    expect_int(put(disk, 0, 4096, 2), -EIO);
    handle_close(disk);
    expect_success(node_check(node_find("disk"), IMAGE_REPAIR_ALL, &result));
    disk = open_handle("disk", READ_WRITE);
    expect_int(put(disk, 0, 4096, 2), 0);
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

/* What a table leads to that cannot be read is not lost, as far as anybody knows. */
NODE_TEST(tables_that_a_check_cannot_read)
{
    make_image();
    struct blkdebug_inject_error_options error = { .event = BLKDEBUG_EVENT_NONE,
                                                   .has_sector = true,
                                                   .sector = (int64_t)(l2_table() / 512) };
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "blkdebug",
        .u.blkdebug = { .image = on_file(in_dir("a.qcow2")),
                        .has_inject_error = true,
                        .inject_error = &error,
                        .inject_error_count = 1 },
    });
    struct blockdev_options options = image_options("disk", "");
    options.u.qcow2.file = by_name("blkdebug");
    add(options);
    for (int repair = IMAGE_REPAIR_NONE; repair <= IMAGE_REPAIR_ALL; repair++) {
        struct image_check result = { 0 };
        expect_success(node_check(node_find("disk"), (enum image_repair)repair, &result));
        expect_int(result.check_errors, 1);
        expect(!result.has_leaks && !result.has_leaks_fixed && !result.has_corruptions);
    }
    remove_image("disk");
    check_image("a.qcow2");
}

NODE_TEST(a_check_that_nobody_wants_ends)
{
    qemu_img("create -q -f qcow2 -o preallocation=metadata '%s' 16G", in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct image_check result = { 0 };
    _Atomic bool stop = true;
    expect_error(node_check_until(node_find("disk"), IMAGE_REPAIR_ALL, &stop, &result), "canceled");
    stop = false;
    expect_success(node_check_until(node_find("disk"), IMAGE_REPAIR_ALL, &stop, &result));
    expect(!result.has_corruptions && !result.has_leaks && result.check_errors == 0);
    remove_image("disk");
    check_image("a.qcow2");
}

NODE_TEST(a_read_only_image_is_not_marked)
{
    make_image();
    set64(l2_table(), 512 | COPIED);
    add(read_only(image_options("disk", in_dir("a.qcow2"))));
    struct handle *disk = open_handle("disk", READ);
    unsigned char data[512];
    expect_int(get_bytes(disk, 0, data, sizeof(data)), -EIO);
    expect(reads_as(disk, CLUSTER, CLUSTER, 1));
    handle_close(disk);
    remove_image("disk");
    expect(!is_marked());
}

/* Bits turned over anywhere -------------------------------------------------------------------------------------- */

static void do_anything(struct handle *disk)
{
    static unsigned char data[300000];
    uint64_t offset = random_below(node_length(handle_node(disk)));
    struct range range = range_make(offset, min_u64(node_length(handle_node(disk)) - offset, 1 + random_below(200000)));
    struct extents extents;
    switch (random_below(6)) {
    case 0:
        (void)handle_pwrite_zeroes(disk, range, random_below(2) ? REQ_MAY_UNMAP : 0);
        break;
    case 1:
        (void)handle_pdiscard(disk, range);
        break;
    case 2:
        (void)handle_flush(disk);
        break;
    case 3:
        extents_init(&extents, 100);
        (void)handle_block_status(disk, range, ASK_ALL, NULL, false, &extents);
        extents_fini(&extents);
        break;
    case 4:
        (void)get_bytes(disk, range.offset, data, range.bytes);
        break;
    default:
        (void)put_bytes(disk, range.offset, data, range.bytes);
    }
}

static void turn_bits(unsigned char *image, size_t bytes, size_t cluster)
{
    for (uint64_t flips = 1 + random_below(6); flips > 0; flips--) {
        /* Mostly in the first bytes of clusters, where tables are not empty. */
        size_t at = random_below(bytes);
        if (random_below(4))
            at = at / cluster * cluster + random_below(min_u64(256, bytes - at / cluster * cluster));
        image[at] ^= (unsigned char)(1u << random_below(8));
    }
}

static void use_damaged(const unsigned char *image, size_t bytes, size_t cluster)
{
    unsigned char *damaged = malloc(bytes);
    expect(damaged);
    memcpy(damaged, image, bytes);
    turn_bits(damaged, bytes, cluster);
    save("b.qcow2", damaged, bytes);
    free(damaged);
    struct blockdev_options options = image_options("disk", in_dir("b.qcow2"));
    struct blockdev_ref_or_null none = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    options.u.qcow2.backing = &none;
    struct error *err = blockdev_add(&options);
    if (err) {
        error_free(err);
        return;
    }
    struct handle *disk = open_handle("disk", READ_WRITE_RESIZE);
    for (int i = 0; i < 20; i++)
        do_anything(disk);
    handle_close(disk);
    remove_image("disk");
}

static void damage_anywhere(const char *create, size_t cluster, int times)
{
    unsigned char *content = calloc(1, 300000);
    expect(content);
    for (size_t i = 0; i < 300000; i += 700)
        content[i] = (unsigned char)i;
    save("content.raw", content, 300000);
    free(content);
    qemu_img("convert -q -f raw -O qcow2 %s '%s' '%s'", create, in_dir("content.raw"), in_dir("a.qcow2"));
    qemu_img("snapshot -c first '%s'", in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect_int(put(disk, 100000, 50000, 3), 0);
    close_disk(disk);
    struct stat st;
    expect(stat(in_dir("a.qcow2"), &st) == 0);
    unsigned char *image = malloc((size_t)st.st_size);
    int fd = open(in_dir("a.qcow2"), O_RDONLY | O_CLOEXEC);
    expect(image && read(fd, image, (size_t)st.st_size) == st.st_size);
    close(fd);
    for (int i = 0; i < times; i++)
        use_damaged(image, (size_t)st.st_size, cluster);
    free(image);
}

NODE_TEST(bits_turned_over_anywhere)
{
    random_seed(1);
    const char *given = getenv("CAIRN_TEST_TIMES");
    int times = given ? atoi(given) : 60;
    damage_anywhere("-o cluster_size=512", 512, times);
    damage_anywhere("-o cluster_size=4096", 4096, times);
    damage_anywhere("-c -o cluster_size=4096", 4096, times);
    damage_anywhere("-c -o cluster_size=65536,compression_type=zstd", 65536, times);
    damage_anywhere("-o cluster_size=4096,compat=0.10", 4096, times);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_does_not_hit_tables),
        cmocka_unit_test(overlap_check_says_what_is_protected),
        cmocka_unit_test(overlap_check_flags_change_a_template),
        cmocka_unit_test(overlap_check_knows_l2_tables_of_snapshots_when_asked),
        cmocka_unit_test(a_discard_does_not_give_up_tables),
        cmocka_unit_test(tables_are_not_allocated_again),
        cmocka_unit_test(an_l1_table_of_a_snapshot_is_not_written),
        cmocka_unit_test(nothing_of_a_shared_table_is_written_in_place),
        cmocka_unit_test(l2_entries_that_cannot_be),
        cmocka_unit_test(l1_entries_that_cannot_be),
        cmocka_unit_test(refcount_blocks_that_cannot_be),
        cmocka_unit_test(tables_on_top_of_each_other_are_for_reading),
        cmocka_unit_test(a_table_without_entries_is_in_nobody_s_way),
        cmocka_unit_test(inconsistent_bitmaps_are_in_nobody_s_way),
        cmocka_unit_test(single_tables_on_top_of_each_other_are_for_reading),
        cmocka_unit_test(a_zero_flag_in_version_2),
        cmocka_unit_test(a_snapshot_table_that_cannot_be),
        cmocka_unit_test(compressed_data_that_does_not_unpack),
        cmocka_unit_test(what_was_discarded_before_the_damage_is_not_free_after_a_repair),
        cmocka_unit_test(tables_that_cannot_be_read_again_after_a_repair),
        cmocka_unit_test(tables_that_a_check_cannot_read),
        cmocka_unit_test(a_check_that_nobody_wants_ends),
        cmocka_unit_test(a_read_only_image_is_not_marked),
        cmocka_unit_test(bits_turned_over_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
