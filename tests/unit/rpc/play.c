#include "tests/unit/rpc/play.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
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
_Atomic unsigned executed;
_Atomic bool paused;
_Atomic bool unpaused;
static unsigned busy;
_Atomic unsigned busy_at_echo;

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

struct play play;
char play_log[16384];

static void log_line(void *arg, const struct rpc_about *about, const char *line)
{
    (void)arg;
    (void)about;
    size_t length = strlen(play_log);
    snprintf(play_log + length, sizeof(play_log) - length, "%s\n", line);
}

void send_text(struct client *client, const char *text)
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

char *receive(struct client *client)
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

bool receives(struct client *client, const char *expected)
{
    const char *line = receive(client);
    if (line && strcmp(line, expected) == 0)
        return true;
    snprintf(client->input, sizeof(client->input), "%.800s", line ? line : "(end)");
    return false;
}

bool is_silent(struct client *client)
{
    struct pollfd pollfd = { .fd = client->fd, .events = POLLIN };
    return client->length == 0 && poll(&pollfd, 1, 20) == 0;
}

bool negotiates(struct client *client)
{
    send_text(client, "{'execute':'qmp_capabilities'}");
    return receive(client) && receives(client, "{\"return\": {}}");
}

bool negotiates_oob(struct client *client)
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

void play_run(script_function *script)
{
    play.script = script;
    play.failure[0] = '\0';
    play_log[0] = '\0';
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
