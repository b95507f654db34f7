/* Any bytes as what a client sends: each message becomes a request or an error, what is answered can be read again, and
 * arguments that were taken say the same when they are sent back. */
#include "rpc/request.h"
#include "schema/codec/json_parse.h"

#include "schema/cairn_descriptors.h"
#include "schema/codec/compare.h"
#include "schema/codec/encode.h"

#include <stdlib.h>

/* By name. Nothing is executed. */
static const struct command_descriptor commands[] = {
    { "block-export-add", 0, &block_export_options_descriptor, NULL, NULL },
    { "blockdev-add", 0, &blockdev_options_descriptor, NULL, NULL },
    { "blockdev-create", 0, &blockdev_create_arguments_descriptor, NULL, NULL },
    { "nbd-server-start", 0, &nbd_server_start_arguments_descriptor, NULL, NULL },
    { "schema-info", COMMAND_ALLOW_OOB, &schema_info_descriptor, NULL, NULL },
};
static const struct command_table table = { commands, sizeof(commands) / sizeof(commands[0]) };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void read_bytes(const char *at, const char *end, void (*take)(struct command_context *request, const void *arg),
                       const void *arg)
{
    struct json_reader *reader = json_reader_create(NULL);
    while (at < end) {
        struct json_message message;
        struct error *err = NULL;
        enum json_reader_result result = json_reader_next(reader, &at, end, &message, &err);
        if (result == JSON_READ_MORE)
            break;
        struct command_context *request =
            result == JSON_READ_ERROR ? request_create_error(NULL, err) : request_create(NULL, &table, true, &message);
        take(request, arg);
        request_destroy(request);
    }
    json_reader_destroy(reader);
}

static void expect_same_arguments(struct command_context *request, const void *arg)
{
    const struct command_context *first = arg;
    if (request->error || !value_equal(request->command->arguments, request->arguments, first->arguments))
        abort();
}

static void send_back(const struct command_context *request)
{
    CLEANUP(text_fini) struct text text = { 0 };
    text_append_string(&text, "{\"execute\": ");
    text_append_json(&text, request->command->name);
    text_append_string(&text, ", \"arguments\": ");
    if (encode_value(&text, request->command->arguments, request->arguments, ENCODE_PRETTY, 0))
        abort();
    text_append_string(&text, "}");
    read_bytes(text.data, text.data + text.length, expect_same_arguments, request);
}

static void answer(const struct command_context *request)
{
    CLEANUP(text_fini) struct text text = { 0 };
    request_reply(request, false, &text);
    json_t *reply = NULL;
    if (json_parse(text.data, text.length, JSON_VALUES_MAX, &reply))
        abort();
    json_decref(reply);
}

static void try_request(struct command_context *request, const void *arg)
{
    (void)arg;
    if (request->error)
        answer(request);
    else
        send_back(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    read_bytes((const char *)data, (const char *)data + bytes, try_request, NULL);
    return 0;
}
