/* Clients that always have something to do for their loop: others on it get their turns all the same.
 *
 *     loop: [ blocked | turn | server | turn | server | turn ... ]      counted until the client has all its replies
 *              '-- what the client sends is there before the server sees any of it, so it never has to wait for more */
#include "blockcore/export/nbd/connection.h"
#include "blockcore/filters/gate.h"
#include "tests/unit/export/nbd_test.h"

#include <sched.h>
#include <sys/ioctl.h>

struct busy {
    struct client *client;
    struct loop *loop; /* of the client's connection */
    int reply_bytes;   /* all that will come */
    atomic_bool blocked, go_on, ended;
    unsigned turns;
};

/* Connections are given to I/O loops in turn, of which there are two. */
static struct loop *loop_of_next_connection(void)
{
    struct loop *loop = loop_io_next();
    expect_int(loop_io_count(), 2);
    expect(loop_io_next() != loop);
    return loop;
}

static void block(void *arg)
{
    struct busy *busy = arg;
    atomic_store(&busy->blocked, true);
    while (!atomic_load(&busy->go_on))
        sched_yield();
}

static void count_turns(void *arg)
{
    struct busy *busy = arg;
    int there = 0;
    while (there < busy->reply_bytes) {
        co_yield ();
        busy->turns++;
        expect(ioctl(busy->client->fd, FIONREAD, &there) == 0);
    }
    atomic_store(&busy->ended, true);
}

/* Turns of others on the loop while the server answers @bytes of @data with @reply_bytes. */
static unsigned turns_during(struct loop *loop, struct client *client, const void *data, size_t bytes, int reply_bytes)
{
    struct busy busy = { .client = client, .loop = loop, .reply_bytes = reply_bytes };
    co_start_on(loop, "blocker", block, &busy);
    while (!atomic_load(&busy.blocked))
        co_yield ();
    struct iovec vec = { (void *)(uintptr_t)data, bytes };
    expect_int(stream_writev(client->stream, &vec, 1), bytes);
    co_start_on(loop, "counter", count_turns, &busy);
    atomic_store(&busy.go_on, true);
    while (!atomic_load(&busy.ended))
        co_yield ();
    return busy.turns;
}

NBD_TEST(requests_without_data_leave_turns_to_others)
{
    enum { REQUESTS = 6000 };
    static uint8_t requests[REQUESTS * NBD_REQUEST_BYTES];
    export_null("disk", MIB);
    struct loop *loop = loop_of_next_connection();
    struct client *client = enter("disk");
    for (unsigned i = 0; i < REQUESTS; i++)
        put_request(requests + i * NBD_REQUEST_BYTES, 4711, 0, i, 0, 0);
    expect(turns_during(loop, client, requests, sizeof(requests), REQUESTS * NBD_SIMPLE_REPLY_BYTES) >= 20);
    leave(client);
}

/* The whole of a disk whose content is there at once. */
NBD_TEST(caching_leaves_turns_to_others)
{
    uint8_t request[NBD_REQUEST_BYTES];
    export_null("disk", 1024 * MIB);
    struct loop *loop = loop_of_next_connection();
    struct client *client = enter("disk");
    put_request(request, NBD_CMD_CACHE, 0, COOKIE, 0, 1024 * MIB);
    expect(turns_during(loop, client, request, sizeof(request), NBD_SIMPLE_REPLY_BYTES) >= 1000);
    expect_simple(client, 0, COOKIE);
    leave(client);
}

/* Nor is it gone on with for nobody. */
NBD_TEST(caching_ends_when_the_client_leaves)
{
    add(null_options("below", 1024 * MIB));
    struct blockdev_options options = { .driver = BLOCKDEV_DRIVER_GATE, .node_name = "disk" };
    options.u.gate.file = by_name("below");
    add(options);
    export_as("disk", "disk");
    struct node *gate = node_find("disk");
    gate_hold(gate, GATE_READ, GATE_ALL);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_CACHE, 0, COOKIE, 0, 1024 * MIB);
    gate_wait_held(gate, 1);
    leave(client);
    gate_release(gate, GATE_READ, GATE_ALL);
    while (nbd_server_connections(nbd_server_find(NULL)) > 0)
        co_yield ();
    expect(gate_seen(gate, GATE_READ) < 1000);
}

NBD_TEST(options_leave_turns_to_others)
{
    enum { OPTIONS = 100 };
    static uint8_t options[OPTIONS * NBD_OPTION_BYTES];
    struct loop *loop = loop_of_next_connection();
    struct client *client = begin_haggling();
    for (unsigned i = 0; i < OPTIONS; i++) {
        store_be64(options + i * NBD_OPTION_BYTES, NBD_OPTION_MAGIC);
        store_be32(options + i * NBD_OPTION_BYTES + 8, NBD_OPT_STRUCTURED_REPLY);
    }
    expect(turns_during(loop, client, options, sizeof(options), OPTIONS * NBD_OPTION_REPLY_BYTES) >= OPTIONS / 2);
    leave(client);
}

NBD_TEST(data_that_are_skipped_leave_turns_to_others)
{
    enum { SKIPPED = 160 * 1024 };
    static uint8_t option[NBD_OPTION_BYTES + SKIPPED];
    struct loop *loop = loop_of_next_connection();
    struct client *client = begin_haggling();
    store_be64(option, NBD_OPTION_MAGIC);
    store_be32(option + 8, 77);
    store_be32(option + 12, SKIPPED);
    expect(turns_during(loop, client, option, sizeof(option), NBD_OPTION_REPLY_BYTES) >= 8);
    leave(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_without_data_leave_turns_to_others), cmocka_unit_test(caching_leaves_turns_to_others),
        cmocka_unit_test(caching_ends_when_the_client_leaves),         cmocka_unit_test(options_leave_turns_to_others),
        cmocka_unit_test(data_that_are_skipped_leave_turns_to_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
