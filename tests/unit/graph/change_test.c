/* Altering the shape, all of it or nothing. */
#include "tests/unit/graph/fixture.h"

#include "blockcore/graph/rearrange.h"

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

/* Another command still holds "b" when it is deleted: whatever would stand on it now would keep it for ever. */
IN_GRAPH(nothing_moves_to_a_node_that_is_deleted)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    add_mem("data", 4096);
    add_cow("overlay", 4096, NULL, "data");
    struct node *b = node_ref(node_find("b"));
    struct handle *handle = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    struct deletion deletion;
    delete_start(&deletion, "b");

    struct change *change = change_begin();
    struct child *backing;
    expect_error(change_replace(change, node_find("a"), b), "node 'b' is being closed");
    expect_error(change_add(change, node_find("overlay"), "backing", CHILD_BACKING, b, &backing), "is being closed");
    change_abort(change);
    expect_error(node_snapshot(b, node_find("overlay")), "node 'b' is being closed");
    node_unref(b);
    co_event_wait(&deletion.done, "test");
    assert_ptr_equal(handle_node(handle), node_find("a"));
    handle_close(handle);
}

/*  user ----> a      user --> filter --> a <-- check: it was asked about "a", and the filter could not answer */
IN_GRAPH(who_means_just_this_node_stays)
{
    add_mem("a", 4096);
    add_filter("filter", "a");
    struct handle *user = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    struct handle *check;
    expect_success(handle_open_here(node_find("a"), "check", PERM_CONSISTENT_READ, PERM_ALL, &check));
    expect_success(filter_insert(node_find("a"), node_find("filter"), NULL));
    assert_ptr_equal(handle_node(user), node_find("filter"));
    assert_ptr_equal(handle_node(check), node_find("a"));
    handle_close(check);
    handle_close(user);
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
        cmocka_unit_test(nothing_moves_to_a_node_that_is_deleted),
        cmocka_unit_test(who_means_just_this_node_stays),
        cmocka_unit_test(the_graph_changes_under_load),
        cmocka_unit_test(flushes_do_not_see_changes_that_are_prepared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
