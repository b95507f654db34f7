/* The driver 'nbd', with the server in the same process: what can only be seen inside, and on all threads at once.
 *
 *     remote (nbd) ~~nbd.sock~~> export "disk" --> disk (gate) --> disk.img */
#include "tests/unit/export/nbd_test.h"

#include "blockcore/drivers/nbd/link.h"
#include "blockcore/filters/gate.h"
#include "blockcore/graph/notice.h"

static unsigned lost;

static void listen_to_nodes(const struct notice *notice, void *arg)
{
    (void)arg;
    lost += notice->kind == NOTICE_SERVER;
    expect(notice->kind != NOTICE_FLUSH_FAILED);
}

static struct socket_address address;

static struct blockdev_options remote_options(void)
{
    address = (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_UNIX, .u.unix_ = { .path = in_dir("nbd.sock") } };
    return with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_NBD,
        .node_name = "remote",
        .u.nbd = { .server = &address, .export_ = "disk" },
    });
}

static void serve_disk(uint64_t bytes)
{
    lost = 0;
    notice_set_listener(listen_to_nodes, NULL);
    make_file("disk.img", bytes);
    add(with_discard(file_options("file", in_dir("disk.img"))));
    add(with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_GATE, .node_name = "disk", .u.gate = { .file = by_name("file") } }));
    export_as("disk", "disk");
}

/* The server stops before nodes are closed. */
static void flush_and_close(struct handle *handle)
{
    expect_int(handle_flush(handle), 0);
    handle_close(handle);
}

NBD_TEST(what_is_written_is_with_the_server)
{
    serve_disk(MIB);
    add(remote_options());
    struct handle *handle = open_handle("remote", READ_WRITE);
    expect_int(node_length(node_find("remote")), MIB);
    expect_int(put(handle, 1000, 100000, 0x11), 0);
    expect_int(handle_pwrite_zeroes(handle, range_make(2000, 1000), 0), 0);
    expect_int(handle_pdiscard(handle, range_make(512 * KIB, 4096)), 0);
    expect(reads_as(handle, 1000, 1000, 0x11));
    expect(reads_as(handle, 2000, 1000, 0));
    expect_int(handle_flush(handle), 0);
    struct handle *file = open_handle("file", READ);
    expect(reads_as(file, 3000, 98000, 0x11));
    expect_text(map_text(handle, ASK_ZERO), map_text(file, ASK_ZERO));
    handle_close(file);
    flush_and_close(handle);
}

NBD_TEST(memory_in_pieces_is_sent_as_one)
{
    serve_disk(MIB);
    add(remote_options());
    struct handle *handle = open_handle("remote", READ_WRITE);
    char first[512];
    char second[1024];
    memset(first, 1, sizeof(first));
    memset(second, 2, sizeof(second));
    struct iovec pieces[] = { { first, sizeof(first) }, { second, sizeof(second) } };
    struct iov iov = iov_of_vec(pieces, 2);
    expect_int(handle_pwritev(handle, range_make(512, 1536), &iov, 0), 0);
    memset(first, 0, sizeof(first));
    memset(second, 0, sizeof(second));
    expect_int(handle_preadv(handle, range_make(512, 1536), &iov), 0);
    expect(first[0] == 1 && first[511] == 1 && second[0] == 2 && second[1023] == 2);
    flush_and_close(handle);
}

NBD_TEST(a_server_that_was_sent_nothing_is_not_asked_to_flush)
{
    serve_disk(MIB);
    add(remote_options());
    struct handle *handle = open_handle("remote", READ_WRITE);
    struct node *gate = node_find("disk");
    expect_int(handle_flush(handle), 0);
    expect_int(gate_seen(gate, GATE_FLUSH), 0);
    expect_int(put(handle, 0, 512, 1), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(gate_seen(gate, GATE_FLUSH), 1);
    /* What is stable when the write ends needs none. */
    struct iovec storage;
    char data[512] = { 1 };
    struct iov iov = iov_of(&storage, data, sizeof(data));
    expect_int(handle_pwritev(handle, range_make(0, 512), &iov, REQ_FUA), 0);
    expect_int(handle_flush(handle), 0);
    expect_int(gate_seen(gate, GATE_FLUSH), 1);
    handle_close(handle);
}

struct worker {
    struct handle *handle;
    unsigned number;
    struct co_event done;
};

#define WORKERS 8
#define REGION (64 * KIB)

static void worker_entry(void *arg)
{
    struct worker *worker = arg;
    uint64_t begin = worker->number * REGION;
    for (int i = 1; i <= 50; i++) {
        expect_int(put(worker->handle, begin, REGION, i), 0);
        expect(reads_as(worker->handle, begin, REGION, i));
    }
    co_event_set(&worker->done);
}

/* Requests come from all loops, the connection lives on one. */
NBD_TEST(many_at_once_on_all_threads)
{
    struct worker workers[WORKERS];
    serve_disk(MIB);
    add(remote_options());
    struct handle *handle = open_handle("remote", READ_WRITE);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){ .handle = handle, .number = i };
        co_event_init(&workers[i].done);
        co_start_on(i % 3 == 2 ? loop_control() : loop_io(i % 3), "worker", worker_entry, &workers[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        co_event_wait(&workers[i].done, "test");
    flush_and_close(handle);
}

static void read_entry(void *arg)
{
    struct worker *worker = arg;
    worker->number = reads_as(worker->handle, 0, 512, 1) ? 1 : 0;
    co_event_set(&worker->done);
}

NBD_TEST(a_request_in_flight_is_done_by_the_server_that_comes_back)
{
    serve_disk(MIB);
    struct blockdev_options options = remote_options();
    options.u.nbd.reconnect_delay = 60;
    add(options);
    struct handle *handle = open_handle("remote", READ_WRITE);
    struct node *gate = node_find("disk");
    struct worker reader = { .handle = handle };
    co_event_init(&reader.done);
    expect_int(put(handle, 0, 512, 1), 0);
    gate_hold(gate, GATE_READ, 1);
    co_start_on(loop_io(1), "reader", read_entry, &reader);
    gate_wait_held(gate, 1);
    gate_release(gate, GATE_READ, GATE_ALL);
    restart_server_with(0, 10);
    export_as("disk", "disk");
    co_event_wait(&reader.done, "test");
    expect_int(reader.number, 1);
    expect(reads_as(handle, 0, 512, 1));
    flush_and_close(handle);
}

NBD_TEST(without_a_server_a_node_is_closed_at_once)
{
    serve_disk(MIB);
    struct blockdev_options options = remote_options();
    options.u.nbd.reconnect_delay = 3600;
    add(options);
    expect_success(nbd_server_stop(NULL));
    expect_success(blockdev_del("remote"));
}

NBD_TEST(when_the_process_ends_nobody_waits_for_a_server)
{
    serve_disk(MIB);
    struct blockdev_options options = remote_options();
    options.u.nbd.reconnect_delay = 3600;
    add(options);
    struct handle *handle = open_handle("remote", READ_WRITE);
    expect_int(put(handle, 0, 512, 1), 0);
    nbd_links_give_up();
    expect(reads_as(handle, 0, 512, 1)); /* the connection stands */
    expect_success(nbd_server_stop(NULL));
    char byte;
    expect_int(get_bytes(handle, 0, &byte, 1), -EIO);
    handle_close(handle);
    expect_success(blockdev_del("remote")); /* what was written is with the node that was served */
    add_fails(options, "the process is about to end");
}

NBD_TEST(a_socket_may_be_given)
{
    serve_disk(MIB);
    struct blockdev_options options = remote_options();
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    char number[16];
    snprintf(name.sun_path, sizeof(name.sun_path), "%s", in_dir("nbd.sock"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect(connect(fd, (const struct sockaddr *)&name, sizeof(name)) == 0);
    snprintf(number, sizeof(number), "%d", fd);
    address = (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_FD, .u.fd = { .str = number } };
    add(options);
    close(fd);
    struct handle *handle = open_handle("remote", READ_WRITE);
    expect_int(put(handle, 0, 512, 1), 0);
    expect(reads_as(handle, 0, 512, 1));
    flush_and_close(handle);
}

NBD_TEST(what_cannot_be_opened)
{
    struct blockdev_options options = remote_options();
    add_fails(options, "node 'remote' (driver 'nbd'): cannot connect to 'unix:");
    options.u.nbd.tls_creds = "tls0";
    add_fails(options, "tls-creds: No TLS credentials with id 'tls0'");
    options = remote_options();
    address = (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_FD, .u.fd = { .str = "999" } };
    add_fails(options, "descriptor 999 is not a socket");
    address.u.fd.str = "x";
    add_fails(options, "'x' is neither the number of a descriptor");
    address = (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_UNIX, .u.unix_ = { .path = "" } };
    add_fails(options, "is empty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_with_the_server),
        cmocka_unit_test(memory_in_pieces_is_sent_as_one),
        cmocka_unit_test(a_server_that_was_sent_nothing_is_not_asked_to_flush),
        cmocka_unit_test(many_at_once_on_all_threads),
        cmocka_unit_test(a_request_in_flight_is_done_by_the_server_that_comes_back),
        cmocka_unit_test(without_a_server_a_node_is_closed_at_once),
        cmocka_unit_test(a_socket_may_be_given),
        cmocka_unit_test(what_cannot_be_opened),
        cmocka_unit_test(when_the_process_ends_nobody_waits_for_a_server), /* and nothing can be opened afterwards */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
