/* The filter 'blklogwrites': a replay of its log is the disk. The reader here knows the format by itself. */
#include "tests/unit/drivers/nodes.h"

#define BYTES (2 * MIB)

/* The log, read from its file ---------------------------------------------------------------------------------- */

struct super {
    uint64_t magic;
    uint64_t version;
    uint64_t records;
    uint32_t sector;
} __attribute__((packed));

struct record {
    uint64_t sector;
    uint64_t sectors;
    uint64_t flags;
    uint64_t text_bytes;
};

enum {
    FLUSH = 1,
    FUA = 2,
    DISCARD = 4,
};

static int log_fd;

static struct super read_super(void)
{
    struct super super;
    log_fd = open(in_dir("log"), O_RDONLY | O_CLOEXEC);
    expect(log_fd >= 0);
    expect(pread(log_fd, &super, sizeof(super), 0) == sizeof(super));
    expect(super.magic == 0x6a736677736872 && super.version == 1);
    return super;
}

/* Does to @disk (of BYTES) what the first @records say. Returns the flags of the last of them. */
static uint64_t replay(uint64_t records, unsigned char *disk)
{
    struct super super = read_super();
    uint64_t at = 1;
    uint64_t flags = 0;
    expect(records <= super.records);
    memset(disk, 0, BYTES);
    for (uint64_t i = 0; i < records; i++) {
        struct record record;
        expect(pread(log_fd, &record, sizeof(record), (off_t)(at * super.sector)) == sizeof(record));
        at++;
        flags = record.flags;
        uint64_t bytes = record.sectors * super.sector;
        uint64_t offset = record.sector * super.sector;
        expect(offset + bytes <= BYTES);
        if (flags & DISCARD) {
            memset(disk + offset, 0, bytes);
        } else {
            expect(pread(log_fd, disk + offset, bytes, (off_t)(at * super.sector)) == (ssize_t)bytes);
            at += record.sectors;
        }
    }
    close(log_fd);
    return flags;
}

static uint64_t records(void)
{
    struct super super = read_super();
    close(log_fd);
    return super.records;
}

/* Nodes -------------------------------------------------------------------------------------------------------- */

static struct blockdev_options log_options(void)
{
    return with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKLOGWRITES,
        .node_name = "logged",
        .u.blklogwrites = { .file = by_name("disk"), .log = by_name("log"), .log_super_update_interval = 4096 },
    });
}

static void add_disks(void)
{
    make_file("disk.img", BYTES);
    make_file("log", 0);
    add(with_discard(file_options("disk", in_dir("disk.img"))));
    add(file_options("log", in_dir("log")));
}

static struct handle *open_logged(void)
{
    add_disks();
    add(log_options());
    return open_handle("logged", READ_WRITE);
}

static bool replay_is_the_disk(struct handle *handle)
{
    unsigned char *model = malloc(BYTES);
    unsigned char *disk = malloc(BYTES);
    expect(model && disk);
    replay(records(), model);
    expect_int(get_bytes(handle, 0, disk, BYTES), 0);
    bool same = memcmp(model, disk, BYTES) == 0;
    free(model);
    free(disk);
    return same;
}

/* Tests -------------------------------------------------------------------------------------------------------- */

NODE_TEST(a_replay_is_the_disk)
{
    struct handle *handle = open_logged();
    expect_int(records(), 0);
    expect_int(put(handle, 0, 4096, 1), 0);
    expect_int(put(handle, 100, 1000, 2), 0); /* not in sectors */
    expect_int(handle_pwrite_zeroes(handle, range_make(512, 1024), 0), 0);
    expect_int(handle_pdiscard(handle, range_make(4096 * 2, 4096)), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(records(), 5);
    expect(replay_is_the_disk(handle));
    unsigned char *disk = malloc(BYTES);
    expect_int(replay(5, disk), FLUSH);
    expect_int(replay(4, disk), DISCARD);
    expect_int(replay(1, disk), 0);
    expect(disk[100] == 1 && disk[4095] == 1 && disk[4096] == 0);
    free(disk);
    handle_close(handle);
}

NODE_TEST(fua_is_recorded)
{
    struct handle *handle = open_logged();
    struct iovec storage;
    char data[512] = { 1 };
    struct iov iov = iov_of(&storage, data, sizeof(data));
    expect_int(handle_pwritev(handle, range_make(0, 512), &iov, REQ_FUA), 0);
    expect_int(handle_flush(handle), 0);
    unsigned char *disk = malloc(BYTES);
    expect_int(replay(1, disk), FUA);
    free(disk);
    handle_close(handle);
}

NODE_TEST(each_flush_is_a_moment_of_the_disk)
{
    enum { FLUSHES = 20 };
    struct handle *handle = open_logged();
    unsigned char *model = calloc(FLUSHES, BYTES);
    unsigned char *disk = malloc(BYTES);
    uint64_t at[FLUSHES];
    expect(model && disk);
    srand(1);
    for (int flush = 0; flush < FLUSHES; flush++) {
        for (int i = 0; i < 10; i++) {
            uint64_t offset = (uint64_t)rand() % (BYTES - 20000);
            size_t bytes = 1 + (size_t)rand() % 20000;
            if (rand() % 3 == 0)
                expect_int(handle_pwrite_zeroes(handle, range_make(offset, bytes), REQ_MAY_UNMAP), 0);
            else
                expect_int(put(handle, offset, bytes, rand() % 256), 0);
        }
        expect_int(handle_flush(handle), 0);
        at[flush] = records();
        expect_int(get_bytes(handle, 0, model + (size_t)flush * BYTES, BYTES), 0);
    }
    for (int flush = 0; flush < FLUSHES; flush++) {
        expect_int(replay(at[flush], disk), FLUSH);
        expect(memcmp(disk, model + (size_t)flush * BYTES, BYTES) == 0);
    }
    free(disk);
    free(model);
    handle_close(handle);
}

struct writer {
    struct handle *handle;
    unsigned seed;
    struct co_event done;
};

static void writer_entry(void *arg)
{
    struct writer *writer = arg;
    for (int i = 0; i < 100; i++) {
        uint64_t offset = (uint64_t)rand_r(&writer->seed) % 20000;
        size_t bytes = 1 + (size_t)rand_r(&writer->seed) % 5000;
        expect_int(put(writer->handle, offset, bytes, rand_r(&writer->seed) % 256), 0);
    }
    co_event_set(&writer->done);
}

/* Writes of the same bytes, by two threads: the log has them in the order in which the disk has. */
NODE_TEST(the_log_has_the_order_of_the_disk)
{
    struct handle *handle = open_logged();
    struct writer writers[4];
    for (unsigned i = 0; i < 4; i++) {
        writers[i] = (struct writer){ .handle = handle, .seed = i + 1 };
        co_event_init(&writers[i].done);
        co_start_on(loop_io(i % 2), "writer", writer_entry, &writers[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        co_event_wait(&writers[i].done, "test");
    expect_int(handle_flush(handle), 0);
    expect_int(records(), 401);
    expect(replay_is_the_disk(handle));
    handle_close(handle);
}

NODE_TEST(the_number_of_records_is_written_now_and_then)
{
    add_disks();
    struct blockdev_options options = log_options();
    options.u.blklogwrites.log_super_update_interval = 4;
    add(options);
    struct handle *handle = open_handle("logged", READ_WRITE);
    for (int i = 1; i < 12; i++) {
        expect_int(put(handle, 0, 512, i), 0);
        expect_int(records(), i / 4 * 4);
    }
    handle_close(handle);
}

NODE_TEST(a_log_is_gone_on_with_or_begun_anew)
{
    struct handle *handle = open_logged();
    expect_int(put(handle, 0, 512, 1), 0);
    expect_int(handle_pdiscard(handle, range_make(4096, 4096)), 0);
    handle_close(handle);
    expect_success(blockdev_del("logged"));
    expect_int(records(), 3); /* closing flushes */

    struct blockdev_options options = log_options();
    options.u.blklogwrites.log_append = true;
    add(options);
    handle = open_handle("logged", READ_WRITE);
    expect_int(put(handle, 512, 512, 2), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(records(), 5);
    expect(replay_is_the_disk(handle));
    handle_close(handle);
    expect_success(blockdev_del("logged"));

    add(log_options());
    expect_int(records(), 0);
}

NODE_TEST(sectors_may_be_larger)
{
    add_disks();
    struct blockdev_options options = log_options();
    options.u.blklogwrites.has_log_sector_size = true;
    options.u.blklogwrites.log_sector_size = 4096;
    add(options);
    struct handle *handle = open_handle("logged", READ_WRITE);
    expect_int(put(handle, 100, 9000, 2), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(read_super().sector, 4096);
    close(log_fd);
    expect(replay_is_the_disk(handle));
    handle_close(handle);
}

NODE_TEST(what_cannot_be_recorded_fails)
{
    const struct blkdebug_inject_error_options error = { .event = BLKDEBUG_EVENT_NONE,
                                                         .has_errno = true,
                                                         .errno_ = ENOSPC,
                                                         .has_iotype = true,
                                                         .iotype = BLKDEBUG_IO_TYPE_WRITE,
                                                         .has_sector = true,
                                                         .sector = 3,
                                                         .has_once = true,
                                                         .once = true };
    add_disks();
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "full",
        .u.blkdebug = {
            .image = by_name("log"), .has_inject_error = true, .inject_error = &error, .inject_error_count = 1 } });
    struct blockdev_options options = log_options();
    options.u.blklogwrites.log = by_name("full");
    add(options);
    struct handle *handle = open_handle("logged", READ_WRITE);
    expect_int(put(handle, 0, 512, 1), 0);
    expect_int(put(handle, 512, 512, 2), -ENOSPC);
    /* The next one takes its place. */
    expect_int(put(handle, 512, 512, 2), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(records(), 3);
    expect(replay_is_the_disk(handle));
    handle_close(handle);
}

NODE_TEST(status_is_that_of_the_node_below)
{
    struct handle *handle = open_logged();
    expect_int(put(handle, 64 * KIB, 64 * KIB, 1), 0);
    expect_text(map_text(handle, ASK_ALL), "0+64z@0 64+64d@64 128+1920z@128");
    handle_close(handle);
}

static void write_log_file(const void *data, size_t bytes)
{
    int fd = open(in_dir("log"), O_RDWR | O_TRUNC | O_CLOEXEC);
    expect(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);
}

NODE_TEST(a_log_that_is_none_is_not_believed)
{
    struct {
        struct super super;
        char rest[512 - sizeof(struct super)];
        struct record record;
        char end[512 - sizeof(struct record)];
    } log = { .super = { .magic = 1, .version = 1, .records = 1, .sector = 512 } };
    add_disks();
    struct blockdev_options options = log_options();
    options.u.blklogwrites.log_append = true;
    struct {
        struct super super;
        struct record record;
        const char *error;
    } bad[] = {
        { { 1, 1, 1, 512 }, { 0, 0, 0, 0 }, "this is no log of writes" },
        { { 0x6a736677736872, 2, 1, 512 }, { 0, 0, 0, 0 }, "version 2 of the log is not known" },
        { { 0x6a736677736872, 1, 1, 513 }, { 0, 0, 0, 0 }, "the log's sectors of 513 bytes" },
        { { 0x6a736677736872, 1, 1, 512 }, { 0, 0, 32, 0 }, "record 0 of 1: flags 0x20 are not known" },
        { { 0x6a736677736872, 1, 1, 512 }, { 0, 1, 0, 0 }, "record 0 of 1: it ends behind the end of the log" },
        { { 0x6a736677736872, 1, 1, 512 }, { 0, UINT64_MAX, 0, 0 }, "it ends behind the end of the log" },
        { { 0x6a736677736872, 1, UINT64_MAX, 512 },
          { 0, 0, 1, 0 },
          "record 1 of 18446744073709551615: cannot read it" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        log.super = bad[i].super;
        log.record = bad[i].record;
        write_log_file(&log, sizeof(log));
        expect_success(blockdev_del("log"));
        add(file_options("log", in_dir("log")));
        add_fails(options, bad[i].error);
    }
    options.u.blklogwrites.has_log_sector_size = true;
    options.u.blklogwrites.log_sector_size = 512;
    add_fails(options, "mutually exclusive");
    options.u.blklogwrites.log_append = false;
    options.u.blklogwrites.log_sector_size = 256;
    add_fails(options, "log-sector-size: 256 is not a power of two between 512 and 8388608");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_is_the_disk),
        cmocka_unit_test(fua_is_recorded),
        cmocka_unit_test(each_flush_is_a_moment_of_the_disk),
        cmocka_unit_test(the_log_has_the_order_of_the_disk),
        cmocka_unit_test(the_number_of_records_is_written_now_and_then),
        cmocka_unit_test(a_log_is_gone_on_with_or_begun_anew),
        cmocka_unit_test(sectors_may_be_larger),
        cmocka_unit_test(what_cannot_be_recorded_fails),
        cmocka_unit_test(status_is_that_of_the_node_below),
        cmocka_unit_test(a_log_that_is_none_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
