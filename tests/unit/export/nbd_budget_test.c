/* The memory that all connections share: who waits for it, who gets it, who has to let go. */
#include "blockcore/export/nbd/budget.h"
#include "blockcore/filters/gate.h"
#include "tests/unit/export/nbd_test.h"

struct taker {
    const char *name;
    struct nbd_account *account;
    uint64_t bytes;
    bool given_up;
    bool taken;
};

static void take(void *arg)
{
    struct taker *taker = arg;
    taker->taken = nbd_budget_take(taker->account, taker->bytes, &taker->given_up);
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

/* What one export may have when no other has anything: as much as it leaves. */
#define MOST (NBD_EXPORT_BYTES + NBD_BUDGET_BYTES / 2)

CO_TEST(those_who_want_more_than_there_is_wait)
{
    struct nbd_account account = { 0 };
    struct taker most = { .name = "most", .account = &account, .bytes = MOST };
    struct taker more = { .name = "more", .account = &account, .bytes = MIB };
    co_start("most", take, &most);
    expect_text(noted(), "most");
    expect(!nbd_budget_is_short(&account));
    co_start("more", take, &more);
    expect(nbd_budget_is_short(&account));
    nbd_budget_give(&account, MIB - 1);
    let_others_run();
    expect_text(noted(), "");
    nbd_budget_give(&account, 1);
    let_others_run();
    expect_text(noted(), "more");
    expect(more.taken && !nbd_budget_is_short(&account));
    nbd_budget_give(&account, MOST);
}

CO_TEST(those_who_give_up_get_nothing)
{
    struct nbd_account account = { 0 };
    struct taker most = { .name = "most", .account = &account, .bytes = MOST };
    struct taker more = { .name = "more", .account = &account, .bytes = 1 };
    co_start("most", take, &most);
    co_start("more", take, &more);
    more.given_up = true;
    nbd_budget_kick();
    let_others_run();
    expect_text(noted(), "most more");
    expect(!more.taken);
    nbd_budget_give(&account, MOST);
    struct taker again = { .name = "again", .account = &account, .bytes = MOST };
    co_start("again", take, &again);
    expect_text(noted(), "again");
    nbd_budget_give(&account, MOST);
}

/* While one waits for much, others that come for little wait behind it, though there would be enough for them. */
CO_TEST(much_is_not_waited_for_in_vain)
{
    struct nbd_account account = { 0 };
    struct taker most = { .name = "most", .account = &account, .bytes = MOST };
    struct taker much = { .name = "much", .account = &account, .bytes = 2 * MIB };
    struct taker little = { .name = "little", .account = &account, .bytes = 1 };
    struct taker late = { .name = "late", .account = &account, .bytes = 1 };
    co_start("most", take, &most);
    co_start("much", take, &much);
    nbd_budget_give(&account, MIB);
    let_others_run();
    co_start("little", take, &little);
    co_start("late", take, &late);
    let_others_run();
    expect_text(noted(), "most");
    nbd_budget_give(&account, 2 * MIB);
    let_others_run();
    expect_text(noted(), "much little late");
    expect(!nbd_budget_is_short(&account));
    nbd_budget_give(&account, MOST - MIB + 2);
}

/* Nor are those behind it left there when it gives up. */
CO_TEST(who_gives_up_makes_way)
{
    struct nbd_account account = { 0 };
    struct taker most = { .name = "most", .account = &account, .bytes = MOST };
    struct taker much = { .name = "much", .account = &account, .bytes = 2 * MIB };
    struct taker little = { .name = "little", .account = &account, .bytes = 1 };
    co_start("most", take, &most);
    co_start("much", take, &much);
    nbd_budget_give(&account, MIB);
    co_start("little", take, &little);
    let_others_run();
    much.given_up = true;
    nbd_budget_kick();
    let_others_run();
    expect_text(noted(), "most much little");
    expect(!much.taken && little.taken);
    nbd_budget_give(&account, MOST - MIB + 1);
}

#define OTHERS 10

/* Exports with dead storage, each of which has all that it may: half of what the ones before have left. */
static struct nbd_account others[OTHERS];

static uint64_t most_of(unsigned i)
{
    return NBD_EXPORT_BYTES + (NBD_BUDGET_BYTES >> (i + 1));
}

static void use_up(void)
{
    static const bool never;
    for (unsigned i = 0; i < OTHERS; i++)
        expect(nbd_budget_take(&others[i], most_of(i), &never));
}

static void give_back(void)
{
    for (unsigned i = 0; i < OTHERS; i++)
        nbd_budget_give(&others[i], others[i].taken);
}

/* True while somebody waits: the others have something that could be given. */
static bool somebody_waits(void)
{
    return nbd_budget_is_short(&others[0]);
}

CO_TEST(an_export_always_has_its_own)
{
    struct nbd_account account = { 0 };
    struct taker own = { .name = "own", .account = &account, .bytes = NBD_EXPORT_BYTES };
    struct taker more = { .name = "more", .account = &account, .bytes = MIB };
    use_up();
    co_start("own", take, &own);
    expect_text(noted(), "own");
    co_start("more", take, &more); /* a MiB is left, but it would leave nothing */
    expect(somebody_waits());
    nbd_budget_give(&others[0], MIB);
    let_others_run();
    expect_text(noted(), "more");
    nbd_budget_give(&account, NBD_EXPORT_BYTES + MIB);
    give_back();
}

/* Others wait for what an export has of the process's budget, not for what is its own. */
CO_TEST(who_has_only_its_own_is_not_in_the_way)
{
    struct nbd_account modest = { 0 };
    struct nbd_account greedy = { 0 };
    static const bool never;
    struct taker more = { .name = "more", .account = &greedy, .bytes = MIB };
    expect(nbd_budget_take(&modest, NBD_EXPORT_BYTES, &never));
    expect(nbd_budget_take(&greedy, MOST, &never));
    co_start("more", take, &more);
    expect(nbd_budget_is_short(&greedy));
    expect(!nbd_budget_is_short(&modest));
    more.given_up = true;
    nbd_budget_kick();
    let_others_run();
    expect_text(noted(), "more");
    nbd_budget_give(&modest, NBD_EXPORT_BYTES);
    nbd_budget_give(&greedy, MOST);
}

/* Connections --------------------------------------------------------------------------------------------------- */

/* An export on a gate that holds the first read; all others have what they may. */
static struct node *export_on_gate(void)
{
    add(null_options("below", 64 * MIB));
    struct blockdev_options options = { .driver = BLOCKDEV_DRIVER_GATE, .node_name = "disk" };
    options.u.gate.file = by_name("below");
    add(options);
    export_as("disk", "disk");
    use_up();
    struct node *gate = node_find("disk");
    gate_hold(gate, GATE_READ, 1);
    return gate;
}

/* Its read is in the graph and stays there, with all that the export has of its own. */
static struct client *enter_and_hang(struct node *gate)
{
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 1, 0, 32 * MIB);
    gate_wait_held(gate, 1);
    return client;
}

static void end_of_hanging(struct node *gate, struct client *client)
{
    gate_release(gate, GATE_READ, GATE_ALL);
    expect_simple(client, 0, 1);
    expect_data(client, 32 * MIB, 0);
    leave(client);
    give_back();
}

NBD_TEST(small_requests_never_wait_for_others)
{
    struct node *gate = export_on_gate();
    struct client *hanging = enter_and_hang(gate);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 1, 0, MIB);
    expect_simple(client, 0, 1);
    expect_data(client, MIB, 0);
    leave(client);
    end_of_hanging(gate, hanging);
}

NBD_TEST(large_requests_wait_for_memory)
{
    struct node *gate = export_on_gate();
    struct client *hanging = enter_and_hang(gate);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 2, 0, 4 * MIB);
    while (!somebody_waits())
        co_yield ();
    expect_int(stream_wait_readable(client->stream, 50), -ETIMEDOUT);
    end_of_hanging(gate, hanging);
    expect_simple(client, 0, 2);
    expect_data(client, 4 * MIB, 0);
    leave(client);
}

NBD_TEST(a_client_that_waits_for_memory_can_be_cut)
{
    struct node *gate = export_on_gate();
    struct client *hanging = enter_and_hang(gate);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_READ, 0, 1, 0, 4 * MIB);
    while (!somebody_waits())
        co_yield ();
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    expect_closed(client);
    expect(!somebody_waits());
    gate_release(gate, GATE_READ, GATE_ALL);
    while (export_next(NULL))
        co_sleep_ms(1);
    expect_text(deleted_ids, "disk");
    leave(client);
    leave(hanging);
    give_back();
}

/* An export whose storage is dead has used up all that it may; another one, with small and large requests, goes on. */
NBD_TEST(a_dead_export_is_no_other_ones_burden)
{
    add(null_options("below", 64 * MIB));
    struct blockdev_options options = { .driver = BLOCKDEV_DRIVER_GATE, .node_name = "dead" };
    options.u.gate.file = by_name("below");
    add(options);
    export_as("dead", "dead");
    export_null("disk", 64 * MIB);
    gate_hold(node_find("dead"), GATE_READ, GATE_ALL);
    struct client *hanging[40];
    for (unsigned i = 0; i < ARRAY_SIZE(hanging); i++) {
        hanging[i] = enter("dead");
        for (unsigned j = 0; j < 3; j++)
            ask(hanging[i], NBD_CMD_READ, 0, j, 0, 32 * MIB);
    }
    struct client *client = enter("disk");
    for (unsigned i = 0; i < 4; i++) {
        ask(client, NBD_CMD_READ, 0, i, 0, 32 * MIB);
        expect_simple(client, 0, i);
        expect_data(client, 32 * MIB, 0);
    }
    leave(client);
    expect_success(export_del("dead", BLOCK_EXPORT_REMOVE_MODE_HARD));
    gate_release(node_find("dead"), GATE_READ, GATE_ALL);
    for (unsigned i = 0; i < ARRAY_SIZE(hanging); i++)
        leave(hanging[i]);
    while (export_next(export_find("disk")) || export_find("dead"))
        co_sleep_ms(1);
}

/* One client sends half a write and stops, one asks and does not read; both hold memory that a third needs. */
NBD_TEST(clients_that_stall_give_way_when_memory_is_short)
{
    nbd_server_set_stall_ms(50);
    restart_server_with(0, 10);
    export_null("disk", 64 * MIB);
    use_up();
    struct client *writer = enter("disk");
    ask(writer, NBD_CMD_WRITE, 0, 1, 0, 16 * MIB);
    put_filled(writer, MIB, 'x');
    struct client *reader = enter("disk");
    ask(reader, NBD_CMD_READ, 0, 1, 0, 16 * MIB);
    expect_int(stream_wait_readable(reader->stream, FD_WATCH_FOREVER), 0);
    expect_int(stream_wait_readable(writer->stream, 200), -ETIMEDOUT); /* as long as nobody else wants it */

    struct client *third = enter("disk");
    ask(third, NBD_CMD_READ, 0, 1, 0, 24 * MIB);
    expect_simple(third, 0, 1);
    expect_data(third, 24 * MIB, 0);
    expect_closed(writer);
    give_back();
    nbd_server_set_stall_ms(10000);
    leave(writer);
    leave(reader);
    leave(third);
}

/* Clients of dead storage who leave and come again do not take the places of others. */
NBD_TEST(a_client_that_has_gone_takes_no_place)
{
    nbd_server_set_stall_ms(50);
    restart_server_with(2, 10);
    add(null_options("below", MIB));
    struct blockdev_options options = { .driver = BLOCKDEV_DRIVER_GATE, .node_name = "dead" };
    options.u.gate.file = by_name("below");
    add(options);
    export_as("dead", "dead");
    export_null("disk", MIB);
    gate_hold(node_find("dead"), GATE_ANY, GATE_ALL);
    for (unsigned i = 0; i < 5; i++) {
        struct client *client = enter("dead");
        ask(client, NBD_CMD_READ, 0, 1, 0, 512);
        gate_wait_held(node_find("dead"), i + 1);
        leave(client);
    }
    struct client *client = enter("disk");
    expect_alive(client);
    expect_int(nbd_server_connections(nbd_server_find(NULL)), 6);
    gate_release(node_find("dead"), GATE_ANY, GATE_ALL);
    while (nbd_server_connections(nbd_server_find(NULL)) > 1)
        co_sleep_ms(1);

    /* And places are counted right after that. */
    struct client *second = enter("disk");
    struct client *third = client_connect();
    expect_int(stream_wait_readable(third->stream, 50), -ETIMEDOUT);
    leave(second);
    expect_greeting(third);
    leave(third);
    leave(client);
    nbd_server_set_stall_ms(10000);
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
        cmocka_unit_test(much_is_not_waited_for_in_vain),
        cmocka_unit_test(who_gives_up_makes_way),
        cmocka_unit_test(an_export_always_has_its_own),
        cmocka_unit_test(who_has_only_its_own_is_not_in_the_way),
        cmocka_unit_test(small_requests_never_wait_for_others),
        cmocka_unit_test(large_requests_wait_for_memory),
        cmocka_unit_test(a_client_that_waits_for_memory_can_be_cut),
        cmocka_unit_test(a_dead_export_is_no_other_ones_burden),
        cmocka_unit_test(clients_that_stall_give_way_when_memory_is_short),
        cmocka_unit_test(a_client_that_has_gone_takes_no_place),
        cmocka_unit_test(a_good_bye_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
