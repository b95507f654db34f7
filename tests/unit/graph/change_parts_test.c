/* One change of several parts that know nothing of each other: each finds the graph as those before will have made it.
 */
#include "tests/unit/graph/fixture.h"

#include "blockcore/graph/inner.h"
#include "blockcore/graph/rearrange.h"

static struct node *below(const char *name, const char *child)
{
    const struct child *edge = node_child(node_find(name), child);
    return edge ? child_node(edge) : NULL;
}

/* A filter that stands on "a" and waits for its place. */
static void add_waiting_filter(const char *name)
{
    add_filter(name, "a");
    inner_node_set_placed(node_find(name), false);
}

static void place(struct change *change, const char *filter)
{
    inner_node_set_placed(node_find(filter), true);
    expect_success(change_replace(change, node_find("a"), node_find(filter)));
}

/*  user --> a      user --> f1 --> f2 --> a */
IN_GRAPH(two_filters_on_one_node)
{
    add_mem("a", 4096);
    add_waiting_filter("f1");
    add_waiting_filter("f2");
    struct handle *user = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    struct change *change = change_begin();
    place(change, "f1");
    place(change, "f2");
    expect_success(change_commit(change));
    assert_ptr_equal(handle_node(user), node_find("f1"));
    assert_ptr_equal(below("f1", "file"), node_find("f2"));
    assert_ptr_equal(below("f2", "file"), node_find("a"));
    assert_int_equal(mem_of("a")->perm, PERM_WRITE);
    struct write write;
    write_start(&write, user, 0, 512, 7);
    assert_int_equal(write_end(&write), 0);
    assert_int_equal(mem_of("a")->bytes[0], 7);
    handle_close(user);
}

/*  user --> a      user --> o2 --> o1 --> a; then the same in the other order of words: an overlay of what has one */
IN_GRAPH(an_overlay_of_an_overlay)
{
    add_mem("a", 4096);
    add_mem("data1", 4096);
    add_mem("data2", 4096);
    add_cow("o1", 4096, NULL, "data1");
    add_cow("o2", 4096, NULL, "data2");
    struct handle *user = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    struct change *change = change_begin();
    expect_success(overlay_describe(node_find("a"), node_find("o1"), change));
    assert_ptr_equal(change_child_node(change, node_find("o1"), "backing"), node_find("a"));
    assert_null(change_child_node(change, node_find("o2"), "backing"));
    expect_success(overlay_describe(node_find("o1"), node_find("o2"), change));
    expect_success(change_commit(change));
    assert_ptr_equal(handle_node(user), node_find("o2"));
    assert_ptr_equal(below("o2", "backing"), node_find("o1"));
    assert_ptr_equal(below("o1", "backing"), node_find("a"));
    handle_close(user);
}

/*  user --> a      user --> o1 --> o2 --> a */
IN_GRAPH(two_overlays_of_one_node)
{
    add_mem("a", 4096);
    add_mem("data1", 4096);
    add_mem("data2", 4096);
    add_cow("o1", 4096, NULL, "data1");
    add_cow("o2", 4096, NULL, "data2");
    struct handle *user = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    struct change *change = change_begin();
    expect_success(overlay_describe(node_find("a"), node_find("o1"), change));
    expect_success(overlay_describe(node_find("a"), node_find("o2"), change));
    expect_success(change_commit(change));
    assert_ptr_equal(handle_node(user), node_find("o1"));
    assert_ptr_equal(below("o1", "backing"), node_find("o2"));
    assert_ptr_equal(below("o2", "backing"), node_find("a"));
    handle_close(user);
}

IN_GRAPH(the_last_word_on_an_edge_counts)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    add_mem("c", 4096);
    struct handle *user = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    struct change *change = change_begin();
    expect_success(change_edge(change, handle_edge(user), node_find("b")));
    expect_success(change_edge(change, handle_edge(user), node_find("c")));
    expect_success(change_replace(change, node_find("b"), node_find("a"))); /* nobody is there any more */
    expect_success(change_commit(change));
    assert_ptr_equal(handle_node(user), node_find("c"));
    expect_success(blockdev_del("b"));
    handle_close(user);
}

IN_GRAPH(permissions_come_with_the_change)
{
    add_mem("a", 4096);
    struct handle *guard = open_handle("a", "guard", 0, PERM_ALL);
    struct handle *other = open_handle("a", "other", PERM_CONSISTENT_READ, PERM_CONSISTENT_READ);
    struct change *change = change_begin();
    expect_success(change_permissions(change, guard, PERM_WRITE, PERM_ALL));
    expect_error(change_commit(change), "other does not share");
    assert_int_equal(child_permissions(handle_edge(guard)), 0);
    handle_close(other);
    change = change_begin();
    expect_success(change_permissions(change, guard, PERM_WRITE, PERM_ALL));
    expect_success(change_commit(change));
    assert_int_equal(child_permissions(handle_edge(guard)), PERM_WRITE);
    assert_int_equal(mem_of("a")->perm, PERM_WRITE);
    handle_close(guard);
}

/* Owners --------------------------------------------------------------------------------------------------------- */

static char told[200];

struct part {
    const char *name;
    bool fail_before;
    bool fail_try;
};

static void tell(const char *what, const struct part *part)
{
    snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s%s ", what, part->name);
}

static struct error *before(void *arg)
{
    struct part *part = arg;
    tell("before", part);
    return part->fail_before ? error_new("part %s", part->name) : NULL;
}

static struct error *try_new(void *arg)
{
    struct part *part = arg;
    tell("try", part);
    return part->fail_try ? error_new("part %s", part->name) : NULL;
}

static void undo_new(void *arg)
{
    tell("undo", arg);
}

static void failed(void *arg)
{
    tell("failed", arg);
}

static void done(void *arg)
{
    tell("done", arg);
}

static const struct change_owner everything = {
    .before = before,
    .try_new = try_new,
    .undo_new = undo_new,
    .failed = failed,
    .done = done,
};

static struct error *commit_parts(struct part *parts)
{
    struct change *change = change_begin();
    told[0] = '\0';
    for (unsigned i = 0; i < 3; i++)
        change_add_owner(change, &everything, &parts[i]);
    return change_commit(change);
}

IN_GRAPH(owners_have_their_turns_in_order_and_undo_in_reverse)
{
    struct part parts[] = { { .name = "1" }, { .name = "2" }, { .name = "3" } };
    expect_success(commit_parts(parts));
    assert_string_equal(told, "before1 before2 before3 try1 try2 try3 done1 done2 done3 ");
    parts[1].fail_before = true;
    expect_error(commit_parts(parts), "part 2");
    assert_string_equal(told, "before1 before2 failed2 failed1 ");
    parts[1].fail_before = false;
    parts[1].fail_try = true;
    expect_error(commit_parts(parts), "part 2");
    assert_string_equal(told, "before1 before2 before3 try1 try2 undo2 undo1 failed3 failed2 failed1 ");
}

/* Holding -------------------------------------------------------------------------------------------------------- */

struct looking {
    struct handle *handles[2];
    struct write late;
};

static struct error *look(void *arg)
{
    struct looking *looking = arg;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(handle_in_flight(looking->handles[i]), 0);
    write_start(&looking->late, looking->handles[1], 512, 512, 2);
    settle();
    assert_int_equal(handle_in_flight(looking->handles[1]), 0);
    assert_int_equal(mem_of("b")->bytes[512], 0);
    return NULL;
}

static const struct change_owner looker = { .before = look };

/* No edge moves, and yet all users of both nodes stand still. */
IN_GRAPH(nodes_are_held_together)
{
    struct looking looking;
    add_mem("a", 4096);
    add_mem("b", 4096);
    looking.handles[0] = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    looking.handles[1] = open_handle("b", "user", PERM_WRITE, PERM_ALL);
    struct change *change = change_begin();
    change_hold(change, node_find("a"), false);
    change_hold(change, node_find("b"), false);
    change_hold(change, node_find("a"), true);
    change_add_owner(change, &looker, &looking);
    expect_success(change_commit(change));
    assert_int_equal(write_end(&looking.late), 0);
    handle_close(looking.handles[0]);
    handle_close(looking.handles[1]);
}

/* "a" never answers: the change is given up, and what waited at the door of "b" goes on. */
IN_GRAPH(patience_ends)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    struct handle *on_a = open_handle("a", "slow", PERM_WRITE, PERM_ALL);
    struct handle *on_b = open_handle("b", "quick", PERM_WRITE, PERM_ALL);
    struct write stuck;
    struct write waiting;
    mem_hold(mem_of("a"));
    write_start(&stuck, on_a, 0, 512, 1);
    mem_wait_held(mem_of("a"), 1);
    struct change *change = change_begin();
    change_hold(change, node_find("a"), false);
    change_hold(change, node_find("b"), false);
    change_set_patience(change, 20);
    write_start(&waiting, on_b, 0, 512, 1);
    expect_error(change_commit(change), "requests of slow to node 'a' have not ended in time");
    assert_int_equal(write_end(&waiting), 0);
    mem_release(mem_of("a"));
    assert_int_equal(write_end(&stuck), 0);
    write_start(&stuck, on_a, 0, 512, 1);
    assert_int_equal(write_end(&stuck), 0);
    handle_close(on_a);
    handle_close(on_b);
}

/* Leaving -------------------------------------------------------------------------------------------------------- */

struct leaver {
    struct node *filter;
    struct co_event done;
};

static void leave_run(void *arg)
{
    struct leaver *leaver = arg;
    error_free(filter_remove(leaver->filter, NULL));
    co_event_set(&leaver->done);
}

/*  user --> f1 --> f2 --> a: both leave at once, while the user's write keeps them waiting */
IN_GRAPH(filters_that_leave_at_once)
{
    struct leaver leavers[2];
    add_mem("a", 4096);
    add_filter("f2", "a");
    add_filter("f1", "f2");
    struct handle *user = open_handle("f1", "user", PERM_WRITE, PERM_ALL);
    struct write write;
    mem_hold(mem_of("a"));
    write_start(&write, user, 0, 512, 1);
    mem_wait_held(mem_of("a"), 1);
    for (unsigned i = 0; i < 2; i++) {
        leavers[i].filter = node_find(i ? "f2" : "f1");
        co_event_init(&leavers[i].done);
        co_start("leave", leave_run, &leavers[i]);
    }
    settle();
    mem_release(mem_of("a"));
    assert_int_equal(write_end(&write), 0);
    for (unsigned i = 0; i < 2; i++)
        co_event_wait(&leavers[i].done, "test");
    assert_ptr_equal(handle_node(user), node_find("a"));
    handle_close(user);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_filters_on_one_node),
        cmocka_unit_test(an_overlay_of_an_overlay),
        cmocka_unit_test(two_overlays_of_one_node),
        cmocka_unit_test(the_last_word_on_an_edge_counts),
        cmocka_unit_test(permissions_come_with_the_change),
        cmocka_unit_test(owners_have_their_turns_in_order_and_undo_in_reverse),
        cmocka_unit_test(nodes_are_held_together),
        cmocka_unit_test(patience_ends),
        cmocka_unit_test(filters_that_leave_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
