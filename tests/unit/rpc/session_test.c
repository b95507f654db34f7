/* Sessions over a socket pair, with commands of the test's own: "wait" waits until the test lets it go, "echo" gives
 * its text back, "large" gives many bytes, and so on. The daemon's side runs on the control loop, the test speaks the
 * wire from a thread of its own, so that it may block. */
#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"
#include "rpc/in_flight.h"
#include "rpc/server.h"
#include "schema/codec/command.h"
#include "schema/codec/event.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define DEADLINE_MS 20000
#define BUSY_NS (200 * 1000) /* more than RPC_SLICE_NS */

/* The commands ------------------------------------------------------------------------------------------------ */

struct text_arguments {
    const char *text;
};

static const struct member_descriptor text_members[] = {
    { .name = "text",
      .type = &codec_str,
      .name_length = 4,
      .offset = offsetof(struct text_arguments, text),
      .has_offset = DESCRIPTOR_NO_OFFSET,
      .count_offset = DESCRIPTOR_NO_OFFSET },
};

static const struct type_descriptor text_descriptor = {
    .name = "Text",
    .kind = VALUE_OBJECT,
    .size = sizeof(struct text_arguments),
    .object = { .members = text_members, .count = 1 },
};

/* "text" may be absent. */
static const struct member_descriptor enable_members[] = {
    { .name = "text",
      .type = &codec_str,
      .name_length = 4,
      .flags = MEMBER_OPTIONAL,
      .offset = offsetof(struct text_arguments, text),
      .has_offset = DESCRIPTOR_NO_OFFSET,
      .count_offset = DESCRIPTOR_NO_OFFSET },
};

static const struct type_descriptor enable_descriptor = {
    .name = "Enable",
    .kind = VALUE_OBJECT,
    .size = sizeof(struct text_arguments),
    .object = { .members = enable_members, .count = 1 },
};

static const struct event_descriptor noise_event = { .name = "NOISE", .data = &text_descriptor };

static struct rpc_server *server;
static struct co_queue gate; /* where "wait" waits */
static bool gate_open;       /* the control thread's */
static _Atomic unsigned executed;
static _Atomic bool paused;
static _Atomic bool unpaused;
static unsigned busy;
static _Atomic unsigned busy_at_echo; /* how many "busy" had run by the last "echo" */

static struct error *invoke_capabilities(struct command_context *context, const void *arguments, void *result)
{
    (void)result;
    const struct text_arguments *enable = arguments;
    command_enter_command_mode(context, enable->text && strcmp(enable->text, "oob") == 0);
    return NULL;
}

static struct error *invoke_echo(struct command_context *context, const void *arguments, void *result)
{
    (void)context;
    const struct text_arguments *text = arguments;
    executed++;
    busy_at_echo = busy;
    *(const char **)result = text->text;
    return NULL;
}

/* As long as the gate is closed, whoever cancels it. */
static struct error *invoke_stubborn(struct command_context *context, const void *arguments, void *result)
{
    (void)arguments;
    (void)result;
    struct co_note note;
    co_note_begin(&note, "proving", "patience");
    while (!gate_open)
        co_queue_wait(&gate, NULL, "the test");
    co_note_end(&note);
    return command_is_wanted(context) ? NULL : error_new("nobody wants it");
}

/* Until it is cancelled. */
static struct error *invoke_obedient(struct command_context *context, const void *arguments, void *result)
{
    (void)context;
    (void)arguments;
    (void)result;
    while (co_queue_wait_unless_cancelled(&gate, "the test"))
        continue;
    return error_new("it was told");
}

/* "COMMAND ID STATE waits for WHAT of CLIENT", one after the other. */
static struct error *invoke_list(struct command_context *context, const void *arguments, void *result)
{
    struct arena *arena = command_arena(context);
    struct in_flight_command *found;
    size_t count;
    (void)arguments;
    in_flight_list(context, arena, &found, &count);
    const char *text = "";
    static const char *const states[] = { "queued", "running", "cancelled" };
    for (size_t i = 0; i < count; i++)
        text =
            arena_printf(arena, "%s(%s %s %s waits for %s of %s)", text, found[i].command,
                         found[i].id ? found[i].id : "-", states[found[i].state], found[i].waits_for, found[i].client);
    *(const char **)result = text;
    return NULL;
}

/* By id, or the first in flight of any client ("first"). */
static struct error *invoke_cancel(struct command_context *context, const void *arguments, void *result)
{
    const struct text_arguments *what = arguments;
    struct in_flight_command *found;
    size_t count;
    (void)result;
    if (strcmp(what->text, "nobody") == 0)
        return in_flight_cancel(context, 1000000);
    if (strcmp(what->text, "first") != 0)
        return in_flight_cancel_id(context, what->text);
    in_flight_list(context, command_arena(context), &found, &count);
    return in_flight_cancel(context, found[0].number);
}

static struct error *invoke_wait(struct command_context *context, const void *arguments, void *result)
{
    (void)context;
    (void)arguments;
    (void)result;
    executed++;
    while (!gate_open)
        co_queue_wait(&gate, NULL, "the test");
    return NULL;
}

static struct error *invoke_open(struct command_context *context, const void *arguments, void *result)
{
    (void)context;
    (void)arguments;
    (void)result;
    gate_open = true;
    co_queue_wake_all(&gate);
    return NULL;
}

/* Holds up the whole loop until the script says so. */
static struct error *invoke_pause(struct command_context *context, const void *arguments, void *result)
{
    (void)context;
    (void)arguments;
    (void)result;
    paused = true;
    while (!unpaused)
        sched_yield();
    return NULL;
}

/* Takes longer than a slice. */
static struct error *invoke_busy(struct command_context *context, const void *arguments, void *result)
{
    (void)context;
    (void)arguments;
    (void)result;
    uint64_t begin = uv_hrtime();
    while (uv_hrtime() - begin < BUSY_NS)
        continue;
    busy++;
    return NULL;
}

static struct error *invoke_large(struct command_context *context, const void *arguments, void *result)
{
    const size_t bytes = 300000;
    (void)arguments;
    char *text = arena_alloc(command_arena(context), bytes + 1);
    memset(text, 'x', bytes);
    *(const char **)result = text;
    command_expect_large_reply(context);
    return NULL;
}

/* Three events at once, of a kind that is sent once in a moment. */
static struct error *invoke_storm(struct command_context *context, const void *arguments, void *result)
{
    static const struct event_descriptor storm_event = { .name = "STORM",
                                                         .data = &text_descriptor,
                                                         .rate_limit_ms = 20 };
    static const char *const texts[] = { "first", "lost", "last" };
    (void)context;
    (void)arguments;
    (void)result;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        event_sink_emit(rpc_server_events(server), &storm_event, &(struct text_arguments){ .text = texts[i] });
    return NULL;
}

static struct error *invoke_noise(struct command_context *context, const void *arguments, void *result)
{
    (void)context;
    (void)result;
    event_sink_emit(rpc_server_events(server), &noise_event, arguments);
    return NULL;
}

static struct error *invoke_broken(struct command_context *context, const void *arguments, void *result)
{
    (void)context;
    (void)arguments;
    (void)result; /* a string that is NULL: no value of its type */
    return NULL;
}

static struct error *invoke_fail(struct command_context *context, const void *arguments, void *result)
{
    (void)context;
    (void)arguments;
    (void)result;
    return error_new_class(ERROR_DEVICE_NOT_FOUND, "no \"device\"\n");
}

/* What nobody may see: an argument, and a member of the result. */
static const struct member_descriptor secret_members[] = {
    { .name = "text",
      .type = &codec_str,
      .name_length = 4,
      .flags = MEMBER_SECRET,
      .offset = offsetof(struct text_arguments, text),
      .has_offset = DESCRIPTOR_NO_OFFSET,
      .count_offset = DESCRIPTOR_NO_OFFSET },
};

static const struct type_descriptor secret_descriptor = {
    .name = "Secret",
    .kind = VALUE_OBJECT,
    .size = sizeof(struct text_arguments),
    .object = { .members = secret_members, .count = 1 },
};

static struct error *invoke_secret(struct command_context *context, const void *arguments, void *result)
{
    (void)context;
    memcpy(result, arguments, sizeof(struct text_arguments));
    return NULL;
}

static const struct command_descriptor commands[] = {
    { "broken", 0, &codec_empty, &codec_str, invoke_broken },
    { "busy", 0, &codec_empty, NULL, invoke_busy },
    { "cancel", COMMAND_ALLOW_OOB, &text_descriptor, NULL, invoke_cancel },
    { "echo", 0, &text_descriptor, &codec_str, invoke_echo },
    { "fail", 0, &codec_empty, NULL, invoke_fail },
    { "fail-declared", COMMAND_ERRORS_DECLARED | COMMAND_ERROR(ERROR_DEVICE_NOT_FOUND), &codec_empty, NULL,
      invoke_fail },
    { "fail-wrong", COMMAND_ERRORS_DECLARED | COMMAND_ERROR(ERROR_GENERIC), &codec_empty, NULL, invoke_fail },
    { "large", 0, &codec_empty, &codec_str, invoke_large },
    { "list", COMMAND_ALLOW_OOB, &codec_empty, &codec_str, invoke_list },
    { "needs-admin", COMMAND_ROLE_ADMIN, &text_descriptor, &codec_str, invoke_echo },
    { "needs-operate", COMMAND_ROLE_OPERATE, &text_descriptor, &codec_str, invoke_echo },
    { "noise", 0, &text_descriptor, NULL, invoke_noise },
    { "obedient", COMMAND_MAY_AWAIT, &codec_empty, NULL, invoke_obedient },
    { "open", COMMAND_ALLOW_OOB, &codec_empty, NULL, invoke_open },
    { "pause", 0, &codec_empty, NULL, invoke_pause },
    { "qmp_capabilities", 0, &enable_descriptor, NULL, invoke_capabilities },
    { "secret", 0, &secret_descriptor, &secret_descriptor, invoke_secret },
    { "silent", COMMAND_NO_RESPONSE, &codec_empty, NULL, invoke_open },
    { "storm", 0, &codec_empty, NULL, invoke_storm },
    { "stubborn", COMMAND_MAY_AWAIT, &codec_empty, NULL, invoke_stubborn },
    { "wait", 0, &codec_empty, NULL, invoke_wait },
};

static const struct command_table table = { commands, sizeof(commands) / sizeof(commands[0]) };

/* The two sides ----------------------------------------------------------------------------------------------- */

struct client {
    int fd;
    char input[1 << 20];
    size_t length;
};

typedef void script_function(struct client *one, struct client *two);

struct play {
    script_function *script;
    struct client clients[2];
    struct co_event over;
    char failure[2048];
};

static struct play play; /* one at a time */
static char logged[16384];

static void log_line(void *arg, const char *line)
{
    (void)arg;
    size_t length = strlen(logged);
    snprintf(logged + length, sizeof(logged) - length, "%s\n", line);
}

/* In the script's thread cmocka's assertions cannot be used: they jump. */
#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            snprintf(play.failure, sizeof(play.failure), "line %d: %s; got %.400s", __LINE__, #condition,              \
                     play.clients[0].input);                                                                           \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static void send_text(struct client *client, const char *text)
{
    size_t length = strlen(text);
    while (length > 0) {
        ssize_t count = send(client->fd, text, length, MSG_NOSIGNAL);
        if (count <= 0)
            return;
        text += count;
        length -= (size_t)count;
    }
}

/* The next line without its CR LF, or NULL at the end of the connection. Stays in place until the next call. */
static char *receive(struct client *client)
{
    static char line[1 << 20]; /* of the one script that runs */
    for (;;) {
        char *end = memmem(client->input, client->length, "\r\n", 2);
        if (end) {
            size_t length = (size_t)(end - client->input);
            memcpy(line, client->input, length);
            line[length] = '\0';
            client->length -= length + 2;
            memmove(client->input, end + 2, client->length);
            return line;
        }
        struct pollfd pollfd = { .fd = client->fd, .events = POLLIN };
        if (poll(&pollfd, 1, DEADLINE_MS) != 1)
            return NULL;
        ssize_t count = recv(client->fd, client->input + client->length, sizeof(client->input) - client->length, 0);
        if (count <= 0)
            return NULL;
        client->length += (size_t)count;
    }
}

static bool receives(struct client *client, const char *expected)
{
    const char *line = receive(client);
    if (line && strcmp(line, expected) == 0)
        return true;
    snprintf(client->input, sizeof(client->input), "%.800s", line ? line : "(end)");
    return false;
}

static bool is_silent(struct client *client)
{
    struct pollfd pollfd = { .fd = client->fd, .events = POLLIN };
    return client->length == 0 && poll(&pollfd, 1, 20) == 0;
}

static bool negotiates(struct client *client)
{
    send_text(client, "{'execute':'qmp_capabilities'}");
    return receive(client) && receives(client, "{\"return\": {}}");
}

static bool negotiates_oob(struct client *client)
{
    /* At once: what comes behind it is read when it is done. */
    send_text(client, "{'execute':'qmp_capabilities','arguments':{'text':'oob'}}{'exec-oob':'list'}");
    return receive(client) && receives(client, "{\"return\": {}}") && receives(client, "{\"return\": \"\"}");
}

static void *run_script(void *arg)
{
    (void)arg;
    play.script(&play.clients[0], &play.clients[1]);
    for (int i = 0; i < 2; i++)
        close(play.clients[i].fd);
    co_event_set(&play.over);
    return NULL;
}

static void serve(void *arg)
{
    (void)arg;
    static const struct text_arguments version = { .text = "1" };
    static const enum command_role roles[] = { COMMAND_ADMIN, COMMAND_OPERATE };
    server = rpc_server_create(&(struct rpc_server_options){
        .commands = &table,
        .version_type = &text_descriptor,
        .version = &version,
        .log = log_line,
        .trace = log_line,
    });
    for (int i = 0; i < 2; i++) {
        int fds[2];
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
        fcntl(fds[1], F_SETFL, O_NONBLOCK);
        play.clients[i].fd = fds[0];
        play.clients[i].length = 0;
        rpc_server_add_client(server, fds[1], &(struct rpc_client_options){ .name = "test", .role = roles[i] });
    }
    co_event_init(&play.over);
    pthread_t thread;
    pthread_create(&thread, NULL, run_script, NULL);
    co_event_wait(&play.over, "the script");
    pthread_join(thread, NULL);
    gate_open = true;
    co_queue_wake_all(&gate);
    rpc_server_stop(server);
    rpc_server_destroy(server);
}

static void run(script_function *script)
{
    play.script = script;
    play.failure[0] = '\0';
    logged[0] = '\0';
    gate_open = false;
    executed = 0;
    busy = 0;
    paused = false;
    unpaused = false;
    co_queue_init(&gate);
    assert_null(runtime_start(&(struct runtime_options){ .io_loops = 1 }));
    runtime_run_coroutine("serve", serve, NULL);
    runtime_stop(false);
    co_queue_fini(&gate);
    if (play.failure[0])
        fail_msg("%s", play.failure);
}

/* The tests --------------------------------------------------------------------------------------------------- */

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
    run(negotiation_script);
}

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
    run(oob_script);
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
    run(oob_flood_script);
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
    run(cancel_script);
    assert_non_null(strstr(logged, "test client 1: stubborn, which was cancelled, has ended: nobody wants it\n"));
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
    run(obedient_script);
    assert_non_null(strstr(logged, "test client 1: obedient, which was cancelled, has ended: it was told\n"));
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
    run(many_script);
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
    run(left_script);
    assert_non_null(strstr(logged, "test client 1: stubborn, which was cancelled, has ended"));
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
    run(order_script);
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
    run(turns_script);
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
    run(queue_script);
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
    run(leave_script);
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
    run(half_script);
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
    run(events_script);
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
    run(storm_script);
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
    run(deaf_script);
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
    run(late_script);
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
    run(large_script);
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
    run(errors_script);
    assert_non_null(strstr(logged, "mistake: the result of the command broken is no value of its type"));
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
                                  "the role 'admin', and this monitor gives 'operate'\"}, \"id\": 1}"));
    }
    EXPECT(executed == 0);
    send_text(operator, "{'execute':'no-such-command'}");
    EXPECT(strstr(receive(operator), "CommandNotFound"));
}

static void a_command_needs_its_role(void **state)
{
    (void)state;
    run(roles_script);
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
    run(classes_script);
    assert_non_null(strstr(logged, "mistake: the command fail-wrong fails with class DeviceNotFound"));
    assert_null(strstr(logged, "mistake: the command fail-declared"));
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
    run(trace_script);
    assert_non_null(strstr(logged, "test client 1: --> {\"execute\": \"echo\", \"arguments\": {\"text\": \"hello\"}, "
                                   "\"id\": 7}\n"));
    assert_non_null(strstr(logged, " ms: {\"return\": \"hello\", \"id\": 7}\n"));
    assert_non_null(strstr(logged, "--> {\"execute\": \"secret\", \"arguments\": {\"text\": \"(secret)\"}}\n"));
    assert_non_null(strstr(logged, " ms: {\"return\": {\"text\": \"(secret)\"}}\n"));
    assert_non_null(strstr(logged, "(arguments that were not understood)"));
    assert_non_null(strstr(logged, "<-- large, "));
    char *secret = strstr(logged, "hunter2");
    assert_non_null(secret); /* once: a command's name is none */
    assert_true(strncmp(secret, "hunter2 has not been found", 26) == 0 && !strstr(secret + 1, "hunter2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_begins_with_negotiation),
        cmocka_unit_test(commands_out_of_band_overtake),
        cmocka_unit_test(commands_out_of_band_have_limits),
        cmocka_unit_test(who_cancels_a_command_ends_its_clients_wait),
        cmocka_unit_test(a_command_may_end_its_wait_when_it_is_cancelled),
        cmocka_unit_test(the_command_of_a_client_that_left_can_be_cancelled),
        cmocka_unit_test(commands_that_hang_have_a_limit),
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
