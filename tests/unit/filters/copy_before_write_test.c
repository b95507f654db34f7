/* The filter 'copy-before-write', and the node 'snapshot-access' that shows what it keeps.
 *
 *     guest  --> cbw --file----> above (gate) --> disk (disk.img)
 *     backup --> snap   target-> beside (gate) --> debug (blkdebug) --> temp (temp.img) */
#include "tests/unit/drivers/nodes.h"

#include "blockcore/base/memory.h"
#include "blockcore/filters/gate.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/drain.h"
#include "blockcore/graph/notice.h"
#include "blockcore/graph/rearrange.h"

#define CLUSTER (64 * KIB)
#define BYTES (4 * MIB)

static struct blockdev_options gate_options(const char *node_name, const char *file)
{
    return (struct blockdev_options){ .driver = BLOCKDEV_DRIVER_GATE,
                                      .node_name = node_name,
                                      .u.gate = { .file = by_name(file) } };
}

static struct blockdev_options cbw_options(const char *file)
{
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_COPY_BEFORE_WRITE,
        .node_name = "cbw",
        .u.copy_before_write = { .file = by_name(file), .target = by_name("beside") },
    };
}

static struct blockdev_options snapshot_options(const char *file)
{
    return with_discard((struct blockdev_options){ .driver = BLOCKDEV_DRIVER_SNAPSHOT_ACCESS,
                                                   .node_name = "snap",
                                                   .u.snapshot_access = { .file = by_name(file) } });
}

static unsigned broken;

static void listen(const struct notice *notice, void *arg)
{
    (void)arg;
    broken += notice->kind == NOTICE_SNAPSHOT_BROKEN;
}

/* Everything below the filter; the target fails as @error says. */
static void add_disks(const struct blkdebug_inject_error_options *error)
{
    broken = 0;
    notice_set_listener(listen, NULL);
    make_file("disk.img", BYTES);
    make_file("temp.img", BYTES);
    add(with_discard(file_options("disk", in_dir("disk.img"))));
    add(with_discard(gate_options("above", "disk")));
    add(with_discard(file_options("temp", in_dir("temp.img"))));
    add(with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "debug",
        .u.blkdebug = { .image = by_name("temp"),
                        .has_inject_error = error != NULL,
                        .inject_error = error,
                        .inject_error_count = error ? 1 : 0 },
    }));
    add(with_discard(gate_options("beside", "debug")));
}

static void fill_disk(int fill)
{
    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_int(put(handle, 0, BYTES, fill), 0);
    handle_close(handle);
}

static struct handle *guest;
static struct handle *backup;

static void open_both(struct blockdev_options cbw)
{
    add(with_discard(cbw));
    guest = open_handle("cbw", READ_WRITE_RESIZE);
    add(snapshot_options("cbw"));
    backup = open_handle("snap", READ_WRITE);
}

static void close_both(void)
{
    handle_close(backup);
    handle_close(guest);
}

static void open_simple(void)
{
    add_disks(NULL);
    fill_disk(1);
    open_both(cbw_options("above"));
}

/* How many clusters were copied: each at most once. */
static uint64_t copies(void)
{
    return gate_seen(node_find("beside"), GATE_WRITE | GATE_WRITE_ZEROES);
}

/* Requests on other threads ------------------------------------------------------------------------------------ */

struct request {
    struct handle *handle;
    int (*run)(struct handle *handle);
    int ret;
    struct co_event done;
};

static void request_entry(void *arg)
{
    struct request *request = arg;
    request->ret = request->run(request->handle);
    co_event_set(&request->done);
}

static void start(struct request *request, struct handle *handle, int (*run)(struct handle *handle))
{
    static unsigned next;
    *request = (struct request){ .handle = handle, .run = run };
    co_event_init(&request->done);
    co_start_on(loop_io(next++ % 2), "request", request_entry, request);
}

static int finish(struct request *request)
{
    co_event_wait(&request->done, "test");
    return request->ret;
}

static int write_first(struct handle *handle)
{
    return put(handle, 0, 512, 2);
}

static int read_first_as_1(struct handle *handle)
{
    return reads_as(handle, 0, 4096, 1) ? 0 : -EIO;
}

/* One thread --------------------------------------------------------------------------------------------------- */

NODE_TEST(the_snapshot_stays_while_the_disk_goes_on)
{
    open_simple();
    expect_int(node_length(node_find("snap")), BYTES);
    expect_int(put(guest, 100, 512, 2), 0);
    expect_int(handle_pwrite_zeroes(guest, range_make(CLUSTER, CLUSTER), 0), 0);
    expect_int(handle_pdiscard(guest, range_make(3 * CLUSTER, CLUSTER)), 0);
    expect_int(put(guest, BYTES - 10, 10, 3), 0);
    expect(reads_as(backup, 0, BYTES, 1));
    expect(reads_as(guest, 100, 512, 2));
    expect(reads_as(guest, CLUSTER, CLUSTER, 0));
    expect(reads_as(guest, BYTES - 10, 10, 3));
    expect_int(copies(), 4);
    close_both();
}

/* Whoever reads the moment stands on this very filter; others move. */
NODE_TEST(the_snapshot_stays_when_the_filter_gets_an_overlay)
{
    open_simple();
    char output[200];
    CLEANUP(free) char *line = xasprintf("qemu-img create -q -f qcow2 %s %d", in_dir("overlay"), BYTES);
    expect_int(run_command(line, output, sizeof(output)), 0);
    add(file_options("overlay-file", in_dir("overlay")));
    struct blockdev_ref_or_null none = { .kind = BLOCKDEV_REF_OR_NULL_KIND_NULL };
    add((struct blockdev_options){ .driver = BLOCKDEV_DRIVER_QCOW2,
                                   .node_name = "overlay",
                                   .u.qcow2 = { .file = by_name("overlay-file"), .backing = &none } });
    expect_success(node_snapshot(node_find("cbw"), node_find("overlay")));
    expect(handle_node(guest) == node_find("overlay"));
    expect_int(put(guest, 100, 512, 2), 0);
    expect(reads_as(backup, 0, BYTES, 1));
    close_both();
}

NODE_TEST(the_filter_cannot_go_while_its_moment_is_read)
{
    open_simple();
    expect_error(filter_remove(node_find("cbw"), NULL), "which node 'cbw' (as its 'file') does not share");
    expect(handle_node(guest) == node_find("cbw"));
    expect_int(put(guest, 100, 512, 2), 0);
    expect(reads_as(backup, 0, BYTES, 1));
    close_both();
}

NODE_TEST(each_cluster_is_copied_once)
{
    open_simple();
    for (int i = 2; i < 10; i++)
        expect_int(put(guest, (uint64_t)i * 1000, 1000, i), 0);
    expect_int(copies(), 1);
    expect_int(put(guest, 0, 4 * CLUSTER, 2), 0);
    expect_int(copies(), 2); /* the other three at once */
    expect(reads_as(backup, 0, BYTES, 1));
    close_both();
}

NODE_TEST(zeroes_are_not_read_to_be_copied)
{
    add_disks(NULL);
    open_both(cbw_options("above"));
    expect_int(put(guest, 0, 512, 2), 0);
    expect_int(gate_seen(node_find("above"), GATE_READ), 0);
    expect_int(gate_seen(node_find("beside"), GATE_WRITE), 0);
    expect(reads_as(backup, 0, BYTES, 0));
    close_both();
}

NODE_TEST(a_larger_unit_is_taken_if_it_is_wanted)
{
    add_disks(NULL);
    fill_disk(1);
    struct blockdev_options options = cbw_options("above");
    options.u.copy_before_write.has_min_cluster_size = true;
    options.u.copy_before_write.min_cluster_size = MIB;
    open_both(options);
    expect_int(put(guest, 3 * MIB, 512, 2), 0);
    expect_text(map_text(backup, ASK_ALL), "0+4096d");
    struct handle *temp = open_handle("temp", READ);
    expect_text(map_text(temp, ASK_ZERO), "0+3072z 3072+1024");
    handle_close(temp);
    close_both();
}

NODE_TEST(nobody_can_write_what_was)
{
    open_simple();
    expect_int(put(backup, 0, 512, 2), -EPERM);
    expect_int(handle_pwrite_zeroes(backup, range_make(0, 512), 0), -EPERM);
    expect_int(handle_flush(backup), 0);
    close_both();
}

NODE_TEST(what_is_not_needed_is_not_copied)
{
    open_simple();
    expect_int(put(guest, 0, CLUSTER, 2), 0);
    expect_int(copies(), 1);
    /* Parts of clusters are still needed. */
    expect_int(handle_pdiscard(backup, range_make(10, 3 * CLUSTER)), 0);
    expect(reads_as(backup, 0, CLUSTER, 1));
    expect_int(handle_pdiscard(backup, range_make(0, 2 * CLUSTER)), 0);
    expect_int(put(guest, 0, 2 * CLUSTER, 3), 0);
    expect_int(copies(), 1);
    char byte;
    expect_int(get_bytes(backup, CLUSTER, &byte, 1), -EACCES);
    expect_int(get_bytes(backup, 0, &byte, 1), -EACCES);
    expect_int(put(guest, 2 * CLUSTER, CLUSTER, 3), 0);
    expect_int(get_bytes(backup, 2 * CLUSTER, &byte, 1), -EACCES);
    expect(reads_as(backup, 3 * CLUSTER, BYTES - 3 * CLUSTER, 1));
    struct handle *temp = open_handle("temp", READ);
    expect_text(map_text(temp, ASK_ZERO), "0+4096z");
    handle_close(temp);
    close_both();
}

/* Clusters that the bitmap has no bit of are not copied, and cannot be read. What becomes of the bitmap later is its
 * own affair. */
NODE_TEST(only_what_a_bitmap_has_is_kept)
{
    add_disks(NULL);
    fill_disk(1);
    struct dirty_bitmap *bitmap;
    expect_success(dirty_bitmap_create(node_find("disk"), "wanted", 4096, &bitmap));
    dirty_bitmap_mark(bitmap, range_make(2 * CLUSTER + 5000, 1));
    dirty_bitmap_mark(bitmap, range_make(5 * CLUSTER, 2 * CLUSTER));
    struct block_dirty_bitmap wanted = { .node = "disk", .name = "wanted" };
    struct blockdev_options options = cbw_options("above");
    options.u.copy_before_write.bitmap = &wanted;
    open_both(options);
    dirty_bitmap_destroy(bitmap);
    expect_int(put(guest, 0, BYTES, 2), 0);
    expect_int(copies(), 2);
    char byte;
    expect_int(get_bytes(backup, 0, &byte, 1), -EACCES);
    expect_int(get_bytes(backup, 3 * CLUSTER, &byte, 1), -EACCES);
    expect(reads_as(backup, 2 * CLUSTER, CLUSTER, 1));
    expect(reads_as(backup, 5 * CLUSTER, 2 * CLUSTER, 1));
    close_both();
}

NODE_TEST(status_is_that_of_the_moment)
{
    add_disks(NULL);
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect_int(put(disk, MIB, MIB, 1), 0);
    handle_close(disk);
    open_both(cbw_options("above"));
    expect_text(map_text(backup, ASK_ALL), "0+1024z 1024+1024d 2048+2048z");
    expect_int(put(guest, 0, 512 * KIB, 2), 0);
    expect_int(handle_pwrite_zeroes(guest, range_make(MIB, 512 * KIB), REQ_MAY_UNMAP), 0);
    expect_int(put(guest, 3 * MIB, 4096, 2), 0);
    expect_text(map_text(backup, ASK_ALL), "0+1024z 1024+1024d 2048+2048z");
    expect_text(map_text(backup, ASK_ZERO), "0+1024z 1024+1024 2048+2048z");
    expect_text(map_text(backup, ASK_MAP), "0+1024 1024+1024d 2048+2048");
    expect_text(map_text(backup, ASK_ALLOCATED), "0+4096");
    expect_text(map_text(guest, ASK_ZERO), "0+512 512+1024z 1536+512 2048+1024z 3072+4 3076+1020z");
    /* What was given up is not known to be zero. */
    expect_int(handle_pdiscard(backup, range_make(0, 128 * KIB)), 0);
    expect_text(map_text(backup, ASK_ALL), "0+128d 128+896z 1024+1024d 2048+2048z");
    close_both();
}

NODE_TEST(what_is_cut_off_is_kept)
{
    open_simple();
    expect_int(handle_resize(guest, MIB + 100, TRUNCATE_SPARSE), 0);
    expect_int(node_length(node_find("disk")), MIB + 100);
    expect(reads_as(backup, 0, BYTES, 1));
    expect_int(handle_resize(guest, 5 * MIB, TRUNCATE_SPARSE), 0);
    expect_int(put(guest, 4 * MIB + 100, 4096, 2), 0);
    expect(reads_as(guest, 2 * MIB, MIB, 0));
    expect(reads_as(backup, 0, BYTES, 1));
    close_both();
}

NODE_TEST(a_disk_may_end_inside_a_cluster)
{
    broken = 0;
    make_file("disk.img", 100001);
    make_file("temp.img", 100001);
    add(file_options("disk", in_dir("disk.img")));
    add(file_options("beside", in_dir("temp.img")));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect_int(put(disk, 0, 100001, 1), 0);
    handle_close(disk);
    open_both(cbw_options("disk"));
    expect_int(put(guest, 100000, 1, 2), 0);
    expect(reads_as(backup, 0, 100001, 1));
    expect_int(handle_pdiscard(backup, range_make(CLUSTER, 100001 - CLUSTER)), 0);
    char byte;
    expect_int(get_bytes(backup, 100000, &byte, 1), -EACCES);
    expect(reads_as(backup, 0, CLUSTER, 1));
    close_both();
}

NODE_TEST(nobody_writes_the_disk_beside_the_filter)
{
    add_disks(NULL);
    /* Before it has a parent it is only prepared. */
    struct handle *handle = open_handle("disk", READ_WRITE);
    add(cbw_options("above"));
    handle_close(handle);
    guest = open_handle("cbw", READ);
    expect_error(handle_open(node_find("disk"), "somebody", READ_WRITE, PERM_ALL, &handle),
                 "needs permission 'write' on node 'disk'");
    handle_close(guest);
    /* Nothing has been read or written: it may go on waiting. */
    handle = open_handle("disk", READ_WRITE);
    handle_close(handle);
    guest = open_handle("cbw", READ_WRITE);
    add(snapshot_options("cbw"));
    backup = open_handle("snap", READ);
    expect_int(put(guest, 0, 1, 1), 0);
    handle_close(guest);
    expect(reads_as(backup, 0, BYTES, 0));
    expect_error(handle_open(node_find("disk"), "somebody", READ_WRITE, PERM_ALL, &handle),
                 "needs permission 'write' on node 'disk'");

    /* The point in time ends with the last user. */
    handle_close(backup);
    expect_success(blockdev_del("snap"));
    handle = open_handle("disk", READ_WRITE);
    handle_close(handle);
    add(snapshot_options("cbw"));
    backup = open_handle("snap", READ);
    char byte;
    expect_int(get_bytes(backup, 0, &byte, 1), -EACCES);
    handle_close(backup);
}

NODE_TEST(options_are_checked)
{
    add_disks(NULL);
    make_file("small.img", BYTES - 1);
    add(file_options("small", in_dir("small.img")));
    struct blockdev_options options = cbw_options("above");
    options.u.copy_before_write.target = by_name("small");
    add_fails(options, "target: node 'small' is 4194303 bytes long, but node 'above' is 4194304");
    options = cbw_options("above");
    options.u.copy_before_write.has_min_cluster_size = true;
    options.u.copy_before_write.min_cluster_size = 100000;
    add_fails(options, "min-cluster-size: 100000 is not a power of two");
    struct block_dirty_bitmap none = { .node = "disk", .name = "none" };
    options = cbw_options("above");
    options.u.copy_before_write.bitmap = &none;
    add_fails(options, "bitmap.name: Dirty bitmap 'none' not found");
    none.node = "nowhere";
    add_fails(options, "bitmap.node: Failed to find node with node-name='nowhere'");
    add_fails(snapshot_options("above"), "file: node 'above' is no copy-before-write filter");
    add(null_options("huge", INT64_MAX & ~0x1fffffLL));
    add(gate_options("huge-target", "huge"));
    options = cbw_options("huge");
    options.u.copy_before_write.target = by_name("huge-target");
    add_fails(options, "a larger min-cluster-size helps");
    /* Other filters may stand between. */
    add(cbw_options("above"));
    add(gate_options("between", "cbw"));
    add(snapshot_options("between"));
    expect_int(node_length(node_find("snap")), BYTES);
}

/* Order -------------------------------------------------------------------------------------------------------- */

NODE_TEST(a_write_waits_until_the_old_bytes_are_in_the_target)
{
    open_simple();
    struct node *beside = node_find("beside");
    struct node *above = node_find("above");
    struct request write;
    struct request again;
    gate_hold(beside, GATE_WRITE, GATE_ALL);
    start(&write, guest, write_first);
    gate_wait_held(beside, 1);
    start(&again, guest, write_first);
    expect_int(gate_seen(above, GATE_WRITE), 0);
    expect(reads_as(backup, 0, 4096, 1));
    expect(reads_as(guest, 0, 4096, 1));
    /* Other clusters are copied meanwhile. */
    gate_release(beside, GATE_WRITE, GATE_ALL);
    expect_int(finish(&write), 0);
    expect_int(finish(&again), 0);
    expect_int(copies(), 1);
    expect(reads_as(guest, 0, 512, 2));
    expect(reads_as(backup, 0, 4096, 1));
    close_both();
}

NODE_TEST(a_frozen_read_holds_back_the_write_of_its_bytes_and_no_other)
{
    open_simple();
    struct node *above = node_find("above");
    struct request read;
    struct request write;
    gate_hold(above, GATE_READ, 1);
    start(&read, backup, read_first_as_1);
    gate_wait_held(above, 1);
    start(&write, guest, write_first);
    while (copies() < 1)
        co_yield ();
    /* One in the same cluster, of bytes that are not being read, and one elsewhere. */
    expect_int(put(guest, CLUSTER - 512, 512, 2), 0);
    expect_int(put(guest, 5 * CLUSTER, 512, 2), 0);
    expect_int(gate_seen(above, GATE_WRITE), 2);
    gate_release(above, GATE_READ, GATE_ALL);
    expect_int(finish(&read), 0);
    expect_int(finish(&write), 0);
    expect_int(gate_seen(above, GATE_WRITE), 3);
    expect(reads_as(backup, 0, BYTES, 1));
    close_both();
}

/* Errors ------------------------------------------------------------------------------------------------------- */

static const struct blkdebug_inject_error_options no_space_once = {
    .event = BLKDEBUG_EVENT_NONE, .has_errno = true, .errno_ = ENOSPC, .has_once = true, .once = true
};

NODE_TEST(the_guest_pays_for_an_error_of_the_target)
{
    add_disks(&no_space_once);
    fill_disk(1);
    open_both(cbw_options("above"));
    expect_int(put(guest, 0, 512, 2), -ENOSPC);
    expect(reads_as(guest, 0, 512, 1));
    expect(reads_as(backup, 0, BYTES, 1));
    expect_int(put(guest, 0, 512, 2), 0);
    expect(reads_as(guest, 0, 512, 2));
    expect(reads_as(backup, 0, BYTES, 1));
    expect_int(broken, 0);
    close_both();
}

NODE_TEST(the_snapshot_pays_for_an_error_of_the_target)
{
    add_disks(&no_space_once);
    fill_disk(1);
    struct blockdev_options options = cbw_options("above");
    options.u.copy_before_write.on_cbw_error = ON_CBW_ERROR_BREAK_SNAPSHOT;
    open_both(options);
    expect_int(put(guest, 0, 512, 2), 0);
    expect_int(broken, 1);
    char byte;
    expect_int(get_bytes(backup, 0, &byte, 1), -EACCES);
    expect_int(get_bytes(backup, 3 * CLUSTER, &byte, 1), -EACCES);
    struct extents extents;
    extents_init(&extents, 1);
    expect_int(handle_block_status(backup, range_make(0, 512), ASK_ZERO, NULL, false, &extents), -EACCES);
    extents_fini(&extents);
    /* Nothing is copied any more. */
    uint64_t before = copies();
    expect_int(put(guest, CLUSTER, CLUSTER, 2), 0);
    expect_int(copies(), before);
    expect_int(broken, 1);
    close_both();
}

/* A read that has begun is answered with what was. */
NODE_TEST(a_read_in_flight_outlives_the_end_of_the_snapshot)
{
    add_disks(&no_space_once);
    fill_disk(1);
    struct blockdev_options options = cbw_options("above");
    options.u.copy_before_write.on_cbw_error = ON_CBW_ERROR_BREAK_SNAPSHOT;
    open_both(options);
    struct node *above = node_find("above");
    struct request read;
    struct request write;
    gate_hold(above, GATE_READ, 1);
    start(&read, backup, read_first_as_1);
    gate_wait_held(above, 1);
    start(&write, guest, write_first);
    while (broken == 0 && copies() < 1)
        co_yield ();
    expect_int(gate_seen(above, GATE_WRITE), 0);
    gate_release(above, GATE_READ, GATE_ALL);
    expect_int(finish(&read), 0);
    expect_int(finish(&write), 0);
    char byte;
    expect_int(get_bytes(backup, 0, &byte, 1), -EACCES);
    close_both();
}

NODE_TEST(a_target_that_hangs_costs_the_guest_a_write_and_no_more)
{
    add_disks(NULL);
    fill_disk(1);
    struct blockdev_options options = cbw_options("above");
    options.u.copy_before_write.cbw_timeout = 1;
    open_both(options);
    struct node *beside = node_find("beside");
    gate_hold(beside, GATE_WRITE, 1);
    expect_int(put(guest, 0, 512, 2), -ETIMEDOUT);
    expect(reads_as(guest, 0, 512, 1));
    expect(reads_as(backup, 0, BYTES, 1));
    expect_int(put(guest, CLUSTER, 512, 2), 0);

    /* Nothing changes below the copy that goes on. */
    struct request write;
    gate_release(beside, GATE_WRITE, GATE_ALL);
    struct drain *drain = drain_begin(node_find("temp"));
    drain_end(drain);
    start(&write, guest, write_first);
    expect_int(finish(&write), 0);
    expect_int(copies(), 2);
    expect(reads_as(backup, 0, BYTES, 1));
    close_both();
}

struct closing {
    struct co_event done;
};

static void close_cbw(void *arg)
{
    struct closing *closing = arg;
    expect_success(blockdev_del("cbw"));
    co_event_set(&closing->done);
}

NODE_TEST(a_target_that_hangs_breaks_the_snapshot_and_the_guest_goes_on)
{
    add_disks(NULL);
    fill_disk(1);
    struct blockdev_options options = cbw_options("above");
    options.u.copy_before_write.cbw_timeout = 1;
    options.u.copy_before_write.on_cbw_error = ON_CBW_ERROR_BREAK_SNAPSHOT;
    open_both(options);
    struct node *beside = node_find("beside");
    gate_hold(beside, GATE_WRITE, GATE_ALL);
    expect_int(put(guest, 0, 512, 2), 0);
    expect(reads_as(guest, 0, 512, 2));
    expect_int(broken, 1);
    expect_int(put(guest, CLUSTER, 512, 2), 0);
    close_both();
    expect_success(blockdev_del("snap"));

    /* The filter stays until the copy has ended. */
    struct closing closing;
    co_event_init(&closing.done);
    co_start("closing", close_cbw, &closing);
    co_yield ();
    expect(!co_event_is_set(&closing.done));
    gate_release(beside, GATE_WRITE, GATE_ALL);
    co_event_wait(&closing.done, "test");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_snapshot_stays_while_the_disk_goes_on),
        cmocka_unit_test(the_snapshot_stays_when_the_filter_gets_an_overlay),
        cmocka_unit_test(the_filter_cannot_go_while_its_moment_is_read),
        cmocka_unit_test(each_cluster_is_copied_once),
        cmocka_unit_test(zeroes_are_not_read_to_be_copied),
        cmocka_unit_test(a_larger_unit_is_taken_if_it_is_wanted),
        cmocka_unit_test(nobody_can_write_what_was),
        cmocka_unit_test(what_is_not_needed_is_not_copied),
        cmocka_unit_test(only_what_a_bitmap_has_is_kept),
        cmocka_unit_test(status_is_that_of_the_moment),
        cmocka_unit_test(what_is_cut_off_is_kept),
        cmocka_unit_test(a_disk_may_end_inside_a_cluster),
        cmocka_unit_test(nobody_writes_the_disk_beside_the_filter),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(a_write_waits_until_the_old_bytes_are_in_the_target),
        cmocka_unit_test(a_frozen_read_holds_back_the_write_of_its_bytes_and_no_other),
        cmocka_unit_test(the_guest_pays_for_an_error_of_the_target),
        cmocka_unit_test(the_snapshot_pays_for_an_error_of_the_target),
        cmocka_unit_test(a_read_in_flight_outlives_the_end_of_the_snapshot),
        cmocka_unit_test(a_target_that_hangs_costs_the_guest_a_write_and_no_more),
        cmocka_unit_test(a_target_that_hangs_breaks_the_snapshot_and_the_guest_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
