/* The shape of the graph: names, references, permissions, drain, changes. */
#include "tests/unit/support/mem_drivers.h"

#include "blockcore/base/iov.h"
#include "blockcore/base/memory.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/drain.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define IN_GRAPH(name)                                                                                                 \
    static void name##_body(void *arg);                                                                                \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        with_runtime(2, name##_body, NULL);                                                                            \
    }                                                                                                                  \
    static void name##_body(void *arg __attribute__((unused)))

static struct handle *open_handle(const char *node, const char *user, unsigned perm, unsigned shared)
{
    struct handle *handle;
    expect_success(handle_open(node_find(node), user, perm, shared, &handle));
    return handle;
}

/* A write that a test starts, and looks at while it runs. */
struct write {
    struct handle *handle;
    struct range range;
    int fill;
    int ret;
    struct co_event done;
};

static void write_run(void *arg)
{
    struct write *write = arg;
    unsigned char *data = xmalloc(write->range.bytes);
    memset(data, write->fill, write->range.bytes);
    struct iovec storage;
    struct iov iov = iov_of(&storage, data, write->range.bytes);
    write->ret = handle_pwritev(write->handle, write->range, &iov, 0);
    free(data);
    co_event_set(&write->done);
}

static void write_start(struct write *write, struct handle *handle, uint64_t offset, uint64_t bytes, int fill)
{
    *write = (struct write){ .handle = handle, .range = { offset, bytes }, .fill = fill, .ret = 1 };
    co_event_init(&write->done);
    co_start_on(loop_io(0), "write", write_run, write);
}

static int write_end(struct write *write)
{
    co_event_wait(&write->done, "test");
    return write->ret;
}

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

struct switching {
    struct node *to;
    struct node *from;
    struct error *err;
    struct co_event done;
};

static void switch_run(void *arg)
{
    struct switching *switching = arg;
    struct change *change = change_begin();
    expect_success(change_replace(change, switching->from, switching->to));
    switching->err = change_commit(change);
    co_event_set(&switching->done);
}

static void switch_start(struct switching *switching)
{
    co_event_init(&switching->done);
    co_start("switch", switch_run, switching);
}

/* Gives all loops time to do what they have been told: a round trip to each. */
static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void settle(void)
{
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < loop_io_count(); i++)
            co_call_on(loop_io(i), "settle", nothing, NULL);
        co_yield ();
    }
}

/* Names ------------------------------------------------------------------------------------------------------ */

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

/* Use -------------------------------------------------------------------------------------------------------- */

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

struct deletion {
    const char *name;
    struct co_event done;
};

static void delete_run(void *arg)
{
    struct deletion *deletion = arg;
    expect_success(blockdev_del(deletion->name));
    co_event_set(&deletion->done);
}

static void delete_start(struct deletion *deletion, const char *name)
{
    *deletion = (struct deletion){ .name = name };
    co_event_init(&deletion->done);
    co_start("delete", delete_run, deletion);
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

IN_GRAPH(what_is_not_there_yet_is_refused)
{
    struct blockdev_options options = { .node_name = "disk", .driver = BLOCKDEV_DRIVER_NULL_CO };
    options.has_active = true;
    expect_error(blockdev_add(&options), "active: nodes are always active here");
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

/* Permissions ------------------------------------------------------------------------------------------------ */

IN_GRAPH(a_conflict_names_the_holder)
{
    add_mem("disk", 4096);
    struct handle *writer = open_handle("disk", "export 'e0'", PERM_WRITE, PERM_CONSISTENT_READ);
    struct handle *second;
    expect_error(handle_open(node_find("disk"), "job 'j0'", PERM_WRITE, PERM_ALL, &second),
                 "job 'j0' needs permission 'write' on node 'disk', which export 'e0' does not share");
    expect_error(handle_open(node_find("disk"), "job 'j0'", PERM_CONSISTENT_READ, PERM_CONSISTENT_READ, &second),
                 "job 'j0' does not share permission 'write' on node 'disk', which export 'e0' holds");
    handle_close(writer);
    expect_success(handle_open(node_find("disk"), "job 'j0'", PERM_WRITE, PERM_ALL, &second));
    handle_close(second);
}

/*   overlay (qcow2) --file--> data     overlay owns its tables: nobody else may write "data",
 *        '----------backing--> base    and may write "base" only if the overlay's users do not mind */
IN_GRAPH(an_overlay_protects_what_it_stands_on)
{
    add_mem("base", 4096);
    add_mem("data", 4096);
    add_cow("overlay", 4096, "base", "data");
    struct handle *handle;
    expect_error(handle_open(node_find("data"), "thief", PERM_WRITE, PERM_ALL, &handle), "node 'overlay'");

    struct handle *reader = open_handle("overlay", "reader", PERM_CONSISTENT_READ, PERM_CONSISTENT_READ);
    expect_error(handle_open(node_find("base"), "thief", PERM_WRITE, PERM_ALL, &handle), "node 'overlay'");
    handle_close(reader);
    expect_success(handle_open(node_find("base"), "writer", PERM_WRITE, PERM_ALL, &handle));
    handle_close(handle);
}

/* Locks of files follow what all users need together, through filters, and are given back. */
IN_GRAPH(locks_follow_permissions)
{
    add_mem("disk", 4096);
    add_filter("top", "disk");
    struct mem *mem = mem_of("disk");
    struct handle *reader = open_handle("top", "reader", PERM_CONSISTENT_READ, PERM_ALL & ~PERM_RESIZE);
    assert_int_equal(mem->perm, PERM_CONSISTENT_READ);
    assert_int_equal(mem->shared, PERM_ALL & ~PERM_RESIZE);
    struct handle *writer = open_handle("top", "writer", PERM_WRITE, PERM_ALL);
    assert_int_equal(mem->perm, PERM_CONSISTENT_READ | PERM_WRITE);
    handle_close(writer);
    assert_int_equal(mem->perm, PERM_CONSISTENT_READ);
    handle_close(reader);
    assert_int_equal(mem->perm, 0);
    assert_int_equal(mem->shared, PERM_ALL);
}

IN_GRAPH(a_lock_that_fails_leaves_permissions_as_they_were)
{
    mem_next.fail_locks = true;
    add_mem("disk", 4096);
    add_filter("top", "disk");
    struct handle *handle;
    expect_error(handle_open(node_find("top"), "writer", PERM_WRITE, PERM_CONSISTENT_READ, &handle),
                 "the lock is taken");
    struct handle *reader = open_handle("top", "reader", PERM_CONSISTENT_READ, PERM_CONSISTENT_READ);
    handle_close(reader);
}

/* Drain ------------------------------------------------------------------------------------------------------ */

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

struct adding {
    const char *name, *backing, *file;
    struct co_event *opening;
    struct co_event done;
};

static void add_run(void *arg)
{
    struct adding *adding = arg;
    mem_next.opening = adding->opening;
    add_cow(adding->name, 4096, adding->backing, adding->file);
    co_event_set(&adding->done);
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

/* Changes ---------------------------------------------------------------------------------------------------- */

/*  before  user --> a      after  user --> b */
IN_GRAPH(replace_moves_the_users)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    struct handle *handle = open_handle("a", "user", PERM_WRITE, PERM_CONSISTENT_READ);
    struct change *change = change_begin();
    expect_success(change_replace(change, node_find("a"), node_find("b")));
    expect_success(change_commit(change));
    assert_ptr_equal(handle_node(handle), node_find("b"));
    assert_int_equal(mem_of("a")->perm, 0);
    assert_int_equal(mem_of("b")->perm, PERM_WRITE);

    struct write write;
    write_start(&write, handle, 0, 512, 5);
    assert_int_equal(write_end(&write), 0);
    assert_int_equal(mem_of("b")->bytes[0], 5);
    assert_int_equal(mem_of("a")->bytes[0], 0);
    expect_success(blockdev_del("a"));
    expect_error(blockdev_del("b"), "in use by user");
    handle_close(handle);
}

/*  user --> a      user --> filter --> a: the filter's own edge stays, although the user does not share writing */
IN_GRAPH(a_filter_is_inserted_under_a_user_who_shares_nothing)
{
    add_mem("a", 4096);
    add_filter("filter", "a");
    struct handle *handle = open_handle("a", "user", PERM_WRITE, PERM_CONSISTENT_READ);
    struct change *change = change_begin();
    expect_success(change_replace(change, node_find("a"), node_find("filter")));
    expect_success(change_commit(change));
    assert_ptr_equal(handle_node(handle), node_find("filter"));
    assert_ptr_equal(child_node(node_child(node_find("filter"), "file")), node_find("a"));
    assert_int_equal(mem_of("a")->perm, PERM_WRITE);
    assert_int_equal(mem_of("a")->shared, PERM_CONSISTENT_READ);

    change = change_begin();
    expect_success(change_edge(change, handle_edge(handle), node_find("a")));
    expect_success(change_commit(change));
    assert_ptr_equal(handle_node(handle), node_find("a"));
    handle_close(handle);
}

IN_GRAPH(a_change_that_conflicts_changes_nothing)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    struct handle *on_a = open_handle("a", "writer", PERM_WRITE, PERM_CONSISTENT_READ);
    struct handle *on_b = open_handle("b", "owner", PERM_WRITE, PERM_CONSISTENT_READ);
    struct change *change = change_begin();
    expect_success(change_replace(change, node_find("a"), node_find("b")));
    expect_error(change_commit(change), "which owner does not share");
    assert_ptr_equal(handle_node(on_a), node_find("a"));
    assert_int_equal(mem_of("a")->perm, PERM_WRITE);
    handle_close(on_b);
    assert_int_equal(mem_of("b")->perm, 0);
    handle_close(on_a);
}

IN_GRAPH(a_change_whose_lock_fails_changes_nothing)
{
    add_mem("a", 4096);
    mem_next.fail_locks = true;
    add_mem("b", 4096);
    struct handle *handle = open_handle("a", "writer", PERM_WRITE, PERM_ALL);
    struct change *change = change_begin();
    expect_success(change_replace(change, node_find("a"), node_find("b")));
    expect_error(change_commit(change), "the lock is taken");
    assert_ptr_equal(handle_node(handle), node_find("a"));
    handle_close(handle);
    expect_success(blockdev_del("b"));
}

IN_GRAPH(a_loop_is_refused)
{
    add_mem("a", 4096);
    add_filter("f1", "a");
    add_filter("f2", "f1");
    struct change *change = change_begin();
    expect_error(change_edge(change, node_child(node_find("f1"), "file"), node_find("f2")), "a loop");
    change_abort(change);
    assert_ptr_equal(child_node(node_child(node_find("f1"), "file")), node_find("a"));
}

/* The write that runs on the old node ends there, before the edge moves. */
IN_GRAPH(a_change_waits_for_requests_in_flight)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    struct handle *handle = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    mem_hold(mem_of("a"));
    struct write held;
    write_start(&held, handle, 0, 512, 1);
    mem_wait_held(mem_of("a"), 1);

    struct switching switching = { .from = node_find("a"), .to = node_find("b") };
    switch_start(&switching);
    settle();
    assert_false(co_event_is_set(&switching.done));
    assert_ptr_equal(handle_node(handle), node_find("a"));
    struct write late;
    write_start(&late, handle, 0, 512, 2);
    settle();

    mem_release(mem_of("a"));
    co_event_wait(&switching.done, "test");
    expect_success(switching.err);
    assert_int_equal(write_end(&held), 0);
    assert_int_equal(write_end(&late), 0);
    assert_int_equal(mem_of("a")->bytes[0], 1);
    assert_int_equal(mem_of("b")->bytes[0], 2);
    handle_close(handle);
}

/* The user leaves while a change that would move it waits for its file. */
IN_GRAPH(a_user_may_leave_in_the_middle_of_a_change)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    struct handle *stays = open_handle("a", "stays", PERM_WRITE, PERM_ALL);
    struct handle *leaves = open_handle("a", "leaves", PERM_WRITE, PERM_ALL);
    mem_hold(mem_of("a"));
    struct write held;
    write_start(&held, stays, 0, 512, 1);
    mem_wait_held(mem_of("a"), 1);
    struct switching switching = { .from = node_find("a"), .to = node_find("b") };
    switch_start(&switching);
    settle();

    handle_close(leaves);
    mem_release(mem_of("a"));
    co_event_wait(&switching.done, "test");
    expect_success(switching.err);
    assert_int_equal(write_end(&held), 0);
    assert_ptr_equal(handle_node(stays), node_find("b"));
    handle_close(stays);
}

/* The user leaves before the change is made, and while it waits for a lock. */
IN_GRAPH(a_user_may_leave_before_it_is_moved)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    struct handle *handle = open_handle("a", "leaves", PERM_WRITE, PERM_ALL);
    struct change *change = change_begin();
    expect_success(change_edge(change, handle_edge(handle), node_find("b")));
    handle_close(handle);
    expect_success(change_commit(change));

    handle = open_handle("a", "leaves", PERM_WRITE, PERM_ALL);
    struct co_event locking;
    co_event_init(&locking);
    mem_of("b")->locking = &locking;
    struct switching switching = { .from = node_find("a"), .to = node_find("b") };
    switch_start(&switching);
    settle();
    assert_false(co_event_is_set(&switching.done));
    handle_close(handle);
    co_event_set(&locking);
    co_event_wait(&switching.done, "test");
    expect_success(switching.err);
    assert_int_equal(mem_of("a")->perm, 0);
    assert_int_equal(mem_of("b")->perm, 0);
}

/*  writer --> top --> a: the writer comes after the change was described, and before it is made */
IN_GRAPH(a_change_moves_permissions_as_they_are_when_it_is_made)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    add_filter("top", "a");
    struct change *change = change_begin();
    expect_success(change_edge(change, node_child(node_find("top"), "file"), node_find("b")));
    struct handle *handle = open_handle("top", "writer", PERM_WRITE, PERM_ALL);
    expect_success(change_commit(change));
    assert_int_equal(mem_of("a")->perm, 0);
    assert_int_equal(mem_of("b")->perm, PERM_WRITE);
    struct write write;
    write_start(&write, handle, 0, 512, 1);
    assert_int_equal(write_end(&write), 0);
    handle_close(handle);
}

/* The overlay is flushed to "data" while it closes; it keeps its base meanwhile. */
IN_GRAPH(a_node_that_closes_is_not_moved)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    add_mem("data", 4096);
    add_cow("overlay", 4096, "a", "data");
    struct node *overlay = node_find("overlay");
    struct handle *handle = open_handle("a", "user", PERM_CONSISTENT_READ, PERM_ALL);
    mem_hold(mem_of("data"));
    struct deletion deletion;
    delete_start(&deletion, "overlay");
    mem_wait_held(mem_of("data"), 1);

    struct change *change = change_begin();
    expect_error(change_edge(change, node_backing(overlay), node_find("b")), "node 'overlay' is being closed");
    expect_success(change_replace(change, node_find("a"), node_find("b")));
    expect_success(change_commit(change));
    assert_ptr_equal(handle_node(handle), node_find("b"));
    assert_ptr_equal(child_node(node_backing(overlay)), node_find("a"));
    mem_release(mem_of("data"));
    co_event_wait(&deletion.done, "test");
    handle_close(handle);
}

IN_GRAPH(a_node_that_opens_is_not_moved)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    add_mem("data", 4096);
    struct co_event opening;
    struct adding adding = { .name = "overlay", .backing = "a", .file = "data", .opening = &opening };
    co_event_init(&opening);
    co_event_init(&adding.done);
    co_start("add", add_run, &adding);
    struct change *change = change_begin();
    expect_error(change_replace(change, node_find("a"), node_find("b")), "node 'overlay' is being opened");
    change_abort(change);
    co_event_set(&opening);
    co_event_wait(&adding.done, "test");
}

/* Many writers on two threads, filters going in and out below them: each write is there in the end. */
#define STRESS_WRITERS 16
#define STRESS_WRITES 200

struct stress {
    struct handle *handle;
    unsigned index;
    _Atomic unsigned *left;
};

static void stress_run(void *arg)
{
    struct stress *stress = arg;
    unsigned char data[16];
    for (unsigned i = 0; i < STRESS_WRITES; i++) {
        memset(data, (int)(i + 1), sizeof(data));
        struct iovec storage;
        struct iov iov = iov_of(&storage, data, sizeof(data));
        int ret = handle_pwritev(stress->handle, range_make(stress->index * sizeof(data), sizeof(data)), &iov, 0);
        assert_int_equal(ret, 0);
        co_yield ();
    }
    (*stress->left)--;
}

IN_GRAPH(the_graph_changes_under_load)
{
    add_mem("a", 4096);
    add_filter("filter", "a");
    struct handle *handle = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    _Atomic unsigned left = STRESS_WRITERS;
    struct stress stress[STRESS_WRITERS];
    for (unsigned i = 0; i < STRESS_WRITERS; i++) {
        stress[i] = (struct stress){ .handle = handle, .index = i, .left = &left };
        co_start_on(loop_io(i % 2), "stress", stress_run, &stress[i]);
    }
    unsigned changes = 0;
    while (left > 0 || changes < 10) {
        struct change *change = change_begin();
        expect_success(change_edge(change, handle_edge(handle), node_find(changes % 2 ? "a" : "filter")));
        expect_success(change_commit(change));
        changes++;
        co_yield ();
    }
    struct mem *mem = mem_of("a");
    for (unsigned i = 0; i < STRESS_WRITERS * 16; i++)
        assert_int_equal(mem->bytes[i], STRESS_WRITES & 0xff);
    settle();
    handle_close(handle);
}

/* Flushes walk along the children of a node while changes prepare other edges of it and give them up. */
struct flushing {
    struct handle *handle;
    _Atomic bool *stop;
    struct co_event done;
};

static void flush_run(void *arg)
{
    struct flushing *flushing = arg;
    while (!*flushing->stop) {
        assert_int_equal(handle_flush(flushing->handle), 0);
        co_yield ();
    }
    co_event_set(&flushing->done);
}

IN_GRAPH(flushes_do_not_see_changes_that_are_prepared)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    add_filter("top", "a");
    struct handle *handle = open_handle("top", "user", PERM_WRITE, PERM_ALL);
    _Atomic bool stop = false;
    struct flushing flushing[2];
    for (unsigned i = 0; i < ARRAY_SIZE(flushing); i++) {
        flushing[i] = (struct flushing){ .handle = handle, .stop = &stop };
        co_event_init(&flushing[i].done);
        co_start_on(loop_io(i), "flush", flush_run, &flushing[i]);
    }
    for (unsigned changes = 0; changes < 300; changes++) {
        struct change *change = change_begin();
        expect_success(change_edge(change, node_child(node_find("top"), "file"), node_find(changes % 2 ? "a" : "b")));
        if (changes % 3)
            change_abort(change);
        else
            expect_success(change_commit(change));
        co_yield ();
    }
    stop = true;
    for (unsigned i = 0; i < ARRAY_SIZE(flushing); i++)
        co_event_wait(&flushing[i].done, "test");
    handle_close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_taken_once),
        cmocka_unit_test(a_name_is_reserved_while_its_node_opens),
        cmocka_unit_test(a_failed_open_leaves_nothing),
        cmocka_unit_test(a_node_in_use_is_not_deleted),
        cmocka_unit_test(a_node_is_flushed_before_it_closes),
        cmocka_unit_test(deletion_ends_when_the_node_is_gone),
        cmocka_unit_test(at_the_end_nodes_close_side_by_side),
        cmocka_unit_test(at_the_end_many_nodes_are_closed),
        cmocka_unit_test(what_is_not_there_yet_is_refused),
        cmocka_unit_test(storage_is_counted_while_the_graph_changes),
        cmocka_unit_test(a_graph_has_a_greatest_depth),
        cmocka_unit_test(a_graph_that_is_cut_is_less_deep),
        cmocka_unit_test(a_conflict_names_the_holder),
        cmocka_unit_test(an_overlay_protects_what_it_stands_on),
        cmocka_unit_test(locks_follow_permissions),
        cmocka_unit_test(a_lock_that_fails_leaves_permissions_as_they_were),
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
        cmocka_unit_test(replace_moves_the_users),
        cmocka_unit_test(a_filter_is_inserted_under_a_user_who_shares_nothing),
        cmocka_unit_test(a_change_that_conflicts_changes_nothing),
        cmocka_unit_test(a_change_whose_lock_fails_changes_nothing),
        cmocka_unit_test(a_loop_is_refused),
        cmocka_unit_test(a_change_waits_for_requests_in_flight),
        cmocka_unit_test(a_user_may_leave_in_the_middle_of_a_change),
        cmocka_unit_test(a_user_may_leave_before_it_is_moved),
        cmocka_unit_test(a_change_moves_permissions_as_they_are_when_it_is_made),
        cmocka_unit_test(a_node_that_closes_is_not_moved),
        cmocka_unit_test(a_node_that_opens_is_not_moved),
        cmocka_unit_test(the_graph_changes_under_load),
        cmocka_unit_test(flushes_do_not_see_changes_that_are_prepared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
