/* Nodes: names, references, how they come and go. */
#include "tests/unit/graph/fixture.h"

#include "blockcore/drivers/drivers.h"
#include "blockcore/graph/inner.h"

IN_GRAPH(a_name_is_taken_once)
{
    add_mem("disk", 4096);
    expect_error(try_add_mem("disk", 4096), "Duplicate nodes with node-name='disk'");
    expect_success(blockdev_del("disk"));
    add_mem("disk", 4096);
}

struct opening {
    struct co_event may_go_on;
    struct co_event done;
    struct error *err;
};

static void open_slowly(void *arg)
{
    struct opening *opening = arg;
    mem_next.opening = &opening->may_go_on;
    opening->err = try_add_mem("slow", 4096);
    co_event_set(&opening->done);
}

/* The name belongs to the first command while its open waits for storage; other names are not held up. */
IN_GRAPH(a_name_is_reserved_while_its_node_opens)
{
    struct opening opening = { .err = NULL };
    co_event_init(&opening.may_go_on);
    co_event_init(&opening.done);
    co_start("open", open_slowly, &opening);

    assert_null(node_find("slow"));
    expect_error(try_add_mem("slow", 4096), "Duplicate nodes");
    expect_error(blockdev_del("slow"), "Failed to find node with node-name='slow'");
    add_mem("other", 4096);

    co_event_set(&opening.may_go_on);
    co_event_wait(&opening.done, "test");
    expect_success(opening.err);
    assert_non_null(node_find("slow"));
}

IN_GRAPH(a_failed_open_leaves_nothing)
{
    expect_error(try_add_filter("top", "missing"), "Failed to find node with node-name='missing'");
    assert_null(node_find("top"));
    add_mem("missing", 4096);
    expect_success(try_add_filter("top", "missing"));
}

/* Who holds the node has waited for something meanwhile. Its filter would keep the node for good: it could not be taken
 * from a node that is being closed, which would wait for it. */
IN_GRAPH(a_node_that_is_being_deleted_gets_no_filter)
{
    add_mem("disk", 4096);
    struct node *disk = node_ref(node_find("disk"));
    struct deletion deletion;
    delete_start(&deletion, "disk");
    settle();

    struct node *filter;
    struct child *child;
    expect_success(inner_node_begin(&copy_on_read_driver, NULL, "job 'j'", &filter));
    expect_error(inner_node_attach(filter, "file", CHILD_FILTERED, disk, &child), "node 'disk' is being closed");
    inner_node_give_up(filter);

    node_unref(disk);
    co_event_wait(&deletion.done, "test");
}

IN_GRAPH(a_node_in_use_is_not_deleted)
{
    add_mem("disk", 4096);
    add_filter("top", "disk");
    expect_error(blockdev_del("disk"), "Block device disk is in use by node 'top' (as its 'file')");

    struct handle *handle = open_handle("top", "export 'e0'", PERM_CONSISTENT_READ, PERM_ALL);
    expect_error(blockdev_del("top"), "in use by export 'e0'");
    handle_close(handle);
    expect_success(blockdev_del("top"));
    expect_success(blockdev_del("disk"));
    expect_error(blockdev_del("disk"), "Failed to find node");
}

IN_GRAPH(a_node_is_flushed_before_it_closes)
{
    add_mem("disk", 4096);
    struct handle *handle = open_handle("disk", "writer", PERM_WRITE, PERM_ALL);
    struct write write;
    write_start(&write, handle, 0, 512, 1);
    assert_int_equal(write_end(&write), 0);
    struct mem *mem = mem_of("disk");
    assert_int_equal(mem->flushes, 0);
    handle_close(handle);
    /* The monitor's reference goes, another one keeps the node to look at. */
    struct node *node = node_find("disk");
    add_filter("top", "disk");
    expect_success(blockdev_del("top"));
    assert_int_equal(mem->flushes, 1);
    assert_ptr_equal(node_find("disk"), node);
}

static void end_run(void *arg)
{
    blockdev_del_all();
    co_event_set(arg);
}

/* Another command still holds the node: it is found no more, and its name is free when the deletion is over. */
IN_GRAPH(deletion_ends_when_the_node_is_gone)
{
    add_mem("disk", 4096);
    struct node *held = node_ref(node_find("disk"));
    struct deletion deletion;
    delete_start(&deletion, "disk");
    settle();
    assert_false(co_event_is_set(&deletion.done));
    assert_null(node_find("disk"));
    assert_null(node_next(NULL));
    expect_error(try_add_filter("top", "disk"), "Failed to find node with node-name='disk'");
    expect_error(try_add_mem("disk", 4096), "Duplicate nodes");
    expect_error(blockdev_del("disk"), "Failed to find node");

    node_unref(held);
    co_event_wait(&deletion.done, "test");
    add_mem("disk", 4096);
}

/*  above (closes while "held" does not answer) --> held      beside --> below, with a name of its own */
IN_GRAPH(at_the_end_nodes_close_side_by_side)
{
    add_mem("held", 4096);
    add_filter("above", "held");
    add_mem("below", 4096);
    add_filter("beside", "below");
    struct mem *held = mem_of("held");
    mem_hold(held);
    struct co_event done;
    co_event_init(&done);
    co_start("the end", end_run, &done);
    settle();
    assert_false(co_event_is_set(&done));
    assert_null(node_find("beside"));
    assert_null(node_find("below"));
    assert_non_null(node_find("held"));
    mem_release(held);
    co_event_wait(&done, "test");
    assert_null(node_next(NULL));
}

/* Many nodes take no more coroutines than have to wait. */
IN_GRAPH(at_the_end_many_nodes_are_closed)
{
    char name[32];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        add_mem(name, 512);
    }
    mem_closing_coroutines = 0;
    blockdev_del_all();
    assert_null(node_next(NULL));
    assert_in_range(mem_closing_coroutines, 1, 3);
}

struct counting {
    struct node *node;
    int64_t bytes;
    struct co_event done;
};

static void count_run(void *arg)
{
    struct counting *counting = arg;
    counting->bytes = node_allocated_bytes(counting->node);
    co_event_set(&counting->done);
}

/* The node that is asked for its size loses its place in the graph, and its owner, meanwhile. */
IN_GRAPH(storage_is_counted_while_the_graph_changes)
{
    add_mem("a", 4096);
    add_mem("b", 512);
    add_filter("top", "a");
    struct mem *a = mem_of("a");
    mem_hold(a);
    struct counting counting = { .node = node_find("top") };
    co_event_init(&counting.done);
    co_start("count", count_run, &counting);
    mem_wait_held(a, 1);

    struct change *change = change_begin();
    expect_success(change_edge(change, node_child(node_find("top"), "file"), node_find("b")));
    expect_success(change_commit(change));
    struct deletion deletion;
    delete_start(&deletion, "a");
    mem_release(a);
    co_event_wait(&counting.done, "test");
    co_event_wait(&deletion.done, "test");
    assert_int_equal(counting.bytes, 4096);
    assert_int_equal(node_allocated_bytes(node_find("top")), 512);
}

IN_GRAPH(a_graph_has_a_greatest_depth)
{
    add_mem("n0", 4096);
    char name[32];
    char below[32];
    for (int i = 1; i <= GRAPH_DEPTH_MAX; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        snprintf(below, sizeof(below), "n%d", i - 1);
        expect_success(try_add_filter(name, below));
    }
    expect_error(try_add_filter("one-too-many", name), "nodes deep");

    /* A request through all of it fits its stack. */
    struct handle *handle = open_handle(name, "reader", PERM_WRITE, PERM_ALL);
    struct write write;
    write_start(&write, handle, 0, 512, 7);
    assert_int_equal(write_end(&write), 0);
    assert_int_equal(mem_of("n0")->bytes[511], 7);
    handle_close(handle);
}

/* A chain that loses at its lower end what it wins at its upper one, as snapshots that are taken and merged make it. */
IN_GRAPH(a_graph_that_is_cut_is_less_deep)
{
    char name[2][32] = { "n0", "" };
    add_mem("base", 4096);
    add_filter(name[0], "base");
    for (unsigned i = 1; i <= 2 * GRAPH_DEPTH_MAX; i++) {
        snprintf(name[i % 2], sizeof(name[0]), "n%u", i);
        expect_success(try_add_filter(name[i % 2], name[(i + 1) % 2]));
        struct change *change = change_begin();
        expect_success(change_edge(change, node_child(node_find(name[i % 2]), "file"), node_find("base")));
        expect_success(change_commit(change));
        expect_success(blockdev_del(name[(i + 1) % 2]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_taken_once),
        cmocka_unit_test(a_name_is_reserved_while_its_node_opens),
        cmocka_unit_test(a_failed_open_leaves_nothing),
        cmocka_unit_test(a_node_that_is_being_deleted_gets_no_filter),
        cmocka_unit_test(a_node_in_use_is_not_deleted),
        cmocka_unit_test(a_node_is_flushed_before_it_closes),
        cmocka_unit_test(deletion_ends_when_the_node_is_gone),
        cmocka_unit_test(at_the_end_nodes_close_side_by_side),
        cmocka_unit_test(at_the_end_many_nodes_are_closed),
        cmocka_unit_test(storage_is_counted_while_the_graph_changes),
        cmocka_unit_test(a_graph_has_a_greatest_depth),
        cmocka_unit_test(a_graph_that_is_cut_is_less_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
