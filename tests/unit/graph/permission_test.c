/* Who may do what, and the locks of files that follow. */
#include "tests/unit/graph/fixture.h"

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

struct moving {
    struct child *edges[2];
    struct node *nodes[2];
    struct error *err;
    struct co_event done;
};

static void move_run(void *arg)
{
    struct moving *moving = arg;
    struct change *change = change_begin();
    for (unsigned i = 0; i < 2; i++)
        expect_success(change_edge(change, moving->edges[i], moving->nodes[i]));
    moving->err = change_commit(change);
    co_event_set(&moving->done);
}

/* A command waits for the lock of one file, and will not get that of another: whoever uses the other meanwhile does not
 * pay for it. */
IN_GRAPH(a_lock_that_others_will_not_get_is_theirs_to_miss)
{
    add_mem("a", 4096);
    add_mem("slow", 4096);
    mem_next.fail_locks = true;
    add_mem("locked", 4096);
    struct handle *one = open_handle("a", "one", PERM_WRITE, PERM_ALL);
    struct handle *two = open_handle("a", "two", PERM_WRITE, PERM_ALL);
    struct co_event locking;
    co_event_init(&locking);
    mem_of("slow")->locking = &locking;
    struct moving moving = { .edges = { handle_edge(one), handle_edge(two) },
                             .nodes = { node_find("slow"), node_find("locked") } };
    co_event_init(&moving.done);
    co_start("move", move_run, &moving);
    settle();

    struct handle *reader = open_handle("locked", "reader", PERM_CONSISTENT_READ, PERM_ALL);
    assert_int_equal(mem_of("locked")->perm, PERM_CONSISTENT_READ);
    co_event_set(&locking);
    co_event_wait(&moving.done, "test");
    expect_error(moving.err, "the lock is taken");
    assert_int_equal(mem_of("locked")->perm, PERM_CONSISTENT_READ);
    assert_int_equal(mem_of("slow")->perm, 0);
    handle_close(reader);
    handle_close(two);
    handle_close(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conflict_names_the_holder),
        cmocka_unit_test(an_overlay_protects_what_it_stands_on),
        cmocka_unit_test(locks_follow_permissions),
        cmocka_unit_test(a_lock_that_fails_leaves_permissions_as_they_were),
        cmocka_unit_test(a_lock_that_others_will_not_get_is_theirs_to_miss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
