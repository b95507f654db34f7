/* Commands that overtake others, and commands that are given up. */
#include "tests/unit/rpc/play.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "rpc/in_flight.h"
#include "rpc/server.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void oob_script(struct client *one, struct client *two)
{
    EXPECT(negotiates_oob(one) && negotiates(two));
    send_text(two, "{'exec-oob':'list','id':1}");
    EXPECT(receives(two, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"QMP input member 'exec-oob' is "
                         "unexpected\"}, \"id\": 1}"));
    send_text(one, "{'execute':'wait','id':1}{'execute':'echo','arguments':{'text':'x'},'id':2}"
                   "{'exec-oob':'list','id':3}{'exec-oob':'echo','arguments':{'text':'x'},'id':4}"
                   "{'exec-oob':'none','id':5}{'exec-oob':'list','execute':'list','id':6}{'exec-oob':[],'id':7}"
                   "{'exec-oob':'open','id':8}");
    EXPECT(receives(one, "{\"return\": \"(wait 1 running waits for the test of test client 1)"
                         "(echo 2 queued waits for its turn of test client 1)\", \"id\": 3}"));
    EXPECT(receives(one, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"The command echo does not support "
                         "OOB\"}, \"id\": 4}"));
    EXPECT(strstr(receive(one), "CommandNotFound"));
    EXPECT(receives(one, "{\"return\": {}, \"id\": 8}"));
    EXPECT(receives(one, "{\"return\": {}, \"id\": 1}"));
    EXPECT(receives(one, "{\"return\": \"x\", \"id\": 2}"));
    EXPECT(strstr(receive(one), "'execute' clashes with 'exec-oob'\"}, \"id\": 6"));
    EXPECT(strstr(receive(one), "'exec-oob' must be a string\"}, \"id\": 7"));
}

static void commands_out_of_band_overtake(void **state)
{
    (void)state;
    play_run(oob_script);
}

/* While the queue is full nothing is read, also not out of band (QMP specification: at most eight commands in flight);
 * a flood out of band leaves turns to others, and answers that nobody reads stop it. */
static void oob_flood_script(struct client *one, struct client *two)
{
    EXPECT(negotiates_oob(one) && negotiates(two));
    send_text(one, "{'execute':'wait'}");
    for (int i = 0; i < RPC_QUEUE_MAX; i++)
        send_text(one, "{'execute':'echo','arguments':{'text':'x'}}");
    send_text(one, "{'exec-oob':'list'}");
    EXPECT(is_silent(one));
    send_text(two, "{'execute':'open'}");
    EXPECT(receives(two, "{\"return\": {}}"));
    for (int i = 0; i < RPC_QUEUE_MAX + 2; i++)
        EXPECT(receive(one));

    fcntl(one->fd, F_SETFL, O_NONBLOCK);
    static const char list[] = "{'exec-oob':'list','id':'....................................................'}";
    struct pollfd pollfd = { .fd = one->fd, .events = POLLOUT };
    size_t sent = 0;
    while (poll(&pollfd, 1, 200) == 1 && send(one->fd, list, sizeof(list) - 1, MSG_NOSIGNAL) == sizeof(list) - 1)
        sent++;
    EXPECT(sent < 1000000); /* at some time nothing is read any more */
    fcntl(one->fd, F_SETFL, 0);
    send_text(two, "{'execute':'echo','arguments':{'text':'x'}}");
    EXPECT(receives(two, "{\"return\": \"x\"}"));
    for (size_t i = 0; i < sent; i++)
        EXPECT(receive(one));
}

static void commands_out_of_band_have_limits(void **state)
{
    (void)state;
    play_run(oob_flood_script);
}

static void cancel_script(struct client *one, struct client *two)
{
    EXPECT(negotiates_oob(one) && negotiates(two));
    send_text(one, "{'execute':'stubborn','id':1}{'execute':'echo','arguments':{'text':'never'},'id':2}"
                   "{'execute':'echo','arguments':{'text':'after'},'id':3}"
                   "{'exec-oob':'cancel','arguments':{'text':'2'}}{'exec-oob':'cancel','arguments':{'text':'7'}}"
                   "{'exec-oob':'cancel','arguments':{'text':'1'}}{'exec-oob':'list'}");
    EXPECT(receives(one, "{\"return\": {}}"));
    EXPECT(strstr(receive(one), "no command of this client with id 7 is in flight"));
    EXPECT(receives(one, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"The command stubborn was cancelled "
                         "while it waited for proving 'patience': the test\"}, \"id\": 1}"));
    EXPECT(receives(one, "{\"return\": {}}"));
    EXPECT(receives(one, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"The command echo was cancelled "
                         "before it began\"}, \"id\": 2}"));
    EXPECT(receives(one, "{\"return\": \"after\", \"id\": 3}"));
    EXPECT(receives(one, "{\"return\": \"(stubborn 1 cancelled waits for proving 'patience': the test of test client "
                         "1)\"}"));

    /* Again changes nothing; one client may cancel what another one sent, and sees when it has ended. */
    send_text(two, "{'execute':'cancel','arguments':{'text':'first'}}{'execute':'open'}{'execute':'list'}");
    for (int i = 0; i < 2; i++)
        EXPECT(receives(two, "{\"return\": {}}"));
    const char *line = receive(two);
    while (line && strcmp(line, "{\"return\": \"\"}") != 0) {
        send_text(two, "{'execute':'list'}");
        line = receive(two);
    }
    EXPECT(line);
    send_text(two, "{'execute':'cancel','arguments':{'text':'nobody'}}");
    EXPECT(strstr(receive(two), "no command with number 1000000 is in flight"));
    EXPECT(is_silent(one));
}

static void who_cancels_a_command_ends_its_clients_wait(void **state)
{
    (void)state;
    play_run(cancel_script);
    assert_non_null(strstr(play_log, "test client 1: stubborn, which was cancelled, has ended: nobody wants it\n"));
}

static void obedient_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    send_text(one, "{'execute':'obedient'}{'execute':'list'}");
    send_text(two, "{'execute':'list'}");
    while (strcmp(receive(two), "{\"return\": \"(obedient - running waits for the test of test client 1)"
                                "(list - queued waits for its turn of test client 1)\"}") != 0)
        send_text(two, "{'execute':'list'}");
    send_text(two, "{'execute':'cancel','arguments':{'text':'first'}}");
    EXPECT(receives(two, "{\"return\": {}}"));
    EXPECT(strstr(receive(one), "was cancelled"));
    EXPECT(strstr(receive(one), "return"));
    send_text(one, "{'execute':'list'}");
    EXPECT(receives(one, "{\"return\": \"\"}"));
}

static void a_command_may_end_its_wait_when_it_is_cancelled(void **state)
{
    (void)state;
    play_run(obedient_script);
    assert_non_null(strstr(play_log, "test client 1: obedient, which was cancelled, has ended: it was told\n"));
}

/* Who begins what hangs again and again is refused at last; what does not wait goes on. */
static void many_script(struct client *one, struct client *two)
{
    EXPECT(negotiates_oob(one) && negotiates(two));
    for (int i = 0; i < RPC_IN_FLIGHT_MAX; i++) {
        send_text(one, "{'execute':'stubborn','id':1}{'exec-oob':'cancel','arguments':{'text':'1'}}");
        EXPECT(strstr(receive(one), "was cancelled"));
        EXPECT(receives(one, "{\"return\": {}}"));
    }
    send_text(one, "{'execute':'stubborn'}");
    EXPECT(strstr(receive(one), "4096 commands wait already"));
    send_text(one, "{'execute':'echo','arguments':{'text':'x'}}");
    EXPECT(receives(one, "{\"return\": \"x\"}"));
    send_text(two, "{'execute':'open'}");
    EXPECT(receives(two, "{\"return\": {}}"));
    do
        send_text(two, "{'execute':'list'}");
    while (strcmp(receive(two), "{\"return\": \"\"}") != 0);
    send_text(one, "{'execute':'stubborn'}");
    EXPECT(receives(one, "{\"return\": {}}"));
}

static void commands_that_hang_have_a_limit(void **state)
{
    (void)state;
    play_run(many_script);
}

static void left_script(struct client *one, struct client *two)
{
    EXPECT(negotiates(one) && negotiates(two));
    send_text(one, "{'execute':'stubborn'}");
    send_text(two, "{'execute':'list'}");
    while (strcmp(receive(two), "{\"return\": \"\"}") == 0)
        send_text(two, "{'execute':'list'}");
    close(one->fd);
    one->fd = -1;
    send_text(two, "{'execute':'cancel','arguments':{'text':'first'}}{'execute':'list'}");
    EXPECT(receives(two, "{\"return\": {}}"));
    EXPECT(strstr(receive(two), "stubborn - cancelled"));
}

static void the_command_of_a_client_that_left_can_be_cancelled(void **state)
{
    (void)state;
    play_run(left_script);
    assert_non_null(strstr(play_log, "test client 1: stubborn, which was cancelled, has ended"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_out_of_band_overtake),
        cmocka_unit_test(commands_out_of_band_have_limits),
        cmocka_unit_test(who_cancels_a_command_ends_its_clients_wait),
        cmocka_unit_test(a_command_may_end_its_wait_when_it_is_cancelled),
        cmocka_unit_test(the_command_of_a_client_that_left_can_be_cancelled),
        cmocka_unit_test(commands_that_hang_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
