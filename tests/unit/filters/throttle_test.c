/* The filter 'throttle' and its groups: whose turn it is, and who need not wait. Time stands still unless a test moves
 * it. */
#include "tests/unit/drivers/nodes.h"

#include "blockcore/base/memory.h"
#include "blockcore/filters/throttle.h"
#include "blockcore/filters/throttle_group.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/drain.h"
#include "blockcore/objects/object.h"

#include <time.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

static _Atomic uint64_t now = SECOND;

static struct throttle_group *make_group(const char *id, struct throttle_limits limits)
{
    throttle_use_clock(&now);
    expect_success(object_add(&(struct object_options){
        .qom_type = OBJECT_TYPE_THROTTLE_GROUP,
        .id = id,
        .u.throttle_group = { .limits = &limits },
    }));
    return throttle_group_of(object_find(id));
}

static struct error *configure(const char *id, struct throttle_limits limits)
{
    struct object_options options = {
        .qom_type = OBJECT_TYPE_THROTTLE_GROUP,
        .id = id,
        .u.throttle_group = { .limits = &limits },
    };
    return object_kind_of(object_find(id))->change(object_find(id), &options);
}

static struct throttle_limits iops(int64_t rate)
{
    return (struct throttle_limits){ .has_iops_total = true, .iops_total = rate };
}

static struct blockdev_options throttle_options(const char *node_name, const char *group, const char *file)
{
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_THROTTLE,
        .node_name = node_name,
        .u.throttle = { .throttle_group = group, .file = by_name(file) },
    };
}

static void add_throttle(const char *node_name, const char *group)
{
    CLEANUP(free) char *below = xasprintf("%s-null", node_name);
    add(null_options(below, MIB));
    add(with_discard(throttle_options(node_name, group, below)));
}

static void move_clock(struct throttle_group *group, uint64_t ns)
{
    now += ns;
    throttle_group_clock_moved(group);
}

/* Requests ----------------------------------------------------------------------------------------------------- */

struct request {
    struct handle *handle;
    const char *name; /* noted when it ends */
    bool write;
    int ret;
    struct co_event done;
};

static void run_request(void *arg)
{
    struct request *request = arg;
    request->ret = request->write ? put(request->handle, 0, 512, 1) : (reads_as(request->handle, 0, 512, 0) ? 0 : -EIO);
    if (request->name)
        note(request->name);
    co_event_set(&request->done);
}

static void prepare(struct request *request, struct handle *handle, bool write, const char *name)
{
    *request = (struct request){ .handle = handle, .write = write, .name = name, .ret = 1 };
    co_event_init(&request->done);
}

/* On this thread: it waits, or has ended, when this returns. */
static void start(struct request *request, struct handle *handle, bool write, const char *name)
{
    prepare(request, handle, write, name);
    co_start("request", run_request, request);
}

static int end(struct request *request)
{
    co_event_wait(&request->done, "a request to end");
    return request->ret;
}

static void wait_until_waiting(struct throttle_group *group, unsigned count)
{
    while (throttle_group_waiting(group) != count)
        co_yield ();
}

static void let_others_run(void)
{
    for (unsigned i = 0; i < 10; i++)
        co_yield ();
}

/* Until the next request waits. */
static void fill(struct handle *handle, unsigned requests)
{
    for (unsigned i = 0; i < requests; i++)
        expect_int(put(handle, 0, 512, 1), 0);
}

/* Tests -------------------------------------------------------------------------------------------------------- */

NODE_TEST(a_request_over_the_limit_waits_for_its_time)
{
    struct throttle_group *group = make_group("limits", iops(10));
    add_throttle("disk", "limits");
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct request request;
    fill(disk, 2);
    start(&request, disk, true, NULL);
    wait_until_waiting(group, 1);
    move_clock(group, 99 * MS);
    let_others_run();
    expect(!co_event_is_set(&request.done));
    move_clock(group, 2 * MS);
    expect_int(end(&request), 0);
    handle_close(disk);
    blockdev_del_all();
    object_del_all();
}

NODE_TEST(members_take_turns_and_so_do_reads_and_writes)
{
    struct throttle_group *group = make_group("limits", iops(10));
    add_throttle("a", "limits");
    add_throttle("b", "limits");
    struct handle *a = open_handle("a", READ_WRITE);
    struct handle *b = open_handle("b", READ_WRITE);
    struct request requests[7];
    fill(a, 2);
    start(&requests[0], a, false, "a1");
    start(&requests[1], a, false, "a2");
    start(&requests[2], a, false, "a3");
    start(&requests[3], b, false, "b1");
    start(&requests[4], b, false, "b2");
    start(&requests[5], b, true, "bw");
    start(&requests[6], a, true, "aw");
    wait_until_waiting(group, 7);
    for (unsigned i = 0; i < 7; i++) {
        move_clock(group, 101 * MS);
        wait_until_waiting(group, 6 - i);
        let_others_run();
    }
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
        expect_int(end(&requests[i]), 0);
    expect_text(noted(), "a1 bw b1 aw a2 b2 a3");
    handle_close(a);
    handle_close(b);
    blockdev_del_all();
    object_del_all();
}

NODE_TEST(a_direction_that_may_pass_does_not_wait_for_the_other)
{
    struct throttle_group *group = make_group(
        "limits",
        (struct throttle_limits){ .has_iops_read = true, .iops_read = 1, .has_iops_write = true, .iops_write = 1000 });
    add_throttle("disk", "limits");
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct request read;
    struct request write;
    expect(reads_as(disk, 0, 512, 0));
    fill(disk, 101);
    start(&read, disk, false, NULL);
    start(&write, disk, true, NULL);
    wait_until_waiting(group, 2);
    move_clock(group, 2 * MS);
    expect_int(end(&write), 0);
    expect(!co_event_is_set(&read.done));
    move_clock(group, SECOND);
    expect_int(end(&read), 0);
    handle_close(disk);
    blockdev_del_all();
    object_del_all();
}

NODE_TEST(new_limits_count_at_once)
{
    struct throttle_group *group = make_group("limits", iops(1));
    add_throttle("disk", "limits");
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct request requests[3];
    fill(disk, 1);
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
        start(&requests[i], disk, true, NULL);
    wait_until_waiting(group, 3);
    expect_success(configure("limits", iops(20)));
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
        expect_int(end(&requests[i]), 0);
    start(&requests[0], disk, true, NULL);
    wait_until_waiting(group, 1);
    expect_success(configure("limits", iops(0)));
    expect_int(end(&requests[0]), 0);
    fill(disk, 1000);
    handle_close(disk);
    blockdev_del_all();
    object_del_all();
}

NODE_TEST(flushes_and_questions_do_not_wait)
{
    make_group("limits", iops(1));
    add_throttle("disk", "limits");
    struct handle *disk = open_handle("disk", READ_WRITE);
    fill(disk, 1);
    expect_int(handle_flush(disk), 0);
    expect_text(map_text(disk, ASK_ALL), "0+1024z@0");
    handle_close(disk);
    blockdev_del_all();
    object_del_all();
}

NODE_TEST(zeroes_and_discards_are_writes)
{
    struct throttle_group *group =
        make_group("limits", (struct throttle_limits){ .has_bps_write = true, .bps_write = 1024 });
    add_throttle("disk", "limits");
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect_int(handle_pwrite_zeroes(disk, range_make(0, 1024), 0), 0);
    expect(reads_as(disk, 0, 4096, 0));
    struct request request;
    start(&request, disk, true, NULL);
    wait_until_waiting(group, 1);
    move_clock(group, SECOND);
    expect_int(end(&request), 0);
    move_clock(group, SECOND);
    expect_int(handle_pdiscard(disk, range_make(0, 4096)), 0);
    start(&request, disk, true, NULL);
    move_clock(group, 3 * SECOND);
    let_others_run();
    expect(!co_event_is_set(&request.done));
    move_clock(group, 2 * SECOND);
    expect_int(end(&request), 0);
    handle_close(disk);
    blockdev_del_all();
    object_del_all();
}

/* Who waits for the end of requests ---------------------------------------------------------------------------- */

NODE_TEST(a_drain_lets_everyone_through_and_the_limits_stay)
{
    struct throttle_group *group = make_group("limits", iops(1));
    add_throttle("disk", "limits");
    add_throttle("other", "limits");
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct handle *other = open_handle("other", READ_WRITE);
    struct request requests[2];
    struct request of_other;
    fill(disk, 1);
    start(&requests[0], disk, true, NULL);
    start(&of_other, other, true, NULL);
    start(&requests[1], disk, false, NULL);
    wait_until_waiting(group, 3);
    drain_end(drain_begin(node_find("disk-null")));
    expect_int(end(&requests[0]), 0);
    expect_int(end(&requests[1]), 0);
    expect_int(throttle_group_waiting(group), 1); /* that of the other, which the drain does not reach */
    move_clock(group, 5 * SECOND);
    expect_int(end(&of_other), 0);
    start(&requests[0], disk, true, NULL);
    wait_until_waiting(group, 1);
    move_clock(group, SECOND);
    expect_int(end(&requests[0]), 0);
    handle_close(disk);
    handle_close(other);
    blockdev_del_all();
    object_del_all();
}

/*     handle --> top (raw) --> disk (throttle) --> null: the filter comes in between, under requests that wait */
NODE_TEST(a_filter_is_inserted_while_requests_wait)
{
    struct throttle_group *group = make_group("limits", iops(1));
    add_throttle("disk", "limits");
    add(throttle_options("upper", "limits", "disk"));
    struct handle *handle = open_handle("disk", READ_WRITE);
    struct request requests[2];
    fill(handle, 1);
    start(&requests[0], handle, true, NULL);
    start(&requests[1], handle, true, NULL);
    wait_until_waiting(group, 2);
    struct change *change = change_begin();
    expect_success(change_replace(change, node_find("disk"), node_find("upper")));
    expect_success(change_commit(change));
    expect_int(end(&requests[0]), 0);
    expect_int(end(&requests[1]), 0);
    expect(handle_node(handle) == node_find("upper"));
    handle_close(handle);
    blockdev_del_all();
    object_del_all();
}

NODE_TEST(whoever_ends_his_requests_is_let_through)
{
    struct throttle_group *group = make_group("limits", iops(1));
    add_throttle("disk", "limits");
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct request request;
    fill(disk, 1);
    start(&request, disk, true, NULL);
    wait_until_waiting(group, 1);
    handle_abandon(disk);
    expect_int(end(&request), 0);
    handle_close(disk);
    disk = open_handle("disk", READ_WRITE);
    start(&request, disk, true, NULL);
    wait_until_waiting(group, 1);
    throttle_groups_open_all();
    expect_int(end(&request), 0);
    fill(disk, 1000);
    handle_close(disk);
    blockdev_del_all();
    object_del_all();
}

/* Threads ------------------------------------------------------------------------------------------------------ */

#define STORM 600

NODE_TEST(requests_of_many_loops_are_all_served)
{
    static struct request requests[STORM];
    struct throttle_group *group = make_group("limits", iops(10));
    add_throttle("a", "limits");
    add_throttle("b", "limits");
    struct handle *handles[] = { open_handle("a", READ_WRITE), open_handle("b", READ_WRITE) };
    for (unsigned i = 0; i < STORM; i++) {
        prepare(&requests[i], handles[i % 2], i % 3, NULL);
        co_start_on(loop_io_next(), "request", run_request, &requests[i]);
    }
    unsigned drains = 0;
    for (unsigned i = 0; i < STORM; i++) {
        while (!co_event_is_set(&requests[i].done)) {
            move_clock(group, 37 * MS);
            if (++drains % 50 == 0)
                drain_end(drain_begin(node_find(i % 2 ? "a" : "b")));
            if (drains % 70 == 0)
                expect_success(configure("limits", iops(1 + drains % 100)));
            co_yield ();
        }
        expect_int(end(&requests[i]), 0);
    }
    expect_int(throttle_group_waiting(group), 0);
    handle_close(handles[0]);
    handle_close(handles[1]);
    blockdev_del_all();
    object_del_all();
}

/* With real time: 2000 requests a second, so these take a twentieth of a second. */
NODE_TEST(real_time_passes_by_itself)
{
    static struct request requests[STORM / 2];
    throttle_use_clock(NULL);
    struct throttle_limits limits = iops(2000);
    expect_success(object_add(&(struct object_options){
        .qom_type = OBJECT_TYPE_THROTTLE_GROUP, .id = "real", .u.throttle_group = { .limits = &limits } }));
    add_throttle("disk", "real");
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct timespec begin;
    struct timespec finish;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (unsigned i = 0; i < ARRAY_SIZE(requests); i++) {
        prepare(&requests[i], disk, true, NULL);
        co_start_on(loop_io_next(), "request", run_request, &requests[i]);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
        expect_int(end(&requests[i]), 0);
    clock_gettime(CLOCK_MONOTONIC, &finish);
    double seconds = (double)(finish.tv_sec - begin.tv_sec) + (double)(finish.tv_nsec - begin.tv_nsec) / 1e9;
    expect(seconds > 0.045); /* 300 less the 201 that fit into the bucket */
    handle_close(disk);
    blockdev_del_all();
    object_del_all();
}

/* The group ---------------------------------------------------------------------------------------------------- */

NODE_TEST(a_group_is_needed_and_kept)
{
    add(null_options("null", MIB));
    add_fails(throttle_options("disk", "limits", "null"), "Throttle group 'limits' does not exist");
    make_group("limits", iops(7));
    add(throttle_options("disk", "limits", "null"));
    expect_error(object_del("limits"), "object 'limits' is in use, can not be deleted: node 'disk' uses it");
    struct throttle_limits limits = { 0 };
    expect_text(throttle_node_limits(node_find("disk"), &limits), "limits");
    expect(limits.has_iops_total && limits.iops_total == 7 && limits.has_bps_read && limits.bps_read == 0);
    expect(!throttle_node_limits(node_find("null"), &limits));
    add_fails(throttle_options("bad", "limits", "nobody"), "Failed to find node");
    expect_success(blockdev_del("disk"));
    expect_success(object_del("limits"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_over_the_limit_waits_for_its_time),
        cmocka_unit_test(members_take_turns_and_so_do_reads_and_writes),
        cmocka_unit_test(a_direction_that_may_pass_does_not_wait_for_the_other),
        cmocka_unit_test(new_limits_count_at_once),
        cmocka_unit_test(flushes_and_questions_do_not_wait),
        cmocka_unit_test(zeroes_and_discards_are_writes),
        cmocka_unit_test(a_drain_lets_everyone_through_and_the_limits_stay),
        cmocka_unit_test(a_filter_is_inserted_while_requests_wait),
        cmocka_unit_test(whoever_ends_his_requests_is_let_through),
        cmocka_unit_test(requests_of_many_loops_are_all_served),
        cmocka_unit_test(real_time_passes_by_itself),
        cmocka_unit_test(a_group_is_needed_and_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
