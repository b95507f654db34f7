/* The life of exports and of the server that shows them: names, users, and removal that waits for no client. */
#include "blockcore/filters/gate.h"
#include "tests/unit/export/nbd_test.h"

#include <time.h>

static struct node *add_gate(const char *name, const char *below)
{
    struct blockdev_options options = { .driver = BLOCKDEV_DRIVER_GATE, .node_name = name };
    options.u.gate.file = by_name(below);
    add(options);
    return node_find(name);
}

static void export_fails(struct block_export_options options, const char *part)
{
    expect_error(export_add(&options), part);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Adding --------------------------------------------------------------------------------------------------------- */

NBD_TEST(ids_are_unique)
{
    export_null("disk", MIB);
    export_fails(export_options("disk", "disk"), "Block export id 'disk' is already in use");
    export_fails(export_options("other", "nowhere"), "Cannot find device='' nor node-name='nowhere'");
    expect_int(export_users(export_find("disk")), 0);
}

NBD_TEST(names_are_unique_among_exports)
{
    export_null("disk", MIB);
    struct block_export_options options = export_options("second", "disk");
    export_fails(options, "NBD server already has export named 'disk'");
    options.u.nbd.name = "another";
    expect_success(export_add(&options));
    expect_text(export_id(export_next(NULL)), "disk");
    expect_text(export_id(export_next(export_next(NULL))), "second");
    expect(!export_next(export_find("second")));
    expect(export_node(export_find("second")) == node_find("disk"));
}

NBD_TEST(names_may_be_long)
{
    char text[4097];
    memset(text, 'n', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    add(null_options("disk", MIB));
    struct block_export_options options = export_options("id", "disk");
    options.u.nbd.name = text;
    expect_success(export_add(&options));
    struct client *client = enter(text);
    expect_alive(client);
    leave(client);
}

NBD_TEST(objects_that_do_not_exist_are_named)
{
    add(null_options("disk", MIB));
    struct block_export_options options = export_options("id", "disk");
    options.iothread = "io7";
    export_fails(options, "iothread \"io7\" not found");
    options.iothread = NULL;
    struct block_dirty_bitmap_or_str bitmap = { .kind = BLOCK_DIRTY_BITMAP_OR_STR_KIND_LOCAL, .u.local = "b0" };
    options.u.nbd.has_bitmaps = true;
    options.u.nbd.bitmaps = &bitmap;
    options.u.nbd.bitmaps_count = 1;
    export_fails(options, "Bitmap 'b0' is not found");
    struct nbd_server_options server = { .tls_creds = "tls0" };
    expect_success(nbd_server_stop(NULL));
    expect_error(nbd_server_start(&server), "No TLS credentials with id 'tls0'");
}

NBD_TEST(a_read_only_node_is_not_exported_writable)
{
    struct blockdev_options node = null_options("disk", MIB);
    node.has_read_only = node.read_only = true;
    add(node);
    struct block_export_options options = export_options("disk", "disk");
    export_fails(options, "Cannot export read-only node as writable");
    options.writable = false;
    expect_success(export_add(&options));
}

NBD_TEST(an_exported_node_is_in_use)
{
    export_null("disk", MIB);
    expect_error(blockdev_del("disk"), "export 'disk'");
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_SAFE));
    expect_success(blockdev_del("disk"));
}

NBD_TEST(there_is_one_server_at_a_time)
{
    expect_error(start_server_with(0, 10), "NBD server already running");
    expect_success(nbd_server_stop(NULL));
    expect_error(nbd_server_stop(NULL), "NBD server not running");
    add(null_options("disk", MIB));
    export_fails(export_options("disk", "disk"), "NBD server not running");
    expect(!export_find("disk"));
    expect_success(start_server_with(0, 10));
    export_as("disk", "disk");
}

/* Removing ------------------------------------------------------------------------------------------------------- */

NBD_TEST(an_export_that_nobody_uses_is_removed_at_once)
{
    export_null("disk", MIB);
    expect_error(export_del("nowhere", BLOCK_EXPORT_REMOVE_MODE_HARD), "Export 'nowhere' is not found");
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_SAFE));
    expect_text(deleted_ids, "disk");
    expect(!export_find("disk"));
    export_as("disk", "disk");
}

NBD_TEST(safe_removal_respects_clients)
{
    export_null("disk", MIB);
    struct client *client = enter("disk");
    expect_error(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_SAFE), "export 'disk' still in use");
    expect_alive(client);
    expect_int(export_users(export_find("disk")), 1);
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    expect_text(deleted_ids, "disk");
    expect_closed(client);
    leave(client);
}

/* What a write has done is done, although nobody hears of it. */
NBD_TEST(removal_does_not_wait_for_storage)
{
    make_file("disk.img", MIB);
    add(file_options("below", in_dir("disk.img")));
    struct node *gate = add_gate("disk", "below");
    export_as("disk", "disk");
    struct client *client = enter("disk");
    gate_hold(gate, GATE_WRITE, GATE_ALL);
    ask(client, NBD_CMD_WRITE, 0, 1, 0, 512);
    put_filled(client, 512, 'w');
    gate_wait_held(gate, 1);

    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    expect_closed(client);
    expect(export_is_shutting_down(export_find("disk")));
    expect_error(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD), "Export 'disk' is already shutting down");
    export_fails(export_options("disk", "disk"), "Block export id 'disk' is already in use");
    expect_text(deleted_ids, "");

    gate_release(gate, GATE_WRITE, GATE_ALL);
    expect_success(nbd_server_stop(NULL));
    expect_text(deleted_ids, "disk");
    struct handle *handle = open_handle("disk", READ);
    expect(reads_as(handle, 0, 512, 'w'));
    handle_close(handle);
    leave(client);
}

static void remove_disk(void *arg)
{
    bool *removed = arg;
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    *removed = true;
}

/* True when it could be asked after it had left its node. */
static bool ask_while_removed(void)
{
    bool removed = false;
    bool asked = false;
    co_start("removal", remove_disk, &removed);
    while (!removed) {
        struct export *export = export_next(NULL);
        if (export) {
            expect_text(export_node_name(export), "disk");
            expect(export_is_shutting_down(export));
            asked = asked || !export_node(export);
        }
        co_yield ();
    }
    return asked;
}

/* A thread gives up the locks of the file. Now and then it is so quick that nobody has to wait for it. */
NBD_TEST(an_export_is_told_of_until_it_is_gone)
{
    export_file("disk", MIB);
    for (int tries = 0; !ask_while_removed(); tries++) {
        expect(tries < 1000);
        export_as("disk", "disk");
    }
}

/* The name can be shown again at once; only the id is taken until the end. */
NBD_TEST(a_name_is_free_while_its_export_shuts_down)
{
    add(null_options("below", MIB));
    struct node *gate = add_gate("disk", "below");
    export_as("first", "disk");
    struct client *client = enter("disk");
    gate_hold(gate, GATE_READ, 1);
    ask(client, NBD_CMD_READ, 0, 1, 0, 512);
    gate_wait_held(gate, 1);
    expect_success(export_del("first", BLOCK_EXPORT_REMOVE_MODE_HARD));
    export_as("second", "disk");
    struct client *other = enter("disk");
    expect_alive(other);
    gate_release(gate, GATE_READ, GATE_ALL);
    leave(client);
    leave(other);
}

NBD_TEST(stopping_does_not_wait_for_storage)
{
    add(null_options("below", MIB));
    struct node *gate = add_gate("disk", "below");
    export_as("disk", "disk");
    struct client *client = enter("disk");
    gate_hold(gate, GATE_ANY, GATE_ALL);
    ask(client, NBD_CMD_READ, 0, 1, 0, 512);
    ask(client, NBD_CMD_FLUSH, 0, 2, 0, 0);
    gate_wait_held(gate, 2);
    expect_success(nbd_server_stop(NULL));
    expect_closed(client);
    leave(client);

    expect_success(start_server_with(0, 10));
    export_null("other", MIB);
    client = enter("other");
    expect_alive(client);
    leave(client);
    gate_release(gate, GATE_ANY, GATE_ALL);
}

/* A client that asks and does not listen is cut off like any other, in no time. */
NBD_TEST(removal_does_not_wait_for_a_client_that_does_not_read)
{
    export_null("disk", 64 * MIB);
    struct client *client = enter("disk");
    for (unsigned i = 0; i < 50; i++)
        ask(client, NBD_CMD_READ, 0, i, 0, 4 * MIB);
    expect_int(stream_wait_readable(client->stream, FD_WATCH_FOREVER), 0);
    uint64_t begin = now_ms();
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    expect(now_ms() - begin < EXPORT_GRACE_MS);
    expect_text(deleted_ids, "disk");
    leave(client);
}

NBD_TEST(removal_does_not_wait_for_a_client_that_does_not_go_on)
{
    export_null("disk", 64 * MIB);
    struct client *client = enter("disk");
    ask(client, NBD_CMD_WRITE, 0, 1, 0, 32 * MIB);
    put_filled(client, 100000, 'x');
    expect_int(export_users(export_find("disk")), 1);
    uint64_t begin = now_ms();
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    expect(now_ms() - begin < EXPORT_GRACE_MS);
    expect_text(deleted_ids, "disk");
    expect_closed(client);
    leave(client);
}

/* Clients of another export, or of none yet, do not notice. */
NBD_TEST(removal_cuts_only_the_clients_of_that_export)
{
    export_null("disk", MIB);
    export_null("tape", MIB);
    struct client *doomed = enter("disk");
    struct client *other = enter("tape");
    struct client *undecided = begin_haggling();
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    expect_closed(doomed);
    expect_alive(other);
    choose_export(undecided, "tape");
    expect_alive(undecided);
    leave(doomed);
    leave(other);
    leave(undecided);
}

NBD_TEST(many_exports_are_added_and_removed_under_clients)
{
    char name[16];
    add(null_options("disk", MIB));
    struct client *clients[40];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "e%d", i);
        struct block_export_options options = export_options(name, "disk");
        options.u.nbd.name = name;
        expect_success(export_add(&options));
        clients[i] = enter(name);
        ask(clients[i], NBD_CMD_READ, 0, 1, 0, MIB);
    }
    for (int i = 0; i < 40; i += 2) {
        snprintf(name, sizeof(name), "e%d", i);
        expect_success(export_del(name, BLOCK_EXPORT_REMOVE_MODE_HARD));
    }
    for (int i = 1; i < 40; i += 2)
        expect_simple(clients[i], 0, 1);
    expect_success(nbd_server_stop(NULL));
    for (int i = 0; i < 40; i++)
        leave(clients[i]);
    expect(!export_next(NULL));
}

/* It has no stack then. Whatever comes next is answered. */
NBD_TEST(an_idle_connection_has_no_coroutine)
{
    export_null("disk", MIB);
    unsigned before = co_count();
    struct client *clients[20];
    for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
        clients[i] = enter("disk");
    for (unsigned round = 0; round < 3; round++) {
        while (co_count() > before)
            co_sleep_ms(1);
        for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
            ask(clients[i], NBD_CMD_READ, 0, i, 0, 4096);
        for (unsigned i = 0; i < ARRAY_SIZE(clients); i++) {
            expect_simple(clients[i], 0, i);
            expect_data(clients[i], 4096, 0);
        }
    }
    uint8_t request[NBD_REQUEST_BYTES]; /* in two pieces */
    put_request(request, NBD_CMD_FLUSH, 0, 7, 0, 0);
    put_raw(clients[0], request, 5);
    put_raw(clients[0], request + 5, sizeof(request) - 5);
    expect_simple(clients[0], 0, 7);
    while (co_count() > before)
        co_sleep_ms(1);
    leave(clients[1]);
    expect_success(export_del("disk", BLOCK_EXPORT_REMOVE_MODE_HARD));
    expect_closed(clients[0]);
    for (unsigned i = 0; i < ARRAY_SIZE(clients); i++) {
        if (i != 1)
            leave(clients[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_unique),
        cmocka_unit_test(names_are_unique_among_exports),
        cmocka_unit_test(names_may_be_long),
        cmocka_unit_test(objects_that_do_not_exist_are_named),
        cmocka_unit_test(a_read_only_node_is_not_exported_writable),
        cmocka_unit_test(an_exported_node_is_in_use),
        cmocka_unit_test(there_is_one_server_at_a_time),
        cmocka_unit_test(an_export_that_nobody_uses_is_removed_at_once),
        cmocka_unit_test(safe_removal_respects_clients),
        cmocka_unit_test(removal_does_not_wait_for_storage),
        cmocka_unit_test(an_export_is_told_of_until_it_is_gone),
        cmocka_unit_test(a_name_is_free_while_its_export_shuts_down),
        cmocka_unit_test(stopping_does_not_wait_for_storage),
        cmocka_unit_test(removal_does_not_wait_for_a_client_that_does_not_read),
        cmocka_unit_test(removal_does_not_wait_for_a_client_that_does_not_go_on),
        cmocka_unit_test(removal_cuts_only_the_clients_of_that_export),
        cmocka_unit_test(many_exports_are_added_and_removed_under_clients),
        cmocka_unit_test(an_idle_connection_has_no_coroutine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
