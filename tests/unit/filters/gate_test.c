/* The filter 'gate': requests are held until the test lets them go. */
#include "tests/unit/drivers/nodes.h"

#include "blockcore/drivers/drivers.h"
#include "blockcore/filters/gate.h"
#include "blockcore/graph/drain.h"

static struct blockdev_options gate_options(const char *node_name, const char *file)
{
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_GATE,
        .node_name = node_name,
        .u.gate = { .file = by_name(file) },
    };
}

static struct node *add_gate(void)
{
    add(null_options("null", MIB));
    add(with_discard(gate_options("gate", "null")));
    return node_find("gate");
}

/* A request that a test starts on an I/O loop. */
struct request {
    struct handle *handle;
    enum gate_kind kind;
    int number;
    int ret;
    struct co_event done;
};

static int run_kind(const struct request *request)
{
    struct handle *handle = request->handle;
    struct range range = range_make(0, 512);
    struct extents extents;
    int ret;
    switch (request->kind) {
    case GATE_READ:
        return reads_as(handle, 0, 512, 0) ? 0 : -EIO;
    case GATE_WRITE:
        return put(handle, 0, 512, 1);
    case GATE_WRITE_ZEROES:
        return handle_pwrite_zeroes(handle, range, 0);
    case GATE_DISCARD:
        return handle_pdiscard(handle, range);
    case GATE_FLUSH:
        return handle_flush(handle);
    default:
        extents_init(&extents, 1);
        ret = handle_block_status(handle, range, ASK_ALL, NULL, false, &extents);
        extents_fini(&extents);
        return ret;
    }
}

static void run_request(void *arg)
{
    struct request *request = arg;
    request->ret = run_kind(request);
    co_event_set(&request->done);
}

static void start(struct request *request, struct handle *handle, enum gate_kind kind)
{
    *request = (struct request){ .handle = handle, .kind = kind, .ret = 1 };
    co_event_init(&request->done);
    co_start_on(loop_io_next(), "request", run_request, request);
}

static int end(struct request *request)
{
    co_event_wait(&request->done, "a request to end");
    return request->ret;
}

NODE_TEST(it_begins_open)
{
    struct node *gate = add_gate();
    struct handle *handle = open_handle("gate", READ_WRITE);
    expect(node_is_gate(gate) && !node_is_gate(node_find("null")));
    expect_int(node_length(gate), MIB);
    expect_int(put(handle, 0, 512, 1), 0);
    expect_int(handle_flush(handle), 0);
    expect_text(map_text(handle, ASK_ALL), "0+1024z@0");
    expect_int(gate_held(gate, GATE_ANY), 0);
    expect_int(gate_seen(gate, GATE_WRITE), 1);
    expect_int(gate_seen(gate, GATE_READ), 0);
    handle_close(handle);
}

NODE_TEST(each_kind_of_request_is_held_alone)
{
    static const enum gate_kind kinds[] = { GATE_READ,    GATE_WRITE, GATE_WRITE_ZEROES,
                                            GATE_DISCARD, GATE_FLUSH, GATE_BLOCK_STATUS };
    struct node *gate = add_gate();
    struct handle *handle = open_handle("gate", READ_WRITE);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct request held;
        gate_hold(gate, kinds[i], GATE_ALL);
        start(&held, handle, kinds[i]);
        gate_wait_held(gate, 1);
        expect_int(gate_held(gate, kinds[i]), 1);
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
            struct request passing;
            if (k == i)
                continue;
            start(&passing, handle, kinds[k]);
            expect_int(end(&passing), 0);
        }
        expect(!co_event_is_set(&held.done));
        gate_release(gate, kinds[i], GATE_ALL);
        expect_int(end(&held), 0);
        expect_int(gate_held(gate, GATE_ANY), 0);
    }
    handle_close(handle);
}

NODE_TEST(only_so_many_are_held_as_was_said)
{
    struct node *gate = add_gate();
    struct handle *handle = open_handle("gate", READ_WRITE);
    struct request requests[3];
    gate_hold(gate, GATE_WRITE, 2);
    start(&requests[0], handle, GATE_WRITE);
    gate_wait_held(gate, 1);
    start(&requests[1], handle, GATE_WRITE);
    gate_wait_held(gate, 2);
    start(&requests[2], handle, GATE_WRITE);
    expect_int(end(&requests[2]), 0);
    expect_int(gate_held(gate, GATE_ANY), 2);
    gate_release(gate, GATE_ANY, GATE_ALL);
    expect_int(end(&requests[0]), 0);
    expect_int(end(&requests[1]), 0);
    handle_close(handle);
}

NODE_TEST(an_order_for_several_kinds_counts_them_together)
{
    struct node *gate = add_gate();
    struct handle *handle = open_handle("gate", READ_WRITE);
    struct request held[2];
    gate_hold(gate, GATE_ANY, 1);
    gate_hold(gate, GATE_FLUSH, 1);
    start(&held[0], handle, GATE_WRITE);
    gate_wait_held(gate, 1);
    expect(reads_as(handle, 0, 512, 0));
    expect_int(put(handle, 0, 512, 1), 0);
    start(&held[1], handle, GATE_FLUSH);
    gate_wait_held(gate, 2);
    expect_int(handle_flush(handle), 0);
    gate_release(gate, GATE_ANY, GATE_ALL);
    expect_int(end(&held[0]), 0);
    expect_int(end(&held[1]), 0);
    handle_close(handle);
}

NODE_TEST(they_are_let_go_one_by_one_the_oldest_first)
{
    struct node *gate = add_gate();
    struct handle *handle = open_handle("gate", READ_WRITE);
    struct request requests[3];
    gate_hold(gate, GATE_ANY, GATE_ALL);
    for (uint32_t i = 0; i < 3; i++) {
        start(&requests[i], handle, i == 1 ? GATE_READ : GATE_WRITE);
        gate_wait_held(gate, i + 1);
    }
    gate_release(gate, GATE_WRITE, 1);
    expect_int(end(&requests[0]), 0);
    expect_int(gate_held(gate, GATE_ANY), 2);
    gate_release(gate, GATE_ANY, 1);
    expect_int(end(&requests[1]), 0);
    expect(!co_event_is_set(&requests[2].done));

    /* The gate is still closed for others. */
    struct request late;
    start(&late, handle, GATE_READ);
    gate_wait_held(gate, 2);
    gate_release(gate, GATE_ANY, GATE_ALL);
    expect_int(end(&requests[2]), 0);
    expect_int(end(&late), 0);
    start(&late, handle, GATE_READ);
    expect_int(end(&late), 0);
    handle_close(handle);
}

struct draining {
    struct node *node;
    struct drain *drain;
    struct co_event done;
};

static void run_drain(void *arg)
{
    struct draining *draining = arg;
    draining->drain = drain_begin(draining->node);
    co_event_set(&draining->done);
}

NODE_TEST(a_drain_waits_for_what_the_gate_holds)
{
    struct node *gate = add_gate();
    struct handle *handle = open_handle("gate", READ_WRITE);
    struct request held;
    struct draining draining = { .node = node_find("null") };
    gate_hold(gate, GATE_WRITE, 1);
    start(&held, handle, GATE_WRITE);
    gate_wait_held(gate, 1);
    co_event_init(&draining.done);
    co_start("drain", run_drain, &draining);
    expect(!co_event_is_set(&draining.done));
    gate_release(gate, GATE_WRITE, GATE_ALL);
    co_event_wait(&draining.done, "the drain");
    expect_int(end(&held), 0);
    drain_end(draining.drain);
    handle_close(handle);
}

#define STORM 200

NODE_TEST(requests_of_many_loops_come_and_go_while_it_opens_and_closes)
{
    static struct request requests[STORM];
    struct node *gate = add_gate();
    struct handle *handle = open_handle("gate", READ_WRITE);
    for (size_t i = 0; i < STORM; i++) {
        if (i % 20 == 0)
            gate_hold(gate, GATE_ANY, GATE_ALL);
        start(&requests[i], handle, i % 2 ? GATE_READ : GATE_WRITE);
        if (i % 20 == 15)
            gate_release(gate, GATE_ANY, i % 40 == 15 ? 3 : GATE_ALL);
    }
    for (size_t i = 0; i < STORM; i++) {
        gate_release(gate, GATE_ANY, GATE_ALL);
        expect_int(end(&requests[i]), 0);
    }
    expect_int(gate_seen(gate, GATE_ANY), STORM);
    expect_int(gate_held(gate, GATE_ANY), 0);
    handle_close(handle);
}

NODE_TEST(without_a_node_below_there_is_no_gate)
{
    add_fails(gate_options("gate", "nothing"), "nothing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_begins_open),
        cmocka_unit_test(each_kind_of_request_is_held_alone),
        cmocka_unit_test(only_so_many_are_held_as_was_said),
        cmocka_unit_test(an_order_for_several_kinds_counts_them_together),
        cmocka_unit_test(they_are_let_go_one_by_one_the_oldest_first),
        cmocka_unit_test(a_drain_waits_for_what_the_gate_holds),
        cmocka_unit_test(requests_of_many_loops_come_and_go_while_it_opens_and_closes),
        cmocka_unit_test(without_a_node_below_there_is_no_gate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
