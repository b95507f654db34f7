/* Internal snapshots: what they show, who may have them, and what becomes of an image when a step fails. qemu-img is
 * the witness: it finds no fault with the image, and reads each snapshot. */
#include "blockcore/base/arena.h"
#include "blockcore/base/endian.h"
#include "blockcore/drivers/qcow2/qcow2_private.h"
#include "blockcore/drivers/qcow2/snapshot.h"
#include "blockcore/io/snapshot.h"
#include "blockcore/objects/object.h"
#include "schema/cairn_types.h"
#include "tests/unit/qcow2/images.h"

#define DISK (4 * MIB)
#define PASSWORD "sixteen letters!"
#define SECRET "--object secret,id=s,data='" PASSWORD "'"

static char *in_dir_plain(void)
{
    static char text[160];
    snprintf(text, sizeof(text), "driver=qcow2,file.filename=%s", in_dir("a.qcow2"));
    return text;
}

static char *in_dir_encrypted(void)
{
    static char text[240];
    snprintf(text, sizeof(text), "%s,encrypt.format=aes,encrypt.key-secret=s", in_dir_plain());
    return text;
}

static struct handle *open_disk(const char *options)
{
    qemu_img("create -q -f qcow2 -o cluster_size=4096,%s '%s' 4M", options, in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    return open_handle("disk", READ_WRITE_RESIZE);
}

static void snapshot_create(const char *name)
{
    expect_success(node_snapshot_create(node_find("disk"), name));
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

static struct error *try_delete(const char *id, const char *name)
{
    struct arena arena;
    struct snapshot_info deleted;
    arena_init(&arena, SIZE_MAX);
    struct error *err = node_snapshot_delete(node_find("disk"), id, name, &arena, &deleted);
    expect(err || !name || strcmp(deleted.name, name) == 0);
    arena_fini(&arena);
    return err;
}

/* The L1 table of the snapshot takes more clusters in a row than the refcount table has left, at some point. */
NODE_TEST(a_refcount_table_that_grows)
{
    qemu_img("create -q -f qcow2 -o cluster_size=512,refcount_bits=64 '%s' 64M", in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    const struct qcow2 *q = node_state(node_find("disk"));
    uint64_t at = 1700 * KIB;
    expect_int(put(disk, 0, at, 1), 0);
    expect_int(q->header.reftable_clusters, 1);
    for (; q->header.reftable_clusters == 1; at += 8 * KIB) {
        expect_int(put(disk, at, 8 * KIB, 1), 0);
        expect_success(node_snapshot_create(node_find("disk"), "first"));
        expect_success(try_delete(NULL, "first"));
    }
    expect(reads_as(disk, 0, at, 1));
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

/* Reads @bytes as the snapshot has them, by somebody else's hand. The image must be closed. */
static void expect_snapshot(const char *name, uint64_t offset, uint64_t bytes, int value)
{
    char line[400];
    char output[4096];
    qemu_img("convert -q -f qcow2 -O raw -l snapshot.name=%s '%s' '%s'", name, in_dir("a.qcow2"),
             in_dir("snapshot.raw"));
    snprintf(line, sizeof(line), "qemu-io -f raw -c 'read -P %d %llu %llu' '%s' | grep -q 'verification failed'", value,
             (unsigned long long)offset, (unsigned long long)bytes, in_dir("snapshot.raw"));
    expect(run_command(line, output, sizeof(output)) != 0);
}

static void close_disk(struct handle *disk)
{
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

NODE_TEST(a_snapshot_keeps_what_is_overwritten)
{
    struct handle *disk = open_disk("compat=1.1");
    expect_int(put(disk, 0, MIB, 1), 0);
    snapshot_create("first");
    expect_int(put(disk, 512 * KIB, MIB, 2), 0);
    expect(reads_as(disk, 0, 512 * KIB, 1));
    expect(reads_as(disk, 512 * KIB, MIB, 2));
    close_disk(disk);
    expect_snapshot("first", 0, MIB, 1);
    expect_snapshot("first", MIB, 3 * MIB, 0);
}

NODE_TEST(snapshots_are_listed)
{
    struct handle *disk = open_disk("compat=1.1");
    snapshot_create("first");
    snapshot_create("second");
    struct arena arena;
    struct image_info info = { 0 };
    arena_init(&arena, SIZE_MAX);
    node_driver(node_find("disk"))->describe(node_find("disk"), &info, &arena);
    expect_int(info.snapshots_count, 2);
    expect_text(info.snapshots[0].id, "1");
    expect_text(info.snapshots[1].id, "2");
    expect_text(info.snapshots[1].name, "second");
    expect_int(info.snapshots[1].vm_state_size, 0);
    expect(info.snapshots[1].date_sec > 1600000000 && !info.snapshots[1].has_icount);
    arena_fini(&arena);
    close_disk(disk);
}

NODE_TEST(a_deleted_snapshot_leaves_nothing_behind)
{
    struct handle *disk = open_disk("compat=1.1");
    expect_int(put(disk, 0, MIB, 1), 0);
    snapshot_create("first");
    expect_int(put(disk, 0, 2 * MIB, 2), 0);
    expect_success(try_delete(NULL, "first"));
    expect(reads_as(disk, 0, 2 * MIB, 2));
    /* Clusters that nobody shares any more are written in place again. */
    int64_t before = node_allocated_bytes(node_find("disk"));
    expect_int(put(disk, 0, 2 * MIB, 3), 0);
    expect_int(node_allocated_bytes(node_find("disk")), before);
    close_disk(disk);
}

NODE_TEST(a_snapshot_between_two_others_can_be_deleted)
{
    struct handle *disk = open_disk("compat=1.1");
    expect_int(put(disk, 0, MIB, 1), 0);
    snapshot_create("a");
    expect_int(put(disk, 0, 512 * KIB, 2), 0);
    snapshot_create("b");
    expect_int(put(disk, 0, 256 * KIB, 3), 0);
    snapshot_create("c");
    expect_success(try_delete("2", "b"));
    fails(try_delete(NULL, "b"), "Snapshot with id 'null' and name 'b' does not exist on device 'disk'");
    fails(try_delete("1", "c"), "Snapshot with id '1' and name 'c' does not exist on device 'disk'");
    close_disk(disk);
    expect_snapshot("a", 0, MIB, 1);
    expect_snapshot("c", 0, 256 * KIB, 3);
    expect_snapshot("c", 256 * KIB, 256 * KIB, 2);
}

NODE_TEST(going_back_to_a_snapshot_brings_back_content_and_length)
{
    struct handle *disk = open_disk("compat=1.1");
    expect_int(put(disk, 0, MIB, 1), 0);
    snapshot_create("small");
    expect_int(handle_truncate(disk, 64 * MIB, TRUNCATE_SPARSE), 0);
    expect_int(put(disk, 0, 48 * MIB, 2), 0);
    handle_close(disk);
    expect_success(node_snapshot_apply(node_find("disk"), NULL, "small"));
    expect_int(node_length(node_find("disk")), DISK);
    disk = open_handle("disk", READ_WRITE_RESIZE);
    expect(reads_as(disk, 0, MIB, 1));
    expect(reads_as(disk, MIB, 3 * MIB, 0));
    /* The snapshot stays what it is. */
    expect_int(put(disk, 0, 4096, 5), 0);
    close_disk(disk);
    expect_snapshot("small", 0, MIB, 1);
}

NODE_TEST(a_snapshot_of_a_disk_without_a_byte)
{
    qemu_img("create -q -f qcow2 '%s' 0", in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    snapshot_create("nothing");
    struct handle *disk = open_handle("disk", READ_WRITE_RESIZE);
    expect_int(handle_truncate(disk, DISK, TRUNCATE_SPARSE), 0);
    handle_close(disk);
    expect_success(node_snapshot_apply(node_find("disk"), NULL, "nothing"));
    expect_int(node_length(node_find("disk")), 0);
    remove_image("disk");
}

/* What a snapshot says of the disk's length is checked where it would count, and the image stays as it is. */
static void expect_length_refused(const char *create, uint64_t bytes, const char *message)
{
    unsigned char field[8];
    qemu_img("create -q -f qcow2 " SECRET " -o cluster_size=4096%s '%s' 1M", create, in_dir("a.qcow2"));
    qemu_img("snapshot -c old --image-opts " SECRET " '%s'", *create ? in_dir_encrypted() : in_dir_plain());
    int fd = open(in_dir("a.qcow2"), O_RDWR | O_CLOEXEC);
    expect(fd >= 0 && pread(fd, field, sizeof(field), 64) == sizeof(field));
    off_t table = (off_t)load_be64(field);
    store_be64(field, bytes);
    expect(pwrite(fd, field, sizeof(field), table + SNAPSHOT_ENTRY_BYTES + 8) == sizeof(field));
    close(fd);
    struct blockdev_qcow2_encryption encrypt = { .format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES,
                                                 .u.aes.key_secret = "sec0" };
    struct blockdev_options options = image_options("disk", in_dir("a.qcow2"));
    if (*create)
        options.u.qcow2.encrypt = &encrypt;
    add(options);
    fails(node_snapshot_apply(node_find("disk"), NULL, "old"), message);
    struct handle *disk = open_handle("disk", READ_WRITE_RESIZE);
    expect_int(node_length(handle_node(disk)), MIB);
    expect_int(put(disk, 0, MIB, 3), 0);
    handle_close(disk);
    remove_image("disk");
}

NODE_TEST(lengths_that_a_snapshot_cannot_have)
{
    struct object_options secret = { .qom_type = OBJECT_TYPE_SECRET, .id = "sec0", .u.secret = { .data = PASSWORD } };
    expect_success(object_add(&secret));
    expect_length_refused("", UINT64_MAX - 511, "which cannot be");
    expect_length_refused("", UINT64_C(1) << 60, "which cannot be");
    expect_length_refused(",encrypt.format=aes,encrypt.key-secret=s", MIB - 100, "ended inside a sector");
    object_del_all();
}

NODE_TEST(nobody_may_use_a_disk_that_goes_back)
{
    struct handle *disk = open_disk("compat=1.1");
    snapshot_create("first");
    fails(node_snapshot_apply(node_find("disk"), NULL, "first"), "disk");
    close_disk(disk);
}

NODE_TEST(a_name_is_used_once)
{
    struct handle *disk = open_disk("compat=1.1");
    snapshot_create("first");
    fails(node_snapshot_create(node_find("disk"), "first"),
          "Snapshot with name 'first' already exists on device 'disk'");
    close_disk(disk);
}

NODE_TEST(a_filter_has_the_snapshots_of_what_it_shows)
{
    struct handle *disk = open_disk("compat=0.10");
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_GATE, .node_name = "gate", .u.gate = { .file = by_name("disk") } });
    expect_success(node_snapshot_create(node_find("gate"), "first"));
    expect_success(blockdev_del("gate"));
    expect_success(try_delete("1", NULL));
    close_disk(disk);
}

NODE_TEST(other_formats_have_none)
{
    make_file("a.raw", MIB);
    add(file_options("file", in_dir("a.raw")));
    fails(node_snapshot_create(node_find("file"), "first"),
          "Block format 'file' used by device 'file' does not support internal snapshots");
    expect_success(blockdev_del("file"));
}

NODE_TEST(a_read_only_disk_gets_none)
{
    handle_close(open_disk("compat=1.1"));
    remove_image("disk");
    add(read_only(image_options("disk", in_dir("a.qcow2"))));
    fails(node_snapshot_create(node_find("disk"), "first"), "Device 'disk' is read only");
    remove_image("disk");
}

/* With counts of one bit nothing can be shared; the image is as it was. */
NODE_TEST(counts_that_cannot_grow)
{
    struct handle *disk = open_disk("refcount_bits=1");
    expect_int(put(disk, 0, MIB, 1), 0);
    fails(node_snapshot_create(node_find("disk"), "first"), "refcounts of 1 bits count to 1 only");
    expect_int(put(disk, 0, MIB, 2), 0);
    close_disk(disk);
}

/* With two bits a cluster has three users at most, and the fourth snapshot... is the third. What was counted up before
 * the limit was met is taken back. */
NODE_TEST(counts_that_grow_to_three)
{
    struct handle *disk = open_disk("refcount_bits=2");
    expect_int(put(disk, 0, MIB, 1), 0);
    snapshot_create("a");
    snapshot_create("b");
    expect_int(put(disk, 0, 64 * KIB, 2), 0);
    fails(node_snapshot_create(node_find("disk"), "c"), "refcounts of 2 bits count to 3 only");
    expect_int(put(disk, 0, MIB, 3), 0);
    snapshot_create("c");
    close_disk(disk);
    expect_snapshot("a", 0, MIB, 1);
    expect_snapshot("c", 0, MIB, 3);
}

/* Errors -------------------------------------------------------------------------------------------------------- */

static void open_failing(enum blkdebug_event event, int64_t passes)
{
    struct blkdebug_inject_error_options error = { .event = event, .has_state = true, .state = passes + 1 };
    struct blkdebug_set_state_options states[40];
    for (int64_t i = 0; i < passes; i++)
        states[i] = (struct blkdebug_set_state_options){
            .event = event, .has_state = true, .state = i + 1, .new_state = i + 2
        };
    error.has_once = true;
    error.once = true;
    add((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "blkdebug",
        .u.blkdebug = { .image = on_file(in_dir("a.qcow2")),
                        .has_inject_error = true,
                        .inject_error = &error,
                        .inject_error_count = 1,
                        .has_set_state = true,
                        .set_state = states,
                        .set_state_count = (size_t)passes },
    });
    struct blockdev_options options = image_options("disk", "");
    options.u.qcow2.file = by_name("blkdebug");
    add(options);
}

/* What went wrong was mended, or is marked so that whoever opens the image next counts anew. */
static void expect_sane(void)
{
    handle_close(open_handle("disk", READ_WRITE));
    remove_image("disk");
    expect_success(blockdev_del("blkdebug"));
    char line[200];
    char output[4096];
    snprintf(line, sizeof(line), "qemu-img check -q -r all '%s'", in_dir("a.qcow2"));
    run_command(line, output, sizeof(output));
    check_image("a.qcow2");
}

/* The error may still be to come. */
static void meet_error(struct handle *disk)
{
    unsigned char byte;
    for (int tries = 0; tries < 20; tries++)
        (void)get_bytes(disk, random_below(2 * MIB), &byte, 1);
    (void)handle_flush(disk);
}

/* An error at the n-th time that something happens: the operation fails or not, the content is what it was. */
static void fail_at(enum blkdebug_event event, int64_t passes, const char *what)
{
    struct handle *disk = open_disk("compat=1.1");
    expect_int(put(disk, 0, 2 * MIB, 1), 0);
    snapshot_create("old");
    expect_int(put(disk, 0, MIB, 2), 0);
    close_disk(disk);
    open_failing(event, passes);
    struct error *err = strcmp(what, "create") == 0   ? node_snapshot_create(node_find("disk"), "new")
                        : strcmp(what, "delete") == 0 ? try_delete(NULL, "old")
                                                      : node_snapshot_apply(node_find("disk"), NULL, "old");
    bool failed = err;
    error_free(err);
    disk = open_handle("disk", READ_WRITE);
    meet_error(disk);
    bool went_back = strcmp(what, "apply") == 0 && reads_as(disk, 0, MIB, 1);
    expect(went_back || reads_as(disk, 0, MIB, 2));
    expect(went_back || failed || strcmp(what, "apply") != 0);
    expect(reads_as(disk, MIB, MIB, 1));
    handle_close(disk);
    expect_sane();
}

NODE_TEST(errors_on_the_way)
{
    static const enum blkdebug_event events[] = {
        BLKDEBUG_EVENT_L2_LOAD,       BLKDEBUG_EVENT_L2_UPDATE,     BLKDEBUG_EVENT_L1_UPDATE,
        BLKDEBUG_EVENT_CLUSTER_ALLOC, BLKDEBUG_EVENT_REFBLOCK_LOAD, BLKDEBUG_EVENT_FLUSH_TO_OS,
    };
    static const char *const operations[] = { "create", "delete", "apply" };
    for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
        for (size_t n = 0; n < ARRAY_SIZE(operations); n++) {
            for (int64_t passes = 0; passes < 4; passes++)
                fail_at(events[i], passes, operations[n]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_keeps_what_is_overwritten),
        cmocka_unit_test(snapshots_are_listed),
        cmocka_unit_test(a_deleted_snapshot_leaves_nothing_behind),
        cmocka_unit_test(a_snapshot_between_two_others_can_be_deleted),
        cmocka_unit_test(going_back_to_a_snapshot_brings_back_content_and_length),
        cmocka_unit_test(a_snapshot_of_a_disk_without_a_byte),
        cmocka_unit_test(lengths_that_a_snapshot_cannot_have),
        cmocka_unit_test(nobody_may_use_a_disk_that_goes_back),
        cmocka_unit_test(a_name_is_used_once),
        cmocka_unit_test(a_filter_has_the_snapshots_of_what_it_shows),
        cmocka_unit_test(other_formats_have_none),
        cmocka_unit_test(a_read_only_disk_gets_none),
        cmocka_unit_test(counts_that_cannot_grow),
        cmocka_unit_test(counts_that_grow_to_three),
        cmocka_unit_test(a_refcount_table_that_grows),
        cmocka_unit_test(errors_on_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
