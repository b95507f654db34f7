/* The NBD handshake at the level of bytes: what is sent, what is tolerated, and leaving at any moment. */
#include "tests/unit/export/nbd_test.h"

#include <netinet/in.h>

NBD_TEST(the_server_greets_first)
{
    struct client *client = client_connect();
    expect_greeting(client);
    leave(client);
}

NBD_TEST(unknown_client_flags_end_the_connection)
{
    struct client *client = client_connect();
    expect_greeting(client);
    put_client_flags(client, 0x10 | NBD_FLAG_C_FIXED_NEWSTYLE);
    expect_closed(client);
    leave(client);
}

NBD_TEST(a_wrong_option_magic_ends_the_connection)
{
    struct client *client = begin_haggling();
    put_filled(client, NBD_OPTION_BYTES, 'x');
    expect_closed(client);
    leave(client);
}

NBD_TEST(data_of_unknown_options_are_skipped)
{
    export_null("disk", MIB);
    struct client *client = begin_haggling();
    put_option_header(client, 4711, 3 * MIB);
    put_filled(client, 3 * MIB, 'x');
    expect_option_reply(client, 4711, NBD_REP_ERR_UNSUP);
    put_option_header(client, NBD_OPT_GO, 2 * MIB);
    put_filled(client, 2 * MIB, 'x');
    expect_option_reply(client, NBD_OPT_GO, NBD_REP_ERR_TOO_BIG);
    choose_export(client, "disk");
    expect_alive(client);
    leave(client);
}

NBD_TEST(go_enters_transmission)
{
    export_null("disk", MIB);
    struct client *client = begin_haggling();
    put_option(client, NBD_OPT_GO, "\0\0\0\4nope\0\0", 10);
    expect_option_reply(client, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
    put_option(client, NBD_OPT_GO, "\0\0\0\4disk\0\0", 10);
    expect_option_reply(client, NBD_OPT_GO, NBD_REP_INFO);
    expect_option_reply(client, NBD_OPT_GO, NBD_REP_INFO);
    expect_option_reply(client, NBD_OPT_GO, NBD_REP_ACK);
    expect_alive(client);
    leave(client);
}

NBD_TEST(an_unknown_export_name_ends_the_connection)
{
    export_null("disk", MIB);
    struct client *client = begin_haggling();
    put_option(client, NBD_OPT_EXPORT_NAME, "nope", 4);
    expect_closed(client);
    leave(client);
}

NBD_TEST(the_empty_name_means_the_only_export)
{
    export_null("disk", MIB);
    struct client *client = enter("");
    expect_alive(client);
    leave(client);

    export_null("tape", MIB);
    client = begin_haggling();
    put_option(client, NBD_OPT_EXPORT_NAME, "", 0);
    expect_closed(client);
    leave(client);
}

NBD_TEST(abort_is_acknowledged_and_ends)
{
    struct client *client = begin_haggling();
    put_option(client, NBD_OPT_ABORT, NULL, 0);
    expect_option_reply(client, NBD_OPT_ABORT, NBD_REP_ACK);
    expect_closed(client);
    leave(client);
}

NBD_TEST(all_exports_are_listed)
{
    char name[16];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "disk%d", i);
        export_null(name, MIB);
    }
    struct client *client = begin_haggling();
    put_option(client, NBD_OPT_LIST, NULL, 0);
    for (int i = 0; i < 100; i++)
        expect_option_reply(client, NBD_OPT_LIST, NBD_REP_SERVER);
    expect_option_reply(client, NBD_OPT_LIST, NBD_REP_ACK);
    leave(client);
}

NBD_TEST(flags_say_what_the_export_can)
{
    export_null("disk", MIB);
    struct block_export_options options = export_options("ro", "disk");
    options.writable = false;
    options.u.nbd.name = "ro";
    expect_success(export_add(&options));
    struct client *client = begin_haggling();
    expect_int(choose_export(client, "disk"), 0xd6d); /* as qemu-storage-daemon has it */
    leave(client);
    client = begin_haggling();
    expect_int(choose_export(client, "ro"), 0x50f);
    leave(client);
}

/* One connection at a time: nobody is told to open several, and the second waits for the first to go. */
NBD_TEST(connections_are_limited)
{
    restart_server_with(1, 10);
    export_null("disk", MIB);
    struct client *first = begin_haggling();
    expect(!(choose_export(first, "disk") & NBD_FLAG_CAN_MULTI_CONN));
    struct client *second = client_connect();
    expect_int(stream_wait_readable(second->stream, 50), -ETIMEDOUT);
    expect_alive(first);
    leave(first);
    expect_greeting(second);
    leave(second);
}

NBD_TEST(a_handshake_may_not_take_for_ever)
{
    restart_server_with(0, 1);
    export_null("disk", MIB);
    struct client *silent = client_connect();
    struct client *talking = begin_haggling();
    struct client *done = enter("disk");
    put_option(talking, NBD_OPT_LIST, NULL, 0);
    expect_option_reply(talking, NBD_OPT_LIST, NBD_REP_SERVER);
    expect_option_reply(talking, NBD_OPT_LIST, NBD_REP_ACK);
    expect_greeting(silent);
    expect_closed(silent);
    expect_closed(talking);
    expect_alive(done);
    leave(silent);
    leave(talking);
    leave(done);
}

static struct client *connect_to(const struct sockaddr_in *address)
{
    struct client *client = xmalloc(sizeof(*client));
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect(connect(client->fd, (const struct sockaddr *)address, sizeof(*address)) == 0);
    expect(fcntl(client->fd, F_SETFL, O_NONBLOCK) == 0);
    client->stream = stream_create(client->fd);
    return client;
}

NBD_TEST(the_server_speaks_tcp)
{
    struct socket_address address = { .type = SOCKET_ADDRESS_TYPE_INET,
                                      .u.inet = { .host = "127.0.0.1", .port = "0" } };
    struct nbd_server_options options = { .addr = &address };
    struct sockaddr_in bound;
    socklen_t bytes = sizeof(bound);
    expect_success(nbd_server_stop(NULL));
    expect_success(nbd_server_start(&options));
    expect(getsockname(nbd_server_fd(nbd_server_find(NULL)), (struct sockaddr *)&bound, &bytes) == 0);
    export_null("disk", MIB);
    struct client *client = connect_to(&bound);
    expect_greeting(client);
    put_client_flags(client, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
    choose_export(client, "disk");
    expect_alive(client);
    expect_int(nbd_server_connections(nbd_server_find(NULL)), 1);
    leave(client);
}

/* A client's side of a whole session: everything that haggling knows, a write, a read and a good-bye. */
static size_t whole_session(uint8_t *out)
{
    static const char haggling[] = "\0\0\0\3"
                                   "IHAVEOPT\0\0\0\3\0\0\0\0"
                                   "IHAVEOPT\0\0\0\10\0\0\0\0"
                                   "IHAVEOPT\0\0\0\12\0\0\0\37"
                                   "\0\0\0\4disk\0\0\0\1\0\0\0\17base:allocation"
                                   "IHAVEOPT\0\0\0\7\0\0\0\14\0\0\0\4disk\0\1\0\3";
    size_t bytes = sizeof(haggling) - 1;
    memcpy(out, haggling, bytes);
    put_request(out + bytes, NBD_CMD_WRITE, 0, 1, 512, 32);
    memset(out + bytes + NBD_REQUEST_BYTES, 'w', 32);
    bytes += NBD_REQUEST_BYTES + 32;
    put_request(out + bytes, NBD_CMD_READ, 0, 2, 0, 1024);
    bytes += NBD_REQUEST_BYTES;
    put_request(out + bytes, NBD_CMD_DISC, 0, 3, 0, 0);
    return bytes + NBD_REQUEST_BYTES;
}

NBD_TEST(a_client_may_vanish_between_any_two_bytes)
{
    uint8_t session[512];
    size_t bytes = whole_session(session);
    export_null("disk", MIB);
    for (size_t sent = 0; sent <= bytes; sent++) {
        struct client *client = client_connect();
        put_raw(client, session, sent);
        leave(client);
    }
    struct client *client = enter("disk");
    expect_alive(client);
    leave(client);
}

/* The same, but the client waits for an end that it does not bring about. */
NBD_TEST(a_server_may_stop_between_any_two_bytes)
{
    uint8_t session[512];
    size_t bytes = whole_session(session);
    struct client **clients = xcalloc(bytes, sizeof(struct client *));
    export_null("disk", MIB);
    for (size_t sent = 0; sent < bytes; sent++) {
        clients[sent] = client_connect();
        put_raw(clients[sent], session, sent);
    }
    expect_success(nbd_server_stop(NULL));
    for (size_t sent = 0; sent < bytes; sent++) {
        char scratch[4096];
        while (stream_read_all(clients[sent]->stream, scratch, 1) == 0)
            ;
        leave(clients[sent]);
    }
    free(clients);
}

/* In one breath, as no client does it; the protocol asks clients to wait, but the bytes mean the same. */
NBD_TEST(a_session_may_come_in_one_piece)
{
    uint8_t session[512];
    uint8_t *reply = xmalloc(8192);
    size_t bytes = whole_session(session);
    export_null("disk", MIB);
    struct client *client = client_connect();
    put_raw(client, session, bytes);
    size_t got = 0;
    while (stream_read_all(client->stream, reply + got, 1) == 0)
        got++;
    /* The end of it: a reply of 16 bytes and one of 1052, in any order, because no one waited. */
    const uint8_t *end = reply + got;
    bool read_is_last = load_be32(end - 1052) == NBD_CHUNK_MAGIC;
    expect(load_be32(read_is_last ? end - 1068 : end - 16) == NBD_SIMPLE_REPLY_MAGIC);
    leave(client);
    free(reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_server_greets_first),
        cmocka_unit_test(unknown_client_flags_end_the_connection),
        cmocka_unit_test(a_wrong_option_magic_ends_the_connection),
        cmocka_unit_test(data_of_unknown_options_are_skipped),
        cmocka_unit_test(go_enters_transmission),
        cmocka_unit_test(an_unknown_export_name_ends_the_connection),
        cmocka_unit_test(the_empty_name_means_the_only_export),
        cmocka_unit_test(abort_is_acknowledged_and_ends),
        cmocka_unit_test(all_exports_are_listed),
        cmocka_unit_test(flags_say_what_the_export_can),
        cmocka_unit_test(connections_are_limited),
        cmocka_unit_test(a_handshake_may_not_take_for_ever),
        cmocka_unit_test(the_server_speaks_tcp),
        cmocka_unit_test(a_client_may_vanish_between_any_two_bytes),
        cmocka_unit_test(a_server_may_stop_between_any_two_bytes),
        cmocka_unit_test(a_session_may_come_in_one_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
