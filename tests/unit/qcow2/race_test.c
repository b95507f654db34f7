/* Requests that meet: what waits for what, and what must not. A gate between the image and its file holds requests.
 *
 *     disk (qcow2) --file--> gate --> a.qcow2 (file) */
#include "tests/unit/qcow2/images.h"

#include "blockcore/filters/gate.h"

#define CLUSTER 65536

struct request {
    struct handle *disk;
    struct range range;
    int fill; /* < 0: a read */
    unsigned char *data;
    int ret;
    struct co_event done;
};

static struct handle *disk;
static struct node *gate;

static void open_disk(const char *create)
{
    qemu_img("create -q -f qcow2 %s '%s' 16M", create, in_dir("a.qcow2"));
    struct blockdev_options held = {
        .driver = BLOCKDEV_DRIVER_GATE,
        .node_name = "gate",
        .u.gate = { .file = on_file(in_dir("a.qcow2")) },
    };
    add(held);
    struct blockdev_options options = image_options("disk", "");
    options.u.qcow2.file = by_name("gate");
    add(options);
    gate = node_find("gate");
    disk = open_handle("disk", READ_WRITE_RESIZE);
}

static void close_disk(void)
{
    handle_close(disk);
    remove_image("disk");
    remove_image("gate");
    check_image("a.qcow2");
}

static void run_request(void *arg)
{
    struct request *request = arg;
    if (request->fill < 0)
        request->ret = get_bytes(request->disk, request->range.offset, request->data, request->range.bytes);
    else
        request->ret = put_bytes(request->disk, request->range.offset, request->data, request->range.bytes);
    co_event_set(&request->done);
}

static struct request *start(uint64_t offset, uint64_t bytes, int fill)
{
    struct request *request = calloc(1, sizeof(*request));
    expect(request);
    *request = (struct request){ .disk = disk, .range = range_make(offset, bytes), .fill = fill };
    request->data = malloc(bytes);
    expect(request->data);
    memset(request->data, fill, bytes);
    co_event_init(&request->done);
    co_start("request", run_request, request);
    return request;
}

struct zeroing {
    struct range range;
    struct co_event done;
};

static void run_zeroing(void *arg)
{
    struct zeroing *zeroing = arg;
    expect_int(handle_pwrite_zeroes(disk, zeroing->range, 0), 0);
    co_event_set(&zeroing->done);
}

/* The write has copied what was around it before; were the zeroes not to wait, that would come back. */
static bool is_done(const struct request *request)
{
    return co_event_is_set(&request->done);
}

static void finish(struct request *request)
{
    co_event_wait(&request->done, "a request of the test");
    expect_int(request->ret, 0);
    free(request->data);
    free(request);
}

static void flush(void)
{
    expect_int(handle_flush(disk), 0);
}

/* Everything that may make freed clusters available happens: tables change, are written back and flushed. */
static void churn(uint64_t offset, int times)
{
    for (int i = 0; i < times; i++) {
        expect_int(put(disk, offset + (uint64_t)i * CLUSTER, CLUSTER, 0x0c), 0);
        flush();
    }
}

NODE_TEST(writes_to_different_clusters_do_not_wait_for_each_other)
{
    open_disk("");
    expect_int(put(disk, 0, 1, 1), 0); /* so that there is an L2 table */
    gate_hold(gate, GATE_WRITE, 1);
    struct request *held = start(4 * CLUSTER, 100, 0x21);
    gate_wait_held(gate, 1);
    expect_int(put(disk, 5 * CLUSTER, 100, 0x22), 0);
    expect(reads_as(disk, 4 * CLUSTER, 100, 0)); /* not there yet */
    expect(!is_done(held));
    gate_release(gate, GATE_WRITE, GATE_ALL);
    finish(held);
    expect(reads_as(disk, 4 * CLUSTER, 100, 0x21));
    expect(reads_as(disk, 4 * CLUSTER + 100, CLUSTER - 100, 0));
    close_disk();
}

/* Once the cluster has its place. A discard of other subclusters waits: it might give up the place. */
NODE_TEST(writes_to_different_subclusters_do_not_wait_for_each_other)
{
    open_disk("-o extended_l2=on");
    expect_int(put(disk, 4 * CLUSTER, 1, 1), 0);
    gate_hold(gate, GATE_WRITE, 1);
    struct request *held = start(4 * CLUSTER + 8192, 100, 0x21);
    gate_wait_held(gate, 1);
    expect_int(put(disk, 4 * CLUSTER + 16384, 5000, 0x22), 0);
    struct request *same = start(4 * CLUSTER + 8192 + 1000, 100, 0x23);
    struct zeroing first = { .range = range_make(4 * CLUSTER, 2048) };
    co_event_init(&first.done);
    co_start("zeroing", run_zeroing, &first);
    expect(!is_done(held) && !is_done(same) && !co_event_is_set(&first.done));
    gate_release(gate, GATE_WRITE, GATE_ALL);
    finish(held);
    finish(same);
    co_event_wait(&first.done, "the zeroing");
    expect(reads_as(disk, 4 * CLUSTER, 8192, 0));
    expect(reads_as(disk, 4 * CLUSTER + 8192, 100, 0x21));
    expect(reads_as(disk, 4 * CLUSTER + 9192, 100, 0x23));
    expect(reads_as(disk, 4 * CLUSTER + 16384, 5000, 0x22));
    close_disk();
}

NODE_TEST(a_second_write_to_a_new_cluster_waits_and_both_are_there)
{
    open_disk("");
    gate_hold(gate, GATE_WRITE, 1);
    struct request *first = start(4 * CLUSTER, 512, 0x31);
    gate_wait_held(gate, 1);
    struct request *second = start(4 * CLUSTER + 512, 512, 0x32);
    struct request *longer = start(3 * CLUSTER, 2 * CLUSTER, 0x33);
    expect(!is_done(second) && !is_done(longer));
    gate_release(gate, GATE_WRITE, GATE_ALL);
    finish(first);
    finish(second);
    finish(longer);
    expect(reads_as(disk, 3 * CLUSTER, CLUSTER, 0x33));
    expect(reads_as(disk, 5 * CLUSTER, CLUSTER, 0));
    close_disk();
}

NODE_TEST(zeroes_wait_for_a_write_to_the_same_cluster)
{
    unsigned char *base = malloc(MIB);
    expect(base);
    memset(base, 0x40, MIB);
    save("base.raw", base, MIB);
    free(base);
    open_disk("-b base.raw -F raw");
    gate_hold(gate, GATE_WRITE, 1);
    struct request *write = start(4 * CLUSTER, 512, 0x41);
    gate_wait_held(gate, 1);
    struct zeroing zeroing = { .range = range_make(4 * CLUSTER, CLUSTER) };
    co_event_init(&zeroing.done);
    co_start("zeroes", run_zeroing, &zeroing);
    expect(!co_event_is_set(&zeroing.done));
    gate_release(gate, GATE_WRITE, GATE_ALL);
    finish(write);
    co_event_wait(&zeroing.done, "zeroes");
    expect(reads_as(disk, 4 * CLUSTER + 512, CLUSTER - 512, 0));
    expect(reads_as(disk, 5 * CLUSTER, 512, 0x40));
    close_disk();
}

NODE_TEST(a_flush_does_not_wait_for_a_write)
{
    open_disk("");
    expect_int(put(disk, 0, 1, 1), 0);
    flush();
    gate_hold(gate, GATE_WRITE, 1);
    struct request *write = start(4 * CLUSTER, 512, 0x51);
    gate_wait_held(gate, 1);
    flush();
    expect(!is_done(write));
    gate_release(gate, GATE_WRITE, GATE_ALL);
    finish(write);
    close_disk();
}

/* The cluster that a read is on its way to is not given to anybody else, whatever happens to it meanwhile. */
NODE_TEST(a_read_finds_the_cluster_as_it_was)
{
    open_disk("");
    expect_int(put(disk, 0, 8 * CLUSTER, 0x61), 0);
    flush();
    gate_hold(gate, GATE_READ, 1);
    struct request *read = start(2 * CLUSTER, CLUSTER, -1);
    gate_wait_held(gate, 1);
    expect_int(handle_pdiscard(disk, range_make(0, 8 * CLUSTER)), 0);
    churn(20 * CLUSTER, 12);
    gate_release(gate, GATE_READ, GATE_ALL);
    co_event_wait(&read->done, "the read");
    for (size_t i = 0; i < CLUSTER; i++)
        expect(read->data[i] == 0x61 || read->data[i] == 0);
    finish(read);
    close_disk();
}

/* A write that is late hits what it was meant for, or nothing. */
NODE_TEST(a_late_write_hits_nobody_else)
{
    open_disk("");
    expect_int(put(disk, 0, 8 * CLUSTER, 0x71), 0);
    flush();
    gate_hold(gate, GATE_WRITE, 1);
    struct request *write = start(2 * CLUSTER, CLUSTER, 0x72);
    gate_wait_held(gate, 1);
    expect_int(handle_pwrite_zeroes(disk, range_make(0, 8 * CLUSTER), REQ_MAY_UNMAP), 0);
    churn(20 * CLUSTER, 12);
    gate_release(gate, GATE_WRITE, GATE_ALL);
    finish(write);
    expect(reads_as(disk, 20 * CLUSTER, 12 * CLUSTER, 0x0c));
    close_disk();
}

/* Freed clusters do come back. */
NODE_TEST(space_is_used_again)
{
    open_disk("");
    for (int i = 0; i < 30; i++) {
        expect_int(put(disk, 0, MIB, 0x01 + i), 0);
        flush();
        expect_int(handle_pdiscard(disk, range_make(0, MIB)), 0);
        flush();
    }
    handle_close(disk);
    remove_image("disk");
    remove_image("gate");
    check_image("a.qcow2");
    struct stat st;
    expect(stat(in_dir("a.qcow2"), &st) == 0);
    expect(st.st_size < 5 * MIB);
}

/* Without any flush of the guest, too. */
NODE_TEST(space_is_used_again_without_flushes)
{
    open_disk("-o cluster_size=4096");
    for (int i = 0; i < 40; i++) {
        expect_int(put(disk, 0, 4 * MIB, 0x01 + i), 0);
        expect_int(handle_pdiscard(disk, range_make(0, 4 * MIB)), 0);
    }
    handle_close(disk);
    remove_image("disk");
    remove_image("gate");
    check_image("a.qcow2");
    struct stat st;
    expect(stat(in_dir("a.qcow2"), &st) == 0);
    expect(st.st_size < 16 * MIB);
}

static void resize_under_writes(void *arg)
{
    struct co_event *done = arg;
    expect_int(handle_truncate(disk, 64 * MIB, TRUNCATE_SPARSE), 0);
    co_event_set(done);
}

/* The table of tables moves while others use it. */
NODE_TEST(a_resize_and_writes_at_the_same_time)
{
    open_disk("-o cluster_size=512");
    struct request *writes[40];
    for (unsigned i = 0; i < ARRAY_SIZE(writes) / 2; i++)
        writes[i] = start(i * 300 * KIB, 100 * KIB, (int)i + 1);
    struct co_event resized;
    co_event_init(&resized);
    co_start("resize", resize_under_writes, &resized);
    for (unsigned i = ARRAY_SIZE(writes) / 2; i < ARRAY_SIZE(writes); i++)
        writes[i] = start(i * 300 * KIB, 100 * KIB, (int)i + 1);
    co_event_wait(&resized, "the resize");
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++)
        finish(writes[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++)
        expect(reads_as(disk, i * 300 * KIB, 100 * KIB, (int)i + 1));
    expect(reads_as(disk, 16 * MIB, MIB, 0));
    close_disk();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_to_different_clusters_do_not_wait_for_each_other),
        cmocka_unit_test(writes_to_different_subclusters_do_not_wait_for_each_other),
        cmocka_unit_test(a_second_write_to_a_new_cluster_waits_and_both_are_there),
        cmocka_unit_test(zeroes_wait_for_a_write_to_the_same_cluster),
        cmocka_unit_test(a_flush_does_not_wait_for_a_write),
        cmocka_unit_test(a_read_finds_the_cluster_as_it_was),
        cmocka_unit_test(a_late_write_hits_nobody_else),
        cmocka_unit_test(space_is_used_again),
        cmocka_unit_test(space_is_used_again_without_flushes),
        cmocka_unit_test(a_resize_and_writes_at_the_same_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
