/* The memory that all connections share: who waits for it, who gets it, who has to let go. */
#include "blockcore/export/nbd/budget.h"
#include "tests/unit/export/nbd_test.h"

struct taker {
    const char *name;
    uint64_t bytes;
    bool given_up;
    bool taken;
};

static void take(void *arg)
{
    struct taker *taker = arg;
    taker->taken = nbd_budget_take(taker->bytes, &taker->given_up);
    note(taker->name);
}

static void let_others_run(void)
{
    for (int i = 0; i < 5; i++)
        co_yield ();
}

CO_TEST(what_a_connection_has_for_itself_costs_nothing)
{
    expect_int(nbd_budget_share(0), 0);
    expect_int(nbd_budget_share(NBD_FREE_BYTES), 0);
    expect_int(nbd_budget_share(NBD_FREE_BYTES + 5), 5);
}

CO_TEST(those_who_want_more_than_there_is_wait)
{
    struct taker all = { .name = "all", .bytes = NBD_BUDGET_BYTES };
    struct taker more = { .name = "more", .bytes = MIB };
    co_start("all", take, &all);
    expect_text(noted(), "all");
    expect(!nbd_budget_is_short());
    co_start("more", take, &more);
    expect(nbd_budget_is_short());
    nbd_budget_give(MIB - 1);
    let_others_run();
    expect_text(noted(), "");
    nbd_budget_give(1);
    let_others_run();
    expect_text(noted(), "more");
    expect(more.taken && !nbd_budget_is_short());
    nbd_budget_give(NBD_BUDGET_BYTES);
}

CO_TEST(those_who_give_up_get_nothing)
{
    struct taker all = { .name = "all", .bytes = NBD_BUDGET_BYTES };
    struct taker more = { .name = "more", .bytes = 1 };
    co_start("all", take, &all);
    co_start("more", take, &more);
    more.given_up = true;
    nbd_budget_kick();
    let_others_run();
    expect_text(noted(), "all more");
    expect(!more.taken);
    nbd_budget_give(NBD_BUDGET_BYTES);
    struct taker again = { .name = "again", .bytes = NBD_BUDGET_BYTES };
    co_start("again", take, &again);
    expect_text(noted(), "again");
    nbd_budget_give(NBD_BUDGET_BYTES);
}

/* What the test takes of the budget, so that connections find it used up. */
static void use_up(uint64_t leave)
{
    static const bool never;
    expect(nbd_budget_take(NBD_BUDGET_BYTES - leave, &never));
}

NBD_TEST(small_requests_never_wait_for_others)
{
    export_null("disk", 64 * MIB);
    use_up(0);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 1, 0, MIB);
    expect_simple(client, 0, 1);
    expect_data(client, MIB, 0);
    nbd_budget_give(NBD_BUDGET_BYTES);
    leave(client);
}

NBD_TEST(large_requests_wait_for_memory)
{
    export_null("disk", 64 * MIB);
    use_up(0);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 1, 0, 4 * MIB);
    expect_int(stream_wait_readable(client->stream, 50), -ETIMEDOUT);
    nbd_budget_give(3 * MIB);
    expect_simple(client, 0, 1);
    expect_data(client, 4 * MIB, 0);
    ask(client, NBD_CMD_READ, 0, 2, 0, 4 * MIB); /* the memory came back */
    expect_simple(client, 0, 2);
    expect_data(client, 4 * MIB, 0);
    nbd_budget_give(NBD_BUDGET_BYTES - 3 * MIB);
    leave(client);
}

NBD_TEST(a_client_that_waits_for_memory_can_be_cut)
{
    export_null("disk", 64 * MIB);
    use_up(0);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 1, 0, 4 * MIB);
    while (!nbd_budget_is_short())
        co_sleep_ms(1);
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    expect_text(deleted_ids, "disk");
    expect(!nbd_budget_is_short());
    nbd_budget_give(NBD_BUDGET_BYTES);
    leave(client);
}

/* One client sends half a write and stops, one asks and does not read; both hold memory that a third needs. */
NBD_TEST(clients_that_stall_give_way_when_memory_is_short)
{
    nbd_server_set_stall_ms(50);
    restart_server_with(0, 10);
    export_null("disk", 64 * MIB);
    use_up(12 * MIB);
    struct client *writer = enter("disk");
    ask(writer, NBD_CMD_WRITE, 0, 1, 0, 8 * MIB);
    put_filled(writer, MIB, 'x');
    struct client *reader = enter("disk");
    ask(reader, NBD_CMD_READ, 0, 1, 0, 6 * MIB);
    expect_int(stream_wait_readable(reader->stream, FD_WATCH_FOREVER), 0);
    expect_int(stream_wait_readable(writer->stream, 200), -ETIMEDOUT); /* as long as nobody else wants it */

    struct client *third = enter("disk");
    ask(third, NBD_CMD_READ, 0, 1, 0, 12 * MIB);
    expect_simple(third, 0, 1);
    expect_data(third, 12 * MIB, 0);
    expect_closed(writer);
    nbd_budget_give(NBD_BUDGET_BYTES - 12 * MIB);
    nbd_server_set_stall_ms(10000);
    leave(writer);
    leave(reader);
    leave(third);
}

/* Nobody waits for ever for a client that said good-bye and does not take its replies. */
NBD_TEST(a_good_bye_has_an_end)
{
    nbd_server_set_stall_ms(50);
    restart_server_with(0, 10);
    export_null("disk", 64 * MIB);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 1, 0, 16 * MIB);
    ask(client, NBD_CMD_DISC, 0, 2, 0, 0);
    while (nbd_server_connections(nbd_server_find(NULL)) > 0)
        co_sleep_ms(10);
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_SAFE));
    nbd_server_set_stall_ms(10000);
    leave(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_connection_has_for_itself_costs_nothing),
        cmocka_unit_test(those_who_want_more_than_there_is_wait),
        cmocka_unit_test(those_who_give_up_get_nothing),
        cmocka_unit_test(small_requests_never_wait_for_others),
        cmocka_unit_test(large_requests_wait_for_memory),
        cmocka_unit_test(a_client_that_waits_for_memory_can_be_cut),
        cmocka_unit_test(clients_that_stall_give_way_when_memory_is_short),
        cmocka_unit_test(a_good_bye_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
