/* Connections: taking them, holding back, and moving bytes. */
#include "blockcore/net/acceptor.h"
#include "blockcore/net/listen.h"
#include "blockcore/net/stream.h"
#include "blockcore/runtime/fd_watch.h"
#include "tests/unit/drivers/nodes.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CONNECTIONS_MAX 64

/* What the acceptor let in. */
static struct {
    int fds[CONNECTIONS_MAX];
    unsigned count;
    unsigned wanted;
    struct co_event enough;
} let_in;

static void accepted(int fd, void *arg)
{
    (void)arg;
    let_in.fds[let_in.count++] = fd;
    if (let_in.count == let_in.wanted)
        co_event_set(&let_in.enough);
}

static void wait_for_connections(unsigned count)
{
    let_in.wanted = count;
    if (let_in.count >= count)
        return;
    co_event_init(&let_in.enough);
    co_event_wait(&let_in.enough, "connections");
}

static void close_connections(void)
{
    while (let_in.count > 0)
        close(let_in.fds[--let_in.count]);
    let_in.wanted = 0;
}

static struct listening listen_here(void)
{
    struct socket_address address = { .type = SOCKET_ADDRESS_TYPE_UNIX, .u.unix_ = { .path = in_dir("s") } };
    struct listening listening;
    expect_success(listen_at(&address, &listening));
    return listening;
}

static void connect_here(int fd)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_dir("s"));
    expect(connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
}

static int new_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect(fd >= 0);
    return fd;
}

NODE_TEST(all_who_connect_are_let_in)
{
    int clients[40];
    struct listening listening = listen_here();
    struct acceptor *acceptor = acceptor_create(listening.fds[0], accepted, NULL);
    for (unsigned i = 0; i < 40; i++)
        connect_here(clients[i] = new_socket());
    co_yield ();
    expect_int(let_in.count, 0); /* it begins held */
    acceptor_hold(acceptor, false);
    wait_for_connections(40);
    expect(fcntl(let_in.fds[0], F_GETFL) & O_NONBLOCK);
    expect_int(fcntl(let_in.fds[0], F_GETFD), FD_CLOEXEC);
    acceptor_destroy(acceptor);
    close_connections();
    for (unsigned i = 0; i < 40; i++)
        close(clients[i]);
    listening_close(&listening);
}

NODE_TEST(those_who_come_while_it_is_held_wait)
{
    struct listening listening = listen_here();
    struct acceptor *acceptor = acceptor_create(listening.fds[0], accepted, NULL);
    acceptor_hold(acceptor, false);
    int first = new_socket();
    int second = new_socket();
    connect_here(first);
    wait_for_connections(1);
    acceptor_hold(acceptor, true);
    connect_here(second);
    for (int i = 0; i < 10; i++)
        co_yield ();
    expect_int(let_in.count, 1);
    acceptor_hold(acceptor, false);
    wait_for_connections(2);
    acceptor_destroy(acceptor);
    close_connections();
    close(first);
    close(second);
    listening_close(&listening);
}

/* When no descriptor is left it tries again later, without burning the processor on a queue it cannot empty. */
NODE_TEST(running_out_of_descriptors_is_survived)
{
    struct rlimit limit;
    struct rusage before;
    struct rusage after;
    struct listening listening = listen_here();
    int client = new_socket();
    expect(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    struct rlimit low = { .rlim_cur = (rlim_t)client + 1, .rlim_max = limit.rlim_max };
    struct acceptor *acceptor = acceptor_create(listening.fds[0], accepted, NULL);
    expect(setrlimit(RLIMIT_NOFILE, &low) == 0);
    connect_here(client);
    acceptor_hold(acceptor, false);
    getrusage(RUSAGE_THREAD, &before);
    co_sleep_ms(300);
    getrusage(RUSAGE_THREAD, &after);
    expect_int(let_in.count, 0);
    expect((after.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_utime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
               after.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_utime.tv_usec - before.ru_stime.tv_usec <
           100000);
    expect(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    wait_for_connections(1);
    acceptor_destroy(acceptor);
    close_connections();
    close(client);
    listening_close(&listening);
}

NODE_TEST(an_acceptor_that_rests_can_be_destroyed)
{
    struct rlimit limit;
    struct listening listening = listen_here();
    int client = new_socket();
    expect(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    struct rlimit low = { .rlim_cur = (rlim_t)client + 1, .rlim_max = limit.rlim_max };
    struct acceptor *acceptor = acceptor_create(listening.fds[0], accepted, NULL);
    expect(setrlimit(RLIMIT_NOFILE, &low) == 0);
    connect_here(client);
    acceptor_hold(acceptor, false);
    acceptor_destroy(acceptor);
    expect(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    expect_int(let_in.count, 0);
    close(client);
    listening_close(&listening);
}

/* Streams ------------------------------------------------------------------------------------------------------- */

static void open_pair(struct stream *ends[2])
{
    int fds[2];
    expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    ends[0] = stream_create(fds[0]);
    ends[1] = stream_create(fds[1]);
}

static void close_pair(struct stream *ends[2])
{
    stream_destroy(ends[0]);
    stream_destroy(ends[1]);
}

#define LONG_BYTES (4 * MIB)

static char outgoing[LONG_BYTES];

static void write_long(void *arg)
{
    expect_int(stream_write_all(arg, outgoing, sizeof(outgoing)), 0);
}

NODE_TEST(more_than_a_socket_holds_can_be_sent)
{
    static char incoming[LONG_BYTES];
    struct stream *ends[2];
    struct co_group group;
    open_pair(ends);
    for (size_t i = 0; i < LONG_BYTES; i++)
        outgoing[i] = (char)(i * 7 / 5);
    co_group_init(&group);
    co_group_start(&group, "writer", write_long, ends[0]);
    expect_int(stream_read_all(ends[1], incoming, sizeof(incoming)), 0);
    co_group_join(&group);
    expect(memcmp(incoming, outgoing, sizeof(incoming)) == 0);
    close_pair(ends);
}

NODE_TEST(the_end_of_the_other_side_is_an_error_where_bytes_are_due)
{
    char data[8];
    struct stream *ends[2];
    open_pair(ends);
    expect_int(stream_readv(ends[1], &(struct iovec){ data, sizeof(data) }, 1), -EAGAIN);
    expect_int(stream_write_all(ends[0], "1234", 4), 0);
    stream_cut(ends[0]);
    expect_int(stream_read_all(ends[1], data, 8), -ECONNRESET);
    expect_int(stream_readv(ends[1], &(struct iovec){ data, sizeof(data) }, 1), 0);
    expect_int(stream_write_all(ends[1], "x", 1), -EPIPE);
    close_pair(ends);
}

static void wait_until_cut(void *arg)
{
    expect_int(stream_wait_readable(arg, FD_WATCH_FOREVER), -ECANCELED);
    note("readable");
}

NODE_TEST(cutting_wakes_those_who_wait)
{
    struct stream *ends[2];
    struct co_group group;
    open_pair(ends);
    expect_int(stream_wait_readable(ends[0], 1), -ETIMEDOUT);
    co_group_init(&group);
    co_group_start(&group, "waiter", wait_until_cut, ends[0]);
    stream_cut(ends[0]);
    stream_cut(ends[0]);
    co_group_join(&group);
    expect_text(noted(), "readable");
    expect_int(stream_wait_writable(ends[0], FD_WATCH_FOREVER), -ECANCELED);
    close_pair(ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_who_connect_are_let_in),
        cmocka_unit_test(those_who_come_while_it_is_held_wait),
        cmocka_unit_test(running_out_of_descriptors_is_survived),
        cmocka_unit_test(an_acceptor_that_rests_can_be_destroyed),
        cmocka_unit_test(more_than_a_socket_holds_can_be_sent),
        cmocka_unit_test(the_end_of_the_other_side_is_an_error_where_bytes_are_due),
        cmocka_unit_test(cutting_wakes_those_who_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
