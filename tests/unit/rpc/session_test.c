/* What clients and the server promise each other: negotiation, order, turns, limits, events, roles. */
#include "tests/unit/rpc/play.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "rpc/in_flight.h"
#include "rpc/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void negotiation_script(struct client *one, struct client *two)
{
    (void)two;
    EXPECT(receives(one, "{\"QMP\": {\"version\": {\"text\": \"1\"}, \"capabilities\": [\"oob\"]}}"));
    send_text(one, "{'execute':'echo','arguments':{'text':'x'},'id':1}");
    EXPECT(receives(one, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Expecting capabilities negotiation "
                         "with 'qmp_capabilities'\"}, \"id\": 1}"));
    send_text(one, "{'execute':'qmp_capabilities'}{'execute':'echo','arguments':{'text':'x'}}");
    EXPECT(receives(one, "{\"return\": {}}"));
    EXPECT(receives(one, "{\"return\": \"x\"}"));
    send_text(one, "{'execute':'qmp_capabilities'}");
    EXPECT(strstr(receive(one), "already complete"));
}

static void a_session_begins_with_negotiation(void **state)
{
    (void)state;
    play_run(negotiation_script);
}

static void order_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    send_text(one, "{'execute':'wait','id':1}{'execute':'echo','arguments':{'text':'x'},'id':2}{'bad':1,'id':3}");
    send_text(two, "{'execute':'echo','arguments':{'text':'meanwhile'}}");
    EXPECT(receives(two, "{\"return\": \"meanwhile\"}"));
    EXPECT(is_silent(one));
    send_text(two, "{'execute':'open'}");
    EXPECT(receives(two, "{\"return\": {}}"));
    EXPECT(receives(one, "{\"return\": {}, \"id\": 1}"));
    EXPECT(receives(one, "{\"return\": \"x\", \"id\": 2}"));
    EXPECT(strstr(receive(one), "\"id\": 3"));
}

static void commands_of_a_client_run_in_order_and_hold_up_nobody_else(void **state)
{
    (void)state;
    play_run(order_script);
}

/* While the loop stands still, one has sent much work and two a little. */
static void turns_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    send_text(one, "{'execute':'pause'}");
    for (int i = 0; i < 50; i++)
        send_text(one, "{'execute':'busy'}");
    while (!paused)
        sched_yield();
    send_text(two, "{'execute':'echo','arguments':{'text':'x'}}");
    unpaused = true;
    EXPECT(receives(two, "{\"return\": \"x\"}"));
    EXPECT(busy_at_echo <= 2);
    for (int i = 0; i < 51; i++)
        EXPECT(receives(one, "{\"return\": {}}"));
}

static void a_client_with_much_to_do_leaves_turns_to_others(void **state)
{
    (void)state;
    play_run(turns_script);
}

static void queue_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    send_text(one, "{'execute':'wait'}");
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
    size_t sent = 0;
    static const char echo[] = "{'execute':'echo','arguments':{'text':'x'}}";
    struct pollfd pollfd = { .fd = one->fd, .events = POLLOUT };
    while (poll(&pollfd, 1, 200) == 1 && send(one->fd, echo, sizeof(echo) - 1, MSG_NOSIGNAL) == sizeof(echo) - 1)
        sent++;
    EXPECT(sent > RPC_QUEUE_MAX && sent < 100000); /* at some time nothing is read any more */
    EXPECT(executed == 1);
    fcntl(one->fd, F_SETFL, 0);
    send_text(two, "{'execute':'open'}");
    EXPECT(receives(one, "{\"return\": {}}"));
    for (size_t i = 0; i < sent; i++)
        EXPECT(receives(one, "{\"return\": \"x\"}"));
}

static void a_client_whose_command_waits_is_not_read_without_end(void **state)
{
    (void)state;
    play_run(queue_script);
}

static void leave_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    send_text(one, "{'execute':'wait'}{'execute':'echo','arguments':{'text':'never'}}");
    send_text(two, "{'execute':'echo','arguments':{'text':'x'}}");
    EXPECT(receives(two, "{\"return\": \"x\"}"));
    close(one->fd);
    one->fd = -1;
    send_text(two, "{'execute':'echo','arguments':{'text':'y'}}"); /* a turn later */
    EXPECT(receives(two, "{\"return\": \"y\"}"));
    send_text(two, "{'execute':'open'}{'execute':'echo','arguments':{'text':'z'}}");
    EXPECT(receives(two, "{\"return\": {}}"));
    EXPECT(receives(two, "{\"return\": \"z\"}"));
    EXPECT(executed == 4); /* wait, x, y, z */
}

static void what_a_client_that_left_had_queued_is_dropped(void **state)
{
    (void)state;
    play_run(leave_script);
}

static void half_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    send_text(one, "{'execute':'wait','id':1}{'execute':'echo','arguments':{'text':'x'},'id':2}{'execute':'ech");
    shutdown(one->fd, SHUT_WR);
    EXPECT(is_silent(one));
    send_text(two, "{'execute':'open'}");
    EXPECT(receives(one, "{\"return\": {}, \"id\": 1}"));
    EXPECT(receives(one, "{\"return\": \"x\", \"id\": 2}"));
    EXPECT(receive(one) == NULL);
}

static void a_client_that_only_ends_its_input_gets_its_replies(void **state)
{
    (void)state;
    play_run(half_script);
}

static void events_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one));
    send_text(one, "{'execute':'noise','arguments':{'text':'bang'},'id':1}");
    const char *event = receive(one);
    EXPECT(event && strncmp(event, "{\"timestamp\": {\"seconds\": ", 26) == 0);
    EXPECT(strstr(event, "\"event\": \"NOISE\", \"data\": {\"text\": \"bang\"}}"));
    EXPECT(receives(one, "{\"return\": {}, \"id\": 1}"));
    EXPECT(receive(two)); /* its greeting, and nothing else: it has not negotiated */
    EXPECT(is_silent(two));
}

static void events_come_before_the_reply_of_their_command(void **state)
{
    (void)state;
    play_run(events_script);
}

static void storm_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    send_text(one, "{'execute':'storm'}");
    EXPECT(strstr(receive(one), "\"STORM\", \"data\": {\"text\": \"first\"}}"));
    EXPECT(receives(one, "{\"return\": {}}"));
    EXPECT(strstr(receive(one), "\"STORM\", \"data\": {\"text\": \"last\"}}"));
    EXPECT(strstr(receive(two), "\"STORM\", \"data\": {\"text\": \"first\"}}"));
    EXPECT(strstr(receive(two), "\"STORM\", \"data\": {\"text\": \"last\"}}"));
}

static void of_many_events_the_first_and_the_last_are_sent(void **state)
{
    (void)state;
    play_run(storm_script);
}

static void deaf_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    size_t bytes = 60000;
    char *text = xmalloc(bytes + 1);
    memset(text, 'x', bytes);
    text[bytes] = '\0';
    char *message = xasprintf("{'execute':'noise','arguments':{'text':'%s'}}", text);
    for (int i = 0; i < 100; i++) {
        send_text(two, message);
        receive(two); /* event */
        receive(two); /* reply */
    }
    free(message);
    free(text);
    unsigned events = 0;
    while (receive(one))
        events++;
    EXPECT(events < 80); /* what the socket held; the rest was dropped when it was cut off */
    send_text(two, "{'execute':'echo','arguments':{'text':'x'}}");
    EXPECT(receives(two, "{\"return\": \"x\"}"));
}

static void a_client_that_does_not_read_its_events_is_cut_off(void **state)
{
    (void)state;
    play_run(deaf_script);
}

/* Reads @length bytes, whatever they are. */
static bool takes(struct client *client, size_t length)
{
    static char bytes[65536];
    while (length > 0) {
        ssize_t count = recv(client->fd, bytes, length < sizeof(bytes) ? length : sizeof(bytes), 0);
        if (count <= 0)
            return false;
        length -= (size_t)count;
    }
    return true;
}

/* More events than may ever wait, but never many of them at once. */
static void late_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    send_text(one, "{'execute':'large'}{'execute':'large'}{'execute':'large'}");
    size_t bytes = 60000;
    char *text = xmalloc(bytes + 1);
    memset(text, 'x', bytes);
    text[bytes] = '\0';
    char *message = xasprintf("{'execute':'noise','arguments':{'text':'%s'}}", text);
    bool there = true;
    for (size_t sent = 0; sent < RPC_EVENTS_PENDING_MAX * 2 && there; sent += bytes) {
        send_text(two, message);
        const char *event = receive(two);
        there = event && takes(one, strlen(event) + 2) && receive(two);
    }
    free(message);
    free(text);
    EXPECT(there);
    send_text(one, "{'execute':'echo','arguments':{'text':'last'}}");
    const char *line = "";
    while (line && !strstr(line, "\"last\""))
        line = receive(one);
    EXPECT(line);
}

static void a_client_that_reads_its_events_late_is_not(void **state)
{
    (void)state;
    play_run(late_script);
}

static void large_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    for (int i = 0; i < 10; i++)
        send_text(one, "{'execute':'large'}{'execute':'echo','arguments':{'text':'x'}}");
    for (int i = 0; i < 10; i++) {
        const char *line = receive(one);
        EXPECT(line && strlen(line) == 300000 + strlen("{\"return\": \"\"}"));
        EXPECT(receives(one, "{\"return\": \"x\"}"));
    }
}

static void large_replies_arrive_whole_and_in_order(void **state)
{
    (void)state;
    play_run(large_script);
}

static void errors_script(struct client *one, struct client *two)
{
    (void)two;
    EXPECT(negotiates(one));
    send_text(one, "{'execute':'fail','id':[]}");
    EXPECT(
        receives(one, "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no \\\"device\\\"\\n\"}, \"id\": []}"));
    send_text(one, "{'execute':'broken'}");
    EXPECT(strstr(receive(one), "\"GenericError\""));
    send_text(one, "{'execute':'echo','id':1}");
    EXPECT(strstr(receive(one), "arguments.text"));
    send_text(one, "{'execute':'silent'}{'execute':'echo','arguments':{'text':'x'}}");
    EXPECT(receives(one, "{\"return\": \"x\"}"));
}

static void errors_and_no_response(void **state)
{
    (void)state;
    play_run(errors_script);
    assert_non_null(strstr(play_log, "mistake: the result of the command broken is no value of its type"));
}

static void roles_script(struct client *admin, struct client *operator)
{
    EXPECT(negotiates(admin) && negotiates(operator));
    send_text(admin, "{'execute':'needs-admin','arguments':{'text':'x'}}");
    EXPECT(receives(admin, "{\"return\": \"x\"}"));
    send_text(operator, "{'execute':'needs-operate','arguments':{'text':'x'}}");
    EXPECT(receives(operator, "{\"return\": \"x\"}"));
    executed = 0;
    /* Who may not use a command is not told what is wrong with its arguments either. */
    for (int i = 0; i < 2; i++) {
        send_text(operator, i ? "{'execute':'needs-admin','arguments':{'text':5},'id':1}"
                              : "{'execute':'needs-admin','arguments':{'text':'x'},'id':1}");
        EXPECT(receives(operator, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"The command needs-admin needs "
                                  "the role 'admin', and this monitor gives 'operate' to somebody\"}, \"id\": 1}"));
    }
    EXPECT(executed == 0);
    send_text(operator, "{'execute':'no-such-command'}");
    EXPECT(strstr(receive(operator), "CommandNotFound"));
}

static void a_command_needs_its_role(void **state)
{
    (void)state;
    play_run(roles_script);
}

static void classes_script(struct client *one, struct client *two)
{
    (void)two;
    EXPECT(negotiates(one));
    send_text(one, "{'execute':'fail-declared'}");
    EXPECT(strstr(receive(one), "\"DeviceNotFound\""));
    send_text(one, "{'execute':'fail-wrong'}");
    EXPECT(receives(one, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no \\\"device\\\"\\n\"}}"));
}

static void a_class_that_is_not_declared_is_a_mistake(void **state)
{
    (void)state;
    play_run(classes_script);
    assert_non_null(strstr(play_log, "mistake: the command fail-wrong fails with class DeviceNotFound"));
    assert_null(strstr(play_log, "mistake: the command fail-declared"));
}

static void trace_script(struct client *one, struct client *two)
{
    (void)two;
    EXPECT(negotiates(one));
    send_text(one, "{'execute':'echo','arguments':{'text':'hello'},'id':7}");
    EXPECT(receives(one, "{\"return\": \"hello\", \"id\": 7}"));
    send_text(one, "{'execute':'secret','arguments':{'text':'hunter2'}}");
    EXPECT(receives(one, "{\"return\": {\"text\": \"hunter2\"}}"));
    send_text(one, "{'execute':'secret','arguments':{'text':'hunter2','more':'hunter2'}}");
    EXPECT(strstr(receive(one), "arguments.more: unknown member"));
    send_text(one, "{'execute':'secret','arguments':{'text':['hunter2']}}");
    EXPECT(strstr(receive(one), "arguments.text: expected string, got array"));
    send_text(one, "{'execute':'hunter2'}");
    EXPECT(strstr(receive(one), "has not been found"));
    send_text(one, "{'execute':'large'}");
    EXPECT(receive(one));
}

static void commands_are_traced_without_their_secrets(void **state)
{
    (void)state;
    play_run(trace_script);
    assert_non_null(strstr(play_log, "test client 1: --> {\"execute\": \"echo\", \"arguments\": {\"text\": \"hello\"}, "
                                     "\"id\": 7}\n"));
    assert_non_null(strstr(play_log, " ms: {\"return\": \"hello\", \"id\": 7}\n"));
    assert_non_null(strstr(play_log, "--> {\"execute\": \"secret\", \"arguments\": {\"text\": \"(secret)\"}}\n"));
    assert_non_null(strstr(play_log, " ms: {\"return\": {\"text\": \"(secret)\"}}\n"));
    assert_non_null(strstr(play_log, "(arguments that were not understood)"));
    assert_non_null(strstr(play_log, "<-- large, "));
    char *secret = strstr(play_log, "hunter2");
    assert_non_null(secret); /* once: a command's name is none */
    assert_true(strncmp(secret, "hunter2 has not been found", 26) == 0 && !strstr(secret + 1, "hunter2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_begins_with_negotiation),
        cmocka_unit_test(commands_of_a_client_run_in_order_and_hold_up_nobody_else),
        cmocka_unit_test(a_client_with_much_to_do_leaves_turns_to_others),
        cmocka_unit_test(a_client_whose_command_waits_is_not_read_without_end),
        cmocka_unit_test(what_a_client_that_left_had_queued_is_dropped),
        cmocka_unit_test(a_client_that_only_ends_its_input_gets_its_replies),
        cmocka_unit_test(events_come_before_the_reply_of_their_command),
        cmocka_unit_test(of_many_events_the_first_and_the_last_are_sent),
        cmocka_unit_test(a_client_that_does_not_read_its_events_is_cut_off),
        cmocka_unit_test(a_client_that_reads_its_events_late_is_not),
        cmocka_unit_test(large_replies_arrive_whole_and_in_order),
        cmocka_unit_test(errors_and_no_response),
        cmocka_unit_test(a_command_needs_its_role),
        cmocka_unit_test(a_class_that_is_not_declared_is_a_mistake),
        cmocka_unit_test(commands_are_traced_without_their_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
