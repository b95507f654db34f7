/* What holds for every object of our interface: sent as arguments, in pieces that are cut anywhere, it reaches the
 * handler as it was, and what a handler returns reaches the client as it was. The values are random, led by the tables;
 * each failure names type and seed. */
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"
#include "rpc/request.h"
#include "rpc/server.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/compare.h"
#include "schema/codec/decode.h"
#include "schema/codec/encode.h"
#include "schema/codec/json_parse.h"
#include "schema/codec/random.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/base/unit.h"

#define VALUES_PER_TYPE 20
#define NAME_BYTES 24
#define DEADLINE_MS 20000

static struct command_descriptor *commands; /* "e" and the number of a type: gives its arguments back */
static size_t commands_count;
static char (*names)[NAME_BYTES];

static int fd; /* the client's */
static struct text input;
static struct co_event over;
static char failure[4096];

static struct error *invoke_echo(struct command_context *context, const void *arguments, void *result)
{
    memcpy(result, arguments, context->command->returns->size);
    return NULL;
}

static struct error *invoke_capabilities(struct command_context *context, const void *arguments, void *result)
{
    (void)arguments;
    (void)result;
    command_enter_command_mode(context, false);
    return NULL;
}

/* Sorted, as the numbers have leading zeroes. */
static void make_commands(void)
{
    commands = xcalloc(cairn_descriptors.count + 1, sizeof(*commands));
    names = xcalloc(cairn_descriptors.count, sizeof(*names));
    commands_count = 0;
    for (size_t i = 0; i < cairn_descriptors.count; i++) {
        const struct type_descriptor *type = cairn_descriptors.types[i];
        if (type->kind != VALUE_OBJECT)
            continue;
        snprintf(names[i], NAME_BYTES, "e%06zu", i);
        commands[commands_count++] = (struct command_descriptor){ names[i], 0, type, type, invoke_echo };
    }
    commands[commands_count++] =
        (struct command_descriptor){ "qmp_capabilities", 0, &codec_empty, NULL, invoke_capabilities };
}

/* In pieces of 1 byte to 64 KiB, more of them small. */
static bool send_in_pieces(const struct text *text, uint64_t *seed)
{
    for (size_t at = 0; at < text->length;) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        size_t piece = 1 + (*seed >> 33) % ((size_t)1 << (*seed >> 60));
        if (piece > text->length - at)
            piece = text->length - at;
        ssize_t sent = send(fd, text->data + at, piece, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += (size_t)sent;
    }
    return true;
}

/* The next message, up to its CR LF; NULL at the end. */
static json_t *receive(void)
{
    char piece[65536], *end;
    while (!input.length || !(end = memmem(input.data, input.length, "\r\n", 2))) {
        struct pollfd pollfd = { .fd = fd, .events = POLLIN };
        ssize_t count = poll(&pollfd, 1, DEADLINE_MS) == 1 ? recv(fd, piece, sizeof(piece), 0) : 0;
        if (count <= 0)
            return NULL;
        text_append(&input, piece, (size_t)count);
    }
    json_t *message = NULL;
    size_t length = (size_t)(end - input.data);
    error_free(json_parse(input.data, length, JSON_VALUES_MAX, &message));
    input.length -= length + 2;
    memmove(input.data, end + 2, input.length);
    return message;
}

static struct error *check_reply(const struct type_descriptor *type, const void *value, struct arena *arena)
{
    json_t *reply = receive();
    const json_t *returned = json_object_get(reply, "return");
    const char *told = json_string_value(json_object_get(json_object_get(reply, "error"), "desc"));
    void *again = NULL;
    struct error *err = returned ? decode_value(type, returned, DECODE_JSON, "return", arena, &again, NULL)
                                 : error_new("no value came back: %s", told ? told : "(nothing)");
    if (!err && !value_equal(type, value, again))
        err = error_new("what came back is not equal");
    json_decref(reply);
    return err;
}

static struct error *try_value(const struct command_descriptor *command, uint64_t seed, struct arena *arena)
{
    CLEANUP(text_fini) struct text text = { 0 };
    const void *value = value_random(command->arguments, &seed, arena);
    if (!value)
        return error_new("no value");
    text_append_string(&text, "{\"execute\": ");
    text_append_json(&text, command->name);
    text_append_string(&text, ", \"arguments\": ");
    struct error *err = encode_value(&text, command->arguments, value, seed % 2 ? ENCODE_PRETTY : 0, 0);
    if (err)
        return err;
    text_append_string(&text, "}");
    return send_in_pieces(&text, &seed) ? check_reply(command->arguments, value, arena) : error_new("cannot send");
}

static void negotiate(void)
{
    CLEANUP(text_fini) struct text text = { 0 };
    uint64_t seed = 1;
    text_append_string(&text, "{'execute': 'qmp_capabilities'}");
    send_in_pieces(&text, &seed);
    json_decref(receive()); /* the greeting */
    json_decref(receive());
}

static void *run_client(void *arg)
{
    (void)arg;
    negotiate();
    for (size_t i = 0; i + 1 < commands_count && !failure[0]; i++) {
        for (uint64_t seed = 1; seed <= VALUES_PER_TYPE && !failure[0]; seed++) {
            struct arena arena;
            arena_init(&arena, SIZE_MAX);
            CLEANUP(error_free) struct error *err = try_value(&commands[i], seed * 1000003 + i, &arena);
            arena_fini(&arena);
            if (err)
                snprintf(failure, sizeof(failure), "%s, seed %d: %s", commands[i].arguments->name, (int)seed,
                         error_message(err));
        }
    }
    text_fini(&input);
    close(fd);
    co_event_set(&over);
    return NULL;
}

static void serve(void *arg)
{
    const struct command_table table = { commands, commands_count };
    int fds[2];
    pthread_t thread;
    (void)arg;
    struct rpc_server *server = rpc_server_create(
        &(struct rpc_server_options){ .commands = &table, .version_type = &codec_empty, .version = "" });
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    fd = fds[0];
    rpc_server_add_client(server, fds[1], &(struct rpc_client_options){ .name = "test" });
    co_event_init(&over);
    pthread_create(&thread, NULL, run_client, NULL);
    co_event_wait(&over, "the client");
    pthread_join(thread, NULL);
    rpc_server_stop(server);
    rpc_server_destroy(server);
}

static void what_is_sent_arrives_and_what_is_returned_comes_back(void **state)
{
    (void)state;
    make_commands();
    assert_true(commands_count > 50);
    assert_null(runtime_start(&(struct runtime_options){ .io_loops = 1 }));
    runtime_run_coroutine("serve", serve, NULL);
    runtime_stop(false);
    free(commands);
    free(names);
    if (failure[0])
        fail_msg("%s", failure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sent_arrives_and_what_is_returned_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
