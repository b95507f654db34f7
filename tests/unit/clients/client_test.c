/* A session, against a server that says what each test tells it to. */
#include "tests/unit/base/unit.h"

#include "clients/c/client.h"
#include "schema/codec/json_tree.h"
#include "tests/unit/clients/server.h"

#include <errno.h>

#define TIMEOUT_MS 20000
#define SHORT_MS 50

static struct client *connect_to(const struct server *server)
{
    struct client *client = NULL;
    struct error *err = client_connect(server_path(server), TIMEOUT_MS, &client);

    assert_null(err);
    return client;
}

/* Runs one command against a server that answers @reply; returns the error. */
static struct error *call_answered_by(const char *reply, json_t **result, bool *broken)
{
    const char *const replies[] = { NEGOTIATED, reply, NULL };
    struct server *server = server_start(GREETING, replies);
    struct client *client = connect_to(server);
    struct error *err = client_call(client, "do", json_pack("{s:i}", "a", 1), result);

    *broken = client_is_broken(client);
    client_close(client);
    server_stop(server);
    return err;
}

static void a_reply_is_the_value(void **state)
{
    (void)state;
    CLEANUP(json_decref) json_t *result = NULL;
    bool broken;
    struct error *err = call_answered_by("{\"return\": [1, 2],\n  \"id\": $ID}", &result, &broken);

    assert_null(err);
    assert_false(broken);
    assert_int_equal(json_array_size(result), 2);
}

/* In both directions; jansson by itself would end the session. */
static void integers_have_all_of_their_64_bits(void **state)
{
    (void)state;
    CLEANUP(json_decref) json_t *result = NULL;
    bool broken;
    struct error *err =
        call_answered_by("{\"return\": [18446744073709551615, 9223372036854775807], \"id\": $ID}", &result, &broken);

    assert_null(err);
    assert_false(broken);
    assert_string_equal(json_wide_digits(json_array_get(result, 0)), "18446744073709551615");
    assert_int_equal(json_integer_value(json_array_get(result, 1)), INT64_MAX);
}

static void a_size_of_an_argument_has_all_of_its_64_bits(void **state)
{
    (void)state;
    const char *const replies[] = { NEGOTIATED, "{\"return\": {}, \"id\": $ID}", NULL };
    struct server *server = server_start(GREETING, replies);
    struct client *client = connect_to(server);
    struct error *err =
        client_call(client, "do", json_pack("{s:o}", "size", json_wide_integer("18446744073709551615")), NULL);

    assert_null(err);
    client_close(client);
    server_stop(server);
}

static void an_error_keeps_class_and_words(void **state)
{
    (void)state;
    bool broken;
    CLEANUP(error_free)
    struct error *err = call_answered_by(
        "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no node 'x'\"}, \"id\": $ID}", NULL, &broken);

    assert_non_null(err);
    assert_false(broken);
    assert_int_equal(error_get_class(err), ERROR_DEVICE_NOT_FOUND);
    assert_string_equal(error_message(err), "no node 'x'");
}

static void an_error_without_id_is_ours_too(void **state)
{
    (void)state;
    bool broken;
    CLEANUP(error_free)
    struct error *err =
        call_answered_by("{\"error\": {\"class\": \"GenericError\", \"desc\": \"bad JSON\"}}", NULL, &broken);

    assert_string_equal(error_message(err), "bad JSON");
}

static void replies_to_others_are_passed_over(void **state)
{
    (void)state;
    CLEANUP(json_decref) json_t *result = NULL;
    bool broken;
    struct error *err = call_answered_by("{\"return\": 1, \"id\": \"$\"} {\"return\": 2, \"id\": 99} {\"return\": 3, "
                                         "\"id\": $ID}",
                                         &result, &broken);

    assert_null(err);
    assert_int_equal(json_integer_value(result), 3);
}

static void events_wait_in_order(void **state)
{
    (void)state;
    const char *const replies[] = { NEGOTIATED,
                                    "{\"event\": \"A\"} {\"event\": \"B\"} {\"return\": {}, \"id\": $ID} "
                                    "{\"event\": \"C\"}",
                                    NULL };
    struct server *server = server_start(GREETING, replies);
    CLEANUP(client_close) struct client *client = connect_to(server);
    static const char *const expected[] = { "A", "B", "C" };

    struct error *err = client_call(client, "do", NULL, NULL);
    assert_null(err);
    for (size_t i = 0; i < 3; i++) {
        CLEANUP(json_decref) json_t *event = NULL;
        err = client_next_event(client, TIMEOUT_MS, &event);
        assert_null(err);
        assert_string_equal(json_string_value(json_object_get(event, "event")), expected[i]);
    }
    server_stop(server);
}

static void no_event_in_time_is_no_error(void **state)
{
    (void)state;
    const char *const replies[] = { NEGOTIATED, "", NULL };
    struct server *server = server_start(GREETING, replies);
    struct client *client = connect_to(server);
    json_t *event;

    for (int timeout = 0; timeout <= 1; timeout++) {
        struct error *err = client_next_event(client, timeout, &event);
        assert_null(err);
        assert_null(event);
    }
    client_close(client);
    server_stop(server);
}

static void a_late_reply_is_dropped(void **state)
{
    (void)state;
    /* Nothing for the first command; both replies after the second. */
    const char *const replies[] = { NEGOTIATED, "", "{\"return\": 1, \"id\": 2} {\"return\": 2, \"id\": $ID}", NULL };
    struct server *server = server_start(GREETING, replies);
    struct client *client = connect_to(server);
    CLEANUP(json_decref) json_t *result = NULL;

    client_set_timeout(client, SHORT_MS);
    CLEANUP(error_free) struct error *err = client_call(client, "slow", NULL, NULL);
    assert_int_equal(error_errnum(err), ETIMEDOUT);
    assert_false(client_is_broken(client));

    client_set_timeout(client, TIMEOUT_MS);
    struct error *second = client_call(client, "quick", NULL, &result);
    assert_null(second);
    assert_int_equal(json_integer_value(result), 2);
    client_close(client);
    server_stop(server);
}

static void a_server_that_leaves_breaks_the_session(void **state)
{
    (void)state;
    const char *const replies[] = { NEGOTIATED, NULL };
    struct server *server = server_start(GREETING, replies);
    CLEANUP(client_close) struct client *client = connect_to(server);

    CLEANUP(error_free) struct error *err = client_call(client, "do", NULL, NULL);
    assert_non_null(err);
    assert_true(client_is_broken(client));
    CLEANUP(error_free) struct error *again = client_call(client, "do", NULL, NULL);
    assert_non_null(again);
    server_stop(server);
}

static void what_is_not_qmp_is_refused(void **state)
{
    (void)state;
    static const char *const greetings[] = { "220 ready\r\n", "{}", "{\"return\": {}}", "{\"QMP\": {,}}" };

    for (size_t i = 0; i < sizeof(greetings) / sizeof(greetings[0]); i++) {
        const char *const nothing[] = { NULL };
        struct server *server = server_start(greetings[i], nothing);
        struct client *client = NULL;
        CLEANUP(error_free) struct error *err = client_connect(server_path(server), TIMEOUT_MS, &client);
        assert_non_null(err);
        assert_null(client);
        server_stop(server);
    }
}

static void a_large_command_gets_through(void **state)
{
    (void)state;
    enum { BYTES = 4 << 20 };
    char *text = malloc(BYTES + 1);
    memset(text, 'x', BYTES);
    text[BYTES] = '\0';
    json_t *arguments = json_pack("{s:o}", "text", json_string(text));
    free(text);

    /* The server takes it in many pieces and answers the first one only. */
    enum { PIECES = 4096 };
    static const char *replies[PIECES + 2] = { NEGOTIATED, "{\"return\": {}, \"id\": 2}" };
    for (size_t i = 2; i < PIECES; i++)
        replies[i] = "";
    struct server *server = server_start(GREETING, replies);
    struct client *client = connect_to(server);
    struct error *err = client_call(client, "do", arguments, NULL);
    assert_null(err);
    client_close(client);
    server_stop(server);
}

static void nobody_there_is_an_error_with_the_path(void **state)
{
    (void)state;
    struct client *client = NULL;
    CLEANUP(error_free) struct error *err = client_connect("/nonexistent/socket", TIMEOUT_MS, &client);

    assert_non_null(strstr(error_message(err), "/nonexistent/socket"));
    char path[300];
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    CLEANUP(error_free) struct error *too_long = client_connect(path, TIMEOUT_MS, &client);
    assert_non_null(too_long);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reply_is_the_value),
        cmocka_unit_test(integers_have_all_of_their_64_bits),
        cmocka_unit_test(a_size_of_an_argument_has_all_of_its_64_bits),
        cmocka_unit_test(an_error_keeps_class_and_words),
        cmocka_unit_test(an_error_without_id_is_ours_too),
        cmocka_unit_test(replies_to_others_are_passed_over),
        cmocka_unit_test(events_wait_in_order),
        cmocka_unit_test(no_event_in_time_is_no_error),
        cmocka_unit_test(a_late_reply_is_dropped),
        cmocka_unit_test(a_server_that_leaves_breaks_the_session),
        cmocka_unit_test(what_is_not_qmp_is_refused),
        cmocka_unit_test(a_large_command_gets_through),
        cmocka_unit_test(nobody_there_is_an_error_with_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
