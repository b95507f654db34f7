#include "blockcore/runtime/fd_watch.h"

#include "blockcore/runtime/loop_uv.h"
#include "tests/unit/runtime/co_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Two ends of a socket; the test holds one, the watch looks at the other. */
static int near_end;
static int far_end;

static struct fd_watch *watch_socket(void)
{
    int ends[2];
    expect_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    near_end = ends[0];
    far_end = ends[1];
    return fd_watch_create(near_end);
}

static void close_all(struct fd_watch *watch)
{
    fd_watch_destroy(watch);
    close(near_end);
    close(far_end);
}

struct wait {
    struct fd_watch *watch;
    uint64_t timeout_ms;
    int result;
};

static void wait_readable(void *arg)
{
    struct wait *wait = arg;
    wait->result = fd_watch_readable(wait->watch, wait->timeout_ms);
    note("readable");
}

static void wait_writable(void *arg)
{
    struct wait *wait = arg;
    wait->result = fd_watch_writable(wait->watch, wait->timeout_ms);
    note("writable");
}

/* Writes until the kernel takes no more. */
static void fill(int fd)
{
    static const char block[4096];
    while (write(fd, block, sizeof(block)) > 0)
        ;
    expect_int(errno, EAGAIN);
}

static void drain(int fd)
{
    static char block[65536];
    while (read(fd, block, sizeof(block)) > 0)
        ;
    expect_int(errno, EAGAIN);
}

CO_TEST(data_that_is_there_is_seen)
{
    struct fd_watch *watch = watch_socket();
    expect_int(write(far_end, "x", 1), 1);
    expect_int(fd_watch_readable(watch, FD_WATCH_FOREVER), 0);
    close_all(watch);
}

/* Readiness is a level, not an edge: who has not read everything is told again. */
CO_TEST(data_that_was_left_is_seen_again)
{
    struct fd_watch *watch = watch_socket();
    expect_int(write(far_end, "xyz", 3), 3);
    for (int i = 0; i < 3; i++) {
        char byte;
        expect_int(fd_watch_readable(watch, FD_WATCH_FOREVER), 0);
        expect_int(fd_watch_readable(watch, FD_WATCH_FOREVER), 0);
        expect_int(read(near_end, &byte, 1), 1);
    }
    expect_int(fd_watch_readable(watch, 1), -ETIMEDOUT);
    close_all(watch);
}

CO_TEST(a_reader_waits_until_data_comes)
{
    struct fd_watch *watch = watch_socket();
    struct wait wait = { .watch = watch, .result = -1 };
    struct co_group group;
    co_group_init(&group);
    co_group_start(&group, "reader", wait_readable, &wait);
    co_sleep_ms(1);
    expect_text(noted(), "");
    expect_int(write(far_end, "x", 1), 1);
    co_group_join(&group);
    expect_int(wait.result, 0);
    expect_text(noted(), "readable");
    close_all(watch);
}

CO_TEST(both_directions_wait_at_once)
{
    struct fd_watch *watch = watch_socket();
    struct wait read_wait = { .watch = watch, .result = -1 };
    struct wait write_wait = { .watch = watch, .result = -1 };
    struct co_group group;
    co_group_init(&group);
    fill(near_end);
    co_group_start(&group, "reader", wait_readable, &read_wait);
    co_group_start(&group, "writer", wait_writable, &write_wait);
    co_sleep_ms(1);
    expect_text(noted(), "");
    drain(far_end);
    co_sleep_ms(1);
    expect_text(noted(), "writable");
    expect_int(write(far_end, "x", 1), 1);
    co_group_join(&group);
    expect_text(noted(), "readable");
    expect_int(read_wait.result, 0);
    expect_int(write_wait.result, 0);
    close_all(watch);
}

static void count_turn(uv_prepare_t *handle)
{
    ++*(unsigned *)handle->data;
}

static void counter_closed(uv_handle_t *handle)
{
    co_event_set(handle->data);
}

/* How often the loop turns while nothing happens for @ms. */
static unsigned count_turns(uint64_t ms)
{
    unsigned turns = 0;
    struct co_event closed;
    uv_prepare_t counter;
    uv_prepare_init(loop_uv(loop_current()), &counter);
    counter.data = &turns;
    uv_prepare_start(&counter, count_turn);
    co_sleep_ms(ms);
    co_event_init(&closed);
    counter.data = &closed;
    uv_close((uv_handle_t *)&counter, counter_closed);
    co_event_wait(&closed, "libuv");
    return turns;
}

/* With nobody waiting, data that nobody reads does not keep the loop busy, and the next wait sees it. */
CO_TEST(interest_rests_while_nobody_waits)
{
    struct fd_watch *watch = watch_socket();
    expect_int(write(far_end, "x", 1), 1);
    expect_int(fd_watch_readable(watch, FD_WATCH_FOREVER), 0);
    expect(count_turns(20) < 30);
    expect_int(fd_watch_readable(watch, FD_WATCH_FOREVER), 0);
    expect_int(fd_watch_writable(watch, FD_WATCH_FOREVER), 0);
    co_sleep_ms(3);
    expect_int(fd_watch_readable(watch, FD_WATCH_FOREVER), 0);
    close_all(watch);
}

CO_TEST(a_wait_ends_after_its_timeout_and_can_be_repeated)
{
    struct fd_watch *watch = watch_socket();
    expect_int(fd_watch_readable(watch, 2), -ETIMEDOUT);
    expect_int(fd_watch_readable(watch, 2), -ETIMEDOUT);
    fill(near_end);
    expect_int(fd_watch_writable(watch, 2), -ETIMEDOUT);
    expect_int(write(far_end, "x", 1), 1);
    expect_int(fd_watch_readable(watch, 60000), 0);
    close_all(watch);
}

CO_TEST(the_end_of_the_peer_wakes_both_directions)
{
    struct fd_watch *watch = watch_socket();
    struct wait read_wait = { .watch = watch, .result = -1 };
    struct wait write_wait = { .watch = watch, .result = -1 };
    struct co_group group;
    co_group_init(&group);
    fill(near_end);
    co_group_start(&group, "reader", wait_readable, &read_wait);
    co_group_start(&group, "writer", wait_writable, &write_wait);
    close(far_end);
    far_end = -1;
    co_group_join(&group);
    noted();
    expect_int(read_wait.result, 0);
    expect_int(write_wait.result, 0);
    expect_int(fd_watch_readable(watch, FD_WATCH_FOREVER), 0);
    close_all(watch);
}

CO_TEST(cancel_wakes_the_waiters_for_good)
{
    struct fd_watch *watch = watch_socket();
    struct wait read_wait = { .watch = watch };
    struct wait write_wait = { .watch = watch, .timeout_ms = 60000 };
    struct co_group group;
    co_group_init(&group);
    fill(near_end);
    co_group_start(&group, "reader", wait_readable, &read_wait);
    co_group_start(&group, "writer", wait_writable, &write_wait);
    fd_watch_cancel(watch);
    co_group_join(&group);
    noted();
    expect_int(read_wait.result, -ECANCELED);
    expect_int(write_wait.result, -ECANCELED);
    expect_int(write(far_end, "x", 1), 1);
    expect_int(fd_watch_readable(watch, FD_WATCH_FOREVER), -ECANCELED);
    expect_int(fd_watch_writable(watch, 1), -ECANCELED);
    close_all(watch);
}

CO_TEST(a_regular_file_is_always_ready)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    struct fd_watch *watch = fd_watch_create(fd);
    expect_int(fd_watch_readable(watch, FD_WATCH_FOREVER), 0);
    expect_int(fd_watch_writable(watch, FD_WATCH_FOREVER), 0);
    fd_watch_destroy(watch);
    close(fd);
}

/* A number that is used again for another file does not see the interest in the old one. */
CO_TEST(descriptors_come_and_go)
{
    for (int i = 0; i < 100; i++) {
        struct fd_watch *watch = watch_socket();
        expect_int(write(far_end, "x", 1), 1);
        expect_int(fd_watch_readable(watch, FD_WATCH_FOREVER), 0);
        if (i % 2)
            co_yield ();
        close_all(watch);
        if (i % 3)
            co_yield ();
    }
}

struct relay {
    int from;
    int to;
    size_t bytes;
};

static void pass_on(void *arg)
{
    struct relay *relay = arg;
    struct fd_watch *from = fd_watch_create(relay->from);
    struct fd_watch *to = relay->to >= 0 ? fd_watch_create(relay->to) : NULL;
    char block[1000];
    for (;;) {
        ssize_t bytes = read(relay->from, block, sizeof(block));
        if (bytes == 0)
            break;
        if (bytes < 0) {
            expect_int(errno, EAGAIN);
            expect_int(fd_watch_readable(from, FD_WATCH_FOREVER), 0);
            continue;
        }
        relay->bytes += (size_t)bytes;
        for (ssize_t done = 0; to && done < bytes;) {
            ssize_t ret = write(relay->to, block + done, (size_t)(bytes - done));
            if (ret < 0)
                expect_int(fd_watch_writable(to, FD_WATCH_FOREVER), 0);
            else
                done += ret;
        }
    }
    fd_watch_destroy(from);
    if (to) {
        fd_watch_destroy(to);
        close(relay->to);
    }
    close(relay->from);
}

/* write -> socket -> relay -> socket -> ... -> count: everything arrives, however full the sockets are. */
CO_TEST(a_chain_of_relays_loses_nothing)
{
    enum { LINKS = 5 };
    const size_t total = 3000000;
    struct relay relays[LINKS] = { 0 };
    struct co_group group;
    int ends[2];
    co_group_init(&group);
    expect_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    int head = ends[0];
    for (int i = 0; i < LINKS; i++) {
        relays[i].from = ends[1];
        relays[i].to = -1;
        if (i + 1 < LINKS) {
            expect_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
            relays[i].to = ends[0];
        }
        co_group_start(&group, "relay", pass_on, &relays[i]);
    }
    struct fd_watch *watch = fd_watch_create(head);
    static char block[50000];
    for (size_t sent = 0; sent < total;) {
        size_t left = total - sent;
        ssize_t ret = write(head, block, left < sizeof(block) ? left : sizeof(block));
        if (ret < 0)
            expect_int(fd_watch_writable(watch, FD_WATCH_FOREVER), 0);
        else
            sent += (size_t)ret;
    }
    fd_watch_destroy(watch);
    close(head);
    co_group_join(&group);
    for (int i = 0; i < LINKS; i++)
        expect_int(relays[i].bytes, total);
}

struct call {
    struct fd_watch *watch;
    unsigned calls;
    struct co_event called;
};

static void called(void *arg)
{
    struct call *call = arg;
    call->calls++;
    co_event_set(&call->called);
}

static void call_when_readable(struct call *call)
{
    co_event_init(&call->called);
    fd_watch_when_readable(call->watch, called, call);
}

/* No coroutine waits, and writers may wait beside it. */
CO_TEST(a_call_takes_the_place_of_a_reader)
{
    struct call call = { .watch = watch_socket() };
    struct wait writer = { .watch = call.watch };
    fill(near_end);
    co_start("writer", wait_writable, &writer);
    unsigned alive = co_count();
    call_when_readable(&call);
    expect_int(co_count(), alive);
    drain(far_end);
    while (writer.result == 0 && strcmp(noted(), "writable") != 0)
        co_yield ();
    expect_int(call.calls, 0);
    for (unsigned i = 1; i <= 3; i++) {
        expect_int(write(far_end, "x", 1), 1);
        co_event_wait(&call.called, "the call");
        expect_int(call.calls, i);
        drain(near_end);
        call_when_readable(&call);
    }
    fd_watch_cancel(call.watch); /* forgets it */
    expect_int(write(far_end, "x", 1), 1);
    co_sleep_ms(1);
    expect_int(call.calls, 3);
    close_all(call.watch);
}

static void called_and_destroys(void *arg)
{
    struct call *call = arg;
    fd_watch_destroy(call->watch);
    call->watch = NULL;
    co_event_set(&call->called);
}

CO_TEST(a_call_may_destroy_the_watch)
{
    struct call call = { .watch = watch_socket() };
    co_event_init(&call.called);
    fd_watch_when_readable(call.watch, called_and_destroys, &call);
    close(far_end);
    co_event_wait(&call.called, "the call");
    expect(!call.watch);
    close(near_end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_that_is_there_is_seen),
        cmocka_unit_test(data_that_was_left_is_seen_again),
        cmocka_unit_test(a_reader_waits_until_data_comes),
        cmocka_unit_test(both_directions_wait_at_once),
        cmocka_unit_test(interest_rests_while_nobody_waits),
        cmocka_unit_test(a_wait_ends_after_its_timeout_and_can_be_repeated),
        cmocka_unit_test(the_end_of_the_peer_wakes_both_directions),
        cmocka_unit_test(cancel_wakes_the_waiters_for_good),
        cmocka_unit_test(a_regular_file_is_always_ready),
        cmocka_unit_test(descriptors_come_and_go),
        cmocka_unit_test(a_chain_of_relays_loses_nothing),
        cmocka_unit_test(a_call_takes_the_place_of_a_reader),
        cmocka_unit_test(a_call_may_destroy_the_watch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
