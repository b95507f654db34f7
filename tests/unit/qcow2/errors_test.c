/* I/O errors at every event that the driver tells of: the request that meets one fails, service goes on, and in the end
 * nothing is corrupt. blkdebug stands between the image and its file. */
#include "tests/unit/qcow2/images.h"

#define DISK (4 * MIB)
#define STEPS 60

struct disk {
    struct handle *handle;
    unsigned char *bytes; /* the model */
    unsigned failures;
};

static void fill(struct disk *disk, struct range range)
{
    memset(disk->bytes + range.offset, 1 + (int)random_below(255), range.bytes);
}

/* A write that failed leaves its range in any state; trying again mends it. It may fail again, but not for ever: each
 * error is injected once. */
static void write_until_done(struct disk *disk, struct range range)
{
    fill(disk, range);
    for (int tries = 0; put_bytes(disk->handle, range.offset, disk->bytes + range.offset, range.bytes) < 0; tries++) {
        disk->failures++;
        expect(tries < 10);
    }
}

/* Whole clusters of any size up to 64 KiB. */
static void pack_until_done(struct disk *disk, struct range range)
{
    range = range_align_out(range, 64 * KIB);
    fill(disk, range);
    for (int tries = 0; put_compressed(disk->handle, range.offset, disk->bytes + range.offset, range.bytes) < 0;
         tries++) {
        disk->failures++;
        expect(tries < 10);
    }
}

static void zero_until_done(struct disk *disk, struct range range)
{
    memset(disk->bytes + range.offset, 0, range.bytes);
    unsigned flags = random_below(2) ? REQ_MAY_UNMAP : 0;
    for (int tries = 0; handle_pwrite_zeroes(disk->handle, range, flags) < 0; tries++) {
        disk->failures++;
        expect(tries < 10);
    }
}

static void flush_until_done(struct disk *disk)
{
    for (int tries = 0; handle_flush(disk->handle) < 0; tries++) {
        disk->failures++;
        expect(tries < 10);
    }
}

static void read_until_done(struct disk *disk, struct range range)
{
    unsigned char *data = malloc(range.bytes);
    expect(data);
    for (int tries = 0; get_bytes(disk->handle, range.offset, data, range.bytes) < 0; tries++) {
        disk->failures++;
        expect(tries < 10);
    }
    expect(memcmp(data, disk->bytes + range.offset, range.bytes) == 0);
    free(data);
}

static void do_something(struct disk *disk)
{
    struct range range = range_make(random_below(DISK - 300000), 1 + random_below(300000));
    switch (random_below(8)) {
    case 0:
        zero_until_done(disk, range);
        break;
    case 1:
        flush_until_done(disk);
        break;
    case 2:
        read_until_done(disk, range);
        break;
    case 3:
        pack_until_done(disk, range);
        break;
    default:
        write_until_done(disk, range);
    }
}

static void make_image(const char *create, struct disk *disk)
{
    unsigned char *base = malloc(DISK);
    expect(base);
    memset(base, 0x5b, DISK);
    memset(disk->bytes, 0x5b, DISK);
    save("base.raw", base, DISK);
    free(base);
    qemu_img("create -q -f qcow2 -b base.raw -F raw -o %s '%s'", create, in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    disk->handle = open_handle("disk", READ_WRITE);
    expect_int(put(disk->handle, 0, DISK / 2, 0x5b), 0);
    handle_close(disk->handle);
    remove_image("disk");
    qemu_img("snapshot -c first '%s'", in_dir("a.qcow2"));
}

/* As many errors at this event as there are rules. */
static void open_failing(struct disk *disk, enum blkdebug_event event, unsigned errors)
{
    struct blkdebug_inject_error_options rules[4];
    expect(errors <= ARRAY_SIZE(rules));
    for (unsigned i = 0; i < errors; i++)
        rules[i] = (struct blkdebug_inject_error_options){
            .event = event,
            .has_errno = true,
            .errno_ = i % 2 ? ENOSPC : EIO,
            .has_once = true,
            .once = true,
        };
    struct blockdev_options blkdebug = {
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "blkdebug",
        .u.blkdebug = { .image = on_file(in_dir("a.qcow2")),
                        .has_inject_error = true,
                        .inject_error = rules,
                        .inject_error_count = errors },
    };
    add(blkdebug);
    struct blockdev_options options = image_options("disk", "");
    options.u.qcow2.file = by_name("blkdebug");
    struct blockdev_options base = read_only(file_options(NULL, in_dir("base.raw")));
    struct blockdev_ref_or_null backing = { .kind = BLOCKDEV_REF_OR_NULL_KIND_DEFINITION, .u.definition = &base };
    options.u.qcow2.backing = &backing;
    options.u.qcow2.has_l2_cache_size = true;
    options.u.qcow2.l2_cache_size = 4096;
    options.u.qcow2.has_l2_cache_entry_size = true;
    options.u.qcow2.l2_cache_entry_size = 512;
    struct error *err; /* opening reads tables as well */
    while ((err = blockdev_add(&options))) {
        expect(disk->failures++ < errors);
        error_free(err);
    }
    disk->handle = open_handle("disk", READ_WRITE_RESIZE);
}

/* Clusters may be lost where giving them up failed, nothing else. */
static void expect_not_corrupt(void)
{
    int status = try_qemu_img("check -q '%s' >/dev/null", in_dir("a.qcow2"));
    expect(status == 0 || status == 3);
}

static void fail_at(enum blkdebug_event event, const char *create, unsigned errors, unsigned *failures)
{
    struct disk disk = { .bytes = malloc(DISK) };
    expect(disk.bytes);
    make_image(create, &disk);
    open_failing(&disk, event, errors);
    for (int i = 0; i < STEPS; i++)
        do_something(&disk);
    expect_content(disk.handle, disk.bytes, DISK);
    handle_close(disk.handle);
    remove_image("disk");
    remove_image("blkdebug");
    expect_not_corrupt();
    add_image("disk", in_dir("a.qcow2"));
    disk.handle = open_handle("disk", READ);
    expect_content(disk.handle, disk.bytes, DISK);
    handle_close(disk.handle);
    remove_image("disk");
    free(disk.bytes);
    *failures += disk.failures;
}

static void fail_at_all(const char *create, unsigned errors, const enum blkdebug_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned failures = 0;
        random_seed(i);
        fail_at(events[i], create, errors, &failures);
        if (failures == 0)
            print_error("no request met an error at '%s'\n", blkdebug_event_name(events[i]));
        expect(failures > 0);
    }
}

static const enum blkdebug_event usual_events[] = {
    BLKDEBUG_EVENT_L1_UPDATE,
    BLKDEBUG_EVENT_L2_LOAD,
    BLKDEBUG_EVENT_L2_UPDATE,
    BLKDEBUG_EVENT_L2_ALLOC_COW_READ,
    BLKDEBUG_EVENT_L2_ALLOC_WRITE,
    BLKDEBUG_EVENT_READ_AIO,
    BLKDEBUG_EVENT_WRITE_AIO,
    BLKDEBUG_EVENT_COW_WRITE,
    BLKDEBUG_EVENT_REFBLOCK_UPDATE_PART,
    BLKDEBUG_EVENT_CLUSTER_ALLOC,
    BLKDEBUG_EVENT_FLUSH_TO_OS,
    BLKDEBUG_EVENT_WRITE_COMPRESSED,
    BLKDEBUG_EVENT_READ_COMPRESSED,
    BLKDEBUG_EVENT_CLUSTER_ALLOC_BYTES,
    BLKDEBUG_EVENT_L2_UPDATE_COMPRESSED,
    BLKDEBUG_EVENT_FLUSH_TO_DISK,
    BLKDEBUG_EVENT_PWRITEV,
    BLKDEBUG_EVENT_PWRITEV_DONE,
};

NODE_TEST(errors_at_every_event)
{
    fail_at_all("cluster_size=4096", 3, usual_events, ARRAY_SIZE(usual_events));
}

NODE_TEST(errors_at_every_event_with_subclusters)
{
    static const enum blkdebug_event events[] = {
        BLKDEBUG_EVENT_L2_LOAD,   BLKDEBUG_EVENT_L2_UPDATE,     BLKDEBUG_EVENT_L2_ALLOC_COW_READ,
        BLKDEBUG_EVENT_WRITE_AIO, BLKDEBUG_EVENT_COW_WRITE,     BLKDEBUG_EVENT_REFBLOCK_UPDATE_PART,
        BLKDEBUG_EVENT_PWRITEV,   BLKDEBUG_EVENT_CLUSTER_ALLOC, BLKDEBUG_EVENT_FLUSH_TO_OS,
    };
    fail_at_all("cluster_size=65536,extended_l2=on", 3, events, ARRAY_SIZE(events));
}

NODE_TEST(errors_at_every_event_with_smallest_clusters)
{
    static const enum blkdebug_event events[] = {
        BLKDEBUG_EVENT_REFTABLE_LOAD,
        BLKDEBUG_EVENT_REFTABLE_UPDATE,
        BLKDEBUG_EVENT_REFTABLE_GROW,
        BLKDEBUG_EVENT_REFBLOCK_LOAD,
        BLKDEBUG_EVENT_REFBLOCK_ALLOC,
        BLKDEBUG_EVENT_REFBLOCK_ALLOC_WRITE_BLOCKS,
        BLKDEBUG_EVENT_REFBLOCK_ALLOC_WRITE_TABLE,
        BLKDEBUG_EVENT_L1_UPDATE,
        BLKDEBUG_EVENT_L2_UPDATE,
        BLKDEBUG_EVENT_REFBLOCK_ALLOC_WRITE,
        BLKDEBUG_EVENT_REFBLOCK_ALLOC_HOOKUP,
    };
    fail_at_all("cluster_size=512,refcount_bits=64", 3, events, ARRAY_SIZE(events));
}

/* The header leads to the old refcount table or to the new one. As long as one of them can be had, all is well. */
NODE_TEST(an_error_while_the_header_changes)
{
    static const enum blkdebug_event events[] = { BLKDEBUG_EVENT_REFBLOCK_ALLOC_SWITCH_TABLE };
    fail_at_all("cluster_size=512,refcount_bits=64", 1, events, 1);
}

/* When nobody knows what the header says, nothing more is written. */
NODE_TEST(errors_that_leave_the_header_unknown)
{
    struct disk disk = { .bytes = calloc(1, DISK) };
    expect(disk.bytes);
    make_image("cluster_size=512,refcount_bits=64", &disk);
    open_failing(&disk, BLKDEBUG_EVENT_REFBLOCK_ALLOC_SWITCH_TABLE, 2);
    int ret = 0;
    for (uint64_t at = 0; at < DISK && ret == 0; at += 65536)
        ret = put(disk.handle, at, 65536, 6);
    expect_int(ret, -EIO);
    expect_int(put(disk.handle, 0, 512, 6), -EIO);
    expect_int(handle_flush(disk.handle), -EIO);
    handle_close(disk.handle);
    remove_image("disk");
    remove_image("blkdebug");
    expect_not_corrupt();
    free(disk.bytes);
}

/* Growing moves the L1 table; an error leaves the disk as long as it was. */
NODE_TEST(errors_while_growing)
{
    static const enum blkdebug_event events[] = {
        BLKDEBUG_EVENT_L1_GROW_ALLOC_TABLE,
        BLKDEBUG_EVENT_L1_GROW_WRITE_TABLE,
        BLKDEBUG_EVENT_L1_GROW_ACTIVATE_TABLE,
    };
    for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
        struct disk disk = { .bytes = malloc(DISK) };
        expect(disk.bytes);
        make_image("cluster_size=512", &disk);
        open_failing(&disk, events[i], 1);
        write_until_done(&disk, range_make(0, MIB));
        int ret = handle_truncate(disk.handle, 16 * MIB, TRUNCATE_SPARSE);
        if (ret < 0) {
            expect_int(node_length(node_find("disk")), DISK);
            expect_int(handle_truncate(disk.handle, 16 * MIB, TRUNCATE_SPARSE), 0);
        } else {
            /* Allocation alone does no I/O that could fail. */
            expect_int(events[i], BLKDEBUG_EVENT_L1_GROW_ALLOC_TABLE);
        }
        write_until_done(&disk, range_make(MIB, MIB));
        expect_int(put(disk.handle, 15 * MIB, MIB, 3), 0);
        expect_content(disk.handle, disk.bytes, DISK);
        expect(reads_as(disk.handle, DISK, 11 * MIB, 0));
        handle_close(disk.handle);
        remove_image("disk");
        remove_image("blkdebug");
        expect_not_corrupt();
        free(disk.bytes);
    }
}

/* The first writes to the file fail, as many as @errors. */
static void open_failing_writes(struct disk *disk, unsigned errors)
{
    struct blkdebug_inject_error_options rules[2];
    expect(errors <= ARRAY_SIZE(rules));
    for (unsigned i = 0; i < errors; i++)
        rules[i] = (struct blkdebug_inject_error_options){
            .event = BLKDEBUG_EVENT_NONE,
            .has_iotype = true,
            .iotype = BLKDEBUG_IO_TYPE_WRITE,
            .has_once = true,
            .once = true,
        };
    struct blockdev_options blkdebug = {
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "blkdebug",
        .u.blkdebug = { .image = on_file(in_dir("a.qcow2")),
                        .has_inject_error = true,
                        .inject_error = rules,
                        .inject_error_count = errors },
    };
    add(blkdebug);
    struct blockdev_options options = image_options("disk", "");
    options.u.qcow2.file = by_name("blkdebug");
    add(options);
    disk->handle = open_handle("disk", READ_WRITE_RESIZE);
}

/* Of an empty disk nothing is written but the header. If that were shorter than its user believes, what is written
 * behind the end would be lost. */
NODE_TEST(errors_while_the_size_changes)
{
    static const uint64_t sizes[] = { DISK / 2, 2 * DISK };
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (unsigned errors = 1; errors <= 2; errors++) {
            struct disk disk = { 0 };
            qemu_img("create -q -f qcow2 '%s' %d", in_dir("a.qcow2"), DISK);
            open_failing_writes(&disk, errors);
            expect_int(handle_truncate(disk.handle, sizes[i], TRUNCATE_SPARSE), -EIO);
            expect_int(node_length(node_find("disk")), DISK);
            expect_int(put(disk.handle, DISK - MIB, MIB, 7), errors == 1 ? 0 : -EIO);
            if (errors == 1)
                expect_int(handle_truncate(disk.handle, sizes[i], TRUNCATE_SPARSE), 0);
            handle_close(disk.handle);
            remove_image("disk");
            remove_image("blkdebug");
            check_image("a.qcow2");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_at_every_event),
        cmocka_unit_test(errors_at_every_event_with_subclusters),
        cmocka_unit_test(errors_at_every_event_with_smallest_clusters),
        cmocka_unit_test(an_error_while_the_header_changes),
        cmocka_unit_test(errors_that_leave_the_header_unknown),
        cmocka_unit_test(errors_while_growing),
        cmocka_unit_test(errors_while_the_size_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
