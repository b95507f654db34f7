/* Other options and other places for nodes in use: blockdev-reopen, snapshots, filters. */
#include "tests/unit/graph/fixture.h"

#include "blockcore/graph/rearrange.h"
#include "blockcore/graph/reopen.h"

/* Options of up to three nodes, written short. */
struct options {
    struct blockdev_options list[3];
    struct blockdev_ref refs[3];
    struct blockdev_ref_or_null backings[3];
    size_t count;
};

static struct blockdev_options *append(struct options *options, enum blockdev_driver driver, const char *name)
{
    struct blockdev_options *own = &options->list[options->count++];
    *own = (struct blockdev_options){ .driver = driver, .node_name = name };
    return own;
}

static void of_mem(struct options *options, const char *name, bool read_only)
{
    struct blockdev_options *own = append(options, BLOCKDEV_DRIVER_NULL_CO, name);
    own->has_read_only = true;
    own->read_only = read_only;
}

static void of_filter(struct options *options, const char *name, const char *file, bool read_only)
{
    struct blockdev_ref *ref = &options->refs[options->count];
    struct blockdev_options *own = append(options, BLOCKDEV_DRIVER_GATE, name);
    ref->kind = BLOCKDEV_REF_KIND_REFERENCE;
    ref->u.reference = file;
    own->u.gate.file = ref;
    own->has_read_only = true;
    own->read_only = read_only;
}

static void of_cow(struct options *options, const char *name, const char *file, const char *backing)
{
    struct blockdev_ref *ref = &options->refs[options->count];
    struct blockdev_ref_or_null *below = &options->backings[options->count];
    struct blockdev_options *own = append(options, BLOCKDEV_DRIVER_QCOW2, name);
    ref->kind = BLOCKDEV_REF_KIND_REFERENCE;
    ref->u.reference = file;
    own->u.qcow2.file = ref;
    below->kind = backing ? BLOCKDEV_REF_OR_NULL_KIND_REFERENCE : BLOCKDEV_REF_OR_NULL_KIND_NULL;
    below->u.reference = backing;
    own->u.qcow2.backing = below;
}

/* A command that runs beside the test. */
struct reopening {
    struct options options;
    struct error *err;
    struct co_event done;
};

static void reopen_run(void *arg)
{
    struct reopening *reopening = arg;
    reopening->err = blockdev_reopen(reopening->options.list, reopening->options.count);
    co_event_set(&reopening->done);
}

static void reopen_start(struct reopening *reopening)
{
    co_event_init(&reopening->done);
    co_start("reopen", reopen_run, reopening);
}

static struct error *reopen(struct options *options) CO_FN;

static struct error *reopen(struct options *options)
{
    return blockdev_reopen(options->list, options->count);
}

/*  before  filter --> a      after  filter --> b, and a is found by nobody who writes */
IN_GRAPH(another_child)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    add_filter("filter", "a");
    struct handle *handle = open_handle("filter", "writer", PERM_WRITE, PERM_ALL);
    struct options options = { 0 };
    of_filter(&options, "filter", "b", false);
    expect_success(reopen(&options));
    struct write write;
    write_start(&write, handle, 0, 512, 3);
    assert_int_equal(write_end(&write), 0);
    assert_int_equal(mem_of("b")->bytes[0], 3);
    assert_int_equal(mem_of("a")->perm, 0);
    assert_int_equal(mem_of("b")->perm, PERM_WRITE);
    handle_close(handle);
}

/* The one that fails does so when the other has succeeded already. */
IN_GRAPH(all_of_it_or_nothing)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    mem_of("b")->fail_enter = true;
    struct options options = { 0 };
    of_mem(&options, "a", true);
    of_mem(&options, "b", true);
    expect_error(reopen(&options), "node 'b': the storage does not like it");
    assert_false(node_is_read_only(node_find("a")));
    assert_false(node_is_read_only(node_find("b")));
    assert_int_equal(mem_of("a")->aborts, 1);
    assert_int_equal(mem_of("b")->aborts, 1);
    assert_int_equal(mem_of("a")->commits, 0);

    mem_of("b")->fail_enter = false;
    expect_success(reopen(&options));
    assert_true(node_is_read_only(node_find("a")) && node_is_read_only(node_find("b")));
}

/* Requests go on while it is prepared, and end before anything changes. */
IN_GRAPH(requests_in_flight_end_first)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    add_filter("filter", "a");
    struct handle *handle = open_handle("filter", "writer", PERM_WRITE, PERM_ALL);
    struct reopening reopening = { 0 };
    of_filter(&reopening.options, "filter", "b", false);
    mem_hold(mem_of("a"));
    struct write held;
    write_start(&held, handle, 0, 512, 1);
    mem_wait_held(mem_of("a"), 1);
    reopen_start(&reopening);
    settle();
    assert_false(co_event_is_set(&reopening.done));
    struct write late;
    write_start(&late, handle, 0, 512, 2);
    settle();
    mem_release(mem_of("a"));
    co_event_wait(&reopening.done, "test");
    expect_success(reopening.err);
    assert_int_equal(write_end(&held), 0);
    assert_int_equal(write_end(&late), 0);
    assert_int_equal(mem_of("a")->bytes[0], 1);
    assert_int_equal(mem_of("b")->bytes[0], 2);
    handle_close(handle);
}

IN_GRAPH(a_writer_keeps_a_node_writable)
{
    add_mem("a", 4096);
    add_filter("filter", "a");
    struct handle *handle = open_handle("filter", "export 'e0'", PERM_WRITE, PERM_ALL);
    struct options options = { 0 };
    of_filter(&options, "filter", "a", true);
    expect_error(reopen(&options), "node 'filter' cannot become read-only: export 'e0' holds permission 'write'");
    struct options below = { 0 };
    of_mem(&below, "a", true);
    expect_error(reopen(&below), "node 'a' cannot become read-only: node 'filter' (as its 'file') holds");
    struct write write;
    write_start(&write, handle, 0, 512, 1);
    assert_int_equal(write_end(&write), 0);
    handle_close(handle);
    expect_success(reopen(&options));
    struct handle *refused;
    expect_error(handle_open(node_find("filter"), "late", PERM_WRITE, PERM_ALL, &refused), "is read-only");
}

/* The tables of an overlay are written as long as it may be: what it needs of its file follows its own mode. */
IN_GRAPH(read_only_and_back_with_permissions_below)
{
    add_mem("data", 4096);
    add_cow("overlay", 4096, NULL, "data");
    assert_int_equal(mem_of("data")->perm, PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE);
    struct options options = { 0 };
    of_cow(&options, "overlay", "data", NULL);
    options.list[0].has_read_only = options.list[0].read_only = true;
    expect_success(reopen(&options));
    assert_int_equal(mem_of("data")->perm, PERM_CONSISTENT_READ);
    options.list[0].read_only = false;
    expect_success(reopen(&options));
    assert_int_equal(mem_of("data")->perm, PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE);
}

/* Both together, since neither would be right alone. */
IN_GRAPH(a_node_and_its_child_become_read_only_together)
{
    add_mem("data", 4096);
    add_cow("overlay", 4096, NULL, "data");
    struct options options = { 0 };
    of_mem(&options, "data", true);
    expect_error(reopen(&options), "node 'data' cannot become read-only: node 'overlay' (as its 'file') holds");
    of_cow(&options, "overlay", "data", NULL);
    options.list[1].has_read_only = options.list[1].read_only = true;
    expect_success(reopen(&options));
    options.list[0].read_only = options.list[1].read_only = false;
    expect_success(reopen(&options));
}

IN_GRAPH(one_command_at_a_time)
{
    add_mem("a", 4096);
    struct co_event preparing;
    co_event_init(&preparing);
    mem_of("a")->preparing = &preparing;
    struct reopening reopening = { 0 };
    of_mem(&reopening.options, "a", true);
    reopen_start(&reopening);
    struct options options = { 0 };
    of_mem(&options, "a", false);
    expect_error(reopen(&options), "being reopened by another command");
    co_event_set(&preparing);
    co_event_wait(&reopening.done, "test");
    expect_success(reopening.err);
    expect_success(reopen(&options));
}

/* Deleted while it is prepared: the command fails, and the deletion waits for it. */
IN_GRAPH(a_node_may_be_deleted_meanwhile)
{
    add_mem("a", 4096);
    struct co_event preparing;
    co_event_init(&preparing);
    mem_of("a")->preparing = &preparing;
    struct reopening reopening = { 0 };
    of_mem(&reopening.options, "a", true);
    reopen_start(&reopening);
    struct deletion deletion;
    delete_start(&deletion, "a");
    co_event_set(&preparing);
    co_event_wait(&reopening.done, "test");
    expect_error(reopening.err, "node 'a' is being closed");
    co_event_wait(&deletion.done, "test");
}

/* A lock cannot be had: as before, and what others hold is untouched. */
IN_GRAPH(a_lock_that_fails_changes_nothing)
{
    mem_next.fail_locks = true;
    add_mem("locked", 4096);
    add_mem("a", 4096);
    add_filter("filter", "a");
    struct handle *handle = open_handle("filter", "writer", PERM_WRITE, PERM_ALL);
    struct options options = { 0 };
    of_filter(&options, "filter", "locked", false);
    expect_error(reopen(&options), "the lock is taken");
    assert_ptr_equal(child_node(node_child(node_find("filter"), "file")), node_find("a"));
    assert_int_equal(mem_of("a")->perm, PERM_WRITE);
    assert_int_equal(mem_of("locked")->perm, 0);
    handle_close(handle);
}

/*  user --> base      user --> overlay --backing--> base: written to the overlay's file from then on */
IN_GRAPH(an_overlay_goes_on_top)
{
    add_mem("base", 4096);
    add_mem("data", 4096);
    add_cow("overlay", 4096, NULL, "data");
    struct handle *handle = open_handle("base", "user", PERM_WRITE | PERM_CONSISTENT_READ, PERM_CONSISTENT_READ);
    struct write write;
    write_start(&write, handle, 0, 1024, 1);
    assert_int_equal(write_end(&write), 0);
    expect_success(node_snapshot(node_find("base"), node_find("overlay")));
    assert_true(mem_of("base")->flushes > 0);
    write_start(&write, handle, 0, 512, 2);
    assert_int_equal(write_end(&write), 0);
    assert_int_equal(mem_of("base")->bytes[0], 1);
    assert_int_equal(mem_of("data")->bytes[0], 2);
    assert_int_equal(mem_of("base")->perm, PERM_CONSISTENT_READ);
    handle_close(handle);
    struct options options = { 0 };
    of_cow(&options, "overlay", "data", NULL);
    expect_success(reopen(&options));
    assert_null(node_backing(node_find("overlay")));
    expect_success(blockdev_del("base"));
}

/* Flushing the node below fails once its users have left: theirs is the error, until it succeeds. */
IN_GRAPH(what_was_written_before_a_snapshot_is_flushed_with_the_overlay)
{
    add_mem("base", 4096);
    add_mem("data", 4096);
    add_cow("overlay", 4096, NULL, "data");
    struct handle *handle = open_handle("base", "user", PERM_WRITE, PERM_ALL);
    struct write write;
    write_start(&write, handle, 0, 512, 1);
    assert_int_equal(write_end(&write), 0);
    mem_of("base")->fail_flushes_after = 1;
    expect_success(node_snapshot(node_find("base"), node_find("overlay")));
    assert_int_equal(handle_flush(handle), -EIO);
    mem_of("base")->fail_flushes_after = 0;
    assert_int_equal(handle_flush(handle), 0);
    handle_close(handle);
}

/* Only one of two users gets the filter. */
IN_GRAPH(a_filter_for_one_user)
{
    add_mem("a", 4096);
    add_filter("filter", "a");
    struct handle *one = open_handle("a", "one", PERM_WRITE, PERM_ALL);
    struct handle *two = open_handle("a", "two", PERM_WRITE, PERM_ALL);
    expect_success(filter_insert(node_find("a"), node_find("filter"), one));
    assert_ptr_equal(handle_node(one), node_find("filter"));
    assert_ptr_equal(handle_node(two), node_find("a"));
    expect_error(filter_remove(node_find("filter"), two), "two does not use node 'filter' directly");
    expect_success(filter_remove(node_find("filter"), NULL));
    assert_ptr_equal(handle_node(one), node_find("a"));
    handle_close(two);
    handle_close(one);
}

/* Doors that cannot reach the place stay open; the time that the others are held is measured. */
IN_GRAPH(only_those_who_reach_the_place_are_held)
{
    add_mem("a", 4096);
    add_mem("other", 4096);
    add_filter("filter", "a");
    struct handle *handle = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    struct handle *elsewhere = open_handle("other", "elsewhere", PERM_WRITE, PERM_ALL);
    mem_hold(mem_of("other"));
    struct write slow;
    write_start(&slow, elsewhere, 0, 512, 1);
    mem_wait_held(mem_of("other"), 1);
    struct drain_times before = drain_times();
    expect_success(filter_insert(node_find("a"), node_find("filter"), NULL));
    struct drain_times after = drain_times();
    assert_int_equal(after.count, before.count + 1);
    assert_true(after.last_ns > 0 && after.longest_ns >= after.last_ns);
    assert_int_equal(after.total_ns, before.total_ns + after.last_ns);
    mem_release(mem_of("other"));
    assert_int_equal(write_end(&slow), 0);
    handle_close(elsewhere);
    handle_close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_child),
        cmocka_unit_test(all_of_it_or_nothing),
        cmocka_unit_test(requests_in_flight_end_first),
        cmocka_unit_test(a_writer_keeps_a_node_writable),
        cmocka_unit_test(read_only_and_back_with_permissions_below),
        cmocka_unit_test(a_node_and_its_child_become_read_only_together),
        cmocka_unit_test(one_command_at_a_time),
        cmocka_unit_test(a_node_may_be_deleted_meanwhile),
        cmocka_unit_test(a_lock_that_fails_changes_nothing),
        cmocka_unit_test(an_overlay_goes_on_top),
        cmocka_unit_test(what_was_written_before_a_snapshot_is_flushed_with_the_overlay),
        cmocka_unit_test(a_filter_for_one_user),
        cmocka_unit_test(only_those_who_reach_the_place_are_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
