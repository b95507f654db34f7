/* The generated calls against a daemon that runs: what goes in and what comes out has types on both sides. */
#include "schema/cairn_client.h"

#include "clients/c/client.h"
#include "clients/c/typed.h"
#include "tests/unit/base/unit.h"
#include "tests/unit/support/temp.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CALL_TIMEOUT_MS 30000

struct session {
    char folder[TEMP_FOLDER_BYTES];
    struct client *client;
    struct arena arena;
};

static void expect_success(struct error *err)
{
    if (err)
        fail_msg("%s", error_message(err));
}

/* cairnd --daemonize comes back when it listens. */
static int start_daemon(void **state)
{
    static struct session session;
    char command[512], path[TEMP_FOLDER_BYTES + 8];
    temp_folder_make(session.folder);
    snprintf(path, sizeof(path), "%s/qmp", session.folder);
    snprintf(command, sizeof(command),
             "%s --daemonize --chardev socket,id=c,path=%s,server=on,wait=off --monitor chardev=c", CAIRND, path);
    assert_int_equal(system(command), 0);
    arena_init(&session.arena, SIZE_MAX);
    expect_success(client_connect(path, CALL_TIMEOUT_MS, &session.client));
    *state = &session;
    return 0;
}

static int stop_daemon(void **state)
{
    struct session *session = *state;
    expect_success(call_quit(session->client));
    client_close(session->client);
    arena_fini(&session->arena);
    char path[128];
    snprintf(path, sizeof(path), "%s/qmp", session->folder);
    unlink(path);
    rmdir(session->folder);
    return 0;
}

static void results_have_types(void **state)
{
    struct session *session = *state;
    struct version_info version;
    struct command_info_list commands;
    bool found = false;
    expect_success(call_query_version(session->client, &session->arena, &version));
    assert_true(version.qemu->major >= 0);
    assert_non_null(version.package);
    expect_success(call_query_commands(session->client, &session->arena, &commands));
    for (size_t i = 0; i < commands.count; i++)
        found |= strcmp(commands.items[i].name, "query-version") == 0;
    assert_true(found);
}

static void arguments_have_types(void **state)
{
    struct session *session = *state;
    struct blockdev_options options = { .driver = BLOCKDEV_DRIVER_NULL_CO, .node_name = "null \"0\"" };
    struct error *err = call_blockdev_add(session->client, &options);
    assert_non_null(err); /* the daemon minds the name */
    error_free(err);

    options.node_name = "null0";
    options.u.null_co.has_size = true;
    options.u.null_co.size = 1 << 20;
    expect_success(call_blockdev_add(session->client, &options));

    struct block_device_info_list nodes;
    struct query_named_block_nodes_arguments query = { .has_flat = true, .flat = true };
    expect_success(call_query_named_block_nodes(session->client, &query, &session->arena, &nodes));
    assert_int_equal(nodes.count, 1);
    assert_string_equal(nodes.items[0].node_name, "null0");
    assert_int_equal(nodes.items[0].image->virtual_size, 1 << 20);

    struct blockdev_del_arguments remove = { .node_name = "null0" };
    expect_success(call_blockdev_del(session->client, &remove));
}

static void errors_keep_their_words(void **state)
{
    struct session *session = *state;
    struct blockdev_del_arguments remove = { .node_name = "none" };
    CLEANUP(error_free) struct error *err = call_blockdev_del(session->client, &remove);
    assert_non_null(err);
    assert_non_null(strstr(error_message(err), "none"));
    assert_false(client_is_broken(session->client));
}

/* A mistake of the program does not reach the daemon. */
static void arguments_that_are_no_value_are_not_sent(void **state)
{
    struct session *session = *state;
    struct blockdev_del_arguments remove = { 0 };
    CLEANUP(error_free) struct error *err = call_blockdev_del(session->client, &remove);
    assert_string_equal(error_message(err), "command 'blockdev-del': .node-name: no value");
}

static void what_has_any_form_is_text(void **state)
{
    struct session *session = *state;
    struct json_text schema;
    expect_success(call_query_qmp_schema(session->client, &session->arena, &schema));
    assert_true(schema.length > 1000);
    assert_int_equal(schema.text[0], '[');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_have_types),        cmocka_unit_test(arguments_have_types),
        cmocka_unit_test(errors_keep_their_words),   cmocka_unit_test(arguments_that_are_no_value_are_not_sent),
        cmocka_unit_test(what_has_any_form_is_text),
    };
    return cmocka_run_group_tests(tests, start_daemon, stop_daemon);
}
