/* A job's filter that cannot leave the graph: somebody hears of it, and it leaves when it can. */
#include "tests/unit/graph/fixture.h"

#include "blockcore/graph/notice.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/jobs/job.h"
#include "blockcore/jobs/leave.h"

static struct {
    unsigned count;
    char text[200];
} notices;

static void on_notice(const struct notice *notice, void *arg)
{
    (void)arg;
    assert_int_equal(notice->kind, NOTICE_LEFT_OVER);
    assert_string_equal(notice->node_name, "filter");
    snprintf(notices.text, sizeof(notices.text), "%s", notice->message);
    notices.count++;
}

static void leave_run(struct leaving *leaving, void *done)
{
    struct node *filter = node_ref(node_find("filter"));
    leaving_filter(leaving, filter);
    node_unref(filter);
    co_event_set(done);
}

/*  user --> filter --> a      somebody is about to lead the user to b, which takes long */
static struct handle *begin(struct change **change, struct co_event *done)
{
    notices.count = 0;
    notice_set_listener(on_notice, NULL);
    add_mem("a", 4096);
    add_mem("b", 4096);
    add_filter("filter", "a");
    struct handle *user = open_handle("filter", "user", PERM_WRITE, PERM_ALL);
    *change = change_begin();
    expect_success(change_edge(*change, handle_edge(user), node_find("b")));
    co_event_init(done);
    job_leave(leave_run, done);
    return user;
}

IN_GRAPH(it_leaves_when_what_is_in_the_way_has_gone)
{
    struct change *change;
    struct co_event done;
    struct handle *user = begin(&change, &done);
    while (notices.count == 0) {
        assert_ptr_equal(handle_node(user), node_find("filter"));
        co_sleep_ms(10);
    }
    assert_non_null(strstr(notices.text, "cannot leave the graph yet: "));
    assert_false(co_event_is_set(&done));
    change_abort(change);
    co_event_wait(&done, "test");
    assert_ptr_equal(handle_node(user), node_find("a"));
    assert_int_equal(notices.count, 2);
    assert_non_null(strstr(notices.text, "has left the graph"));
    notice_set_listener(NULL, NULL);
    handle_close(user);
}

static void end_all(void *done)
{
    job_end_all();
    co_event_set(done);
}

IN_GRAPH(the_end_of_the_process_does_not_wait_for_that)
{
    struct change *change;
    struct co_event done, ended;
    struct handle *user = begin(&change, &done);
    co_event_init(&ended);
    co_start("end", end_all, &ended);
    co_event_wait(&ended, "test");
    assert_true(co_event_is_set(&done));
    assert_ptr_equal(handle_node(user), node_find("filter"));
    change_abort(change);
    notice_set_listener(NULL, NULL);
    handle_close(user);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_leaves_when_what_is_in_the_way_has_gone),
        cmocka_unit_test(the_end_of_the_process_does_not_wait_for_that),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
