/* Transmission at the level of bytes: every command's rules, limits, and requests that come in odd pieces. */
#include "blockcore/export/nbd/connection.h"
#include "blockcore/filters/gate.h"
#include "tests/unit/export/nbd_test.h"

static struct node *export_gated(const char *name, int64_t bytes)
{
    add(null_options("below", bytes));
    struct blockdev_options options = { .driver = BLOCKDEV_DRIVER_GATE, .node_name = name };
    options.u.gate.file = by_name("below");
    add(options);
    export_as(name, name);
    return node_find(name);
}

/* Commands ------------------------------------------------------------------------------------------------------- */

NBD_TEST(what_is_written_is_read)
{
    export_file("disk", MIB);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_WRITE, 0, 1, 511, 1000);
    put_filled(client, 1000, 'w');
    expect_simple(client, 0, 1);
    ask(client, NBD_CMD_READ, 0, 2, 510, 1002);
    expect_simple(client, 0, 2);
    expect_data(client, 1, 0);
    expect_data(client, 1000, 'w');
    expect_data(client, 1, 0);
    leave(client);
}

NBD_TEST(structured_reads_say_where_their_data_belong)
{
    export_null("disk", MIB);
    struct client *client = enter_structured("disk");
    uint8_t offset[8];
    ask(client, NBD_CMD_READ, NBD_CMD_FLAG_DF, COOKIE, 4096, 512);
    expect_last_chunk(client, NBD_REPLY_TYPE_OFFSET_DATA, COOKIE, 520);
    get_raw(client, offset, sizeof(offset));
    expect_int(load_be64(offset), 4096);
    expect_data(client, 512, 0);
    ask(client, NBD_CMD_READ, 0, COOKIE, 4096, 0);
    expect_last_chunk(client, NBD_REPLY_TYPE_NONE, COOKIE, 0);
    leave(client);
}

NBD_TEST(errors_are_chunks_where_replies_are_structured)
{
    export_null("disk", MIB);
    struct client *client = enter_structured("disk");
    ask(client, NBD_CMD_READ, 0, COOKIE, MIB, 1);
    expect_error_chunk(client, NBD_EINVAL, COOKIE);
    ask(client, NBD_CMD_TRIM, 0, COOKIE, MIB, 1);
    expect_error_chunk(client, NBD_EINVAL, COOKIE);
    expect_alive(client);
    leave(client);
}

NBD_TEST(unknown_commands_and_flags_are_invalid)
{
    export_null("disk", MIB);
    struct client *client = enter("disk");
    ask(client, 8, 0, 1, 0, 0);
    expect_simple(client, NBD_EINVAL, 1);
    ask(client, 4711, 0, 2, 0, 0);
    expect_simple(client, NBD_EINVAL, 2);
    ask(client, NBD_CMD_READ, 1 << 15, 3, 0, 512);
    expect_simple(client, NBD_EINVAL, 3);
    ask(client, NBD_CMD_READ, NBD_CMD_FLAG_DF, 4, 0, 512); /* replies are not structured */
    expect_simple(client, NBD_EINVAL, 4);
    ask(client, NBD_CMD_WRITE, NBD_CMD_FLAG_NO_HOLE, 5, 0, 512);
    put_filled(client, 512, 'x');
    expect_simple(client, NBD_EINVAL, 5);
    ask(client, NBD_CMD_BLOCK_STATUS, 0, 6, 0, 512); /* no context was selected */
    expect_simple(client, NBD_EINVAL, 6);
    expect_alive(client);
    leave(client);
}

NBD_TEST(requests_outside_the_export_are_refused)
{
    export_null("disk", MIB);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 1, MIB - 1, 2);
    expect_simple(client, NBD_EINVAL, 1);
    ask(client, NBD_CMD_READ, 0, 2, UINT64_MAX, 2);
    expect_simple(client, NBD_EINVAL, 2);
    ask(client, NBD_CMD_WRITE, 0, 3, MIB, 1);
    put_filled(client, 1, 'x');
    expect_simple(client, NBD_ENOSPC, 3);
    ask(client, NBD_CMD_WRITE_ZEROES, 0, 4, 0, UINT32_MAX);
    expect_simple(client, NBD_ENOSPC, 4);
    ask(client, NBD_CMD_TRIM, 0, 5, 1, MIB);
    expect_simple(client, NBD_EINVAL, 5);
    ask(client, NBD_CMD_CACHE, 0, 6, 1, MIB);
    expect_simple(client, NBD_EINVAL, 6);
    ask(client, NBD_CMD_READ, 0, 7, MIB, 0);
    expect_simple(client, 0, 7);
    expect_alive(client);
    leave(client);
}

NBD_TEST(requests_of_no_bytes_do_nothing)
{
    export_file("disk", MIB);
    struct client *client = enter("disk");
    static const uint16_t commands[] = { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES,
                                         NBD_CMD_CACHE };
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        ask(client, commands[i], 0, i, 4096, 0);
        expect_simple(client, 0, i);
    }
    expect_alive(client);
    leave(client);
}

NBD_TEST(an_export_that_is_not_writable_is_not_written)
{
    add(null_options("disk", MIB));
    struct block_export_options options = export_options("disk", "disk");
    options.writable = false;
    expect_success(export_add(&options));
    struct client *client = enter("disk");
    ask(client, NBD_CMD_WRITE, 0, 1, 0, 100000);
    put_filled(client, 100000, 'x');
    expect_simple(client, NBD_EPERM, 1);
    ask(client, NBD_CMD_TRIM, 0, 2, 0, 512);
    expect_simple(client, NBD_EPERM, 2);
    ask(client, NBD_CMD_WRITE_ZEROES, 0, 3, 0, 512);
    expect_simple(client, NBD_EPERM, 3);
    ask(client, NBD_CMD_CACHE, 0, 4, 0, MIB);
    expect_simple(client, 0, 4);
    expect_alive(client);
    leave(client);
}

NBD_TEST(zeroes_have_no_maximum_length)
{
    export_null("disk", 128 * MIB);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 1, 0, NBD_PAYLOAD_MAX);
    expect_simple(client, 0, 1);
    expect_data(client, NBD_PAYLOAD_MAX, 0);
    ask(client, NBD_CMD_WRITE_ZEROES, 0, 2, 0, 128 * MIB);
    expect_simple(client, 0, 2);
    expect_alive(client);
    leave(client);
}

/* Requests with more data are moved in pieces. */
#define WHOLE_BYTES (64 * 1024)

static void restart_server_with_pieces(void)
{
    nbd_server_set_whole_bytes(WHOLE_BYTES);
    restart_server_with(0, 10);
    nbd_server_set_whole_bytes(NBD_PAYLOAD_MAX);
}

NBD_TEST(long_requests_move_all_their_data)
{
    restart_server_with_pieces();
    export_file("disk", MIB);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 1, 1000, 300000);
    put_filled(client, 300000, 'x');
    expect_simple(client, 0, 1);
    ask(client, NBD_CMD_READ, 0, 2, 999, 1);
    ask(client, NBD_CMD_READ, 0, 3, 1000, 300000);
    ask(client, NBD_CMD_READ, 0, 4, 301000, 1);
    expect_simple(client, 0, 2);
    expect_data(client, 1, 0);
    expect_simple(client, 0, 3);
    expect_data(client, 300000, 'x');
    expect_simple(client, 0, 4);
    expect_data(client, 1, 0);
    leave(client);
}

NBD_TEST(a_long_read_is_a_chunk_for_each_piece)
{
    restart_server_with_pieces();
    export_file("disk", MIB);
    struct client *client = enter_structured("disk");
    ask(client, NBD_CMD_WRITE, 0, 1, 0, 200000);
    put_filled(client, 200000, 'x');
    expect_simple(client, 0, 1);
    ask(client, NBD_CMD_READ, 0, 2, 60000, 100000);
    static const uint32_t ends[] = { 60000, 65536, 131072, 160000 };
    for (unsigned i = 1; i < ARRAY_SIZE(ends); i++) {
        uint8_t chunk[NBD_CHUNK_BYTES + 8];
        get_raw(client, chunk, sizeof(chunk));
        expect(load_be16(chunk + 4) == (ends[i] == 160000 ? NBD_REPLY_FLAG_DONE : 0));
        expect(load_be16(chunk + 6) == NBD_REPLY_TYPE_OFFSET_DATA);
        expect(load_be64(chunk + 8) == 2);
        expect(load_be32(chunk + 16) == 8 + ends[i] - ends[i - 1]);
        expect(load_be64(chunk + 20) == ends[i - 1]);
        expect_data(client, ends[i] - ends[i - 1], 'x');
    }
    ask(client, NBD_CMD_READ, NBD_CMD_FLAG_DF, 3, 0, NBD_PAYLOAD_MAX + 1);
    expect_error_chunk(client, NBD_EOVERFLOW, 3);
    expect_alive(client);
    leave(client);
}

/* With nothing in flight for it, an export can be taken away while half of a request has come. */
NBD_TEST(a_long_write_may_never_end)
{
    restart_server_with_pieces();
    export_file("disk", MIB);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_WRITE, 0, 1, 0, 300000);
    put_filled(client, 200000, 'x');
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    expect_closed(client);
    leave(client);
}

/* The connection gives its place to others, as with a short request. */
NBD_TEST(a_long_request_that_hangs_keeps_no_place)
{
    nbd_server_set_stall_ms(50);
    nbd_server_set_whole_bytes(WHOLE_BYTES);
    restart_server_with(1, 10);
    nbd_server_set_whole_bytes(NBD_PAYLOAD_MAX);
    nbd_server_set_stall_ms(10000);
    struct node *gate = export_gated("hung", MIB);
    gate_hold(gate, GATE_ANY, GATE_ALL);
    export_null("disk", MIB);
    struct client *hung = enter("hung");
    ask(hung, NBD_CMD_READ, 0, 1, 0, 300000);
    gate_wait_held(gate, 1);
    expect_success(export_del("hung", BLOCK_EXPORT_REMOVE_MODE_HARD));
    struct client *client = enter("disk");
    expect_alive(client);
    leave(client);
    gate_release(gate, GATE_ANY, GATE_ALL);
    leave(hung);
}

NBD_TEST(a_wrong_magic_ends_the_connection)
{
    export_null("disk", MIB);
    struct client *client = enter("disk");
    put_filled(client, NBD_REQUEST_BYTES, 'x');
    expect_closed(client);
    leave(client);
}

/* disk (qcow2, cannot write through by itself) --file--> gate --> below. Returns the gate, which sees flushes. */
static struct node *export_qcow2_on_gate(bool writethrough)
{
    make_file("disk.img", 0);
    add(file_options("below", in_dir("disk.img")));
    struct blockdev_options gate = { .driver = BLOCKDEV_DRIVER_GATE, .node_name = "gate" };
    gate.u.gate.file = by_name("below");
    add(gate);
    struct blockdev_create_options image = { .driver = BLOCKDEV_DRIVER_QCOW2 };
    image.u.qcow2.file = by_name("gate");
    image.u.qcow2.size = MIB;
    expect_success(driver_find("qcow2")->create(&image));
    struct blockdev_options disk = { .driver = BLOCKDEV_DRIVER_QCOW2, .node_name = "disk" };
    disk.u.qcow2.file = by_name("gate");
    add(disk);
    struct block_export_options options = export_options("disk", "disk");
    options.has_writethrough = true;
    options.writethrough = writethrough;
    expect_success(export_add(&options));
    return node_find("gate");
}

static void write_sector(struct client *client, uint16_t flags)
{
    ask(client, NBD_CMD_WRITE, flags, 1, 0, 512);
    put_filled(client, 512, 'x');
    expect_simple(client, 0, 1);
}

NBD_TEST(forced_unit_access_flushes_what_it_wrote)
{
    struct node *gate = export_qcow2_on_gate(false);
    struct client *client = enter("disk");
    write_sector(client, 0); /* allocates */
    expect_alive(client);    /* flushes */
    uint64_t flushes = gate_seen(gate, GATE_FLUSH);
    write_sector(client, 0);
    expect_int(gate_seen(gate, GATE_FLUSH), flushes);
    write_sector(client, NBD_CMD_FLAG_FUA);
    expect_int(gate_seen(gate, GATE_FLUSH), flushes + 1);
    ask(client, NBD_CMD_READ, NBD_CMD_FLAG_FUA, 2, 0, 512);
    expect_simple(client, 0, 2);
    expect_data(client, 512, 'x');
    expect_int(gate_seen(gate, GATE_FLUSH), flushes + 1);
    ask(client, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE, 3, 0, 512);
    expect_simple(client, 0, 3);
    expect(gate_seen(gate, GATE_FLUSH) > flushes + 1);
    flushes = gate_seen(gate, GATE_FLUSH);
    ask(client, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 4, 0, 512);
    expect_simple(client, 0, 4);
    expect(gate_seen(gate, GATE_FLUSH) > flushes);
    leave(client);
}

NBD_TEST(a_writethrough_export_flushes_every_write)
{
    struct node *gate = export_qcow2_on_gate(true);
    struct client *client = enter("disk");
    write_sector(client, 0);
    expect_alive(client);
    uint64_t flushes = gate_seen(gate, GATE_FLUSH);
    write_sector(client, 0);
    expect_int(gate_seen(gate, GATE_FLUSH), flushes + 1);
    ask(client, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 2, 0, 512);
    expect_simple(client, 0, 2);
    expect(gate_seen(gate, GATE_FLUSH) > flushes + 1);
    flushes = gate_seen(gate, GATE_FLUSH);
    ask(client, NBD_CMD_TRIM, 0, 3, 0, 512);
    expect_simple(client, 0, 3);
    expect(gate_seen(gate, GATE_FLUSH) > flushes);
    leave(client);
}

/* What one connection wrote, and was told so, the flush of another one covers: it is on its way down before the flush
 * is answered. */
NBD_TEST(a_flush_covers_the_writes_of_all_connections)
{
    struct node *gate = export_qcow2_on_gate(false);
    struct client *writer = enter("disk");
    struct client *flusher = enter("disk");
    write_sector(writer, 0);
    expect_alive(writer);
    for (int i = 0; i < 10; i++) {
        uint64_t flushes = gate_seen(gate, GATE_FLUSH);
        write_sector(writer, 0);
        expect_int(gate_seen(gate, GATE_FLUSH), flushes);
        expect_alive(flusher);
        expect(gate_seen(gate, GATE_FLUSH) > flushes);
    }
    leave(writer);
    leave(flusher);
}

/* The reply to a flush waits for the storage. */
NBD_TEST(a_flush_is_answered_when_it_is_done)
{
    struct node *gate = export_qcow2_on_gate(false);
    struct client *client = enter("disk");
    write_sector(client, 0);
    gate_hold(gate, GATE_FLUSH, GATE_ALL);
    ask(client, NBD_CMD_FLUSH, 0, COOKIE, 0, 0);
    gate_wait_held(gate, 1);
    expect_int(stream_wait_readable(client->stream, 20), -ETIMEDOUT);
    gate_release(gate, GATE_FLUSH, GATE_ALL);
    expect_simple(client, 0, COOKIE);
    leave(client);
}

NBD_TEST(caching_reads_the_range)
{
    struct node *gate = export_gated("disk", MIB);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_CACHE, 0, 1, 0, MIB);
    expect_simple(client, 0, 1);
    expect(gate_seen(gate, GATE_READ) > 0);
    leave(client);
}

/* Pieces and numbers -------------------------------------------------------------------------------------------- */

NBD_TEST(a_request_may_come_byte_by_byte)
{
    export_file("disk", MIB);
    struct client *client = enter("disk");
    uint8_t request[NBD_REQUEST_BYTES + 64];
    put_request(request, NBD_CMD_WRITE, 0, COOKIE, 4096, 64);
    memset(request + NBD_REQUEST_BYTES, 'w', 64);
    for (size_t i = 0; i < sizeof(request); i++) {
        put_raw(client, request + i, 1);
        co_yield ();
    }
    expect_simple(client, 0, COOKIE);
    ask(client, NBD_CMD_READ, 0, COOKIE, 4096, 64);
    expect_simple(client, 0, COOKIE);
    expect_data(client, 64, 'w');
    leave(client);
}

/* Large data end where the next header begins, whatever the pieces. */
NBD_TEST(large_and_small_requests_may_follow_each_other)
{
    static const uint32_t lengths[] = { 1, 300000, 65536, 65535, 4096, 1000000, 28, 262144, 262116, 3 };
    export_file("disk", 4 * MIB);
    struct client *client = enter("disk");
    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        ask(client, NBD_CMD_WRITE, 0, i, i * 1000, lengths[i]);
        put_filled(client, lengths[i], (int)i);
        expect_simple(client, 0, i);
        ask(client, NBD_CMD_READ, 0, i, i * 1000, lengths[i]);
        expect_simple(client, 0, i);
        expect_data(client, lengths[i], (int)i);
    }
    leave(client);
}

struct pipelining {
    struct client *client;
    unsigned count;
    uint16_t type;
    uint32_t bytes;
};

static void send_pipeline(void *arg)
{
    struct pipelining *pipelining = arg;
    size_t data = pipelining->type == NBD_CMD_WRITE ? pipelining->bytes : 0;
    uint8_t *request = xcalloc(1, NBD_REQUEST_BYTES + data);
    for (unsigned i = 0; i < pipelining->count; i++) {
        put_request(request, pipelining->type, 0, i, i * UINT64_C(512), pipelining->bytes);
        put_raw(pipelining->client, request, NBD_REQUEST_BYTES + data);
    }
    free(request);
}

/* Returns the sum of the cookies that were answered. */
static uint64_t receive_pipeline(struct pipelining *pipelining)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < pipelining->count; i++) {
        uint8_t reply[NBD_SIMPLE_REPLY_BYTES];
        get_raw(pipelining->client, reply, sizeof(reply));
        expect_int(load_be32(reply), NBD_SIMPLE_REPLY_MAGIC);
        expect_int(load_be32(reply + 4), 0);
        sum += load_be64(reply + 8);
        if (pipelining->type == NBD_CMD_READ)
            expect_data(pipelining->client, pipelining->bytes, 0);
    }
    return sum;
}

static void run_pipeline(const char *name, uint16_t type, unsigned count, uint32_t bytes)
{
    struct pipelining pipelining = { enter(name), count, type, bytes };
    struct co_group group;
    co_group_init(&group);
    co_group_start(&group, "sender", send_pipeline, &pipelining);
    expect_int(receive_pipeline(&pipelining), (uint64_t)count * (count - 1) / 2);
    co_group_join(&group);
    leave(pipelining.client);
}

/* Far more than may be in flight, and more than fits into the sockets on the way. */
NBD_TEST(any_number_of_requests_may_be_pipelined)
{
    export_null("null", 4 * MIB);
    export_file("disk", 4 * MIB);
    run_pipeline("null", NBD_CMD_FLUSH, 5000, 0);
    run_pipeline("null", NBD_CMD_READ, 3000, 4096);
    run_pipeline("null", NBD_CMD_WRITE, 3000, 4096);
    run_pipeline("disk", NBD_CMD_READ, 1000, 4096);
    run_pipeline("disk", NBD_CMD_WRITE, 1000, 4096);
    run_pipeline("null", NBD_CMD_READ, 200, 2 * MIB);
}

/* The limit of requests in flight is one of the server, not an error of the client. */
NBD_TEST(requests_in_flight_are_limited)
{
    struct node *gate = export_gated("disk", MIB);
    gate_hold(gate, GATE_READ, GATE_ALL);
    struct pipelining pipelining = { enter("disk"), 1000, NBD_CMD_READ, 512 };
    struct co_group group;
    co_group_init(&group);
    co_group_start(&group, "sender", send_pipeline, &pipelining);
    gate_wait_held(gate, NBD_REQUESTS_MAX);
    struct client *other = enter("disk");
    expect_alive(other);
    expect_int(gate_held(gate, GATE_READ), NBD_REQUESTS_MAX);
    gate_release(gate, GATE_READ, GATE_ALL);
    expect_int(receive_pipeline(&pipelining), 1000 * 999 / 2);
    co_group_join(&group);
    leave(pipelining.client);
    leave(other);
}

/* Of 64 MiB in flight, no more are read ahead. */
NBD_TEST(bytes_in_flight_are_limited)
{
    struct node *gate = export_gated("disk", 64 * MIB);
    gate_hold(gate, GATE_READ, GATE_ALL);
    struct pipelining pipelining = { enter("disk"), 20, NBD_CMD_READ, 8 * MIB };
    send_pipeline(&pipelining);
    gate_wait_held(gate, 8);
    struct client *other = enter("disk");
    expect_alive(other);
    expect_int(gate_held(gate, GATE_READ), 8);
    gate_release(gate, GATE_READ, GATE_ALL);
    expect_int(receive_pipeline(&pipelining), 20 * 19 / 2);
    leave(pipelining.client);
    leave(other);
}

/* Ends ------------------------------------------------------------------------------------------------------------ */

NBD_TEST(a_disconnect_waits_for_what_was_asked)
{
    struct node *gate = export_gated("disk", MIB);
    struct client *client = enter("disk");
    gate_hold(gate, GATE_READ, GATE_ALL);
    ask(client, NBD_CMD_READ, 0, COOKIE, 0, 512);
    ask(client, NBD_CMD_DISC, 0, 0, 0, 0);
    gate_wait_held(gate, 1);
    gate_release(gate, GATE_READ, GATE_ALL);
    expect_simple(client, 0, COOKIE);
    expect_data(client, 512, 0);
    expect_closed(client);
    leave(client);
}

/* As "printf ... | nc" does it. */
NBD_TEST(a_client_that_closes_its_half_gets_its_replies)
{
    struct node *gate = export_gated("disk", MIB);
    struct client *client = enter("disk");
    gate_hold(gate, GATE_READ, GATE_ALL);
    ask(client, NBD_CMD_READ, 0, COOKIE, 0, 512);
    expect(shutdown(client->fd, SHUT_WR) == 0);
    gate_wait_held(gate, 1);
    gate_release(gate, GATE_READ, GATE_ALL);
    expect_simple(client, 0, COOKIE);
    expect_data(client, 512, 0);
    expect_closed(client);
    leave(client);
}

static void remove_export(void *arg)
{
    bool *removed = arg;
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    *removed = true;
}

static void stop_server(void *arg)
{
    bool *stopped = arg;
    expect_success(nbd_server_stop(NULL));
    *stopped = true;
}

/* A write that is done meanwhile is answered; what was not read yet is not done. */
static void expect_answers_at_the_end(void (*end)(void *arg))
{
    struct node *gate = export_gated("disk", MIB);
    struct client *idle = enter("disk");
    struct client *client = enter("disk");
    bool ended = false;
    gate_hold(gate, GATE_ANY, GATE_ALL);
    ask(client, NBD_CMD_WRITE, 0, COOKIE, 0, 512);
    put_filled(client, 512, 'x');
    gate_wait_held(gate, 1);
    ask(client, NBD_CMD_WRITE, 0, COOKIE + 1, 0, 512); /* its data never come */
    co_start("end", end, &ended);
    expect_closed(idle); /* at once: there is nothing to wait for */
    gate_release(gate, GATE_ANY, GATE_ALL);
    expect_simple(client, 0, COOKIE);
    expect_closed(client);
    leave(client);
    leave(idle);
    while (!ended)
        co_sleep_ms(1);
    expect(!export_next(NULL));
}

NBD_TEST(what_was_asked_of_an_export_that_is_removed_is_answered)
{
    expect_answers_at_the_end(remove_export);
}

NBD_TEST(what_was_asked_of_a_server_that_is_stopped_is_answered)
{
    expect_answers_at_the_end(stop_server);
}

NBD_TEST(a_client_that_does_not_take_its_replies_holds_up_no_removal)
{
    export_null("disk", 64 * MIB);
    struct client *client = enter("disk");
    bool removed = false;
    ask(client, NBD_CMD_READ, 0, COOKIE, 0, 32 * MIB);
    expect_int(stream_wait_readable(client->stream, FD_WATCH_FOREVER), 0);
    remove_export(&removed);
    expect(!export_next(NULL)); /* within EXPORT_GRACE_MS */
    leave(client);
}

NBD_TEST(a_client_may_vanish_with_requests_in_flight)
{
    struct node *gate = export_gated("disk", MIB);
    gate_hold(gate, GATE_ANY, GATE_ALL);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 1, 0, 512);
    ask(client, NBD_CMD_WRITE, 0, 2, 0, 512);
    put_filled(client, 512, 'x');
    ask(client, NBD_CMD_FLUSH, 0, 3, 0, 0);
    ask(client, NBD_CMD_WRITE, 0, 4, 0, 512); /* its data never come */
    gate_wait_held(gate, 3);
    leave(client);
    gate_release(gate, GATE_ANY, GATE_ALL);
    client = enter("disk");
    expect_alive(client);
    leave(client);
}

/* Hung storage below one export is no concern of the others, nor of others on the same loop. */
NBD_TEST(a_hung_request_holds_up_nobody_else)
{
    struct node *gate = export_gated("hung", MIB);
    gate_hold(gate, GATE_ANY, GATE_ALL);
    export_null("disk", MIB);
    struct client *hung = enter("hung");
    ask(hung, NBD_CMD_READ, 0, 1, 0, 512);
    gate_wait_held(gate, 1);
    for (int i = 0; i < 8; i++) {
        struct client *client = enter("disk");
        expect_alive(client);
        leave(client);
    }
    gate_release(gate, GATE_ANY, GATE_ALL);
    expect_simple(hung, 0, 1);
    leave(hung);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(structured_reads_say_where_their_data_belong),
        cmocka_unit_test(errors_are_chunks_where_replies_are_structured),
        cmocka_unit_test(unknown_commands_and_flags_are_invalid),
        cmocka_unit_test(requests_outside_the_export_are_refused),
        cmocka_unit_test(requests_of_no_bytes_do_nothing),
        cmocka_unit_test(an_export_that_is_not_writable_is_not_written),
        cmocka_unit_test(zeroes_have_no_maximum_length),
        cmocka_unit_test(long_requests_move_all_their_data),
        cmocka_unit_test(a_long_read_is_a_chunk_for_each_piece),
        cmocka_unit_test(a_long_write_may_never_end),
        cmocka_unit_test(a_long_request_that_hangs_keeps_no_place),
        cmocka_unit_test(a_wrong_magic_ends_the_connection),
        cmocka_unit_test(forced_unit_access_flushes_what_it_wrote),
        cmocka_unit_test(a_writethrough_export_flushes_every_write),
        cmocka_unit_test(a_flush_covers_the_writes_of_all_connections),
        cmocka_unit_test(a_flush_is_answered_when_it_is_done),
        cmocka_unit_test(caching_reads_the_range),
        cmocka_unit_test(a_request_may_come_byte_by_byte),
        cmocka_unit_test(large_and_small_requests_may_follow_each_other),
        cmocka_unit_test(any_number_of_requests_may_be_pipelined),
        cmocka_unit_test(requests_in_flight_are_limited),
        cmocka_unit_test(bytes_in_flight_are_limited),
        cmocka_unit_test(a_disconnect_waits_for_what_was_asked),
        cmocka_unit_test(a_client_that_closes_its_half_gets_its_replies),
        cmocka_unit_test(what_was_asked_of_an_export_that_is_removed_is_answered),
        cmocka_unit_test(what_was_asked_of_a_server_that_is_stopped_is_answered),
        cmocka_unit_test(a_client_that_does_not_take_its_replies_holds_up_no_removal),
        cmocka_unit_test(a_client_may_vanish_with_requests_in_flight),
        cmocka_unit_test(a_hung_request_holds_up_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
