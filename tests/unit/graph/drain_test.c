/* Holding part of the graph still. */
#include "tests/unit/graph/fixture.h"

struct drain_run {
    struct node *node;
    struct drain *drain;
    struct co_event done;
};

static void drain_run(void *arg)
{
    struct drain_run *run = arg;
    run->drain = drain_begin(run->node);
    co_event_set(&run->done);
}

static void drain_start(struct drain_run *run, const char *node)
{
    *run = (struct drain_run){ .node = node_find(node) };
    co_event_init(&run->done);
    co_start("drain", drain_run, run);
}

/* A drain waits for the write in flight and lets no other begin. */
IN_GRAPH(drain_waits_for_requests_in_flight)
{
    add_mem("disk", 4096);
    add_filter("top", "disk");
    struct mem *mem = mem_of("disk");
    struct handle *handle = open_handle("top", "export 'e0'", PERM_WRITE, PERM_ALL);
    mem_hold(mem);

    struct write held;
    write_start(&held, handle, 0, 512, 1);
    mem_wait_held(mem, 1);
    struct drain_run drain;
    drain_start(&drain, "disk");
    settle();
    struct write late;
    write_start(&late, handle, 1024, 512, 2);
    settle();
    assert_false(co_event_is_set(&drain.done));
    assert_int_equal(handle_waiting(handle), 1);

    mem_release(mem);
    co_event_wait(&drain.done, "test");
    assert_int_equal(write_end(&held), 0);
    settle();
    assert_false(co_event_is_set(&late.done));
    assert_int_equal(mem->bytes[1024], 0);

    drain_end(drain.drain);
    assert_int_equal(write_end(&late), 0);
    assert_int_equal(mem->bytes[1024], 2);
    handle_close(handle);
}

/* other --> disk2: draining disk1 does not touch it. */
IN_GRAPH(drain_leaves_handles_alone_that_cannot_reach_the_node)
{
    add_mem("disk1", 4096);
    add_mem("disk2", 4096);
    struct handle *one = open_handle("disk1", "one", PERM_WRITE, PERM_ALL);
    struct handle *two = open_handle("disk2", "two", PERM_WRITE, PERM_ALL);
    struct drain *drain = drain_begin(node_find("disk1"));
    struct write held;
    struct write free_to_go;
    write_start(&held, one, 0, 512, 1);
    write_start(&free_to_go, two, 0, 512, 1);
    assert_int_equal(write_end(&free_to_go), 0);
    assert_false(co_event_is_set(&held.done));
    drain_end(drain);
    assert_int_equal(write_end(&held), 0);
    handle_close(one);
    handle_close(two);
}

IN_GRAPH(drains_nest)
{
    add_mem("disk", 4096);
    struct handle *handle = open_handle("disk", "user", PERM_WRITE, PERM_ALL);
    struct drain *first = drain_begin(node_find("disk"));
    struct drain *second = drain_begin(node_find("disk"));
    drain_end(first);
    struct write write;
    write_start(&write, handle, 0, 512, 1);
    settle();
    assert_false(co_event_is_set(&write.done));
    drain_end(second);
    assert_int_equal(write_end(&write), 0);
    /* At once again, before the loops have seen the end of the last one. */
    drain_end(drain_begin(node_find("disk")));
    drain_end(drain_begin(node_find("disk")));
    handle_close(handle);
}

IN_GRAPH(a_handle_that_comes_during_a_drain_is_held)
{
    add_mem("disk", 4096);
    add_filter("top", "disk");
    struct drain *drain = drain_begin(node_find("disk"));
    struct handle *handle = open_handle("top", "late", PERM_WRITE, PERM_ALL);
    settle();
    struct write write;
    write_start(&write, handle, 0, 512, 1);
    settle();
    assert_false(co_event_is_set(&write.done));
    drain_end(drain);
    assert_int_equal(write_end(&write), 0);
    handle_close(handle);
}

/* Also for a request that begins at once, on the thread that opened the handle. */
IN_GRAPH(a_handle_that_comes_during_a_drain_is_held_before_it_is_used)
{
    add_mem("disk", 4096);
    struct drain *drain = drain_begin(node_find("disk"));
    struct handle *handle = open_handle("disk", "late", PERM_WRITE, PERM_ALL);
    struct write write = { .handle = handle, .range = { 0, 512 }, .fill = 1 };
    co_event_init(&write.done);
    co_start("write", write_run, &write);
    assert_false(co_event_is_set(&write.done));
    assert_int_equal(handle_waiting(handle), 1);
    drain_end(drain);
    assert_int_equal(write_end(&write), 0);
    handle_close(handle);
}

/* The overlay reads what it stands on, without a handle. Until that is over the drain closes no door: storage that an
 * opening waits for may be dead. */
IN_GRAPH(a_drain_waits_for_an_opening_above)
{
    add_mem("base", 4096);
    add_mem("data", 4096);
    struct handle *handle = open_handle("base", "user", PERM_CONSISTENT_READ, PERM_ALL);
    struct co_event opening;
    struct adding adding = { .name = "overlay", .backing = "base", .file = "data", .opening = &opening };
    co_event_init(&opening);
    co_event_init(&adding.done);
    co_start("add", add_run, &adding);

    struct drain_run drain;
    drain_start(&drain, "base");
    settle();
    assert_false(co_event_is_set(&drain.done));
    handle_enter(handle);
    handle_leave(handle);
    co_event_set(&opening);
    co_event_wait(&adding.done, "test");
    co_event_wait(&drain.done, "test");
    drain_end(drain.drain);
    handle_close(handle);
}

IN_GRAPH(an_opening_waits_for_the_drain_of_what_it_stands_on)
{
    add_mem("base", 4096);
    add_mem("data", 4096);
    add_filter("between", "base");
    struct drain *drain = drain_begin(node_find("base"));
    struct adding adding = { .name = "overlay", .backing = "between", .file = "data" };
    co_event_init(&adding.done);
    co_start("add", add_run, &adding);
    settle();
    assert_false(co_event_is_set(&adding.done));
    drain_end(drain);
    co_event_wait(&adding.done, "test");
}

struct resizing {
    struct handle *handle;
    uint64_t bytes;
    int ret;
    struct co_event done;
};

static void resize_run(void *arg)
{
    struct resizing *resizing = arg;
    resizing->ret = handle_resize(resizing->handle, resizing->bytes, TRUNCATE_SPARSE);
    co_event_set(&resizing->done);
}

static void resize_start(struct resizing *resizing, struct handle *handle, uint64_t bytes)
{
    *resizing = (struct resizing){ .handle = handle, .bytes = bytes, .ret = 1 };
    co_event_init(&resizing->done);
    co_start("resize", resize_run, resizing);
}

/*  one, two --> disk <-- top <-- above: resizes come from all sides; the driver sees one after the other, and none
 *  beside a write */
IN_GRAPH(a_node_is_resized_by_one_at_a_time)
{
    add_mem("disk", 4096);
    add_filter("top", "disk");
    struct mem *mem = mem_of("disk");
    struct handle *one = open_handle("disk", "one", PERM_WRITE | PERM_RESIZE, PERM_ALL);
    struct handle *two = open_handle("disk", "two", PERM_RESIZE, PERM_ALL);
    struct handle *above = open_handle("top", "above", PERM_RESIZE, PERM_ALL);
    mem_hold(mem);
    struct resizing resizing[3];
    resize_start(&resizing[0], one, 1000);
    mem_wait_held(mem, 1);
    resize_start(&resizing[1], two, 2000);
    resize_start(&resizing[2], above, 3000);
    struct write write;
    write_start(&write, one, 0, 512, 1);
    settle();
    assert_int_equal(mem->held, 1);
    assert_false(co_event_is_set(&write.done));

    mem_release(mem);
    for (size_t i = 0; i < ARRAY_SIZE(resizing); i++) {
        co_event_wait(&resizing[i].done, "test");
        assert_int_equal(resizing[i].ret, 0);
    }
    assert_int_equal(write_end(&write), 0);
    assert_int_equal(node_length(node_find("top")), mem->size);
    assert_int_equal(mem->bytes[511], 1);
    handle_close(one);
    handle_close(two);
    handle_close(above);
}

/*  user --> disk <-- top <-- above: the resize of "top" is one of "disk" */
IN_GRAPH(a_resize_waits_for_the_users_of_what_it_reaches)
{
    add_mem("disk", 4096);
    add_filter("top", "disk");
    struct mem *mem = mem_of("disk");
    struct handle *user = open_handle("disk", "user", PERM_WRITE, PERM_ALL);
    struct handle *above = open_handle("top", "above", PERM_RESIZE, PERM_ALL);
    mem_hold(mem);
    struct write write;
    write_start(&write, user, 0, 512, 1);
    mem_wait_held(mem, 1);
    struct resizing resizing;
    resize_start(&resizing, above, 1000);
    settle();
    assert_int_equal(mem->held, 1);
    mem_release(mem);
    co_event_wait(&resizing.done, "test");
    assert_int_equal(write_end(&write), 0);
    assert_int_equal(mem->bytes[511], 1);
    handle_close(user);
    handle_close(above);
}

/* A resize sends its request past the door of its handle, which is closed: a change must not overtake it. */
IN_GRAPH(a_change_waits_for_a_resize)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    add_filter("top", "a");
    struct handle *handle = open_handle("top", "user", PERM_RESIZE, PERM_ALL);
    struct mem *a = mem_of("a");
    mem_hold(a);
    struct resizing resizing;
    resize_start(&resizing, handle, 1000);
    mem_wait_held(a, 1);
    struct switching switching = { .from = node_find("a"), .to = node_find("b") };
    switch_start(&switching);
    settle();
    assert_false(co_event_is_set(&switching.done));
    mem_release(a);
    co_event_wait(&switching.done, "test");
    co_event_wait(&resizing.done, "test");
    expect_success(switching.err);
    assert_int_equal(a->size, 1000);
    assert_int_equal(mem_of("b")->size, 4096);
    handle_close(handle);
}

IN_GRAPH(a_handle_may_go_while_it_is_held)
{
    add_mem("disk", 4096);
    struct handle *handle = open_handle("disk", "brief", PERM_WRITE, PERM_ALL);
    struct drain *drain = drain_begin(node_find("disk"));
    handle_close(handle);
    drain_end(drain);
    settle();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drain_waits_for_requests_in_flight),
        cmocka_unit_test(drain_leaves_handles_alone_that_cannot_reach_the_node),
        cmocka_unit_test(drains_nest),
        cmocka_unit_test(a_handle_that_comes_during_a_drain_is_held),
        cmocka_unit_test(a_handle_that_comes_during_a_drain_is_held_before_it_is_used),
        cmocka_unit_test(a_drain_waits_for_an_opening_above),
        cmocka_unit_test(an_opening_waits_for_the_drain_of_what_it_stands_on),
        cmocka_unit_test(a_node_is_resized_by_one_at_a_time),
        cmocka_unit_test(a_resize_waits_for_the_users_of_what_it_reaches),
        cmocka_unit_test(a_change_waits_for_a_resize),
        cmocka_unit_test(a_handle_may_go_while_it_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
